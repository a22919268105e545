//! The liveness phase: nothing is done to the cluster any more, everything heals, and within a
//! minute it must be as it should be (P11).

use std::time::Duration;

use arroyo_node::{controller::Snapshot, machine::View};

use super::{CONTROLLER, World, agent_name, controller::Mood};
use crate::{fact::Fact, past::Past};

/// How long convergence may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the cluster is watched after that.
const CALM: Duration = Duration::from_secs(25);

impl World {
    /// Ends all faults, waits for convergence, and watches a while longer.
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
        let deadline = self.sim.elapsed() + PATIENCE;
        let mut wrong = String::from("it was not looked at");
        while self.is_whole() && self.sim.elapsed() < deadline {
            self.step();
            match self.what_is_wrong() {
                None => return self.watch(),
                Some(what) => wrong = what,
            }
        }
        self.recorder.fail("P11 it converges within 60 s", wrong);
    }

    fn watch(&mut self) {
        self.recorder.mark("converged after healing");
        let until = self.sim.elapsed() + CALM;
        while self.is_whole() && self.sim.elapsed() < until {
            self.step();
        }
        let views: Vec<_> = self.agents.iter().map(super::AgentHost::view).collect();
        let books = self.controller.books();
        let sight =
            crate::oracles::Sight { now: self.sim.elapsed(), views: &views, books: books.as_ref() };
        self.recorder.end(&sight);
    }

    /// The first thing that is not as it should be.
    fn what_is_wrong(&self) -> Option<String> {
        let Some(books) = self.controller.books() else {
            return Some("there is no controller".into());
        };
        for agent in &self.agents {
            let name = agent_name(agent.number);
            let Some(view) = agent.view() else { return Some(format!("{name} is not there")) };
            let wrong = self.recorder.past(|past| of_agent(agent.number, &view, &books, past));
            if let Some(wrong) = wrong {
                return Some(format!("{name} {wrong}"));
            }
        }
        None
    }
}

fn of_agent(number: usize, view: &View, books: &Snapshot, past: &Past) -> Option<String> {
    if !view.registered {
        return Some("is not registered".into());
    }
    let Some(node) = books.nodes.get(&view.machine) else {
        return Some("is not in the controller's books".into());
    };
    if let Some(error) = &view.journal_error {
        return Some(format!("cannot write its journal: {error}"));
    }
    if view.reports_owed > 0 {
        return Some(format!("owes {} reports", view.reports_owed));
    }
    for (id, _) in past.live_on(number).filter(|(_, worker)| worker.excuse.is_none()) {
        let known = view.workers.iter().any(|worker| worker.id == id && worker.is_live());
        if !known {
            return Some(format!("does not know its worker {id}, which is alive"));
        }
    }
    for worker in view.workers.iter().filter(|worker| worker.is_live()) {
        let live = past.workers.get(&worker.id).is_some_and(|past| past.gone.is_none());
        if !live {
            return Some(format!("takes worker {} for alive, which is gone", worker.id));
        }
    }
    for id in node.held.keys() {
        let excused = past.workers.get(id).is_some_and(|worker| worker.excuse.is_some());
        let live = view.workers.iter().any(|worker| worker.id == *id && worker.is_live());
        if !live && !excused {
            return Some(format!("has no worker {id}, for which the controller holds slots"));
        }
    }
    None
}
