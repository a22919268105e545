//! Removes the output of workers that are forgotten. A disk may hang: nothing waits for it.

use super::errands::Errands;
use crate::{ids::WorkerId, runtime::output::OutputDir};

#[derive(Debug)]
pub(super) struct Discard {
    output: OutputDir,
    errands: Errands,
}

impl Discard {
    pub(super) fn new(output: OutputDir) -> Self {
        Self { output, errands: Errands::default() }
    }

    pub(super) fn discard(&mut self, worker: WorkerId) {
        let output = self.output.clone();
        let errand = move || {
            if let Err(error) = output.discard(worker) {
                tracing::warn!(%worker, %error, "a worker's output stays behind");
            }
        };
        if let Err(error) = self.errands.run(errand) {
            tracing::warn!(%worker, %error, "a worker's output stays behind");
        }
    }
}
