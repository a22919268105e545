//! What the agent knows of its workers: by whom each is looked after, and what is still to be sent
//! to the shim.
//!
//! ```text
//!  start ─▶ Queued ─▶ Asked ─▶ AtShim ─▶ (released)
//!                       │        │  the shim dies
//!                       ▼        ▼
//!                      Local: the supervisor of this process
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::client::Known;
use crate::{
    ids::WorkerId,
    machine::{Event, Exit, Process, Signal},
    supervisor::Request as LocalRequest,
};

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    entries: BTreeMap<WorkerId, Entry>,
    /// Not sent to the shim yet, in order.
    queue: VecDeque<Order>,
    /// Workers that the shim is to kill: it has them, or was asked to start them.
    kill_pending: BTreeSet<WorkerId>,
    /// How many starts the shim has not answered.
    asked: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    owner: Owner,
    /// The strongest signal that it was sent.
    signal: Option<Signal>,
}

/// By whom a worker is looked after.
#[derive(Clone, Debug)]
enum Owner {
    /// By nobody yet: its start is in the queue.
    Queued,
    /// The shim has been asked to start it, and has not answered.
    Asked(Asked),
    /// By the shim.
    Shim(AtShim),
    /// By the supervisor of this process.
    Local,
}

/// To whom the answer of a start matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// This agent has asked.
    ByThisAgent,
    /// An earlier one has; whether the node has asked for the worker since, and for which process.
    Earlier { wanted: Option<Option<Process>> },
}

#[derive(Clone, Debug)]
struct AtShim {
    process: Process,
    exit: Option<Exit>,
    /// Whether the node has asked for it. What happens before is kept for that moment.
    wanted: bool,
    /// Whether the shim that looked after it has died before the node asked for it.
    orphaned: bool,
}

/// Something to send to the shim.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Order {
    /// Start this worker, of which this is the payload.
    Start(WorkerId, Vec<u8>),
    /// Signal it.
    Signal(WorkerId, Signal),
    /// Forget it.
    Release(WorkerId),
}

/// What is to be done about something: to tell the node, and to ask of the local supervisor.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Consequences {
    pub(super) events: Vec<Event>,
    pub(super) local: Vec<LocalRequest>,
    /// Starts that failed because the shim said so, or was not there.
    pub(super) failed: Vec<(WorkerId, String)>,
}

impl Registry {
    /// A worker is to be started, with this payload.
    pub(super) fn start(&mut self, id: WorkerId, payload: Vec<u8>) {
        self.entries.insert(id, Entry { owner: Owner::Queued, signal: None });
        self.queue.push_back(Order::Start(id, payload));
    }

    /// A worker is to be signalled.
    pub(super) fn signal(&mut self, id: WorkerId, signal: Signal, out: &mut Consequences) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.signal = entry.signal.max(Some(signal));
        match &entry.owner {
            Owner::Local => out.local.push(LocalRequest::Signal { worker: id, signal }),
            Owner::Shim(AtShim { exit: Some(_), .. } | AtShim { orphaned: true, .. }) => {}
            Owner::Queued | Owner::Asked(_) | Owner::Shim(_) => {
                self.queue.push_back(Order::Signal(id, signal));
                self.note_kill(id);
            }
        }
    }

    fn note_kill(&mut self, id: WorkerId) {
        if let Some(Entry { owner, signal: Some(Signal::Kill) }) = self.entries.get(&id)
            && matches!(owner, Owner::Shim(_) | Owner::Asked(_))
        {
            self.kill_pending.insert(id);
        }
    }

    /// Whether the shim owes an answer: the end of a worker that it is to kill, or what became of a
    /// start.
    pub(super) fn shim_owes(&self) -> bool {
        !self.kill_pending.is_empty() || self.asked > 0
    }

    /// What the shim is to kill.
    pub(super) fn kill_pending(&self) -> impl Iterator<Item = WorkerId> {
        self.kill_pending.iter().copied()
    }

    /// A worker that an earlier agent started is wanted by the node.
    pub(super) fn adopt(&mut self, id: WorkerId, process: Option<Process>, out: &mut Consequences) {
        let local = LocalRequest::Adopt { worker: id, process };
        let Some(entry) = self.entries.get_mut(&id) else {
            self.entries.insert(id, Entry { owner: Owner::Local, signal: None });
            return out.local.push(local);
        };
        match &mut entry.owner {
            Owner::Shim(AtShim { exit: Some(exit), wanted, .. }) => {
                *wanted = true;
                out.events.push(Event::Exited { worker: id, exit: *exit });
            }
            Owner::Shim(AtShim { process, orphaned: true, .. }) => {
                let process = Some(*process);
                entry.owner = Owner::Local;
                out.local.push(LocalRequest::Adopt { worker: id, process });
            }
            Owner::Shim(AtShim { process, wanted, .. }) => {
                *wanted = true;
                out.events.push(Event::Adopted { worker: id, process: *process });
            }
            Owner::Asked(Asked::Earlier { wanted }) => *wanted = Some(process),
            Owner::Queued | Owner::Asked(Asked::ByThisAgent) | Owner::Local => {
                out.local.push(local);
            }
        }
    }

    /// The end of a worker is durable.
    pub(super) fn release(&mut self, id: WorkerId) {
        if let Some(Entry { owner: Owner::Shim(_), .. }) = self.entries.remove(&id) {
            self.queue.push_back(Order::Release(id));
        }
        self.kill_pending.remove(&id);
    }

    /// The next thing to send to the shim.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        let order = self.queue.pop_front()?;
        if let Order::Start(id, _) = order
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.owner = Owner::Asked(Asked::ByThisAgent);
            self.asked += 1;
            self.note_kill(id);
        }
        Some(order)
    }

    fn asked(&self, id: WorkerId) -> Option<Asked> {
        match self.entries.get(&id)?.owner {
            Owner::Asked(asked) => Some(asked),
            _ => None,
        }
    }

    /// The shim has started a worker that it was asked for.
    pub(super) fn started(&mut self, id: WorkerId, process: Process, out: &mut Consequences) {
        let Some(asked) = self.asked(id) else { return };
        let wanted = asked != Asked::Earlier { wanted: None };
        match asked {
            Asked::ByThisAgent => out.events.push(Event::Spawned { worker: id, process }),
            Asked::Earlier { wanted: Some(_) } => {
                out.events.push(Event::Adopted { worker: id, process });
            }
            Asked::Earlier { wanted: None } => {}
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owner = Owner::Shim(AtShim { process, exit: None, wanted, orphaned: false });
            self.asked -= 1;
        }
        out.local.push(LocalRequest::Track { worker: id, process });
    }

    /// A worker could not be started.
    pub(super) fn start_failed(&mut self, id: WorkerId, reason: String, out: &mut Consequences) {
        let Some(asked) = self.asked(id) else { return };
        self.entries.remove(&id);
        self.kill_pending.remove(&id);
        self.asked -= 1;
        match asked {
            Asked::ByThisAgent => out.failed.push((id, reason)),
            Asked::Earlier { wanted: Some(None) } => out.events.push(Event::NeverRan(id)),
            Asked::Earlier { wanted: Some(Some(_)) } => {
                out.events.push(Event::Exited { worker: id, exit: Exit::Unknown });
            }
            Asked::Earlier { wanted: None } => {}
        }
    }

    /// The shim says that a worker is gone.
    pub(super) fn ended(&mut self, id: WorkerId, exit: Exit, out: &mut Consequences) {
        self.kill_pending.remove(&id);
        if let Some(Entry { owner: Owner::Shim(at), .. }) = self.entries.get_mut(&id)
            && at.exit.is_none()
            && !at.orphaned
        {
            at.exit = Some(exit);
            out.local.push(LocalRequest::Untrack { worker: id });
            if at.wanted {
                out.events.push(Event::Exited { worker: id, exit });
            }
        }
    }

    /// The connection to a shim was lost, and these are what the shim that is connected now knows;
    /// none, if there is no shim.
    pub(super) fn compare(&mut self, known: &[Known], out: &mut Consequences) {
        for known in known {
            self.listed(known, out);
        }
        let listed: BTreeSet<WorkerId> = known.iter().map(|known| known.worker).collect();
        self.missing(&listed, out);
        self.kill_pending.retain(|id| listed.contains(id));
        let Self { entries, queue, .. } = self;
        // What the shim does not have is not signalled through it, unless it is to be started.
        queue.retain(|order| match order {
            Order::Start(..) => true,
            Order::Release(id) => listed.contains(id),
            Order::Signal(id, _) => {
                let owner = entries.get(id).map(|entry| &entry.owner);
                matches!(owner, Some(Owner::Queued)) || listed.contains(id)
            }
        });
    }

    fn listed(&mut self, known: &Known, out: &mut Consequences) {
        let (id, process) = (known.worker, known.process);
        let released =
            self.queue.iter().any(|order| matches!(order, Order::Release(other) if *other == id));
        if released {
            return;
        }
        match self.entries.get(&id).map(|entry| &entry.owner) {
            None if known.loading => {
                let owner = Owner::Asked(Asked::Earlier { wanted: None });
                self.entries.insert(id, Entry { owner, signal: None });
                self.asked += 1;
            }
            None => {
                let at = AtShim { process, exit: None, wanted: false, orphaned: false };
                self.entries.insert(id, Entry { owner: Owner::Shim(at), signal: None });
                if known.exit.is_none() {
                    out.local.push(LocalRequest::Track { worker: id, process });
                }
            }
            Some(Owner::Asked(_)) if !known.loading => self.started(id, process, out),
            Some(Owner::Queued | Owner::Asked(_) | Owner::Shim(_) | Owner::Local) => {}
        }
        if let Some(signal) = self.entries.get(&id).and_then(|entry| entry.signal)
            && known.exit.is_none()
        {
            // It may have been lost with the connection. SIGTERM twice is better than not at all.
            let order = Order::Signal(id, signal);
            if !self.queue.contains(&order) {
                self.queue.push_back(order);
            }
            self.note_kill(id);
        }
        if let Some(exit) = known.exit {
            self.ended(id, exit, out);
        }
    }

    /// What the shim should have and has not.
    fn missing(&mut self, listed: &BTreeSet<WorkerId>, out: &mut Consequences) {
        let unwanted = |(id, entry): &(&WorkerId, &Entry)| {
            !listed.contains(id)
                && matches!(entry.owner, Owner::Asked(Asked::Earlier { wanted: None }))
        };
        // Should the node ask for them, they are looked for.
        let gone: Vec<_> = self.entries.iter().filter(unwanted).map(|(&id, _)| id).collect();
        for id in gone {
            self.entries.remove(&id);
            self.asked -= 1;
        }
        for (&id, entry) in &mut self.entries {
            if listed.contains(&id) {
                continue;
            }
            let request = match &mut entry.owner {
                Owner::Asked(asked) => {
                    self.asked -= 1;
                    match *asked {
                        Asked::ByThisAgent => LocalRequest::FinishStart { worker: id },
                        Asked::Earlier { wanted } => {
                            let process = wanted.flatten();
                            LocalRequest::Adopt { worker: id, process }
                        }
                    }
                }
                Owner::Shim(at) if at.exit.is_none() && !at.orphaned => {
                    if !at.wanted {
                        at.orphaned = true;
                        continue;
                    }
                    LocalRequest::TakeOver { worker: id, process: at.process }
                }
                Owner::Queued | Owner::Shim(_) | Owner::Local => continue,
            };
            entry.owner = Owner::Local;
            out.local.push(request);
            if let Some(signal) = entry.signal {
                out.local.push(LocalRequest::Signal { worker: id, signal });
            }
        }
    }

    /// No shim can be started: the starts that wait for one fail.
    pub(super) fn give_up_starts(&mut self, reason: &str, out: &mut Consequences) {
        let entries = &mut self.entries;
        self.queue.retain(|order| match order {
            Order::Start(id, _) => {
                entries.remove(id);
                out.failed.push((*id, reason.to_owned()));
                false
            }
            Order::Signal(id, _) => entries.contains_key(id),
            Order::Release(_) => true,
        });
    }

    /// The local supervisor has told the last of a worker.
    pub(super) fn local_ended(&mut self, id: WorkerId) {
        if let Some(Entry { owner: Owner::Local, .. }) = self.entries.get(&id) {
            self.entries.remove(&id);
        }
    }
}
