//! An exit status is let go only once it is in the journal: it is the only other copy.

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

/// Holds every release against what the journal has taken.
pub(super) struct Release;

impl Oracle for Release {
    fn promise(&self) -> &'static str {
        "an exit status is kept until it is durable"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let (Place::Agent(agent), Fact::Releases(id)) = (entry.place, &entry.fact) else {
            return Ok(());
        };
        match past.agents[agent].rows.get(id) {
            Some(row) if row.end.is_none() => {
                Err(format!("worker {id} is released while its row says that it lives"))
            }
            _ => Ok(()),
        }
    }
}
