//! Who does what to the cluster: the work that it is there for, and the faults.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A deed and its time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TimedDeed {
    /// Milliseconds from the start.
    pub at_ms: u64,
    /// What happens then.
    pub deed: Deed,
}

/// One thing that is done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Deed {
    /// A job is submitted to the controller.
    Submit {
        /// Its name.
        job: String,
        /// What it takes.
        slots: u64,
        /// Whether it speaks 0.15.
        old_dialect: bool,
    },
    /// A job is told to stop.
    Stop {
        /// Which.
        job: String,
        /// Whether by force.
        force: bool,
    },
    /// The controller hears that a job is not well.
    Unwell {
        /// Which.
        job: String,
    },
    /// Somebody other than the controller calls an agent.
    Call {
        /// Which agent.
        agent: usize,
        /// What for.
        call: Call,
    },
    /// Something goes wrong.
    Fault(Fault),
}

/// A call to an agent that does not come from the controller.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Call {
    /// A good StartWorker, sent `times` times at once with the same request id.
    Start {
        /// The job's name.
        job: String,
        /// Its generation.
        generation: u64,
        /// Its slots.
        slots: u64,
        /// How often it is sent.
        times: u8,
        /// Whether it has a request id.
        named: bool,
        /// Whether it names a pipeline.
        pipeline: bool,
    },
    /// Good StartWorkers of one job and several generations, one after the other without a pause.
    Race {
        /// The job's name.
        job: String,
        /// The first generation.
        generation: u64,
        /// The slots of each.
        slots: u64,
        /// How many.
        times: u8,
    },
    /// A StartWorker of a controller that has been replaced: the job of a live worker, one
    /// generation down.
    StaleStart {
        /// Which of the live workers.
        nth: u64,
    },
    /// A StartWorker or another call that must be refused.
    Bad(BadCall),
    /// StopWorker for one of the workers that were ever started here.
    Stop {
        /// Which of them.
        nth: u64,
        /// By force.
        force: bool,
        /// Only ask.
        ask: bool,
        /// How often it is sent.
        times: u8,
    },
    /// GetWorkers.
    List,
    /// HeartbeatNode.
    Alive,
    /// SetDraining.
    Drain(bool),
}

/// A call that must be refused, and change nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BadCall {
    /// StartWorker without a job.
    NoJob,
    /// StartWorker without slots.
    NoSlots,
    /// StartWorker with a variable that has no name.
    BadVariable,
    /// StartWorker with a name that is too long.
    TooLong,
    /// StartWorker for another machine.
    WrongMachine,
    /// StartWorker for more than the agent has.
    TooManySlots,
    /// HeartbeatNode for another machine.
    NotMe,
    /// StopWorker of nobody.
    UnknownWorker,
}

/// A fault. `ms` says how long it lasts, in milliseconds.
#[expect(missing_docs, reason = "the fields say it: whom it strikes, and for how long")]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// The agent's process is killed, and started again.
    Kill { agent: usize, ms: u64 },
    /// The agent's process is killed just after this, the next time that it happens.
    KillWhen { agent: usize, moment: Moment, ms: u64 },
    /// The machine loses power: the write-ahead log is cut at this share of it.
    PowerLoss { agent: usize, ms: u64, cut_permille: u64 },
    /// The agent's process is killed and its journal damaged.
    Damage { agent: usize, ms: u64 },
    /// The agent is told to leave its workers to the next one.
    Detach { agent: usize, ms: u64 },
    /// The agent is told to end with its workers.
    ShutDown { agent: usize, ms: u64 },
    /// The agent's process is stopped for a while.
    Pause { agent: usize, ms: u64 },
    /// The shim's process is killed.
    KillShim { agent: usize },
    /// The kernel kills a worker for memory.
    OutOfMemory { agent: usize, nth: u64 },
    /// The disk takes no commits.
    Disk { agent: usize, ms: u64 },
    /// The disk does not answer: commits do not return.
    DiskHangs { agent: usize, ms: u64, writes: Writes },
    /// The wall clock jumps.
    ClockJump { agent: usize, by_ms: i64 },
    /// Nothing gets through between agent and controller.
    Partition { agent: usize, ms: u64 },
    /// Nothing gets through from the agent to the controller.
    Deaf { agent: usize, ms: u64 },
    /// Nothing gets through from the controller to the agent.
    Mute { agent: usize, ms: u64 },
    /// What is sent between agent and controller arrives late, all at once.
    Hold { agent: usize, ms: u64 },
    /// The controller's machine is gone without a word, then a new one takes its place.
    ControllerVanishes { ms: u64 },
    /// The controller is killed, and started again with nothing in its books.
    ControllerKill { ms: u64, resubmit: bool },
    /// The controller forgets a node.
    Forget { agent: usize },
    /// The controller takes this long for every answer.
    ControllerSlow { ms: u64, each_ms: u64 },
    /// The controller does not answer.
    ControllerHangs { ms: u64 },
    /// The controller does what it is asked; its answers are lost.
    AnswersLost { ms: u64 },
    /// The connection breaks just when the agent has answered its next StartWorker.
    StartAnswerLost { agent: usize, ms: u64 },
}

/// When a disk that hangs writes what it was given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Writes {
    /// At once; only the answer is late.
    First,
    /// When it answers again.
    Last,
    /// Never: it answers with an error.
    Never,
}

impl Writes {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::First, Self::Last, Self::Never];
}

/// A moment at which a kill hurts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Moment {
    /// The agent has asked for a worker to be spawned.
    Spawn,
    /// It has told a caller the name of a worker.
    Answer,
    /// Something of a worker has been signalled.
    Signal,
    /// Nothing of a worker is left.
    End,
    /// A report has been sent.
    Report,
    /// A report has reached the controller.
    Arrival,
    /// The journal has refused records.
    Refusal,
    /// The journal has been written anew.
    Rewrite,
}

impl Moment {
    /// Every moment.
    pub const ALL: [Self; 8] = [
        Self::Spawn,
        Self::Answer,
        Self::Signal,
        Self::End,
        Self::Report,
        Self::Arrival,
        Self::Refusal,
        Self::Rewrite,
    ];
}

/// A fault without its particulars: what is switched off as a whole in some runs, and counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is documented at the fault of its name")]
pub enum Kind {
    Kill,
    KillWhen,
    PowerLoss,
    Damage,
    Detach,
    ShutDown,
    Pause,
    KillShim,
    OutOfMemory,
    Disk,
    ClockJump,
    Partition,
    OneWay,
    Hold,
    ControllerVanishes,
    ControllerKill,
    Forget,
    ControllerSlow,
    ControllerHangs,
    AnswersLost,
    StartAnswerLost,
    DiskHangs,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 22] = [
        Self::Kill,
        Self::KillWhen,
        Self::PowerLoss,
        Self::Damage,
        Self::Detach,
        Self::ShutDown,
        Self::Pause,
        Self::KillShim,
        Self::OutOfMemory,
        Self::Disk,
        Self::ClockJump,
        Self::Partition,
        Self::OneWay,
        Self::Hold,
        Self::ControllerVanishes,
        Self::ControllerKill,
        Self::Forget,
        Self::ControllerSlow,
        Self::ControllerHangs,
        Self::AnswersLost,
        Self::StartAnswerLost,
        Self::DiskHangs,
    ];
}

impl Deed {
    /// The kind of fault that it is, if it is one.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Fault(fault) => Some(fault.kind()),
            Self::Submit { .. } | Self::Stop { .. } | Self::Unwell { .. } | Self::Call { .. } => {
                None
            }
        }
    }
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kill { .. } => Kind::Kill,
            Self::KillWhen { .. } => Kind::KillWhen,
            Self::PowerLoss { .. } => Kind::PowerLoss,
            Self::Damage { .. } => Kind::Damage,
            Self::Detach { .. } => Kind::Detach,
            Self::ShutDown { .. } => Kind::ShutDown,
            Self::Pause { .. } => Kind::Pause,
            Self::KillShim { .. } => Kind::KillShim,
            Self::OutOfMemory { .. } => Kind::OutOfMemory,
            Self::Disk { .. } => Kind::Disk,
            Self::DiskHangs { .. } => Kind::DiskHangs,
            Self::ClockJump { .. } => Kind::ClockJump,
            Self::Partition { .. } => Kind::Partition,
            Self::Deaf { .. } | Self::Mute { .. } => Kind::OneWay,
            Self::Hold { .. } => Kind::Hold,
            Self::ControllerVanishes { .. } => Kind::ControllerVanishes,
            Self::ControllerKill { .. } => Kind::ControllerKill,
            Self::Forget { .. } => Kind::Forget,
            Self::ControllerSlow { .. } => Kind::ControllerSlow,
            Self::ControllerHangs { .. } => Kind::ControllerHangs,
            Self::AnswersLost { .. } => Kind::AnswersLost,
            Self::StartAnswerLost { .. } => Kind::StartAnswerLost,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}
