//! What a run is made of.

use std::time::Duration;

use arroyo_node::machine::{Backoff, Config};
use serde::{Serialize, Serializer};

/// The cluster and its network. The same settings give the same outcomes. Written with times in
/// seconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Settings {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// The slots of each; every worker takes one.
    pub slots: u64,
    /// The least time that a message takes, one way.
    #[serde(serialize_with = "seconds")]
    pub delay: Duration,
    /// What is added to that at random, at most.
    #[serde(serialize_with = "seconds")]
    pub jitter: Duration,
    /// How long each call holds the controller's one lock.
    #[serde(serialize_with = "seconds")]
    pub service: Duration,
    /// For how long the controller is down: one restart each.
    #[serde(serialize_with = "all_seconds")]
    pub outages: Vec<Duration>,
    /// A fault of the agents, to see that it is noticed.
    pub planted: Option<Planted>,
}

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Planted {
    /// Backoff without jitter: who registers anew does so in step with everybody else.
    InStep,
    /// An agent that comes up does not read the rows of the one before.
    LosesRows,
}

impl Settings {
    /// A cluster of this size, with the defaults of the command line.
    pub fn new(nodes: usize, slots: u64) -> Self {
        Self {
            seed: 1,
            nodes,
            slots,
            delay: Duration::from_micros(500),
            jitter: Duration::from_micros(500),
            service: Duration::from_micros(20),
            outages: [0.2, 4.0, 4.0, 60.0].map(Duration::from_secs_f64).to_vec(),
            planted: None,
        }
    }

    /// How many workers the cluster has room for.
    pub fn workers(&self) -> u64 {
        self.slots.saturating_mul(self.nodes as u64)
    }

    /// How many nodes may register in any second when a controller has come back.
    pub fn most_registrations(&self) -> f64 {
        3.0 * self.nodes as f64 / self.backoff_cap().as_secs_f64()
    }

    /// The bound of every wait between two attempts to register, after the first few.
    pub fn backoff_cap(&self) -> Duration {
        let Backoff { most, .. } = Config::new("any".into()).backoff;
        most
    }
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

fn all_seconds<S: Serializer>(durations: &[Duration], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(durations.iter().map(Duration::as_secs_f64))
}
