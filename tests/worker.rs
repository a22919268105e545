//! The built-in worker as a real process: it ends cleanly, and misbehaves exactly as it is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::{Pid, getpgid, getsid},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that this test started; killed when the test is done with it.
struct Worker {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Worker {
    fn start(env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_arroyo-node"))
            .arg("worker")
            .env_clear()
            .env("WORKER_CHILDREN_LIVE", "60s")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // The child has not been waited for: its pid is still its own.
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(out: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A process that a worker left behind, held by pidfd; killed when the test is done with it.
struct LeftBehind {
    pid: i32,
    pidfd: OwnedFd,
}

impl LeftBehind {
    /// From a line `child KIND pid PID`.
    fn named_by(line: &str) -> Self {
        let pid: i32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        // SAFETY: a system call that takes two integers and gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        assert!(fd >= 0, "{line}: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        Self { pid, pidfd: unsafe { OwnedFd::from_raw_fd(fd as i32) } }
    }

    fn parent(&self) -> i32 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn group(&self) -> i32 {
        getpgid(Some(Pid::from_raw(self.pid))).unwrap().as_raw()
    }

    fn session(&self) -> i32 {
        getsid(Some(Pid::from_raw(self.pid))).unwrap().as_raw()
    }

    fn wait_until_output_is(&self, path: &str) {
        let deadline = Instant::now() + PATIENCE;
        let output = || fs::read_link(format!("/proc/{}/fd/1", self.pid)).unwrap();
        while output() != Path::new(path) {
            assert!(Instant::now() < deadline, "process {} prints to {:?}", self.pid, output());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill_by(&self, signal: i32) {
        // SAFETY: a system call on a descriptor that we own; the null pointer is its documented
        // way of saying "no further information".
        unsafe {
            let nothing = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal, nothing, 0)
        };
    }

    fn is_gone(&self) -> bool {
        let mut poll =
            libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, and the count says one.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    fn wait_until_gone(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_gone() {
            assert!(Instant::now() < deadline, "process {} does not end", self.pid);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        self.kill_by(libc::SIGKILL);
    }
}

#[test]
fn says_who_it_is_and_finishes_cleanly_on_sigterm() {
    let mut worker = Worker::start(&[
        ("ARROYO__WORKER__ID", "77"),
        ("ARROYO__WORKER__TASK_SLOTS", "3"),
        ("JOB_ID", "job_a"),
        ("GENERATION", "5"),
        ("PIPELINE_ID", "pl_b"),
    ]);
    let hello = worker.line_with("started");
    let pid = worker.child.id();
    let expected =
        format!("worker 77 started: job job_a generation 5 pipeline pl_b slots 3 pid {pid}");
    assert_eq!(hello, expected);
    worker.line_with("ready");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    worker.line_with("worker 77 finished on SIGTERM");
}

#[test]
fn an_older_arroyos_run_id_is_its_generation() {
    let worker = Worker::start(&[("RUN_ID", "9")]);
    worker.line_with("generation 9");
}

#[test]
fn prints_now_and_then() {
    let worker = Worker::start(&[("WORKER_PRINT_EVERY", "10ms")]);
    for _ in 0..3 {
        worker.line_with("has been running");
    }
}

#[test]
fn ignores_sigterm_when_told() {
    let mut worker = Worker::start(&[("WORKER_IGNORE_SIGTERM", "1")]);
    worker.line_with("ready");
    worker.signal(Signal::SIGTERM);
    worker.line_with("takes no notice of SIGTERM");
    assert!(worker.is_alive());
    worker.signal(Signal::SIGKILL);
    assert_eq!(worker.end().signal(), Some(libc::SIGKILL));
}

#[test]
fn takes_its_time_to_finish_when_told() {
    let mut worker =
        Worker::start(&[("WORKER_FINISH_TAKES", "300ms"), ("WORKER_PRINT_EVERY", "20ms")]);
    worker.line_with("ready");
    worker.signal(Signal::SIGTERM);
    let told = Instant::now();
    assert_eq!(worker.end().code(), Some(0));
    assert!(told.elapsed() >= Duration::from_millis(300));
}

#[test]
fn exits_with_the_code_it_was_told() {
    let mut worker = Worker::start(&[("WORKER_EXIT_AFTER", "10ms:3")]);
    assert_eq!(worker.end().code(), Some(3));
}

#[test]
fn dies_by_the_signal_it_was_told() {
    // Core files as large as this system allows: the worker is to leave none all the same.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
    for (name, number) in
        [("KILL", libc::SIGKILL), ("SEGV", libc::SIGSEGV), ("PIPE", 13), ("TERM", libc::SIGTERM)]
    {
        let mut worker = Worker::start(&[("WORKER_DIE_AFTER", &format!("10ms:{name}"))]);
        let status = worker.end();
        assert_eq!(status.signal(), Some(number), "{name}");
        assert!(!status.core_dumped(), "{name}");
    }
}

#[test]
fn prints_without_end_and_still_ends_when_told() {
    let mut worker = Worker::start(&[("WORKER_FLOOD", "1")]);
    for _ in 0..1_000 {
        worker.line_with("without end");
    }
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn holds_the_memory_it_was_told() {
    let worker = Worker::start(&[("WORKER_MEMORY", "48")]);
    worker.line_with("ready");
    let status = fs::read_to_string(format!("/proc/{}/status", worker.child.id())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib > 48 * 1024, "{kib} KiB");
}

#[test]
fn refuses_a_variable_that_makes_no_sense() {
    let mut worker = Worker::start(&[("WORKER_EXIT_AFTER", "soon")]);
    assert_eq!(worker.end().code(), Some(2));
}

#[test]
fn leaves_children_of_every_kind_that_outlive_it() {
    let mut worker =
        Worker::start(&[("WORKER_CHILDREN", "group,setsid,double-fork,daemon,chain:3")]);
    let (id, group) = (worker.child.id() as i32, own_group());
    let mut of_kind = [const { Vec::new() }; 5];
    for _ in 0..7 {
        let line = worker.line_with("child ");
        let kinds =
            ["child group", "child setsid", "child double-fork", "child daemon", "child chain"];
        let kind = kinds.iter().position(|kind| line.starts_with(kind)).unwrap();
        of_kind[kind].push(LeftBehind::named_by(&line));
    }
    let [plain, setsid, double_fork, daemon, chain] = &of_kind;

    assert_eq!((plain[0].parent(), plain[0].group()), (id, group));
    assert_eq!((setsid[0].parent(), setsid[0].session()), (id, setsid[0].pid));
    assert_ne!(double_fork[0].parent(), id);
    assert_eq!(double_fork[0].group(), group);
    assert_ne!(daemon[0].parent(), id);
    assert_ne!(daemon[0].group(), group);
    assert_ne!(daemon[0].session(), plain[0].session());
    daemon[0].wait_until_output_is("/dev/null");
    assert_eq!(chain.len(), 3);
    let links = chain.iter().filter(|one| chain.iter().any(|other| one.parent() == other.pid));
    assert_eq!(links.count(), 2);

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    for child in of_kind.iter().flatten() {
        assert!(!child.is_gone(), "{}", child.pid);
        child.kill_by(libc::SIGTERM);
        child.wait_until_gone();
    }
}

#[test]
fn children_ignore_sigterm_when_told() {
    let worker =
        Worker::start(&[("WORKER_CHILDREN", "group"), ("WORKER_CHILDREN_IGNORE_SIGTERM", "1")]);
    let child = LeftBehind::named_by(&worker.line_with("child group"));
    child.kill_by(libc::SIGTERM);
    // Delivered, and waiting for ever: bit 14 of the process's pending signals.
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    let pending = u64::from_str_radix(pending.trim(), 16).unwrap();
    assert_eq!(pending, 1 << (libc::SIGTERM - 1));
    assert!(!child.is_gone());
}

#[test]
fn children_end_by_themselves() {
    let worker = Worker::start(&[("WORKER_CHILDREN", "group"), ("WORKER_CHILDREN_LIVE", "100ms")]);
    LeftBehind::named_by(&worker.line_with("child group")).wait_until_gone();
}

fn own_group() -> i32 {
    getpgid(None).unwrap().as_raw()
}
