//! `sometimes` marks: interesting things that must happen somewhere in a campaign. Oracles say that
//! nothing bad happened; marks say that it could have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a campaign must reach.
pub const ALL: &[&str] = &[
    "worker started",
    "start refused: not enough slots",
    "start refused: stale generation",
    "start refused: journal down",
    "start refused: draining",
    "start refused: spawn failed",
    "start refused: superseded while it waited",
    "start refused: what makes room still lives",
    "start refused: its program does not run",
    "start repeated under its request id",
    "worker superseded by a newer generation",
    "worker abandoned by a controller that forgot",
    "abandoned worker killed",
    "abandoned worker stopped after a while",
    "abandoned worker ended for a start of another job",
    "retry ended the worker of the first try",
    "heartbeat answered late",
    "worker ended before its start was answered",
    "worker ended while the agent was down",
    "worker adopted alive",
    "worker adopted with a kept exit status",
    "worker adopted with an unknown exit status",
    "worker lost with the machine's power",
    "recovered worker never ran",
    "pid reused",
    "escaped process cleared away",
    "kill escalated after an ignored SIGTERM",
    "stop goes on after a restart",
    "stop answered with the end acknowledged",
    "stop answered while the worker lives",
    "report sent again",
    "report acknowledged, answer lost",
    "report owed across a restart",
    "registered again after NOT_FOUND",
    "registered again with a new connection",
    "journal down",
    "journal restored",
    "a commit hung",
    "a commit that was given up was written",
    "journal set aside",
    "power loss cut the journal",
    "agent detached and replaced",
    "agent shut down with its workers",
    "shim died with workers",
    "start answer lost",
    "controller restarted with empty books",
    "worker outlived a controller",
    "an old worker failed a new run",
    "bad call refused",
    "converged after healing",
];

/// How often each was reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Marks(pub BTreeMap<String, u64>);

impl Marks {
    /// It was reached.
    ///
    /// # Panics
    /// There is no such mark.
    pub fn hit(&mut self, mark: &str) {
        assert!(ALL.contains(&mark), "{mark:?} is not in the table of marks");
        *self.0.entry(mark.to_owned()).or_default() += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.0 {
            *self.0.entry(mark.clone()).or_default() += count;
        }
    }

    /// Those that were never reached.
    pub fn missing(&self) -> Vec<&'static str> {
        ALL.iter().copied().filter(|mark| !self.0.contains_key(*mark)).collect()
    }
}
