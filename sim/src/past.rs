//! What follows from the facts so far, and more than one oracle needs: who ran where, what is
//! durable, who cannot be held to a promise and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arroyo_node::{
    controller::ControllerEvent,
    ids::WorkerId,
    machine::{Commit, Exit, Process, Record, Shutdown, Worker, WorkerSpec},
};

use crate::fact::{Arrival, Ending, Fact, Place};

/// The rows of a journal.
pub type Rows = BTreeMap<WorkerId, Arc<Worker>>;

/// Everything of note that happened.
#[derive(Debug, Default)]
pub struct Past {
    /// By number.
    pub agents: Vec<AgentPast>,
    /// Every worker that an agent ever wanted started.
    pub workers: BTreeMap<WorkerId, WorkerPast>,
    /// When the controller that is there began; `None` while there is none.
    pub controller_since: Option<Duration>,
    /// Since when nothing is done to the cluster any more.
    pub healing_since: Option<Duration>,
}

/// One agent.
#[derive(Debug, Default)]
pub struct AgentPast {
    /// The capacity it offers.
    pub slots: u64,
    /// When the process that runs now began; `None` while there is none.
    pub up_since: Option<Duration>,
    /// When it was last resumed, or began.
    pub running_since: Option<Duration>,
    /// When its shim last came back; `None` while it is down.
    pub shim_since: Option<Duration>,
    /// What its journal holds.
    pub rows: Rows,
    /// Whether the journal takes commits, as of the last one.
    pub journal_works: bool,
    /// Whether it has been told to end.
    pub told_to_end: Option<Shutdown>,
    /// When the controller last got a heartbeat or a registration of it.
    pub last_heard: Option<Duration>,
    /// When it was last hindered from being heard.
    pub hindered_at: Duration,
    /// How its last process ended.
    pub ended: Option<Ending>,
}

/// One worker.
#[derive(Debug)]
pub struct WorkerPast {
    /// Where it was to run.
    pub agent: usize,
    /// What it is.
    pub spec: Arc<WorkerSpec>,
    /// When its spawn was asked for.
    pub asked_at: Duration,
    /// How often that was.
    pub spawns: u32,
    /// Its first process, and when that began to run.
    pub ran: Option<(Duration, Process)>,
    /// When it and all it started was gone, and how its first process ended.
    pub gone: Option<(Duration, Exit)>,
    /// Whether somebody has heard of it as started.
    pub named: bool,
    /// How often the controller was told of its end.
    pub arrived: u32,
    /// Whether the controller has taken in a report of its end, answered or not.
    pub taken: bool,
    /// Whether its machine has lost power since it was asked for.
    pub lost_power: bool,
    /// Why it cannot be held to its promises.
    pub excuse: Option<&'static str>,
}

impl WorkerPast {
    /// Whether something of it is alive.
    pub fn is_live(&self) -> bool {
        self.ran.is_some() && self.gone.is_none()
    }
}

/// The row went with the end of a log that power loss cut off.
pub const CUT_OFF: &str = "its row was lost with the machine's power";
/// The row went with a journal that was set aside, and no shim knows the worker.
pub const SET_ASIDE: &str = "its row was lost with a journal that was damaged";

impl Past {
    /// Nothing has happened yet to agents of these sizes.
    pub fn new(slots: impl IntoIterator<Item = u64>) -> Self {
        let agents = slots
            .into_iter()
            .map(|slots| AgentPast {
                slots,
                shim_since: Some(Duration::ZERO),
                journal_works: true,
                ..AgentPast::default()
            })
            .collect();
        Self { agents, ..Self::default() }
    }

    /// The workers of an agent of which something is alive.
    pub fn live_on(&self, agent: usize) -> impl Iterator<Item = (WorkerId, &WorkerPast)> {
        let of = move |worker: &WorkerPast| worker.agent == agent && worker.is_live();
        self.workers.iter().filter(move |(_, worker)| of(worker)).map(|(id, worker)| (*id, worker))
    }

    /// Takes in the next fact.
    pub fn note(&mut self, at: Duration, place: Place, fact: &Fact) {
        match (place, fact) {
            (Place::Agent(agent), fact) => self.note_of_agent(at, agent, fact),
            (_, Fact::ControllerBegan(_)) => self.controller_since = Some(at),
            (_, Fact::ControllerGone) => self.controller_since = None,
            (_, Fact::Healing) => self.healing_since = Some(at),
            (_, Fact::Controller(ControllerEvent::WorkerFinished { report, .. })) => {
                self.change(report.worker, |worker| worker.taken = true);
            }
            _ => {}
        }
    }

    /// A call of this agent's has reached the controller.
    pub fn note_arrival(&mut self, at: Duration, agent: usize, arrival: &Arrival) {
        match arrival {
            Arrival::Register | Arrival::Heartbeat => self.agents[agent].last_heard = Some(at),
            Arrival::Finished(report) => {
                if let Some(worker) = self.workers.get_mut(&report.worker) {
                    worker.arrived += 1;
                }
            }
        }
    }

    fn note_of_agent(&mut self, at: Duration, number: usize, fact: &Fact) {
        let agent = &mut self.agents[number];
        match fact {
            Fact::AgentBegan { journaled, recovered, set_aside, .. } => {
                let rows: Rows =
                    journaled.workers.iter().map(|w| (w.id, Arc::new(w.clone()))).collect();
                let excuse = match agent.ended {
                    _ if *set_aside => Some(SET_ASIDE),
                    Some(Ending::PowerLost) => Some(CUT_OFF),
                    Some(Ending::Killed | Ending::Finished) | None => None,
                };
                agent.up_since = Some(at);
                agent.running_since = Some(at);
                agent.told_to_end = None;
                agent.journal_works = true;
                agent.rows = rows;
                if let Some(excuse) = excuse {
                    let known = recovered.workers.iter().map(|worker| worker.id).collect();
                    self.excuse_unknown(number, &known, excuse);
                }
            }
            Fact::AgentGone(how) => {
                agent.up_since = None;
                agent.running_since = None;
                agent.ended = Some(*how);
                if *how == Ending::PowerLost {
                    self.lose_power(at, number);
                }
            }
            Fact::Paused => agent.running_since = None,
            Fact::Resumed => agent.running_since = Some(at),
            Fact::Told(how) => agent.told_to_end = Some(*how),
            Fact::Asked(arroyo_node::machine::Ask::Shutdown(how)) => {
                agent.told_to_end = Some(*how);
            }
            Fact::Committed(commit) => {
                agent.journal_works = true;
                apply(&mut agent.rows, commit);
            }
            Fact::Written(commit) => apply(&mut agent.rows, commit),
            Fact::NotCommitted => agent.journal_works = false,
            Fact::ShimDied => agent.shim_since = None,
            Fact::ShimBack => agent.shim_since = Some(at),
            Fact::Arrived(arrival) => self.note_arrival(at, number, arrival),
            Fact::Spawns(launch) => {
                let fresh = WorkerPast {
                    agent: number,
                    spec: launch.spec.clone(),
                    asked_at: at,
                    spawns: 0,
                    ran: None,
                    gone: None,
                    named: false,
                    arrived: 0,
                    taken: false,
                    lost_power: false,
                    excuse: None,
                };
                self.workers.entry(launch.worker).or_insert(fresh).spawns += 1;
            }
            Fact::Ran(id, process) => self.change(*id, |worker| worker.ran = Some((at, *process))),
            Fact::TreeGone(id, exit) => self.change(*id, |worker| worker.gone = Some((at, *exit))),
            Fact::Answered(arroyo_node::machine::Reply::Started(Ok(id))) => {
                self.change(*id, |worker| worker.named = true);
            }
            _ => {}
        }
    }

    /// A row that is lost for no fault of the agent's takes its worker's promises with it.
    fn excuse_unknown(&mut self, number: usize, known: &BTreeSet<WorkerId>, excuse: &'static str) {
        for (id, worker) in &mut self.workers {
            let settled = worker.gone.is_some() && worker.taken;
            if worker.agent == number && !settled && !known.contains(id) {
                worker.excuse.get_or_insert(excuse);
            }
        }
    }

    fn lose_power(&mut self, at: Duration, number: usize) {
        for worker in self.workers.values_mut().filter(|worker| worker.agent == number) {
            worker.lost_power = true;
            if worker.gone.is_none() {
                worker.gone = Some((at, Exit::Lost));
            }
        }
    }

    fn change(&mut self, id: WorkerId, change: impl FnOnce(&mut WorkerPast)) {
        if let Some(worker) = self.workers.get_mut(&id) {
            change(worker);
        }
    }
}

/// Applies a commit to rows, as a journal does.
pub fn apply(rows: &mut Rows, commit: &Commit) {
    if commit.rewrite {
        rows.clear();
    }
    for record in &commit.records {
        match record {
            Record::Worker(worker) => {
                rows.insert(worker.id, worker.clone());
            }
            Record::Forget(id) => {
                rows.remove(id);
            }
            Record::Draining(_) | Record::KnownAt(_) => {}
        }
    }
}
