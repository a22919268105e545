//! What an operator can tune, as far as the machine is concerned.

use std::{num::NonZeroUsize, time::Duration};

use crate::ids::MachineId;

/// The least time without a controller after which workers are stopped.
pub const SHORTEST_FENCE: Duration = Duration::from_secs(1);

/// Settings of one agent. They do not change while it runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The agent's stable name.
    pub machine: MachineId,
    /// Units of capacity offered to the controller.
    pub task_slots: u64,
    /// `host:port` at which the controller reaches this agent.
    pub address: String,
    /// Time between two heartbeats, before jitter.
    pub heartbeat_every: Duration,
    /// How far a heartbeat's time is moved at random, either way.
    pub heartbeat_jitter: Duration,
    /// Bounds of the time between attempts to reach the controller.
    pub backoff: Backoff,
    /// From a forced stop's SIGTERM to its SIGKILL; zero: SIGKILL at once.
    pub kill_after: Duration,
    /// How long a StopWorker without force waits for the end and its acknowledgement before it
    /// answers. One with force waits for [`kill_after`](Self::kill_after) and two seconds more.
    pub reply_wait: Duration,
    /// How long StartWorker waits for the workers that it ends to make room.
    pub supersede_wait: Duration,
    /// How long StartWorker waits for the worker's program to run.
    pub spawn_wait: Duration,
    /// Reports that may be on their way at the same time.
    pub reports_in_flight: NonZeroUsize,
    /// How long a worker is remembered after its report was acknowledged.
    pub retain_for: Duration,
    /// How many such workers are remembered at most.
    pub retain_most: usize,
    /// Stop all workers after this long without a controller, and not before [`SHORTEST_FENCE`];
    /// `None`: never.
    pub fence_after: Option<Duration>,
    /// What becomes of workers that the controller has forgotten.
    pub abandoned: AbandonedPolicy,
    /// At shutdown, from SIGTERM to SIGKILL for every worker.
    pub shutdown_kill_after: Duration,
    /// At shutdown, how long to go on once every worker has ended, delivering reports; and how
    /// long to wait, after SIGKILL, for workers that do not end.
    pub shutdown_patience: Duration,
}

impl Config {
    /// The defaults, for an agent of this name.
    pub fn new(machine: MachineId) -> Self {
        const REPORTS_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");
        Self {
            machine,
            task_slots: 16,
            address: String::new(),
            heartbeat_every: Duration::from_secs(5),
            heartbeat_jitter: Duration::from_millis(500),
            backoff: Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) },
            kill_after: Duration::from_secs(5),
            reply_wait: Duration::from_secs(1),
            supersede_wait: Duration::from_secs(2),
            spawn_wait: Duration::from_secs(10),
            reports_in_flight: REPORTS_IN_FLIGHT,
            retain_for: Duration::from_secs(600),
            retain_most: 1_000,
            fence_after: None,
            abandoned: AbandonedPolicy::default(),
            shutdown_kill_after: Duration::from_secs(10),
            shutdown_patience: Duration::from_secs(5),
        }
    }
}

/// What becomes of workers that the controller has forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbandonedPolicy {
    /// They are killed at once if it is certain that the controller restarted. Otherwise they are
    /// stopped after this time. Meanwhile they make room for new workers where it is needed.
    StopAfter(Duration),
    /// They are killed at once.
    End,
    /// They are left alone, and make room for nobody.
    Keep,
}

impl Default for AbandonedPolicy {
    fn default() -> Self {
        Self::StopAfter(Duration::from_secs(300))
    }
}

/// Exponential backoff: the bound starts at `first` and quadruples up to `most`.
///
/// It quadruples because agents of one cluster lose their controller one after the other, within
/// the time between two heartbeats. Were it doubled, those who lost it a second or two ago would
/// still wait but briefly when it comes back after four, and register in the same second as those
/// who have yet to notice: two thirds of a cluster at once (`arroyo-node-sim scale`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The bound of the first wait.
    pub first: Duration,
    /// The bound of every wait after the growth has reached it.
    pub most: Duration,
}

impl Backoff {
    /// The bound of the wait after `failures` failed attempts in a row (at least one).
    pub fn bound(&self, failures: u32) -> Duration {
        let quadruplings = failures.saturating_sub(1).min(15);
        self.first.saturating_mul(4_u32.pow(quadruplings)).min(self.most)
    }
}
