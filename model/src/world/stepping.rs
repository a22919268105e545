//! What a search asks of a world, and does to it, besides what scenarios do.

use arroyo_node::ids::WorkerId;

use super::{Doom, Pending, World};

impl World {
    pub(crate) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    pub(crate) fn alive(&self) -> Vec<WorkerId> {
        self.processes.alive()
    }

    /// The worker that was spawned with this variable in its environment.
    pub(crate) fn spawned_with(&self, name: &str, value: &str) -> Option<WorkerId> {
        let mut all = self.processes.iter();
        let found = all.find(|(_, proc)| proc.launch.env.get(name).is_some_and(|it| it == value));
        found.map(|(id, _)| id)
    }

    /// Whether the agent waits for a time to come.
    pub(crate) fn sleeps(&self) -> bool {
        self.machine.next_timeout().is_some()
    }

    /// That time has come.
    pub(crate) fn wake(&mut self) {
        if let Some((at, _)) = self.machine.next_timeout() {
            self.wake_at(at.max(self.now.mono));
        }
    }

    /// A turn on which the agent may be killed; says whether it was.
    pub(crate) fn turn_with(&mut self, doom: Option<Doom>) -> bool {
        self.doom = doom;
        self.turn();
        self.doom.take().is_none()
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.journal.works && self.signals_work
    }

    pub(crate) fn repair(&mut self) {
        (self.journal.works, self.signals_work) = (true, true);
    }
}
