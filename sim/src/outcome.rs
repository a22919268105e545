//! What a run comes to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{marks::Marks, recorder::Broken};

/// One run's result.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The first promise that was broken; `None`: all were kept.
    pub broken: Option<Broken>,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<String, u64>,
    /// What was reached.
    pub marks: Marks,
    /// The fingerprint of the trace.
    pub digest: String,
    /// The fingerprint of the trace without the times that wall clocks told, and without the deeds
    /// that made them jump.
    pub timeless: String,
    /// The fingerprint of every packet, where that was asked for.
    pub wire: Option<String>,
}
