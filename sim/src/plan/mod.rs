//! What a run consists of, as plain data: the cluster, how its processes behave, and who does what
//! to it when. Drawn from a seed before anything runs; whatever the run does follows from it.
//!
//! ```text
//!  seed ── draw ─▶ Plan { shape, temper, deeds: [(at, deed)] } ── World ─▶ trace
//!                    ▲
//!                  shrink: the same plan with fewer deeds
//! ```

mod deed;
pub mod draw;
mod telling;

pub use deed::{BadCall, Call, Deed, Fault, Kind, Moment, TimedDeed, Writes};
use serde::{Deserialize, Serialize};

/// One run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where everything came from; the run's own dice are further streams of it.
    pub seed: u64,
    /// The simulated network's step.
    pub tick_ms: u64,
    /// How long things are done to the cluster, before it is left to heal.
    pub trouble_ms: u64,
    /// Least and most latency of a message.
    pub latency_ms: (u64, u64),
    /// The agents.
    pub agents: Vec<AgentPlan>,
    /// The controller.
    pub controller: ControllerPlan,
    /// How worker processes behave.
    pub temper: Temper,
    /// Whether workers tell the controller when their peers vanish, as stock's do.
    pub peers_tell: bool,
    /// The kinds of fault that this run has.
    pub kinds: Vec<Kind>,
    /// Who does what when, in order of time.
    pub deeds: Vec<TimedDeed>,
    /// A run that must fail, to show that failing works.
    pub canary: bool,
}

/// One agent and its machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentPlan {
    /// The capacity it offers.
    pub slots: u64,
    /// Whether workers have a shim for a parent; else they have the agent.
    pub shim: bool,
    /// The number of pids on the machine: few, so that they are reused.
    pub pids: u32,
    /// Whether a pid is given out again as soon as it is free, rather than when all others were, and
    /// whether others than workers are there to take it.
    pub pids_at_once: bool,
    /// Commits between two checkpoints of the journal.
    pub checkpoint_every: u32,
    /// Fencing, if it is on.
    pub fence_after_ms: Option<u64>,
    /// How long reported workers are remembered.
    pub retain_ms: u64,
    /// How much faster than time its wall clock goes, in parts per million.
    pub drift_ppm: i64,
}

/// How the controller behaves when nothing is done to it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ControllerPlan {
    /// Stock's lock over connect and StartWorker.
    pub hold_lock: bool,
    /// How long it waits for a node's answer; `None`: as long as the connection lives, as in stock.
    pub call_deadline_ms: Option<u64>,
}

/// How often worker processes do what, in percent, and how long they live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Temper {
    /// The program cannot be run.
    pub exec_fails: u64,
    /// Running it takes seconds.
    pub exec_slow: u64,
    /// It has ended before the agent hears that it runs.
    pub dies_at_once: u64,
    /// It ends by itself.
    pub mortal: u64,
    /// The longest life of those that do.
    pub life_ms: u64,
    /// It does not heed SIGTERM.
    pub stubborn: u64,
    /// It starts processes of its own.
    pub parents: u64,
    /// Those leave its session and process group.
    pub escapes: u64,
    /// It takes long to be killed.
    pub slow_death: u64,
}

impl Plan {
    /// The same, with wall clocks left alone.
    pub fn without_clock_jumps(mut self) -> Self {
        self.deeds.retain(|timed| timed.deed.kind() != Some(Kind::ClockJump));
        self
    }
}
