//! A controller of one node: what it knows, and what it makes of calls.

use std::collections::BTreeMap;

use arroyo_node::{
    ids::WorkerId,
    machine::{CallError, Report},
};

use crate::scenario::Outcome;

#[derive(Clone, Debug, Default)]
pub(super) struct Controller {
    pub(super) knows_node: bool,
    /// Every report that it has ever received.
    pub(super) received: BTreeMap<WorkerId, Report>,
}

impl Controller {
    pub(super) fn register(&mut self, outcome: Outcome) -> Result<(), CallError> {
        self.knows_node |= outcome != Outcome::Bad;
        answer(outcome)
    }

    pub(super) fn heartbeat(&mut self, outcome: Outcome) -> Result<(), CallError> {
        if outcome == Outcome::Good && !self.knows_node {
            return Err(CallError::NotFound);
        }
        answer(outcome)
    }

    pub(super) fn report(&mut self, report: Report, outcome: Outcome) -> Result<(), CallError> {
        if outcome != Outcome::Bad {
            self.received.insert(report.worker, report);
        }
        answer(outcome)
    }
}

fn answer(outcome: Outcome) -> Result<(), CallError> {
    match outcome {
        Outcome::Good => Ok(()),
        Outcome::Bad => Err(CallError::Failed("refused".into())),
        Outcome::Odd => Err(CallError::Failed("the answer was lost".into())),
    }
}
