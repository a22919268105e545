//! Capacity: what is used, what is promised, what is free.

use super::Machine;

impl Machine {
    /// The slots that a new worker can have now.
    pub(super) fn free_slots(&self) -> u64 {
        self.free_slots_after(0)
    }

    /// The slots that a new worker could have if `reclaimed` of those in use, or promised, came
    /// free first.
    pub(super) fn free_slots_after(&self, reclaimed: u64) -> u64 {
        let promised = self.waiting.iter().map(|start| start.promised_slots(&self.roster));
        let taken = promised.fold(self.roster.used_slots(), u64::saturating_add);
        // After a restart with fewer slots, the workers of before may hold more than there are:
        // what comes free then makes good for that first.
        self.config.task_slots.saturating_sub(taken.saturating_sub(reclaimed))
    }
}
