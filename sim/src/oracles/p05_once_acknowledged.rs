//! P5: once a report is acknowledged and that is in the journal, it is not sent again; and it gets
//! there soon.

use std::{collections::BTreeMap, time::Duration};

use arroyo_node::ids::WorkerId;

use super::{Oracle, Sight, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

/// How long an acknowledgement may take to the journal, while that works.
const SOON: Duration = Duration::from_secs(1);

/// Holds every WorkerFinished that leaves an agent against what its journal has taken.
#[derive(Default)]
pub(crate) struct OnceAcknowledged {
    /// What is not in the journal yet, with the agent and the time.
    fresh: BTreeMap<WorkerId, (usize, Duration)>,
}

impl Oracle for OnceAcknowledged {
    fn promise(&self) -> &'static str {
        "P5 an acknowledged report is not repeated"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let Place::Agent(agent) = entry.place else { return Ok(()) };
        match &entry.fact {
            Fact::Reports(report) => {
                let row = past.agents[agent].rows.get(&report.worker);
                if let Some(at) = row.and_then(|row| row.reported_at) {
                    return Err(format!(
                        "the end of worker {} is sent again, though the journal says that it was \
                         acknowledged at {at:?}",
                        report.worker
                    ));
                }
            }
            Fact::Acknowledged(id) => drop(self.fresh.insert(*id, (agent, entry.at))),
            // An agent that dies before it has written it down asks again.
            Fact::AgentGone(_) => self.fresh.retain(|_, (of, _)| *of != agent),
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        let mut late = None;
        self.fresh.retain(|id, (agent, at)| {
            let agent = &past.agents[*agent];
            let written = agent.rows.get(id).is_none_or(|row| row.reported_at.is_some());
            let excused =
                !agent.journal_works || agent.running_since.is_none_or(|since| since > *at);
            if !written && !excused && *at + SOON < sight.now {
                late = Some((*id, *at));
            }
            !written
        });
        match late {
            None => Ok(()),
            Some((id, at)) => Err(format!(
                "the end of worker {id} was acknowledged at {at:?}, and the journal does not say so"
            )),
        }
    }
}
