//! What the agent's side knows of its workers: where each is looked after, and what is still to
//! be said to the shim. Decides; does nothing itself.
//!
//! ```text
//!  spawn ─▶ Queued ─▶ Asked ─▶ Shim ─▶ (released)
//!                       │        │  the shim dies
//!                       ▼        ▼
//!                      Watcher: the thread of this process
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    super::{pidfd::Pidfd, stand_in::Doomed},
    client::Known,
};
use crate::{
    ids::WorkerId,
    machine::{Event, Exit, Launch, Process, Signal},
};

/// Spawns that the shim has not answered yet, at most: more would fill the socket, and the
/// kernel's allowance of descriptors under way.
const MOST_ASKED: usize = 64;

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Books {
    entries: BTreeMap<WorkerId, Entry>,
    /// Not said to the shim yet, in order.
    queue: VecDeque<Order>,
    asked: usize,
    /// Workers that the shim is to kill: it has them, or was asked to spawn them.
    doomed: BTreeSet<WorkerId>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// What it has been told.
    signal: Option<Signal>,
}

/// Where a worker is looked after.
#[derive(Debug)]
enum Place {
    /// Nowhere yet: its spawn is in the queue.
    Queued,
    /// The shim has been asked to spawn it, and has not answered.
    Asked,
    /// By the shim.
    Shim(AtShim),
    /// By the thread of this process.
    Watcher,
}

#[derive(Debug)]
struct AtShim {
    process: Process,
    /// Made while it lived: tells its end when the shim no longer can.
    pidfd: Option<Pidfd>,
    exit: Option<Exit>,
    /// Whether the driver has asked for it. What happens before is kept for that moment.
    wanted: bool,
    /// Whether the shim that looked after it has died before the driver asked for it.
    orphaned: bool,
}

/// Something to say to the shim.
#[derive(Debug)]
pub(super) enum Order {
    Spawn(Box<Launch>),
    Signal(WorkerId, Signal),
    Release(WorkerId),
}

/// Who is to signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// The shim; the order is in the queue.
    Shim,
    /// The thread of this process.
    Watcher,
    /// Nobody: it has ended.
    Nobody,
}

/// What is known of a worker that the driver wants to adopt.
#[derive(Debug)]
pub(super) enum Adopted {
    /// The shim has it.
    Alive(Process),
    /// The shim had it.
    Ended(Exit),
    /// The shim has died since: the thread of this process is to take it over.
    TakeOver(Lost),
    /// The shim never had it: the thread of this process is to look for it.
    Unknown,
}

/// A worker that the shim no longer looks after, because it has died.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) worker: WorkerId,
    pub(super) process: Process,
    pub(super) pidfd: Option<Pidfd>,
    pub(super) signal: Option<Signal>,
}

/// All that a shim's death leaves to do.
#[derive(Debug, Default)]
pub(super) struct Estate {
    /// To be watched from now on.
    pub(super) lost: Vec<Lost>,
    /// Asked for and not answered: to be searched for.
    pub(super) unclear: Vec<(WorkerId, Option<Signal>)>,
}

impl Books {
    /// A worker is to be spawned.
    pub(super) fn spawn(&mut self, launch: Launch) {
        self.entries.insert(launch.worker, Entry { place: Place::Queued, signal: None });
        self.queue.push_back(Order::Spawn(Box::new(launch)));
    }

    /// A worker is to be signalled.
    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal) -> Route {
        let Some(entry) = self.entries.get_mut(&worker) else { return Route::Nobody };
        entry.signal = entry.signal.max(Some(signal));
        match &entry.place {
            Place::Watcher => Route::Watcher,
            Place::Shim(AtShim { exit: Some(_), .. } | AtShim { orphaned: true, .. }) => {
                Route::Nobody
            }
            Place::Queued | Place::Asked | Place::Shim(_) => {
                self.queue.push_back(Order::Signal(worker, signal));
                self.note_doom(worker);
                Route::Shim
            }
        }
    }

    fn note_doom(&mut self, worker: WorkerId) {
        let entry = self.entries.get(&worker);
        if let Some(Entry { place, signal: Some(Signal::Kill) }) = entry
            && matches!(place, Place::Shim(_) | Place::Asked)
        {
            self.doomed.insert(worker);
        }
    }

    /// Whether the shim is to kill somebody whose end it has not told.
    pub(super) fn awaits_an_end(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Whom the shim is to kill, as far as they are known.
    pub(super) fn doomed(&self) -> Vec<Doomed> {
        let doomed = self.doomed.iter().filter_map(|worker| {
            let Place::Shim(AtShim { process, pidfd, .. }) = &self.entries.get(worker)?.place
            else {
                return None;
            };
            let pidfd = pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
            Some(Doomed { worker: *worker, leader: *process, pidfd })
        });
        doomed.collect()
    }

    /// A worker that an earlier agent started is wanted.
    pub(super) fn adopt(&mut self, worker: WorkerId) -> Adopted {
        let watched = Entry { place: Place::Watcher, signal: None };
        let Some(entry) = self.entries.get_mut(&worker) else {
            self.entries.insert(worker, watched);
            return Adopted::Unknown;
        };
        match &mut entry.place {
            Place::Shim(AtShim { exit: Some(exit), wanted, .. }) => {
                *wanted = true;
                Adopted::Ended(*exit)
            }
            Place::Shim(AtShim { process, pidfd, orphaned: true, .. }) => {
                let (process, pidfd, signal) = (*process, pidfd.take(), entry.signal);
                entry.place = Place::Watcher;
                Adopted::TakeOver(Lost { worker, process, pidfd, signal })
            }
            Place::Shim(AtShim { process, wanted, .. }) => {
                *wanted = true;
                Adopted::Alive(*process)
            }
            Place::Queued | Place::Asked | Place::Watcher => Adopted::Unknown,
        }
    }

    /// The end of a worker is durable.
    pub(super) fn release(&mut self, worker: WorkerId) {
        if let Some(Entry { place: Place::Shim(_), .. }) = self.entries.remove(&worker) {
            self.queue.push_back(Order::Release(worker));
        }
        self.doomed.remove(&worker);
    }

    /// The next thing to say to the shim, if it may be said now.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        if let Some(Order::Spawn(launch)) = self.queue.front() {
            if self.asked >= MOST_ASKED {
                return None;
            }
            let worker = launch.worker;
            if let Some(entry) = self.entries.get_mut(&worker) {
                entry.place = Place::Asked;
                self.asked += 1;
                self.note_doom(worker);
            }
        }
        self.queue.pop_front()
    }

    /// Whether the shim has been asked to spawn this worker, and has not answered.
    pub(super) fn is_asked(&self, worker: WorkerId) -> bool {
        matches!(self.entries.get(&worker), Some(Entry { place: Place::Asked, .. }))
    }

    /// The shim has spawned a worker that it was asked for.
    pub(super) fn spawned(&mut self, worker: WorkerId, process: Process, pidfd: Option<Pidfd>) {
        if self.is_asked(worker)
            && let Some(entry) = self.entries.get_mut(&worker)
        {
            entry.place = Place::Shim(AtShim::new(process, pidfd, true));
            self.asked -= 1;
        }
    }

    /// A worker was not spawned, by whomever. `false`: nobody asked for it.
    pub(super) fn spawn_failed(&mut self, worker: WorkerId) -> bool {
        let asked = self.is_asked(worker);
        if asked {
            self.entries.remove(&worker);
            self.doomed.remove(&worker);
            self.asked -= 1;
        }
        asked
    }

    /// The shim says that a worker is gone. `true`: the driver is to hear of it now.
    pub(super) fn exited(&mut self, worker: WorkerId, exit: Exit) -> bool {
        self.doomed.remove(&worker);
        match self.entries.get_mut(&worker) {
            Some(Entry { place: Place::Shim(at), .. }) if at.exit.is_none() => {
                at.exit = Some(exit);
                at.pidfd = None;
                at.wanted
            }
            _ => false,
        }
    }

    /// The connection to a shim was lost, and these are what the shim that is connected now knows;
    /// none, if there is no shim. Returns what the driver is to hear, and what nobody looks after.
    pub(super) fn compare(&mut self, known: &[Known]) -> (Vec<Event>, Estate) {
        let mut events = Vec::new();
        for known in known {
            self.listed(known, &mut events);
        }
        let listed: BTreeSet<WorkerId> = known.iter().map(|known| known.worker).collect();
        let estate = self.missing(&listed);
        self.doomed.retain(|worker| listed.contains(worker));
        let Self { entries, queue, .. } = self;
        // Who is not to be spawned any more is not to be signalled by the shim, unless it has it.
        queue.retain(|order| match order {
            Order::Spawn(_) => true,
            Order::Release(worker) => listed.contains(worker),
            Order::Signal(worker, _) => {
                let place = entries.get(worker).map(|entry| &entry.place);
                matches!(place, Some(Place::Queued)) || listed.contains(worker)
            }
        });
        (events, estate)
    }

    fn listed(&mut self, known: &Known, events: &mut Vec<Event>) {
        let (worker, process) = (known.worker, known.process);
        let released =
            self.queue.iter().any(|order| matches!(order, Order::Release(id) if *id == worker));
        if released {
            return;
        }
        match self.entries.get(&worker).map(|entry| &entry.place) {
            None => {
                let at = AtShim::new(process, None, false);
                self.entries.insert(worker, Entry { place: Place::Shim(at), signal: None });
            }
            Some(Place::Asked) => {
                self.spawned(worker, process, None);
                events.push(Event::Spawned { worker, process });
            }
            Some(Place::Queued | Place::Shim(_) | Place::Watcher) => {}
        }
        if self.entries.get(&worker).is_some_and(|entry| entry.signal == Some(Signal::Kill)) {
            // It may have been lost with the connection, and does no harm twice.
            self.queue.push_back(Order::Signal(worker, Signal::Kill));
        }
        if let Some(exit) = known.exit
            && self.exited(worker, exit)
        {
            events.push(Event::Exited { worker, exit });
        }
    }

    /// What the shim should have and has not.
    fn missing(&mut self, listed: &BTreeSet<WorkerId>) -> Estate {
        let mut estate = Estate::default();
        for (&worker, entry) in &mut self.entries {
            let signal = entry.signal;
            match &mut entry.place {
                Place::Asked => {
                    self.asked -= 1;
                    estate.unclear.push((worker, signal));
                    entry.place = Place::Watcher;
                }
                Place::Shim(at) if at.exit.is_none() && !listed.contains(&worker) => {
                    if at.wanted {
                        let (process, pidfd) = (at.process, at.pidfd.take());
                        estate.lost.push(Lost { worker, process, pidfd, signal });
                        entry.place = Place::Watcher;
                    } else {
                        at.orphaned = true;
                    }
                }
                Place::Queued | Place::Shim(_) | Place::Watcher => {}
            }
        }
        estate
    }

    /// No shim can be started: the spawns that wait for one fail.
    pub(super) fn give_up_spawns(&mut self) -> Vec<WorkerId> {
        let entries = &mut self.entries;
        let mut given_up = Vec::new();
        self.queue.retain(|order| match order {
            Order::Spawn(launch) => {
                entries.remove(&launch.worker);
                given_up.push(launch.worker);
                false
            }
            Order::Signal(worker, _) => entries.contains_key(worker),
            Order::Release(_) => true,
        });
        given_up
    }
}

impl AtShim {
    /// `pidfd`: the one that the shim has sent, if it has.
    fn new(process: Process, pidfd: Option<Pidfd>, wanted: bool) -> Self {
        let pidfd = pidfd.or_else(|| Pidfd::open(process).ok().flatten());
        Self { process, pidfd, exit: None, wanted, orphaned: false }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::tests::launch, *};

    const PROCESS: Process = Process { pid: 1 << 30, start_time: 1 };

    fn known(worker: WorkerId, exit: Option<Exit>) -> Known {
        Known { worker, process: PROCESS, exit, label: Vec::new() }
    }

    fn say(books: &mut Books) -> Vec<String> {
        let orders = std::iter::from_fn(|| books.next_order());
        orders.map(|order| format!("{order:?}").split('(').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn only_so_many_spawns_are_asked_for_at_once_and_all_are_in_the_end() {
        let mut books = Books::default();
        let workers: Vec<_> = (0..100).map(WorkerId).collect();
        workers.iter().for_each(|&worker| books.spawn(launch(worker)));
        assert_eq!(say(&mut books).len(), MOST_ASKED);
        for &worker in &workers[..MOST_ASKED / 2] {
            books.spawned(worker, PROCESS, None);
            assert_eq!(say(&mut books), ["Spawn"], "one answer, one more question");
        }
        for &worker in &workers[MOST_ASKED / 2..] {
            assert!(books.spawn_failed(worker));
            say(&mut books);
        }
        assert_eq!(books.asked, 0);
    }

    #[test]
    fn a_signal_does_not_overtake_its_spawn() {
        let mut books = Books::default();
        books.spawn(launch(WorkerId(1)));
        assert_eq!(books.signal(WorkerId(1), Signal::Kill), Route::Shim);
        assert_eq!(say(&mut books), ["Spawn", "Signal"]);
    }

    #[test]
    fn spawns_that_no_shim_takes_are_given_up_with_their_signals() {
        let mut books = Books::default();
        books.spawn(launch(WorkerId(1)));
        books.signal(WorkerId(1), Signal::Terminate);
        let (events, estate) = books.compare(&[]);
        assert!(events.is_empty() && estate.lost.is_empty() && estate.unclear.is_empty());
        assert_eq!(books.give_up_spawns(), [WorkerId(1)]);
        assert_eq!(say(&mut books), [""; 0]);
        assert_eq!(books.signal(WorkerId(1), Signal::Kill), Route::Nobody);
    }

    #[test]
    fn what_was_killed_is_killed_again_whoever_has_it_after_a_lost_connection() {
        let mut books = Books::default();
        let (here, gone, unclear) = (WorkerId(1), WorkerId(2), WorkerId(3));
        for worker in [here, gone, unclear] {
            books.spawn(launch(worker));
            books.signal(worker, Signal::Kill);
        }
        say(&mut books);
        books.spawned(here, PROCESS, None);
        books.spawned(gone, PROCESS, None);
        let (events, estate) = books.compare(&[known(here, None)]);
        assert_eq!(events, []);
        assert_eq!(say(&mut books), ["Signal"]);
        assert_eq!(estate.lost[0].worker, gone);
        assert_eq!(estate.lost[0].signal, Some(Signal::Kill));
        assert_eq!(estate.unclear, [(unclear, Some(Signal::Kill))]);
        assert_eq!(books.signal(gone, Signal::Kill), Route::Watcher);
    }

    #[test]
    fn the_end_of_whom_the_shim_is_to_kill_is_awaited_while_the_shim_has_it() {
        let mut books = Books::default();
        let doomed = |books: &Books| books.doomed().iter().map(|d| d.worker).collect::<Vec<_>>();
        let (early, asked, ended, gone) = (WorkerId(1), WorkerId(2), WorkerId(3), WorkerId(4));
        for worker in [early, asked, ended, gone] {
            books.spawn(launch(worker));
        }
        books.signal(early, Signal::Kill);
        assert!(!books.awaits_an_end(), "the shim does not know of it");
        say(&mut books);
        assert!(books.awaits_an_end() && doomed(&books).is_empty(), "nobody knows its process");
        for worker in [early, asked, ended, gone] {
            books.spawned(worker, PROCESS, None);
        }
        assert_eq!(doomed(&books), [early]);
        books.signal(asked, Signal::Terminate);
        assert_eq!(doomed(&books), [early], "it may take its time");
        books.signal(asked, Signal::Kill);
        books.signal(ended, Signal::Kill);
        books.signal(gone, Signal::Kill);
        books.exited(ended, Exit::Signal(9));
        books.compare(&[known(early, None), known(asked, None)]);
        assert_eq!(doomed(&books), [early, asked], "of those that this shim has");
        books.exited(early, Exit::Signal(9));
        books.exited(asked, Exit::Signal(9));
        assert!(!books.awaits_an_end());
    }

    #[test]
    fn answers_lost_with_the_connection_are_made_up_from_the_list() {
        let mut books = Books::default();
        let (spawned, ended) = (WorkerId(1), WorkerId(2));
        books.spawn(launch(spawned));
        books.spawn(launch(ended));
        say(&mut books);
        let exit = Exit::Code(4);
        let (events, estate) = books.compare(&[known(spawned, None), known(ended, Some(exit))]);
        let expected = [
            Event::Spawned { worker: spawned, process: PROCESS },
            Event::Spawned { worker: ended, process: PROCESS },
            Event::Exited { worker: ended, exit },
        ];
        assert_eq!(events, expected);
        assert!(estate.lost.is_empty() && estate.unclear.is_empty());
        assert_eq!(books.compare(&[known(ended, Some(exit))]).0, [], "not twice");
    }

    #[test]
    fn what_ends_before_it_is_adopted_is_told_when_it_is() {
        let mut books = Books::default();
        let worker = WorkerId(1);
        books.compare(&[known(worker, None)]);
        assert!(!books.exited(worker, Exit::Code(5)), "the driver has not asked for it");
        assert!(matches!(books.adopt(worker), Adopted::Ended(Exit::Code(5))));
        books.release(worker);
        assert_eq!(say(&mut books), ["Release"]);
        assert!(matches!(books.adopt(worker), Adopted::Unknown));
    }
}
