//! Starts a program in a child, and does not wait for it to run.
//!
//! ```text
//!  parent: block signals ─ clone3(PIDFD, INTO_CGROUP) ─ unblock ─▶ the status pipe tells the rest:
//!  child.rs:    └▶ … execve                                        closed: the program runs
//!                    └ a step fails: written to the pipe           8 bytes: which, and why
//! ```
//!
//! A fork copies the page tables of its process. The shim's are small; that is the price of a
//! supervisor that no loading program holds up.

use std::{
    ffi::{CStr, c_char, c_int},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
    sync::Arc,
};

use nix::{
    fcntl::OFlag,
    sys::signal::{SigSet, SigmaskHow, pthread_sigmask},
    unistd::pipe2,
};

use super::{
    child::{self, Plan, Step, all_signals, name_of, signals_not_default},
    descriptors::limit_before,
    pidfd::Pidfd,
    procfs,
    ticks::TickClock,
};
use crate::{ids::WorkerId, machine::Process, supervisor::ExecSpec};

/// A child just forked.
pub(super) struct Forked {
    pub(super) process: Process,
    pub(super) pidfd: Pidfd,
    /// Closed when its program runs; before, it says why that does not.
    pub(super) status: OwnedFd,
}

/// Forks children.
pub(super) struct Forker {
    /// What each child sets to its default.
    signals: Vec<c_int>,
    /// `None`: `/proc` goes by another clock.
    clock: Option<TickClock>,
    /// Whether `/proc` was seen to go by it.
    clock_agrees: bool,
}

/// Whether the dispositions of signals may change while a forker is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dispositions {
    /// This process has code that is not ours.
    MayChange,
    /// They are what they will ever be, and no handler does anything: what is default already need
    /// not be made so for each child.
    Fixed,
}

impl Forker {
    pub(super) fn new(dispositions: Dispositions) -> Self {
        Self {
            signals: match dispositions {
                Dispositions::MayChange => all_signals(),
                Dispositions::Fixed => signals_not_default(),
            },
            clock: TickClock::new(),
            clock_agrees: false,
        }
    }

    /// Forks a child that runs this worker's program in a session of its own, within this cgroup
    /// if one is given. When this fails, no process is left.
    pub(super) fn fork(
        &mut self,
        worker: WorkerId,
        spec: &ExecSpec,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<Forked, String> {
        let say = |error: nix::Error| error.desc().to_owned();
        let name = name_of(worker.0);
        let (candidates, argv, envp) =
            (pointers(&spec.candidates), pointers(&spec.argv), pointers(&spec.envp));
        let output = spec.output.as_ref();
        let output = output.map(|files| [&files.dir, &files.stdout, &files.stderr]);
        let (status, theirs) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(say)?;
        let plan = Plan {
            name: name.as_ptr().cast(),
            candidates: candidates.as_ptr(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            cwd: child::pointer(spec.cwd.as_deref()),
            output: match output {
                Some(paths) => paths.map(|path| path.as_ptr()),
                None => [ptr::null(); 3],
            },
            descriptors: limit_before(),
            signals: ptr::from_ref(self.signals.as_slice()),
            status: theirs.as_raw_fd(),
        };
        let before = self.clock.and_then(|clock| clock.now().ok());
        let (pid, pidfd) = clone(plan, group).map_err(|error| error.to_string())?;
        drop(theirs);
        match self.identify(pid, before) {
            // Even if it has ended already: it is ours to reap, and so keeps its pid.
            Ok(Some(process)) if pidfd.is_unreaped() => Ok(Forked { process, pidfd, status }),
            unreadable => {
                // Without its start time it cannot be told from a later owner of the pid.
                pidfd.kill_and_reap();
                Err(match unreadable {
                    Err(error) => format!("cannot read /proc/{pid}/stat: {error}"),
                    Ok(_) => {
                        "the embedding program reaps its children itself: let it ignore neither \
                          SIGCHLD nor wait for processes that are not its own"
                            .to_owned()
                    }
                })
            }
        }
    }

    /// By the clock, if it shows the same before and after: that spares `/proc`, which takes some
    /// 40 µs.
    fn identify(&mut self, pid: u32, before: Option<u64>) -> io::Result<Option<Process>> {
        let after = self.clock.and_then(|clock| clock.now().ok());
        if self.clock_agrees
            && before == after
            && let Some(start_time) = after
        {
            return Ok(Some(Process { pid, start_time }));
        }
        let Some(stat) = procfs::stat(pid)? else { return Ok(None) };
        let process = stat.process;
        self.clock_agrees = before
            .zip(after)
            .is_some_and(|(before, after)| (before..=after).contains(&process.start_time));
        if !self.clock_agrees {
            // Once it was wrong, it is never believed.
            self.clock = None;
        }
        Ok(Some(process))
    }
}

/// Returns in the parent; the child runs the plan.
fn clone(plan: Plan, group: Option<BorrowedFd<'_>>) -> io::Result<(u32, Pidfd)> {
    let mut pidfd: c_int = -1;
    let mut flags = libc::CLONE_PIDFD.cast_unsigned().into();
    if group.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // SAFETY: integers only, for which all zeroes is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.pidfd = ptr::from_mut(&mut pidfd).addr() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = group {
        args.cgroup = group.as_raw_fd() as u64;
    }
    let mut before = SigSet::empty();
    // A handler of this process must not run in the child.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: without CLONE_VM the child has memory of its own, and goes on here with a copy of
    // this thread's stack. There it makes system calls only, and never returns. `args` says its own
    // size, and points to where the kernel writes a descriptor.
    let pid = unsafe {
        let size = size_of::<libc::clone_args>();
        let mut pid = libc::syscall(libc::SYS_clone3, ptr::from_ref(&args), size);
        if pid < 0 && *libc::__errno_location() == libc::ENOSYS && group.is_none() {
            // A container may forbid the newer call.
            let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
            pid = libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0);
        }
        if pid == 0 {
            plan.run();
        }
        pid
    };
    let error = io::Error::last_os_error();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    match u32::try_from(pid) {
        // SAFETY: on success the kernel has made this descriptor for us; nobody else knows it.
        Ok(pid) => Ok((pid, Pidfd::from_owned(unsafe { OwnedFd::from_raw_fd(pidfd) }))),
        Err(_) => Err(error),
    }
}

/// The constant of the C library's bindings does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn pointers(strings: &[Arc<CStr>]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// What to tell of a child that could not go on.
pub(super) fn describe((step, error): (Step, io::Error), spec: &ExecSpec) -> String {
    let show = |path: &CStr| path.to_string_lossy().into_owned();
    let output = |path: fn(&crate::supervisor::OutputFiles) -> &Arc<CStr>| {
        let path = spec.output.as_ref().map(|files| show(path(files))).unwrap_or_default();
        format!("cannot open the output file {path}: {error}")
    };
    match step {
        Step::Stdout => output(|files| &files.stdout),
        Step::Stderr => output(|files| &files.stderr),
        Step::Cwd => {
            let cwd = spec.cwd.as_deref().map(show).unwrap_or_default();
            format!("cannot change to its working directory {cwd:?}: {error}")
        }
        Step::Exec if spec.candidates.len() != 1 => {
            format!(
                "{error}: no directory of PATH has it in a form that can be run; configure its full \
                 path"
            )
        }
        Step::Interpreter => {
            format!("{error}: the file exists, but its interpreter or loader does not")
        }
        Step::Descriptors => format!("cannot prepare its descriptors: {error}"),
        Step::Exec => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        fs::{self, File},
        os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
        path::Path,
        thread,
        time::Duration,
    };

    use nix::unistd::read;

    use super::{super::child::read_failure, *};
    use crate::supervisor::OutputFiles;

    const WORKER: WorkerId = WorkerId(0xdead_beef);

    fn forker() -> Forker {
        Forker::new(Dispositions::MayChange)
    }

    fn shell(script: &str) -> ExecSpec {
        ExecSpec {
            candidates: vec![c"/bin/sh".into()],
            argv: vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap().into()],
            ..ExecSpec::default()
        }
    }

    fn output_in(dir: &Path) -> OutputFiles {
        let path = |path: &Path| Arc::from(CString::new(path.to_str().unwrap()).unwrap());
        OutputFiles {
            dir: path(dir),
            stdout: path(&dir.join("out")),
            stderr: path(&dir.join("err")),
        }
    }

    /// What the status pipe says once it says something.
    fn outcome(forked: &Forked, spec: &ExecSpec) -> Result<(), String> {
        let mut failure = [0; 8];
        loop {
            match read(&forked.status, &mut failure) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    return Err(describe(read_failure(&failure[..length]).unwrap(), spec));
                }
                Err(nix::Error::EAGAIN) => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn wait(pidfd: &Pidfd) {
        while pidfd.reap().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_child_has_three_descriptors_and_takes_none_from_its_parent() {
        let temp = tempfile::tempdir().unwrap();
        // As an embedding program may have them: low and high, and not marked close-on-exec.
        let file = tempfile::tempfile().unwrap();
        let forgotten: Vec<OwnedFd> = [3, 700]
            .map(|lowest| unsafe {
                // SAFETY: integers in, a descriptor that is only ours out.
                OwnedFd::from_raw_fd(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, lowest))
            })
            .into();
        let spec =
            ExecSpec { output: Some(output_in(temp.path())), ..shell("ls /proc/$$/fd; true") };
        let forked = forker().fork(WORKER, &spec, None).unwrap();
        outcome(&forked, &spec).unwrap();
        wait(&forked.pidfd);
        assert_eq!(fs::read_to_string(temp.path().join("out")).unwrap(), "0\n1\n2\n");
        for fd in &forgotten {
            assert!(fd.as_fd().try_clone_to_owned().is_ok(), "it is still open here");
        }
    }

    #[test]
    fn output_is_appended_and_its_directory_made_anew() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("output");
        let spec =
            ExecSpec { output: Some(output_in(&dir)), ..shell("echo out; echo err >&2; umask") };
        for round in 1..=2 {
            let forked = forker().fork(WORKER, &spec, None).unwrap();
            outcome(&forked, &spec).unwrap();
            wait(&forked.pidfd);
            let lines = fs::read_to_string(dir.join("err")).unwrap().lines().count();
            assert_eq!(lines, round);
        }
        let mode = fs::metadata(dir.join("out")).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn a_step_that_fails_is_told_with_its_reason() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("script"), "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(temp.path().join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        let script: Arc<CStr> =
            CString::new(temp.path().join("script").to_str().unwrap()).unwrap().into();
        let missing = "No such file or directory (os error 2)";
        let cases = [
            (
                ExecSpec { candidates: vec![c"/no/such/program".into()], ..shell("") },
                missing.to_owned(),
            ),
            (
                ExecSpec { candidates: vec![script], ..shell("") },
                format!("{missing}: the file exists, but its interpreter or loader does not"),
            ),
            (
                ExecSpec { cwd: Some(c"/no/such/dir".into()), ..shell("") },
                format!("cannot change to its working directory \"/no/such/dir\": {missing}"),
            ),
            (
                ExecSpec { candidates: vec![c"/etc/passwd".into()], ..shell("") },
                "Permission denied (os error 13)".to_owned(),
            ),
            (
                ExecSpec { output: Some(output_in(Path::new("/no/such/dir"))), ..shell("") },
                format!("cannot open the output file /no/such/dir/out: {missing}"),
            ),
        ];
        for (spec, expected) in cases {
            let forked = forker().fork(WORKER, &spec, None).unwrap();
            assert_eq!(outcome(&forked, &spec).unwrap_err(), expected);
            wait(&forked.pidfd);
        }
    }

    #[test]
    fn a_child_is_known_as_proc_knows_it() {
        for clock in [TickClock::new(), None] {
            let mut forker = Forker { clock, ..forker() };
            let spec = shell("exec sleep 600");
            for _ in 0..20 {
                let forked = forker.fork(WORKER, &spec, None).unwrap();
                let shown = procfs::stat(forked.process.pid).unwrap().map(|stat| stat.process);
                forked.pidfd.kill_and_reap();
                assert_eq!(shown, Some(forked.process));
            }
            assert_eq!(forker.clock_agrees, clock.is_some());
        }
    }

    /// Its output is a pipe without a reader: it cannot be opened yet, as on a disk that hangs.
    #[test]
    fn a_child_that_hangs_holds_nothing_up_and_says_whose_it_is() {
        let temp = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&temp.path().join("out"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let spec = ExecSpec { output: Some(output_in(temp.path())), ..shell("exit 3") };
        let forked = forker().fork(WORKER, &spec, None).unwrap();
        let named = || procfs::stat(forked.process.pid).unwrap().unwrap().loading;
        while named() != Some(WORKER) {
            thread::sleep(Duration::from_millis(1));
        }
        let mut byte = [0];
        assert_eq!(read(&forked.status, &mut byte), Err(nix::Error::EAGAIN));
        let _reader = File::options().read(true).open(temp.path().join("out")).unwrap();
        outcome(&forked, &spec).unwrap();
        wait(&forked.pidfd);
    }

    #[test]
    fn a_child_ignores_no_signal_that_its_parent_does() {
        // Nothing in this program uses it.
        let unused = libc::SIGRTMIN() + 7;
        // SAFETY: no handler is installed, so none can do harm.
        unsafe { libc::signal(unused, libc::SIG_IGN) };
        let spec = shell("exec sleep 600");
        for dispositions in [Dispositions::MayChange, Dispositions::Fixed] {
            let mut forker = Forker::new(dispositions);
            assert!(forker.signals.contains(&unused));
            let forked = forker.fork(WORKER, &spec, None).unwrap();
            outcome(&forked, &spec).unwrap();
            let status =
                fs::read_to_string(format!("/proc/{}/status", forked.process.pid)).unwrap();
            forked.pidfd.kill_and_reap();
            for set in ["SigBlk", "SigIgn"] {
                let line = status.lines().find(|line| line.starts_with(set)).unwrap();
                let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16);
                assert_eq!(bits.unwrap() & (1 << (unused - 1)), 0, "{line}");
            }
        }
    }
}
