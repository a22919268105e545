//! What can be seen of a cluster from outside its agents: at their ports, on the wire, at the
//! controller and in the process tables. The trace is a list of facts; oracles judge by nothing
//! else.

use std::{fmt, time::Duration};

use arroyo_node::{
    controller::{ControllerEvent, FinishedReport},
    ids::WorkerId,
    machine::{
        Ask, Commit, Exit, Launch, Loss, Process, Recovered, Registration, Reply, Report, Shutdown,
        Signal, Start, StopHow, StopStatus,
    },
};

use crate::plan::Deed;

/// Where something happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Nowhere in the cluster: what is done to it.
    World,
    /// The controller's machine.
    Controller,
    /// An agent's machine, by number.
    Agent(usize),
    /// Whoever else calls agents.
    Caller,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// The next deed of the plan.
    Deed(Deed),
    /// The next deed of the plan could not be done: something else is in the way.
    Skipped(&'static str),
    /// A fault is over.
    Over(&'static str),
    /// Nothing is done to the cluster from now on.
    Healing,

    /// An agent's process has begun, with what its journal gave it.
    AgentBegan {
        /// How many there were on this machine, this one included.
        life: u32,
        /// What its journal tells of them.
        journaled: Recovered,
        /// What it knows of earlier ones: that, and what the shim tells.
        recovered: Recovered,
        /// Whether the journal had to be set aside.
        set_aside: bool,
    },
    /// An agent's process is gone.
    AgentGone(Ending),
    /// The agent's process does not run for a while.
    Paused,
    /// It runs again.
    Resumed,
    /// A request has reached the agent.
    Asked(Ask),
    /// The agent has been told to end, by a signal.
    Told(Shutdown),
    /// The agent has answered a request.
    Answered(Reply),
    /// The agent has answered a StopWorker of this worker.
    StopAnswered(WorkerId, StopStatus),
    /// The journal has taken these records.
    Committed(Commit),
    /// The journal holds these records, and the agent does not know it: the disk hangs, or the
    /// agent has given up the commit.
    Written(Commit),
    /// The journal has refused to, or has not answered in time.
    NotCommitted,
    /// The controller has acknowledged a worker's report.
    Acknowledged(WorkerId),
    /// A connection to the controller was lost, or refused.
    ConnectionLost(Loss),
    /// The agent hears that the controller does not know it.
    ToldForgotten,
    /// A heartbeat that was given up was answered after all.
    LateAnswer,
    /// The agent has no room for this start, and is about to say so.
    FoundNoRoom(Option<Start>),

    /// The agent calls RegisterNode.
    Registers(Registration),
    /// The agent calls HeartbeatNode.
    Heartbeats {
        /// As the first call on a new connection.
        probe: bool,
    },
    /// The agent calls WorkerFinished.
    Reports(Report),
    /// The agent wants a worker started.
    Spawns(Launch),
    /// The agent wants to know what became of a worker.
    Adopts(WorkerId, Option<Process>),
    /// The agent wants a worker signalled.
    Signals(WorkerId, Signal),
    /// The agent needs a worker's exit status no longer.
    Releases(WorkerId),

    /// A worker's first process runs.
    Ran(WorkerId, Process),
    /// A worker's program could not be run, or its start was lost with the agent.
    NeverRan(WorkerId),
    /// A process was signalled.
    Hit {
        /// In the course of dealing with this worker.
        meant: WorkerId,
        /// Whose process it is.
        owner: Option<WorkerId>,
        /// Its pid.
        pid: u32,
        /// With which signal.
        signal: Signal,
    },
    /// A worker's first process has ended.
    LeaderEnded(WorkerId, Exit),
    /// Nothing of a worker is left.
    TreeGone(WorkerId, Exit),
    /// Tasks of a worker have failed, since a peer of it is gone. It tells the controller.
    TasksFailed(WorkerId),
    /// The shim has died.
    ShimDied,
    /// A new shim runs.
    ShimBack,

    /// A controller has begun, with empty books.
    ControllerBegan(u32),
    /// A controller is gone.
    ControllerGone,
    /// A call of an agent has reached the controller.
    Arrived(Arrival),
    /// The controller's answer is lost.
    AnswerLost,
    /// Something happened at the controller.
    Controller(ControllerEvent),

    /// Somebody other than the controller calls an agent.
    Calls {
        /// Which one.
        agent: usize,
        /// What is asked, in short.
        call: String,
        /// The worker that is to be stopped by force.
        kills: Option<WorkerId>,
    },
    /// A call that did not come from the controller was answered.
    Heard {
        /// By which agent.
        agent: usize,
        /// What was asked, in short.
        call: String,
        /// What was answered.
        answer: Result<String, (tonic::Code, String)>,
        /// What had to be answered, if only one answer is right.
        wanted: Option<tonic::Code>,
    },
    /// Something was logged as an error.
    ErrorLogged(String),
    /// Something panicked.
    Panicked(String),
}

/// A call of an agent, as the controller gets it.
#[derive(Clone, PartialEq, Debug)]
pub enum Arrival {
    /// RegisterNode.
    Register,
    /// HeartbeatNode.
    Heartbeat,
    /// WorkerFinished.
    Finished(FinishedReport),
}

/// How an agent's process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// kill -9.
    Killed,
    /// Its machine lost power.
    PowerLost,
    /// By itself.
    Finished,
}

/// A fact with its place and time.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Since the start of the simulation.
    pub at: Duration,
    /// Where.
    pub place: Place,
    /// What.
    pub fact: Fact,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.pad("world"),
            Self::Controller => f.pad("controller"),
            Self::Agent(number) => f.pad(&crate::world::agent_name(*number)),
            Self::Caller => f.pad("caller"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_micros();
        write!(f, "{:>5}.{:06} {:<10} {}", at / 1_000_000, at % 1_000_000, self.place, self.fact)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deed(deed) => write!(f, "** {deed}"),
            Self::Skipped(why) => write!(f, "** not now: {why}"),
            Self::Over(what) => write!(f, "** over: {what}"),
            Self::Healing => f.write_str("** everything heals"),
            Self::AgentBegan { life, recovered, set_aside, .. } => {
                let aside = if *set_aside { ", journal set aside" } else { "" };
                let (known, lost) = (recovered.workers.len(), recovered.lost.len());
                write!(f, "agent begins (life {life}, knows {known} workers, {lost} lost{aside})")
            }
            Self::AgentGone(how) => write!(f, "agent gone: {how:?}"),
            Self::Asked(Ask::Start(start)) => write!(
                f,
                "<- StartWorker {} generation {} slots {}",
                start.job, start.generation, start.slots
            ),
            Self::Asked(Ask::Stop { worker, how }) => {
                let how = match how {
                    StopHow::Ask => "ask",
                    StopHow::Gentle => "gentle",
                    StopHow::Force => "force",
                };
                write!(f, "<- StopWorker {worker} {how}")
            }
            Self::Asked(ask) => write!(f, "<- {ask:?}"),
            Self::Answered(Reply::Started(Err(error))) => write!(f, "-> refused: {error}"),
            Self::StopAnswered(worker, status) => write!(f, "-> stop of {worker}: {status:?}"),
            Self::Answered(reply) => write!(f, "-> {reply:?}"),
            Self::Committed(commit) => write!(f, "journal {}", Records(commit)),
            Self::Written(commit) => write!(f, "journal, unasked {}", Records(commit)),
            Self::Reports(report) => write!(
                f,
                "=> WorkerFinished {} {} slots {} ({}, {})",
                report.worker, report.job, report.slots, report.exit, report.dialect
            ),
            Self::Spawns(launch) => write!(
                f,
                "spawn {} for {} slots {}",
                launch.worker, launch.spec.job, launch.spec.slots
            ),
            Self::Registers(_) => f.write_str("=> RegisterNode"),
            Self::Heartbeats { .. } => f.write_str("=> HeartbeatNode"),
            Self::Ran(worker, process) => {
                write!(f, "worker {worker} runs, pid {} start {}", process.pid, process.start_time)
            }
            Self::TreeGone(worker, exit) => write!(f, "worker {worker} is gone: {exit}"),
            Self::TasksFailed(worker) => {
                write!(f, "worker {worker} says that tasks failed, since a peer of it is gone")
            }
            Self::LeaderEnded(worker, exit) => {
                write!(f, "first process of {worker} ended: {exit}")
            }
            Self::Arrived(Arrival::Register) => f.write_str("RegisterNode arrives"),
            Self::Arrived(Arrival::Heartbeat) => f.write_str("HeartbeatNode arrives"),
            Self::Arrived(Arrival::Finished(report)) => {
                write!(f, "WorkerFinished {} arrives: {report:?}", report.worker)
            }
            Self::Controller(event) => AtController(event).fmt(f),
            Self::Calls { agent, call, .. } => {
                write!(f, "calls {}: {call}", crate::world::agent_name(*agent))
            }
            Self::Heard { agent, call, answer, .. } => {
                let answer: &dyn fmt::Debug = match answer {
                    Ok(answer) => answer,
                    Err(status) => status,
                };
                write!(f, "agent-{} answered {call}: {answer:?}", agent + 1)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

struct AtController<'a>(&'a ControllerEvent);

impl fmt::Display for AtController<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ControllerEvent::NodeRegistered { node, slots, repeat, .. } => {
                let again = if *repeat { " again" } else { "" };
                write!(f, "{node} registered{again}, {slots} slots")
            }
            ControllerEvent::Heartbeat { node, known: true } => write!(f, "heard {node}"),
            ControllerEvent::Heartbeat { node, known: false } => {
                write!(f, "heard {node}, which is not known")
            }
            ControllerEvent::JobChanged { job, generation, state } => {
                write!(f, "{job} generation {generation}: {state:?}")
            }
            ControllerEvent::NotEnoughSlots { job, wanted, free } => {
                write!(f, "no room for {job}: {wanted} wanted, {free} free")
            }
            ControllerEvent::WorkerStarted { node, worker, job, generation, slots } => {
                let what = format_args!("{job} generation {generation} slots {slots}");
                write!(f, "worker {worker} started on {node} for {what}")
            }
            ControllerEvent::StartRefused { node, job, generation, refusal, .. } => {
                write!(f, "{job} generation {generation} refused by {node}: {refusal}")
            }
            ControllerEvent::StopTried { worker, answer } => {
                write!(f, "stop of {worker}: {answer:?}")
            }
            ControllerEvent::WorkerFinished { report, outcome } => {
                write!(f, "worker {} finished: {outcome:?}", report.worker)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

struct Records<'a>(&'a Commit);

impl fmt::Display for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use arroyo_node::machine::Record;
        if self.0.rewrite {
            f.write_str("rewritten ")?;
        }
        for (index, record) in self.0.records.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match record {
                Record::Worker(worker) => write!(f, "{comma}{} {}", worker.id, worker.phase())?,
                Record::Forget(id) => write!(f, "{comma}{id} forgotten")?,
                Record::Draining(draining) => write!(f, "{comma}draining {draining}")?,
                Record::KnownAt(at) => write!(f, "{comma}known at {at:?}")?,
            }
        }
        Ok(())
    }
}
