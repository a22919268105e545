//! P7: after a restart every worker that lives is known, and in the journal for the next restart;
//! none is left behind. (That none is killed
//! by the restart is P9's business: no signal without a cause.)

use std::time::Duration;

use super::{Oracle, Sight, Verdict};
use crate::past::Past;

/// How long an agent has to look around, with its machine in order.
const AFTER: Duration = Duration::from_secs(3);

/// Compares the process tables with what agents show.
pub(super) struct Adoption;

impl Oracle for Adoption {
    fn promise(&self) -> &'static str {
        "P7 every live worker is known"
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        for (number, agent) in past.agents.iter().enumerate() {
            let settled = |since: Option<Duration>| since.is_some_and(|at| at + AFTER <= sight.now);
            let Some(view) = &sight.views[number] else { continue };
            if !settled(agent.running_since) || !settled(agent.shim_since) {
                continue;
            }
            for (id, worker) in past.live_on(number) {
                let fresh = worker.ran.is_some_and(|(at, _)| at + AFTER > sight.now);
                let known = view.workers.get(id).is_some_and(|known| known.is_live());
                if !fresh && !known && worker.excuse.is_none() {
                    return Err(format!("worker {id} lives on agent {number}, which knows it not"));
                }
                let written = agent.rows.contains_key(&id) || !agent.journal_works;
                if !fresh && !written && worker.excuse.is_none() {
                    return Err(format!("worker {id} lives on agent {number}, not in its journal"));
                }
            }
        }
        Ok(())
    }
}
