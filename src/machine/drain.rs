//! Draining: no new workers, the rest goes on. Kept across restarts.

use super::{
    Machine,
    event::{JournalDown, Reply, StartError},
    record::Record,
    step::Step,
};
use crate::ids::RequestId;

impl Machine {
    /// Takes effect at once. The caller hears "done" only when it is durable.
    pub(super) fn handle_set_draining(
        &mut self,
        request: RequestId,
        draining: bool,
        step: &mut Step,
    ) {
        self.draining = draining;
        if draining {
            self.refuse_all_waiting(&StartError::Draining, step);
        }
        self.record(Record::Draining(draining), step);
        let durable = match self.journal.down() {
            None => Ok(()),
            Some(down) => Err(down),
        };
        step.reply(request, Reply::Draining(durable));
    }

    pub(super) fn draining_not_durable(&mut self, request: RequestId, step: &mut Step) {
        let reason = "the commit failed".into();
        let down = self.journal.down().unwrap_or(JournalDown { reason });
        step.reply(request, Reply::Draining(Err(down)));
    }
}
