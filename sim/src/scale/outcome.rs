//! What a scenario comes to, as plain data: the same for the same settings.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{settings::Settings, tally::Kind};

/// A run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Results {
    /// What it was made of.
    pub settings: Settings,
    /// One for each scenario, in the order in which they were played.
    pub outcomes: Vec<Outcome>,
    /// Calls in each tenth of a second.
    pub rates: BTreeMap<Kind, Vec<u32>>,
}

/// One scenario.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// For tables.
    pub name: String,
    /// What is done to the cluster.
    pub story: String,
    /// From its beginning to the next one's, in simulated time.
    pub span: Span,
    /// While the fault lasts, if it lasts.
    pub fault: Option<Span>,
    /// Calls by kind.
    pub calls: BTreeMap<Kind, Count>,
    /// From the end of the fault (else from the beginning) until every node was back.
    pub back_after_ms: Option<u64>,
    /// The same until nothing was owed and every job was as wanted.
    pub settled_after_ms: Option<u64>,
    /// The longest that any node had to wait.
    pub longest_wait_ms: u64,
    /// The longest that a call waited for the controller's lock.
    pub longest_queue_ms: u64,
    /// Workers that ended.
    pub ends: u64,
    /// Of how many of them the controller has acknowledged the report.
    pub delivered: u64,
    /// Reports that were sent more than once.
    pub resent: u64,
    /// What happened, in number.
    pub events: u64,
    /// What of it machines handled.
    pub machine_events: u64,
    /// What had to hold.
    pub bounds: Vec<Bound>,
}

/// A stretch of simulated time, in milliseconds since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Span {
    /// Where it begins.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
}

/// How many calls of a kind there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Count {
    /// In the whole scenario.
    pub total: u64,
    /// In its fullest second.
    pub peak: u64,
}

/// Something that had to hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Bound {
    /// What, with its limit.
    pub what: String,
    /// What was found.
    pub found: String,
    /// Whether it did hold.
    pub holds: bool,
}

impl Results {
    /// Everything that did not hold, with its scenario.
    pub fn broken(&self) -> impl Iterator<Item = (&Outcome, &Bound)> {
        self.outcomes
            .iter()
            .flat_map(|outcome| outcome.bounds.iter().map(move |bound| (outcome, bound)))
            .filter(|(_, bound)| !bound.holds)
    }
}
