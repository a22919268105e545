//! What is really alive: read from `/proc`, not taken from the agent under test.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use arroyo_node::{machine::Process, rpc::wire::WorkerStatus, runtime::process::send_signal};
use nix::libc::{self, SIGKILL};

use super::eventually;

/// The variable that carries a [`Mark`].
pub const MARK: &str = "E2E_MARK";

/// A word of its own in the environment of everything that one test gives rise to. When it is
/// dropped, whatever still has it is killed.
pub struct Mark(String);

/// A process that has a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marked {
    /// Which one.
    pub process: Process,
    /// The worker that it is, or belongs to; `None`: it is no worker's.
    pub worker: Option<u64>,
}

impl Mark {
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    pub fn value(&self) -> &str {
        &self.0
    }

    /// Everything alive that has the mark.
    pub fn alive(&self) -> Vec<Marked> {
        pids().filter_map(|pid| self.check(pid)).collect()
    }

    /// Those of them that are a worker, or something that a worker started.
    pub fn workers(&self) -> Vec<Marked> {
        self.alive().into_iter().filter(|marked| marked.worker.is_some()).collect()
    }

    /// How many processes of this worker are alive.
    pub fn count_of(&self, worker: u64) -> usize {
        self.alive().iter().filter(|marked| marked.worker == Some(worker)).count()
    }

    fn check(&self, pid: u32) -> Option<Marked> {
        let process = identify(pid)?;
        let environment = environment(pid);
        let worker = environment.get("ARROYO__WORKER__ID").and_then(|id| id.parse().ok());
        // The pid may have gone to somebody else between the two readings.
        let marked = environment.get(MARK) == Some(&self.0) && is_alive(process);
        marked.then_some(Marked { process, worker })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        kill_until_none_is_left(|| self.alive().into_iter().map(|marked| marked.process).collect());
    }
}

/// Whether this process has neither a policy nor a priority that others would not give up for a time slice.
pub fn has_usual_priority() -> bool {
    // SAFETY: integers only; 0 is this process.
    unsafe { libc::sched_getscheduler(0) == 0 && libc::getpriority(libc::PRIO_PROCESS, 0) >= 0 }
}

/// The time slice of a process's first thread, in nanoseconds; `None`: the kernel does not show it, or is
/// older than 6.12, where nobody can choose one.
pub fn time_slice(pid: u32) -> Option<u64> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if (numbers.next()?, numbers.next()?) < (6, 12) {
        return None;
    }
    let figures = fs::read_to_string(format!("/proc/{pid}/sched")).ok()?;
    let slice = figures.lines().find(|line| line.starts_with("se.slice"))?;
    slice.split(':').nth(1)?.trim().parse().ok()
}

/// Kills these until there are none, and none can come of a process that has yet to show what it is.
pub fn kill_until_none_is_left(find: impl Fn() -> Vec<Process>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let unsettled = pids().any(is_between_programs);
        let left = find();
        if (left.is_empty() && !unsettled) || Instant::now() > deadline {
            return;
        }
        for process in left {
            let _ = send_signal(process, SIGKILL);
        }
        sleep(Duration::from_millis(5));
    }
}

/// Whether it is in the middle of `execve`: it has neither the old program's arguments and
/// environment any more, nor the new one's yet.
fn is_between_programs(pid: u32) -> bool {
    const KERNEL_THREADS: u32 = 2;
    let is_program = |stat: Stat| {
        !matches!(stat.state, 'Z' | 'X') && pid != KERNEL_THREADS && stat.parent != KERNEL_THREADS
    };
    arguments(pid).is_empty() && stat(pid).is_some_and(is_program)
}

/// One line of `/proc/PID/stat`.
struct Stat {
    name: String,
    state: char,
    parent: u32,
    start_time: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<_> = tail.split_whitespace().collect();
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Every process that there is.
pub fn all() -> impl Iterator<Item = Process> {
    pids().filter_map(identify)
}

/// The process that has this pid now, dead or alive.
pub fn identify(pid: u32) -> Option<Process> {
    stat(pid).map(|stat| Process { pid, start_time: stat.start_time })
}

/// Whether it runs, rather than waits to be reaped.
pub fn is_alive(process: Process) -> bool {
    stat(process.pid).is_some_and(|stat| {
        stat.start_time == process.start_time && !matches!(stat.state, 'Z' | 'X')
    })
}

/// Kills the shim of this state directory, which its lock names, and waits until it is gone.
pub async fn kill_shim(state_dir: &Path) {
    let pid = fs::read_to_string(state_dir.join("shim.lock")).expect("there is a shim");
    let pid = pid.trim().parse().expect("its lock names it");
    let shim = identify(pid).expect("it is there");
    assert!(arguments(pid).iter().any(|argument| Path::new(argument) == state_dir), "it is ours");
    assert!(send_signal(shim, SIGKILL).expect("it can be killed"));
    eventually("the shim is gone", || !is_alive(shim)).await;
}

/// Kills a worker's process, as a bug in it would.
pub fn crash(worker: &WorkerStatus) {
    let process = identify(worker.pid).expect("it is there");
    assert!(send_signal(process, SIGKILL).expect("it can be killed"));
}

/// Whether it has been stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

/// How many children of this process wait to be reaped; of this name, if one is given.
pub fn zombies_of(parent: u32, name: Option<&str>) -> usize {
    let is_meant = |stat: &Stat| {
        stat.parent == parent && stat.state == 'Z' && name.is_none_or(|name| stat.name == name)
    };
    pids().filter_map(stat).filter(is_meant).count()
}

/// The environment with which a process was started; empty if it is gone.
pub fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let variables = text.split('\0').filter_map(|variable| variable.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The program's name and arguments with which a process was started.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}
