//! P4: every ended worker is reported at least once, as what it was started, and never before it
//! has ended; and how it ended is never made up.

use std::time::Duration;

use arroyo_node::{
    controller::FinishedReport,
    ids::WorkerId,
    machine::{Exit, Record},
};

use super::{Oracle, Sight, Verdict};
use crate::{
    fact::{Arrival, Entry, Fact, Place},
    past::{Past, WorkerPast},
};

/// How long before the end of a run a worker must have ended for its report to be missed.
const AT_LEAST: Duration = Duration::from_secs(20);

/// What an agent needs to learn of an end and to write it down, with its machine in order.
const SOON: Duration = Duration::from_secs(4);

/// Holds what arrives at the controller against the process tables.
pub(super) struct Reported;

impl Oracle for Reported {
    fn promise(&self) -> &'static str {
        "P4 every end is reported, truly"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        match (entry.place, &entry.fact) {
            (Place::Agent(agent), Fact::Arrived(Arrival::Finished(report))) => {
                let worker = past.workers.get(&report.worker).ok_or_else(|| {
                    format!("worker {} was reported, and never started", report.worker)
                })?;
                arrived(agent, report, worker)
            }
            (Place::Agent(_), Fact::Committed(commit) | Fact::Written(commit)) => {
                for record in &commit.records {
                    if let Record::Worker(worker) = record
                        && let Some(end) = worker.end
                        && let Some(known) = past.workers.get(&worker.id)
                    {
                        true_exit(worker.id, end.exit, known)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        for (id, worker) in &past.workers {
            let Some((at, _)) = worker.gone else { continue };
            let agent = &past.agents[worker.agent];
            let settled = |since: Option<Duration>| since.is_some_and(|s| s + SOON < sight.now);
            let in_order = settled(agent.running_since) && settled(agent.shim_since);
            if worker.arrived == 0
                && worker.excuse.is_none()
                && at + SOON < sight.now
                && in_order
                && agent.journal_works
                && !agent.rows.contains_key(id)
            {
                return Err(format!("worker {id} ended unreported, and is not in the journal"));
            }
        }
        Ok(())
    }

    fn end(&mut self, sight: &Sight<'_>, past: &Past) -> Verdict {
        for (id, worker) in &past.workers {
            let Some((at, exit)) = worker.gone else { continue };
            if at + AT_LEAST < sight.now && worker.arrived == 0 && worker.excuse.is_none() {
                return Err(format!("worker {id} ended at {at:?} ({exit}), and nobody was told"));
            }
        }
        Ok(())
    }
}

fn arrived(agent: usize, report: &FinishedReport, worker: &WorkerPast) -> Verdict {
    let id = report.worker;
    if worker.gone.is_none() {
        return Err(format!("worker {id} was reported as ended while it lives"));
    }
    let spec = &worker.spec;
    let same = worker.agent == agent
        && report.job == spec.job
        && report.generation == spec.generation
        && report.slots == spec.slots.get()
        && report.dialect == spec.dialect
        && report.pipeline == spec.pipeline;
    if same {
        return Ok(());
    }
    Err(format!(
        "worker {id} was started as {spec:?} on agent {}, reported {report:?}",
        worker.agent
    ))
}

fn true_exit(id: WorkerId, told: Exit, worker: &WorkerPast) -> Verdict {
    let Some((_, exit)) = worker.gone else {
        return Err(format!("worker {id} is in the journal as ended while it lives"));
    };
    let lost = told == Exit::Lost && worker.lost_power;
    if told == exit || told == Exit::Unknown || lost {
        return Ok(());
    }
    Err(format!("worker {id} ended by {exit}, and the journal says {told}"))
}
