//! StopWorker's answers are true: STOPPED means that nothing of the worker is alive, NOT_FOUND that
//! no such worker lives here.

use arroyo_node::machine::StopStatus;

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

/// Holds the answers against the process tables.
pub(crate) struct StopAnswers;

impl Oracle for StopAnswers {
    fn promise(&self) -> &'static str {
        "StopWorker is answered truly"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let (Place::Agent(agent), Fact::StopAnswered(id, status)) = (entry.place, &entry.fact)
        else {
            return Ok(());
        };
        let worker = past.workers.get(id).filter(|worker| worker.agent == agent);
        let live = worker.is_some_and(|worker| worker.is_live() && worker.excuse.is_none());
        match status {
            StopStatus::Stopped { .. } | StopStatus::NotFound if live => {
                Err(format!("a stop of worker {id} was answered {status:?}, and it lives"))
            }
            StopStatus::Stopped { .. }
            | StopStatus::NotFound
            | StopStatus::Stopping
            | StopStatus::Failed => Ok(()),
        }
    }
}
