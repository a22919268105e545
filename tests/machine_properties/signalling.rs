//! When a worker may be signalled (P7, P9: nobody is killed by a restart or a lost controller), and
//! when it must have been (P8: a forced stop is followed by SIGKILL in time).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arroyo_node::{
    ids::{Generation, JobId, WorkerId},
    machine::{Mono, WorkerSpec},
};

/// How much later than its deadline a SIGKILL may come where sending it has failed.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Signalling {
    stop_asked: BTreeSet<WorkerId>,
    newest_asked: BTreeMap<JobId, Generation>,
    shutdown_asked: bool,
    /// When the controller last gave a good answer, or the agent began; with fencing on.
    alone_since: Option<(Mono, Duration)>,
    /// Workers that have been found to be stopped for a reason.
    justified: BTreeSet<WorkerId>,
    /// Forced stops, when each is due to be a SIGKILL, and whether that is durable.
    due: BTreeMap<WorkerId, Due>,
    /// Those that the present agent has sent SIGKILL: the port repeats it until nothing is left.
    killed: BTreeSet<WorkerId>,
    /// Those that were sent a signal in vain, which the agent does not know yet.
    in_vain: BTreeSet<WorkerId>,
}

struct Due {
    at: Mono,
    durable: bool,
}

impl Signalling {
    pub fn stop_asked(&mut self, id: WorkerId) {
        self.stop_asked.insert(id);
    }

    pub fn kill_due(&mut self, id: WorkerId, at: Mono) {
        if self.killed.contains(&id) {
            return;
        }
        let due = self.due.entry(id).or_insert(Due { at, durable: false });
        due.at = due.at.min(at);
    }

    pub fn start_asked(&mut self, job: &JobId, generation: Generation) {
        let newest = self.newest_asked.entry(job.clone()).or_insert(generation);
        *newest = generation.max(*newest);
    }

    pub fn shutdown_asked(&mut self) {
        self.shutdown_asked = true;
    }

    pub fn heard_controller(&mut self, now: Mono, fence_after: Option<Duration>) {
        self.alone_since = fence_after.map(|after| (now, after));
    }

    /// A worker is being stopped: for what reason?
    pub fn stops(&mut self, id: WorkerId, spec: &WorkerSpec, now: Mono) -> Result<(), String> {
        let superseded =
            self.newest_asked.get(&spec.job).is_some_and(|newest| *newest > spec.generation);
        let asked = self.stop_asked.contains(&id) || self.shutdown_asked;
        if asked || superseded || self.fences(now) {
            self.justified.insert(id);
        }
        if self.justified.contains(&id) { Ok(()) } else { Err(format!("{id} is stopped: why?")) }
    }

    /// Whether the agent has been alone for so long that it may stop its workers.
    pub fn fences(&self, now: Mono) -> bool {
        self.alone_since.is_some_and(|(since, after)| now.since(since) >= after)
    }

    /// These may be stopped from now on, though not everything needed for it is there yet.
    pub fn fenced(&mut self, workers: impl IntoIterator<Item = WorkerId>) {
        self.justified.extend(workers);
    }

    pub fn killed(&mut self, id: WorkerId) {
        self.due.remove(&id);
        self.killed.insert(id);
    }

    pub fn sent_in_vain(&mut self, id: WorkerId) {
        self.in_vain.insert(id);
    }

    /// The agent is told of a signal sent in vain.
    pub fn failed(&mut self, id: WorkerId, now: Mono) {
        if let Some(due) = self.due.get_mut(&id) {
            due.at = due.at.max(now + RETRY);
        }
        self.in_vain.remove(&id);
    }

    /// Everything asked so far is in the journal.
    pub fn durable(&mut self) {
        self.due.values_mut().for_each(|due| due.durable = true);
    }

    /// What was not durable is lost, and so are its callers.
    pub fn agent_lost(&mut self) {
        self.due.retain(|_, due| due.durable);
        self.in_vain.clear();
        self.killed.clear();
        self.shutdown_asked = false;
    }

    /// Whose SIGKILL should have been sent by now.
    pub fn overdue(&self, now: Mono) -> impl Iterator<Item = WorkerId> {
        self.due
            .iter()
            .filter(move |(_, due)| due.at < now)
            .map(|(id, _)| *id)
            .filter(|id| !self.in_vain.contains(id))
    }
}
