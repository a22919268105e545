//! The liveness phase: nothing is done to the cluster any more, and everything heals. Whether it
//! does is for the oracle of P11 to say; then the cluster is watched a while longer.

use std::time::Duration;

use super::{CONTROLLER, World, agent_name, controller::Mood};
use crate::{fact::Fact, oracles::Sight};

/// How long the cluster is watched once all is well.
const CALM: Duration = Duration::from_secs(25);

impl World {
    /// Ends all faults, lets everything come to rest, and watches a while longer.
    pub(super) fn heal(&mut self) {
        self.note(Fact::Healing);
        self.end_all();
        self.links.disarm();
        self.recorder.triggers(crate::triggers::Triggers::clear);
        self.controller.set_mood(Mood::Fine);
        let now = self.sim.elapsed();
        if self.controller.hasten(now) {
            self.sim.bounce(CONTROLLER);
        }
        self.leaving.values_mut().for_each(|ms| *ms = 0);
        for agent in self.agents.clone() {
            if agent.hasten(now) {
                self.sim.bounce(agent_name(agent.number));
            }
        }
        while self.is_whole() && self.recorder.is_waiting() {
            self.step();
        }
        if self.is_whole() {
            self.recorder.mark("converged after healing");
            self.watch();
        }
    }

    fn watch(&mut self) {
        let until = self.sim.elapsed() + CALM;
        while self.is_whole() && self.sim.elapsed() < until {
            self.step();
        }
        let views: Vec<_> = self.agents.iter().map(super::AgentHost::view).collect();
        let books = self.controller.books();
        let sight = Sight { now: self.sim.elapsed(), views: &views, books: books.as_ref() };
        self.recorder.end(&sight);
    }
}
