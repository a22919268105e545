//! The books: which nodes there are, which workers were started on them, and for which jobs.
//!
//! ```text
//!  register ─▶ node ── place ─▶ placement ── started ──────▶ worker ── finished ─▶ (gone)
//!                        ▲         └──────── start_failed ─▶ (slots free again)
//!                     expire
//! ```
//!
//! Pure: time is an argument, everything is ordered, nothing is waited for. Each operation takes
//! effect at once and whole. What happened is kept as [`ControllerEvent`]s until somebody takes
//! them. A node's slots are taken from placing to the report of the worker's end, and at no time
//! are more of them taken than the node registered.

mod finish;
mod jobs;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use thiserror::Error;

use super::{
    event::{ControllerEvent, Counters, Node, Snapshot, Violation, Worker},
    job::{Job, JobSpec},
    nodes::Refusal,
};
use crate::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{Dialect, Mono},
};

/// A controller's bookkeeping.
#[derive(Debug, Default)]
pub struct Books {
    nodes: BTreeMap<MachineId, Node>,
    jobs: BTreeMap<JobId, Job>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Every worker that was ever reported ended.
    reported: BTreeSet<WorkerId>,
    /// Those of them that were reported before their StartWorker was known to have succeeded.
    early: BTreeSet<WorkerId>,
    /// Starts under way.
    open: BTreeSet<u64>,
    placed: u64,
    counters: Counters,
    violations: Vec<Violation>,
    events: Vec<ControllerEvent>,
}

/// One StartWorker to send. Its slots are reserved until [`Books::started`] or
/// [`Books::start_failed`] is told how it went; one of them must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    id: u64,
    /// On which node.
    pub node: MachineId,
    /// Where that is.
    pub address: String,
    /// For which job.
    pub job: JobId,
    /// The job's pipeline, if it is to be sent.
    pub pipeline: Option<PipelineId>,
    /// For which scheduling attempt of the job.
    pub generation: Generation,
    /// With how many slots.
    pub slots: u64,
    /// In which dialect.
    pub dialect: Dialect,
}

/// A job cannot be placed: no slot was reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not enough slots: wanted {wanted}, free on all nodes together {free}")]
pub struct NotEnoughSlots {
    /// What the job takes.
    pub wanted: u64,
    /// What there is.
    pub free: u64,
}

/// Where a worker's stop is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopTarget {
    /// Nowhere: the worker is not in the books.
    Gone,
    /// Nowhere: its node is not in the books.
    NodeUnknown,
    /// To the node at this address.
    Call(String),
}

impl Books {
    /// RegisterNode. Acts only when the node is unknown: a repeat changes nothing, and does not
    /// even count as having heard of it. Returns whether the node was unknown.
    pub fn register(&mut self, now: Mono, node: MachineId, slots: u64, address: String) -> bool {
        self.counters.registered += 1;
        let repeat = self.nodes.contains_key(&node);
        if !repeat {
            let entry = Node {
                slots,
                address: address.clone(),
                last_heard: now,
                held: BTreeMap::new(),
                reserved: BTreeMap::new(),
            };
            self.nodes.insert(node.clone(), entry);
        }
        self.events.push(ControllerEvent::NodeRegistered { node, slots, address, repeat });
        !repeat
    }

    /// HeartbeatNode. Returns whether the node is known: if not, it is to register.
    pub fn heartbeat(&mut self, now: Mono, node: MachineId) -> bool {
        self.counters.heartbeats += 1;
        let entry = self.nodes.get_mut(&node);
        let known = entry.is_some();
        if let Some(entry) = entry {
            entry.last_heard = now;
        }
        self.events.push(ControllerEvent::Heartbeat { node, known });
        known
    }

    /// Forgets the nodes that were unheard for longer than this. Their workers stay in the books;
    /// should a node come back, it does so with all its slots free.
    pub fn expire(&mut self, now: Mono, after: Duration) {
        let silent = |node: &Node| now.since(node.last_heard) > after;
        for (node, _) in self.nodes.extract_if(.., |_, node| silent(node)) {
            self.counters.expired += 1;
            self.events.push(ControllerEvent::NodeExpired { node });
        }
    }

    /// Forgets a node at once, as a fault. Returns whether it was known.
    pub fn forget_node(&mut self, node: &MachineId) -> bool {
        let known = self.nodes.remove(node).is_some();
        if known {
            self.events.push(ControllerEvent::NodeForgotten { node: node.clone() });
        }
        known
    }

    /// Finds nodes for all slots of a job, or for none: the node with most free slots is filled
    /// first (of equals, the one whose name sorts first), each gets one worker. Silent nodes are
    /// to be expired before.
    pub fn place(
        &mut self,
        job: &JobSpec,
        generation: Generation,
    ) -> Result<Vec<Placement>, NotEnoughSlots> {
        // Nodes may offer any number of slots: together more than can be counted.
        let free = self.nodes.values().map(Node::free).fold(0, u64::saturating_add);
        if job.slots > free {
            self.events.push(ControllerEvent::NotEnoughSlots {
                job: job.id.clone(),
                wanted: job.slots,
                free,
            });
            return Err(NotEnoughSlots { wanted: job.slots, free });
        }

        let mut fullest_first: Vec<_> =
            self.nodes.iter().map(|(name, node)| (name.clone(), node.free())).collect();
        fullest_first.sort_by_key(|(_, free)| Reverse(*free));
        let mut left = job.slots;
        let mut placements = Vec::new();
        for (node, free) in fullest_first {
            if left == 0 {
                break;
            }
            let slots = free.min(left);
            left -= slots;
            placements.extend(self.reserve(&node, job, generation, slots));
        }
        Ok(placements)
    }

    /// Finds room for a part of a job on a node that the caller chose, as a scheduler with rules of
    /// its own does. A node that is not known has none.
    pub fn place_on(
        &mut self,
        node: &MachineId,
        job: &JobSpec,
        generation: Generation,
        slots: u64,
    ) -> Result<Placement, NotEnoughSlots> {
        let free = self.nodes.get(node).map_or(0, Node::free);
        let short = NotEnoughSlots { wanted: slots, free };
        let placement =
            if slots > free { None } else { self.reserve(node, job, generation, slots) };
        placement.ok_or(short)
    }

    fn reserve(
        &mut self,
        name: &MachineId,
        job: &JobSpec,
        generation: Generation,
        slots: u64,
    ) -> Option<Placement> {
        let node = self.nodes.get_mut(name)?;
        self.placed += 1;
        node.reserved.insert(self.placed, slots);
        self.open.insert(self.placed);
        Some(Placement {
            id: self.placed,
            node: name.clone(),
            address: node.address.clone(),
            job: job.id.clone(),
            pipeline: job.sent_pipeline().cloned(),
            generation,
            slots,
            dialect: job.dialect,
        })
    }

    /// A StartWorker was answered with this worker.
    pub fn started(&mut self, now: Mono, placement: &Placement, id: WorkerId) {
        self.counters.started += 1;
        self.events.push(ControllerEvent::WorkerStarted {
            node: placement.node.clone(),
            worker: id,
            job: placement.job.clone(),
            generation: placement.generation,
            slots: placement.slots,
        });
        // A report that overtook this answer has been dealt with already.
        let ended_already = self.early.remove(&id);
        let reserved = self.close(placement);
        if ended_already {
            return;
        }

        if self.workers.contains_key(&id) || self.reported.contains(&id) {
            self.violation(Violation::WorkerIdReused { worker: id, node: placement.node.clone() });
            self.remove_worker(id);
        }
        if reserved && let Some(node) = self.nodes.get_mut(&placement.node) {
            node.held.insert(id, placement.slots);
        }
        self.workers.insert(
            id,
            Worker {
                node: placement.node.clone(),
                job: placement.job.clone(),
                pipeline: placement.pipeline.clone(),
                generation: placement.generation,
                slots: placement.slots,
                dialect: placement.dialect,
                started_at: now,
                running: true,
            },
        );
    }

    /// A StartWorker failed, for all the controller knows.
    pub fn start_failed(&mut self, placement: &Placement, refusal: Refusal) {
        self.counters.refused += 1;
        self.events.push(ControllerEvent::StartRefused {
            node: placement.node.clone(),
            job: placement.job.clone(),
            generation: placement.generation,
            slots: placement.slots,
            refusal,
        });
        self.close(placement);
    }

    /// A StartWorker was not sent after all, since an earlier one of its scheduling failed.
    pub fn unplace(&mut self, placement: &Placement) {
        self.close(placement);
    }

    /// A worker's scheduling failed later on. As in stock its slots count as free from now on,
    /// though it is alive, and it stays in the books.
    pub fn abandon(&mut self, worker: WorkerId) {
        if let Some(entry) = self.workers.get(&worker)
            && let Some(node) = self.nodes.get_mut(&entry.node)
        {
            node.held.remove(&worker);
        }
    }

    /// The workers of a job, of one generation or of all, that are to be stopped when it is.
    pub fn workers_of(&self, job: &JobId, generation: Option<Generation>) -> Vec<WorkerId> {
        let of = |worker: &Worker| {
            worker.running
                && worker.job == *job
                && generation.is_none_or(|generation| worker.generation == generation)
        };
        self.workers.iter().filter(|(_, worker)| of(worker)).map(|(id, _)| *id).collect()
    }

    /// Where a worker's stop is to be sent.
    pub fn stop_target(&self, worker: WorkerId) -> StopTarget {
        let Some(entry) = self.workers.get(&worker) else {
            return StopTarget::Gone;
        };
        match self.nodes.get(&entry.node) {
            None => StopTarget::NodeUnknown,
            Some(node) => StopTarget::Call(node.address.clone()),
        }
    }

    /// A worker's stop counts as done. It holds its slots until its end is reported.
    pub fn stopped(&mut self, worker: WorkerId) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.running = false;
        }
    }

    /// Everything, as it stands.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            nodes: self.nodes.clone(),
            jobs: self.jobs.clone(),
            workers: self.workers.clone(),
            counters: self.counters,
            violations: self.violations.clone(),
        }
    }

    /// What happened since this was last asked, in order.
    pub fn take_events(&mut self) -> Vec<ControllerEvent> {
        std::mem::take(&mut self.events)
    }

    /// Something happened outside the books.
    pub(super) fn note(&mut self, event: ControllerEvent) {
        self.events.push(event);
    }

    /// Gives up a reservation. Returns whether the node still had it: a node that was forgotten
    /// meanwhile has not, even if it came back.
    fn close(&mut self, placement: &Placement) -> bool {
        self.open.remove(&placement.id);
        if self.open.is_empty() {
            // No answer is under way that these reports could have overtaken.
            self.early.clear();
        }
        let node = self.nodes.get_mut(&placement.node);
        node.is_some_and(|node| node.reserved.remove(&placement.id).is_some())
    }

    /// Removes a worker. Returns it, and whether its node held slots for it.
    fn remove_worker(&mut self, id: WorkerId) -> Option<(Worker, bool)> {
        let worker = self.workers.remove(&id)?;
        let node = self.nodes.get_mut(&worker.node);
        let held = node.is_some_and(|node| node.held.remove(&id).is_some());
        Some((worker, held))
    }

    fn violation(&mut self, violation: Violation) {
        self.counters.violations += 1;
        self.events.push(ControllerEvent::Violation(violation.clone()));
        self.violations.push(violation);
    }
}
