//! Supervises processes on one thread: starts them, waits for their ends, signals and clears away
//! their trees. Both the in-process port and the shim are a loop around it:
//!
//! ```text
//!  loop:  poll(engine.descriptor(), …own descriptors…, engine.next_deadline())
//!         engine.spawn / adopt / signal   as asked
//!         engine.turn()                   ─▶ Notice::Ended, once nothing of a worker is alive
//!
//!  task:  Watch ── signal(Terminate) ──▶ Terminate ── a walk, SIGTERM ──▶ Watch
//!           │
//!           │ leader ended, or signal(Kill)
//!           ▼
//!         Clear ── a walk, SIGKILL to all it found ── their ends ── a walk …
//!           └ leader ended and a walk found nothing ──▶ leader reaped, Notice::Ended
//! ```
//!
//! A leader of ours that has ended is not reaped before its tree is gone: till then its pid, and
//! with it the number of its session and group, can be nobody else's. Waiting costs nothing
//! however many workers there are; `/proc` is walked only when something ended or is signalled,
//! and one walk serves all workers of a turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Instant,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{
    command::Image,
    pidfd::Pidfd,
    procfs::{self, Table},
    spawn::{Dispositions, Spawned, Spawner},
    supervised::{Leader, Supervised, Task, Watch},
    tree::{self, Kin},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Process, Signal},
};

/// See the module's words.
pub(super) struct Engine {
    pub(super) epoll: Epoll,
    pub(super) reaper: Reaper,
    spawner: Spawner,
    pub(super) workers: BTreeMap<WorkerId, Supervised>,
    /// Whose leader or victim a token in `epoll` is.
    pub(super) tokens: BTreeMap<u64, WorkerId>,
    next_token: u64,
    /// Workers for which the next turn walks.
    pub(super) due: BTreeSet<WorkerId>,
    /// Workers whose task is `Clear`.
    pub(super) clearing: BTreeSet<WorkerId>,
    /// Whether orphans may wait to be reaped.
    pub(super) dead_children: bool,
    /// Whether so many do that some were left for the next turn.
    pub(super) more_dead: bool,
}

/// Who becomes the parent of processes that lost theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reaper {
    /// Some other process.
    Another,
    /// This one: it has one thread, and is a child subreaper. It reaps them, and need look for
    /// its workers' processes nowhere but among its descendants.
    This,
}

/// What the engine has to say after a turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    /// Nothing of the worker is alive.
    Ended { worker: WorkerId, exit: Exit },
    /// A signal could not be sent, though there is somebody to send it to.
    SignalFailed { worker: WorkerId, error: String },
}

/// What became of a worker that somebody else started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Adoption {
    /// It is there, and watched from now on.
    Alive(Process),
    /// Its leader is not; `Ended` follows once nothing of it is left.
    Ending,
    /// There is no trace of it.
    NeverRan,
}

impl Engine {
    pub(super) fn new(reaper: Reaper) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            reaper,
            spawner: Spawner::new(match reaper {
                Reaper::Another => Dispositions::MayChange,
                Reaper::This => Dispositions::Settled,
            })?,
            workers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            due: BTreeSet::new(),
            clearing: BTreeSet::new(),
            dead_children: true,
            more_dead: false,
        })
    }

    /// Readable when a turn has something to do.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// When a turn has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if !self.due.is_empty() || self.more_dead {
            return Some(Instant::now());
        }
        self.clearing.iter().filter_map(|id| self.workers.get(id)?.look_again_at).min()
    }

    /// Starts a worker's program. When this fails, no process is left.
    pub(super) fn spawn(
        &mut self,
        worker: WorkerId,
        image: &Image,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<Process, String> {
        if self.workers.contains_key(&worker) {
            return Err(format!("worker {worker} has been started already"));
        }
        let Spawned { process, pidfd } = self.spawner.spawn(image, stdout, stderr)?;
        match self.watch(worker, pidfd) {
            Ok(watch) => {
                self.workers.insert(worker, Supervised::new(Leader::Running { process, watch }));
                Ok(process)
            }
            Err((pidfd, error)) => {
                pidfd.kill_and_reap();
                Err(format!("it was started but could not be watched: {error}"))
            }
        }
    }

    /// Another handle on a worker's first process, while that has not been seen to end.
    pub(super) fn pidfd(&self, worker: WorkerId) -> Option<OwnedFd> {
        let pidfd = self.workers.get(&worker)?.leader.pidfd()?;
        pidfd.as_fd().try_clone_to_owned().ok()
    }

    /// Takes over a worker that was started by somebody else. An error says nothing about the
    /// worker: try again.
    pub(super) fn adopt(
        &mut self,
        worker: WorkerId,
        process: Option<Process>,
    ) -> io::Result<Adoption> {
        if let Some(known) = self.workers.get(&worker) {
            return Ok(known.leader.process().map_or(Adoption::Ending, Adoption::Alive));
        }
        let leader = match process {
            Some(process) => Some(process),
            None => match search(worker)? {
                Trace::Leader(process) => Some(process),
                Trace::Others => None,
                Trace::Nothing => return Ok(Adoption::NeverRan),
            },
        };
        if let Some(process) = leader
            && let Some(pidfd) = Pidfd::open(process)?
        {
            let watch = self.watch(worker, pidfd).map_err(|(_, error)| error)?;
            self.workers.insert(worker, Supervised::new(Leader::Running { process, watch }));
            return Ok(Adoption::Alive(process));
        }
        let gone = Leader::Gone { process: leader, exit: Exit::Unknown };
        self.workers.insert(worker, Supervised::new(gone));
        self.clear(worker);
        Ok(Adoption::Ending)
    }

    /// Takes over a worker of which a handle is held, be it alive or not. When this fails, the
    /// handle comes back.
    pub(super) fn take_over(
        &mut self,
        worker: WorkerId,
        process: Process,
        pidfd: Pidfd,
    ) -> Result<(), (Option<Pidfd>, io::Error)> {
        let watch = self.watch(worker, pidfd).map_err(|(pidfd, error)| (Some(pidfd), error))?;
        self.workers.insert(worker, Supervised::new(Leader::Running { process, watch }));
        Ok(())
    }

    /// Has the next turn signal everything of this worker. Nothing happens if it has ended.
    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let Some(supervised) = self.workers.get_mut(&worker) else { return };
        supervised.complain = true;
        match (signal, supervised.task) {
            (Signal::Kill, _) => self.clear(worker),
            (Signal::Terminate, Task::Watch | Task::Terminate) => {
                supervised.task = Task::Terminate;
                self.due.insert(worker);
            }
            // It is being killed.
            (Signal::Terminate, Task::Clear { .. }) => {}
        }
    }

    /// To be called when a child of this process has ended, if it is the reaper.
    pub(super) fn child_ended(&mut self) {
        self.dead_children = true;
    }

    /// Does whatever there is to do, and never waits.
    pub(super) fn turn(&mut self) -> Vec<Notice> {
        let now = Instant::now();
        self.take_ends(now);
        for worker in &self.clearing {
            let look_again_at = self.workers.get(worker).and_then(|w| w.look_again_at);
            if look_again_at.is_some_and(|at| at <= now) {
                self.due.insert(*worker);
            }
        }
        let mut notices = Vec::new();
        self.walk(now, &mut notices);
        self.settle(now, &mut notices);
        if self.reaper == Reaper::This && self.dead_children {
            self.reap_orphans();
        }
        notices
    }

    /// Makes the worker's task to kill everything of it.
    pub(super) fn clear(&mut self, worker: WorkerId) {
        if let Some(supervised) = self.workers.get_mut(&worker) {
            supervised.task = Task::Clear { empty: false };
            supervised.be_impatient();
            self.clearing.insert(worker);
            self.due.insert(worker);
        }
    }

    /// Adds a pidfd to those waited for.
    pub(super) fn watch(
        &mut self,
        worker: WorkerId,
        pidfd: Pidfd,
    ) -> Result<Watch, (Pidfd, io::Error)> {
        let token = self.next_token;
        match self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            Ok(()) => {
                self.next_token += 1;
                self.tokens.insert(token, worker);
                Ok(Watch { pidfd, token })
            }
            Err(error) => Err((pidfd, error.into())),
        }
    }

    /// Removes it again, before it is closed: a duplicate elsewhere would keep it in.
    pub(super) fn unwatch(&mut self, watch: &Watch) {
        self.tokens.remove(&watch.token);
        let _ = self.epoll.delete(&watch.pidfd);
    }

    /// Notes which leaders and victims have ended.
    fn take_ends(&mut self, now: Instant) {
        const AT_ONCE: usize = 256;
        let mut events = [EpollEvent::empty(); AT_ONCE];
        // More than fit make the descriptor readable again.
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..ready] {
            let Some(&worker) = self.tokens.get(&event.data()) else { continue };
            let Some(supervised) = self.workers.get_mut(&worker) else { continue };
            match &supervised.leader {
                Leader::Running { watch, .. } if watch.token == event.data() => {
                    self.leader_ended(worker, now);
                }
                // It has been reaped: `settle` reads its status.
                Leader::Foreign { watch, .. } if watch.token == event.data() => {}
                _ => self.victim_ended(worker, event.data()),
            }
        }
    }

    fn leader_ended(&mut self, worker: WorkerId, now: Instant) {
        let Some(supervised) = self.workers.get_mut(&worker) else { return };
        let unknown = Leader::Gone { process: None, exit: Exit::Unknown };
        let Leader::Running { process, watch } = std::mem::replace(&mut supervised.leader, unknown)
        else {
            unreachable!("the caller has matched a running leader");
        };
        let token = watch.token;
        supervised.leader = Leader::after_end(process, watch, now);
        match &supervised.leader {
            Leader::Running { .. } => return,
            // Only its reaping (EPOLLHUP, which is always reported) is news from now on.
            Leader::Foreign { watch, .. } => {
                let mut reaping = EpollEvent::new(EpollFlags::empty(), token);
                let _ = self.epoll.modify(&watch.pidfd, &mut reaping);
            }
            Leader::Held { pidfd, .. } => {
                self.tokens.remove(&token);
                let _ = self.epoll.delete(pidfd);
            }
            Leader::Gone { .. } => {}
        }
        self.clear(worker);
    }

    fn victim_ended(&mut self, worker: WorkerId, token: u64) {
        let Some(supervised) = self.workers.get_mut(&worker) else { return };
        let dead = supervised.victims.iter().find(|(_, watch)| watch.token == token);
        let Some(process) = dead.map(|(&process, _)| process) else { return };
        let watch = supervised.victims.remove(&process);
        if supervised.victims.is_empty() {
            // All are dead that the last walk found: has anything been started meanwhile?
            self.due.insert(worker);
        }
        if let Some(watch) = watch {
            self.unwatch(&watch);
        }
    }

    /// Lets go of the workers of which nothing is left.
    fn settle(&mut self, now: Instant, notices: &mut Vec<Notice>) {
        let done = |&worker: &WorkerId| {
            let supervised = self.workers.get(&worker)?;
            let empty = supervised.task == Task::Clear { empty: true };
            empty.then(|| supervised.leader.exit(now)).flatten().map(|exit| (worker, exit))
        };
        let ended: Vec<_> = self.clearing.iter().filter_map(done).collect();
        for (worker, exit) in ended {
            self.clearing.remove(&worker);
            self.due.remove(&worker);
            let Some(supervised) = self.workers.remove(&worker) else { continue };
            for watch in supervised.victims.values() {
                self.unwatch(watch);
            }
            match &supervised.leader {
                Leader::Held { pidfd, .. } => drop(pidfd.reap()),
                Leader::Running { watch, .. } | Leader::Foreign { watch, .. } => {
                    self.unwatch(watch)
                }
                Leader::Gone { .. } => {}
            }
            notices.push(Notice::Ended { worker, exit });
        }
    }
}

/// What `/proc` shows of a worker whose first process is not known.
enum Trace {
    /// This must be it.
    Leader(Process),
    /// It is gone, and has left others.
    Others,
    /// Nothing.
    Nothing,
}

fn search(worker: WorkerId) -> io::Result<Trace> {
    let table = Table::read()?;
    let nothing = BTreeSet::new();
    let kin = [Kin { worker, leader: None, known: &nothing, sought: true }];
    let found = tree::find(&table, &kin).members.remove(&worker).unwrap_or_default();
    // Whoever left the worker's session to lead another was started later.
    let leads = |stat: &&procfs::Stat| {
        stat.session == stat.process.pid && procfs::worker_of(stat.process) == Some(worker)
    };
    let leader = found.iter().filter(leads).min_by_key(|stat| stat.process.start_time);
    Ok(match leader {
        Some(stat) => Trace::Leader(stat.process),
        None if found.is_empty() => Trace::Nothing,
        None => Trace::Others,
    })
}
