//! P5: once a report is acknowledged and that is in the journal, it is not sent again.

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

/// Holds every WorkerFinished that leaves an agent against what its journal has taken.
pub struct OnceAcknowledged;

impl Oracle for OnceAcknowledged {
    fn promise(&self) -> &'static str {
        "P5 an acknowledged report is not repeated"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let (Place::Agent(agent), Fact::Reports(report)) = (entry.place, &entry.fact) else {
            return Ok(());
        };
        let row = past.agents[agent].rows.get(&report.worker);
        match row.and_then(|row| row.reported_at) {
            None => Ok(()),
            Some(at) => Err(format!(
                "the end of worker {} is sent again, though acknowledged at {at:?} in the journal",
                report.worker
            )),
        }
    }
}
