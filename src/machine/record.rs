//! What the journal is asked to keep: rows, not a log. Whoever holds the rows holds the machine's
//! durable state; [`Recovered`] is that state read back.

use std::{collections::BTreeSet, sync::Arc};

use super::{time::Mono, worker::Worker};
use crate::ids::WorkerId;

/// One row to write or delete.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// This is now the worker's row.
    Worker(Arc<Worker>),
    /// The worker's row is no longer needed.
    Forget(WorkerId),
    /// Whether the agent refuses new workers.
    Draining(bool),
    /// When the controller last knew this node.
    KnownAt(Mono),
}

/// The records of one batch of events, to be committed together or not at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    /// Whether all rows are deleted first: after commits have failed, the records of everything
    /// the machine knows replace whatever the journal still holds.
    pub rewrite: bool,
    /// In the order in which they came about: a later record of the same row wins.
    pub records: Vec<Record>,
}

impl Commit {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.rewrite && self.records.is_empty()
    }
}

/// What earlier agents on this machine left.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recovered {
    /// Every worker that is not forgotten.
    pub workers: Vec<Worker>,
    /// Those of them that were alive when the machine was last rebooted, and so cannot be now.
    pub lost: BTreeSet<WorkerId>,
    /// Those of them that the journal does not hold, since it was lost: they are written first.
    pub unwritten: BTreeSet<WorkerId>,
    /// Whether the agent refuses new workers.
    pub draining: bool,
    /// When the controller last knew this node, if the computer has not been restarted since.
    pub known_at: Option<Mono>,
}
