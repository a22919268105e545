//! Which facts reach which marks.

use std::collections::{BTreeMap, BTreeSet};

use arroyo_node::{
    controller::{ControllerEvent, JobState},
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{
        Ask, Commit, Exit, Record, Recovered, Reply, Shutdown, Signal, StartError, StopStatus,
    },
};

use crate::{
    fact::{Ending, Entry, Fact, Place},
    marks::Marks,
    past::Past,
};

/// Whether a record says that a worker is abandoned.
fn is_abandoned(record: &Record) -> bool {
    matches!(record, Record::Worker(worker) if worker.is_abandoned())
}

/// Watches for everything interesting.
#[derive(Debug, Default)]
pub(crate) struct Marking {
    /// What was reached.
    pub(crate) marks: Marks,
    terminated: BTreeSet<WorkerId>,
    resumed_stops: BTreeSet<WorkerId>,
    superseding: BTreeSet<(usize, JobId, Generation)>,
    reported: BTreeSet<WorkerId>,
    unknown: BTreeSet<MachineId>,
    /// What each agent was last asked to start.
    last_start: BTreeMap<usize, (JobId, Generation)>,
    journal_down: BTreeMap<usize, bool>,
    /// The generation that each job is being scheduled in, or runs in.
    runs: BTreeMap<JobId, Generation>,
    /// The jobs whose present run is about to fail, by what a worker of an earlier one said.
    failed_by_old: BTreeSet<JobId>,
}

impl Marking {
    /// Something happened; `past` does not know of it yet.
    pub(crate) fn see(&mut self, entry: &Entry, past: &Past) {
        match entry.place {
            Place::Agent(agent) => self.see_agent(agent, &entry.fact, past),
            _ => self.see_others(&entry.fact, past),
        }
    }

    fn see_others(&mut self, fact: &Fact, past: &Past) {
        match fact {
            Fact::ControllerBegan(life) if *life > 1 => {
                self.forget_runs();
                self.marks.hit("controller restarted with empty books");
                if past.workers.values().any(|worker| worker.is_live()) {
                    self.marks.hit("worker outlived a controller");
                }
            }
            Fact::ControllerBegan(_) => self.forget_runs(),
            Fact::Controller(ControllerEvent::JobChanged { job, generation, state }) => {
                self.see_job(job, *generation, state);
            }
            Fact::Controller(ControllerEvent::AttemptFailed { job, .. }) => {
                self.see_failure(job);
            }
            Fact::Controller(ControllerEvent::Heartbeat { node, known: false }) => {
                self.unknown.insert(node.clone());
            }
            Fact::Controller(ControllerEvent::NodeRegistered { node, repeat, .. }) => {
                if *repeat {
                    self.marks.hit("registered again with a new connection");
                } else if self.unknown.remove(node) {
                    self.marks.hit("registered again after NOT_FOUND");
                }
            }
            Fact::Heard { answer: Err((code, _)), wanted: Some(wanted), .. } if code == wanted => {
                self.marks.hit("bad call refused");
            }
            _ => {}
        }
    }

    /// A message that came while the job was being scheduled fails the attempt, or it came too late
    /// for that and disturbs the job that runs. Where the attempt succeeds, the message was lost.
    fn see_job(&mut self, job: &JobId, generation: Generation, state: &JobState) {
        match state {
            JobState::Scheduling => {
                self.runs.insert(job.clone(), generation);
                self.failed_by_old.remove(job);
            }
            JobState::Running => drop(self.failed_by_old.remove(job)),
            JobState::Recovering => {
                self.see_failure(job);
                self.runs.remove(job);
            }
            JobState::Stopping | JobState::Stopped | JobState::Failed(_) => {
                self.failed_by_old.remove(job);
                self.runs.remove(job);
            }
        }
    }

    fn see_failure(&mut self, job: &JobId) {
        if self.failed_by_old.remove(job) {
            self.marks.hit("an old worker failed a new run");
        }
    }

    fn forget_runs(&mut self) {
        self.runs.clear();
        self.failed_by_old.clear();
    }

    fn see_agent(&mut self, agent: usize, fact: &Fact, past: &Past) {
        if let Fact::Committed(commit) = fact
            && commit.records.iter().any(is_abandoned)
        {
            self.marks.hit("worker abandoned by a controller that forgot");
        }
        match fact {
            Fact::Ran(..) => self.marks.hit("worker started"),
            Fact::Answered(reply) => self.see_answer(reply, past),
            Fact::StopAnswered(_, StopStatus::Stopped { acknowledged: true, .. }) => {
                self.marks.hit("stop answered with the end acknowledged");
            }
            Fact::StopAnswered(_, StopStatus::Stopping) => {
                self.marks.hit("stop answered while the worker lives");
            }
            Fact::Asked(Ask::Start(start)) => {
                let mut live = past.live_on(agent);
                if live.any(|(_, worker)| {
                    worker.spec.job == start.job && worker.spec.generation < start.generation
                }) {
                    self.superseding.insert((agent, start.job.clone(), start.generation));
                }
                self.last_start.insert(agent, (start.job.clone(), start.generation));
            }
            Fact::Spawns(launch) => {
                let key = (agent, launch.spec.job.clone(), launch.spec.generation);
                if self.superseding.contains(&key) {
                    self.marks.hit("worker superseded by a newer generation");
                }
            }
            Fact::Signals(id, signal) => {
                self.see_signal(*id, *signal);
                self.see_end_of_abandoned(agent, *id, *signal, past);
            }
            Fact::LateAnswer => self.marks.hit("heartbeat answered late"),
            Fact::TasksFailed(id) => {
                if let Some(worker) = past.workers.get(id)
                    && let Some(run) = self.runs.get(&worker.spec.job)
                    && worker.spec.generation < *run
                {
                    self.failed_by_old.insert(worker.spec.job.clone());
                }
            }
            Fact::Reports(report) => {
                if !self.reported.insert(report.worker) {
                    self.marks.hit("report sent again");
                }
                if report.exit == Exit::Lost {
                    self.marks.hit("worker lost with the machine's power");
                }
            }
            Fact::NotCommitted => {
                self.journal_down.insert(agent, true);
                self.marks.hit("journal down");
            }
            Fact::Committed(Commit { rewrite: true, .. })
                if self.journal_down.insert(agent, false) == Some(true) =>
            {
                self.marks.hit("journal restored");
            }
            Fact::AgentBegan { recovered, set_aside, .. } => {
                self.see_beginning(agent, recovered, *set_aside, past);
            }
            Fact::AgentGone(Ending::Finished)
                if past.agents[agent].told_to_end == Some(Shutdown::StopWorkers) =>
            {
                self.marks.hit("agent shut down with its workers");
            }
            _ => {}
        }
    }

    fn see_end_of_abandoned(&mut self, agent: usize, id: WorkerId, signal: Signal, past: &Past) {
        let (Some(worker), Some(entry)) = (past.workers.get(&id), past.agents.get(agent)) else {
            return;
        };
        if entry.told_to_end.is_some() {
            return;
        }
        let start = self.last_start.get(&agent);
        let same = (worker.spec.job.clone(), worker.spec.generation);
        if !entry.rows.get(&id).is_some_and(|row| row.is_abandoned()) {
            // Nothing but a retry kills the generation that was asked for last, at once.
            let at_once = signal == Signal::Kill && !self.terminated.contains(&id);
            if at_once && worker.named && start == Some(&same) {
                self.marks.hit("retry ended the worker of the first try");
            }
            return;
        }
        self.marks.hit(match signal {
            Signal::Terminate => "abandoned worker stopped after a while",
            Signal::Kill => "abandoned worker killed",
        });
        if signal == Signal::Kill && start.is_some_and(|(job, _)| *job != worker.spec.job) {
            self.marks.hit("abandoned worker ended for a start of another job");
        }
    }

    fn see_beginning(&mut self, agent: usize, recovered: &Recovered, set_aside: bool, past: &Past) {
        self.journal_down.remove(&agent);
        if set_aside {
            self.marks.hit("journal set aside");
        }
        if recovered.workers.iter().any(|worker| worker.is_owed()) {
            self.marks.hit("report owed across a restart");
        }
        let live = recovered.workers.iter().filter(|worker| worker.is_live());
        let detached = past.agents[agent].told_to_end == Some(Shutdown::Detach)
            && past.agents[agent].ended == Some(Ending::Finished);
        for worker in live {
            if detached {
                self.marks.hit("agent detached and replaced");
            }
            if worker.stop.is_some() {
                self.resumed_stops.insert(worker.id);
            }
        }
    }

    fn see_signal(&mut self, id: WorkerId, signal: Signal) {
        if self.resumed_stops.remove(&id) {
            self.marks.hit("stop goes on after a restart");
        }
        match signal {
            Signal::Terminate => drop(self.terminated.insert(id)),
            Signal::Kill if self.terminated.contains(&id) => {
                self.marks.hit("kill escalated after an ignored SIGTERM");
            }
            Signal::Kill => {}
        }
    }

    fn see_answer(&mut self, reply: &Reply, past: &Past) {
        let mark = match reply {
            Reply::Started(Ok(id)) => match past.workers.get(id).is_some_and(|w| w.named) {
                true => "start repeated under its request id",
                false => return,
            },
            Reply::Started(Err(error)) => match error {
                StartError::NotEnoughSlots { .. } => "start refused: not enough slots",
                StartError::StaleGeneration { .. } => "start refused: stale generation",
                StartError::JournalDown(_) => "start refused: journal down",
                StartError::Draining => "start refused: draining",
                StartError::Spawn(_) => "start refused: spawn failed",
                StartError::Superseded { .. } => "start refused: superseded while it waited",
                StartError::RoomNotFree { .. } => "start refused: what makes room still lives",
                StartError::NotRunning { .. } => "start refused: its program does not run",
                StartError::WrongMachine(_)
                | StartError::ShuttingDown
                | StartError::Forgotten
                | StartError::Retried { .. }
                | StartError::NeverRan
                | StartError::KeyReused { .. } => return,
            },
            Reply::Stopped(_) | Reply::Alive(_) | Reply::Draining(_) | Reply::ShuttingDown => {
                return;
            }
        };
        self.marks.hit(mark);
    }
}
