//! WorkerFinished: frees a worker's slots, once, and holds what is reported against what was
//! started.

use std::fmt::Display;

use super::Books;
use crate::{
    controller::{
        event::{ControllerEvent, Violation, Worker},
        report::{FinishOutcome, FinishedReport},
    },
    ids::WorkerId,
    machine::Dialect,
};

impl Books {
    /// WorkerFinished. The slots that were started become free, whatever the report says of them:
    /// where it says otherwise, or anything else than was started, that is a violation.
    ///
    /// A report in the wrong dialect is refused, and changes nothing: stock cannot read it.
    pub fn finished(&mut self, report: FinishedReport) -> Result<FinishOutcome, Violation> {
        self.counters.finished += 1;
        if let Some(worker) = self.workers.get(&report.worker) {
            let worker = worker.clone();
            if worker.dialect != report.dialect {
                let violation = Violation::WrongDialect {
                    worker: report.worker,
                    started: worker.dialect,
                    reported: report.dialect,
                };
                self.violation(violation.clone());
                return Err(violation);
            }
            for violation in differences(&worker, &report) {
                self.violation(violation);
            }
        }

        let first = self.reported.insert(report.worker);
        let outcome = match self.remove_worker(report.worker) {
            Some((_, true)) => FinishOutcome::Freed,
            Some((_, false)) => FinishOutcome::NotHeld,
            None if first => self.unknown(report.worker),
            None => {
                self.counters.duplicates += 1;
                FinishOutcome::Duplicate
            }
        };
        self.events.push(ControllerEvent::WorkerFinished { report, outcome });
        Ok(outcome)
    }

    fn unknown(&mut self, worker: WorkerId) -> FinishOutcome {
        self.counters.unknown += 1;
        if !self.open.is_empty() {
            // It may be one whose StartWorker is being answered at this moment.
            self.early.insert(worker);
        }
        FinishOutcome::Unknown
    }
}

/// Everything in which a report differs from what was started.
fn differences(worker: &Worker, report: &FinishedReport) -> Vec<Violation> {
    let id = report.worker;
    let mut found = Vec::new();
    if worker.slots != report.slots {
        let (started, reported) = (worker.slots, report.slots);
        found.push(Violation::WrongSlots { worker: id, started, reported });
    }
    let mut compare = |field, started: &dyn Display, reported: &dyn Display| {
        let (started, reported) = (started.to_string(), reported.to_string());
        if started != reported {
            found.push(Violation::WrongIdentity { worker: id, field, started, reported });
        }
    };
    compare("machine", &worker.node, &report.node);
    compare("job", &worker.job, &report.job);
    compare("generation", &worker.generation, &report.generation);
    if worker.dialect == Dialect::V0_16 {
        let text = |pipeline: &Option<crate::ids::PipelineId>| match pipeline {
            None => String::new(),
            Some(pipeline) => pipeline.to_string(),
        };
        compare("pipeline", &text(&worker.pipeline), &text(&report.pipeline));
    }
    found
}
