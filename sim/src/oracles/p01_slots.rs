//! P1: the slots of live workers never exceed an agent's `task_slots`.

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

/// Adds up what runs, by the process table.
pub(super) struct Slots;

impl Oracle for Slots {
    fn promise(&self) -> &'static str {
        "P1 slots stay within capacity"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let (Place::Agent(agent), Fact::Ran(id, _)) = (entry.place, &entry.fact) else {
            return Ok(());
        };
        let capacity = past.agents[agent].slots;
        let known = past.workers.get(id).filter(|worker| worker.excuse.is_none());
        let Some(new) = known.map(|worker| worker.spec.slots.get()) else { return Ok(()) };
        let held = past.live_on(agent).filter(|(_, worker)| worker.excuse.is_none());
        let held: u64 = held.map(|(_, worker)| worker.spec.slots.get()).sum();
        if held + new > capacity {
            return Err(format!("worker {id} makes it {} of {capacity}", held + new));
        }
        Ok(())
    }
}
