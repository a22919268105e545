//! The engine's walks: finds what is alive of the workers that are due, and signals it.

use std::{
    io, mem,
    time::{Duration, Instant},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::Pid,
};

use super::{
    engine::{Engine, Notice, Reaper},
    pidfd::Pidfd,
    procfs::{self, Stat, Table},
    supervised::{Leader, Supervised, Task},
    tree::{self, Found, Kin},
};
use crate::{ids::WorkerId, machine::Process};

/// So many dead are waited for at once, of each worker: to wait for all would only cost descriptors,
/// and all were killed.
const MOST_WATCHED: usize = 16;

/// How many orphans are reaped in one turn.
const MOST_REAPED: usize = 256;

/// How often, and after how long, a worker is looked for again of which nothing was found while there
/// was somebody whose owner could not be told.
const UNCLEAR_LOOKS: u32 = 5;
const UNCLEAR_PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// One walk for all workers that are due.
    pub(super) fn walk(&mut self, now: Instant, notices: &mut Vec<Notice>) {
        if self.due.is_empty() {
            return;
        }
        let table = match self.table() {
            Ok(table) => table,
            Err(error) => return self.walk_failed(now, &error.to_string(), notices),
        };
        let due = mem::take(&mut self.due);
        let kin = self.workers.iter().map(|(&worker, supervised)| Kin {
            worker,
            leader: supervised.leader.process().map(|leader| (leader, supervised.leader.pidfd())),
            known: &supervised.known,
            sought: due.contains(&worker),
        });
        let Found { mut members, unclear } = tree::find(&table, &kin.collect::<Vec<_>>());
        for worker in due {
            let members = members.remove(&worker).unwrap_or_default();
            let Some(supervised) = self.workers.get_mut(&worker) else { continue };
            supervised.known = members.iter().map(|stat| stat.process).collect();
            if table.cut_short {
                // However often that was so: somebody is there.
                supervised.unclear_looks = 0;
            }
            let failure = match supervised.task {
                Task::Watch => None,
                Task::Terminate => {
                    supervised.task = Task::Watch;
                    terminate(supervised, &members)
                }
                Task::Clear { .. } => self.kill(worker, &members, unclear || table.cut_short, now),
            };
            self.complain(worker, failure, notices);
        }
    }

    /// Every process that may be one of those sought.
    fn table(&self) -> io::Result<Table> {
        if self.reaper == Reaper::Another || !procfs::lists_children() {
            return Table::read();
        }
        let others = self.workers.iter().filter(|(worker, _)| !self.due.contains(worker));
        let leaders = others.filter_map(|(_, other)| other.leader.process());
        Table::read_descendants(&leaders.map(|leader| leader.pid).collect())
    }

    /// Reaps the dead that were left to this process. Leaders are reaped in their own time.
    pub(super) fn reap_orphans(&mut self) {
        self.more_dead = false;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        // Whoever forks and exits without end leaves them without end: others must have their turn.
        for _ in 0..MOST_REAPED {
            // The first dead child is shown each time: behind a leader, orphans have to wait.
            let Some(pid) = first_dead_child() else {
                // The kernel looks through all children, so it is asked only when one has ended since.
                self.dead_children = false;
                return;
            };
            let leaders = self.workers.values().filter_map(|worker| worker.leader.process());
            if leaders.into_iter().any(|leader| leader.pid == pid.as_raw().unsigned_abs()) {
                return;
            }
            let _ = waitid(Id::Pid(pid), flags);
        }
        self.more_dead = true;
    }

    /// Nobody can be found; the leader and its group are signalled all the same.
    fn walk_failed(&mut self, now: Instant, error: &str, notices: &mut Vec<Notice>) {
        tracing::error!(error, "cannot read /proc: workers' processes cannot be found; retrying");
        for worker in mem::take(&mut self.due) {
            let Some(supervised) = self.workers.get_mut(&worker) else { continue };
            let signal = match supervised.task {
                Task::Watch => continue,
                Task::Terminate => libc::SIGTERM,
                Task::Clear { .. } => libc::SIGKILL,
            };
            signal_group(supervised, signal);
            if supervised.task == Task::Terminate {
                supervised.task = Task::Watch;
            }
            supervised.look_again_later(now);
            self.complain(worker, Some(format!("cannot read /proc: {error}")), notices);
        }
    }

    /// Kills what was found, and waits for it in the following turns.
    fn kill(
        &mut self,
        worker: WorkerId,
        members: &[Stat],
        unclear: bool,
        now: Instant,
    ) -> Option<String> {
        let supervised = self.workers.get_mut(&worker)?;
        if members.is_empty() {
            return nothing_found(supervised, unclear, now);
        }
        supervised.task = Task::Clear { empty: false };
        supervised.unclear_looks = 0;
        // The kernel does this in one go: a fork under way fails, and nobody is missed.
        signal_group(supervised, libc::SIGKILL);
        supervised.look_again_later(now);
        let mut failure = None;
        for member in members {
            if let Err(error) = self.kill_one(worker, member.process) {
                failure = Some(format!("pid {}: {error}", member.process.pid));
            }
        }
        failure
    }

    fn kill_one(&mut self, worker: WorkerId, process: Process) -> io::Result<()> {
        let Some(supervised) = self.workers.get_mut(&worker) else { return Ok(()) };
        match &supervised.leader {
            Leader::Running { process: leader, watch } if *leader == process => {
                return watch.pidfd.signal(libc::SIGKILL).map(drop);
            }
            _ => {}
        }
        if let Some(victim) = supervised.victims.get(&process) {
            return victim.pidfd.signal(libc::SIGKILL).map(drop);
        }
        let enough = supervised.victims.len() >= MOST_WATCHED;
        let Some(pidfd) = Pidfd::open(process)? else { return Ok(()) };
        pidfd.signal(libc::SIGKILL)?;
        if enough {
            return Ok(());
        }
        let watch = self.watch(worker, pidfd).map_err(|(_, error)| error)?;
        if let Some(supervised) = self.workers.get_mut(&worker) {
            supervised.victims.insert(process, watch);
        }
        Ok(())
    }

    fn complain(&mut self, worker: WorkerId, failure: Option<String>, notices: &mut Vec<Notice>) {
        if let Some(error) = failure
            && let Some(supervised) = self.workers.get_mut(&worker)
            && mem::take(&mut supervised.complain)
        {
            notices.push(Notice::SignalFailed { worker, error });
        }
    }
}

/// A walk has shown nothing of a worker that is to be killed.
fn nothing_found(supervised: &mut Supervised, unclear: bool, now: Instant) -> Option<String> {
    let look_again = unclear && supervised.unclear_looks < UNCLEAR_LOOKS;
    supervised.task = Task::Clear { empty: !look_again };
    // The leader's status may still be missing.
    supervised.look_again_at = match &supervised.leader {
        Leader::Foreign { give_up_at, .. } => Some(*give_up_at),
        _ => None,
    };
    if look_again {
        supervised.unclear_looks += 1;
        supervised.look_again_at = Some(now + UNCLEAR_PAUSE);
        return None;
    }
    let Leader::Running { watch, .. } = &supervised.leader else { return None };
    // It is hidden from this user, or has ended just now.
    let failure = watch.pidfd.signal(libc::SIGKILL).err();
    signal_group(supervised, libc::SIGKILL);
    supervised.look_again_later(now);
    failure.map(|error| error.to_string())
}

fn first_dead_child() -> Option<Pid> {
    // SAFETY: all zeroes is a valid siginfo_t, which is what waitid wants to write to; after it
    // the pid is what the union holds, zero if nobody is dead.
    let pid = unsafe {
        let mut info = mem::zeroed::<libc::siginfo_t>();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0 { info.si_pid() } else { 0 }
    };
    (pid != 0).then(|| Pid::from_raw(pid))
}

/// SIGTERM to each once: to the group in one go, and to those that have left it.
fn terminate(supervised: &Supervised, members: &[Stat]) -> Option<String> {
    let group_done = signal_group(supervised, libc::SIGTERM);
    let group = supervised.leader.process().filter(|_| group_done).map(|leader| leader.pid);
    let mut failure = None;
    for member in members.iter().filter(|member| Some(member.group) != group) {
        let sent = match Pidfd::open(member.process) {
            Ok(Some(pidfd)) => pidfd.signal(libc::SIGTERM).map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            failure = Some(format!("pid {}: {error}", member.process.pid));
        }
    }
    failure
}

/// Whether the leader's whole group was signalled. Never a stranger's: the kernel looks for the
/// group of the process that the pidfd means, not for a number.
fn signal_group(supervised: &Supervised, signal: i32) -> bool {
    // Before Linux 6.9 this fails, and the members are signalled one by one.
    supervised.leader.pidfd().is_some_and(|pidfd| matches!(pidfd.signal_group(signal), Ok(true)))
}
