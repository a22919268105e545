//! The links between the agents and the controller: each is in order, or has one fault at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CONTROLLER, agent_name};
use crate::{fact::Fact, fact::Place, recorder::Recorder};

/// What is wrong with a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// Nothing gets through.
    Cut,
    /// Nothing gets to the controller.
    Deaf,
    /// Nothing gets to the agent.
    Mute,
    /// Everything waits.
    Held,
}

/// The state of every link. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Links(Arc<Mutex<Vec<Link>>>);

#[derive(Clone, Debug, Default)]
struct Link {
    trouble: Option<Trouble>,
    /// Set: the link breaks for so long when the agent answers its next StartWorker.
    armed_ms: Option<u64>,
    /// Set: it has broken so, and heals after so long.
    sprung_ms: Option<u64>,
}

impl Links {
    /// So many links in order.
    pub(super) fn new(agents: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![Link::default(); agents])))
    }

    /// Whether something is wrong with a link.
    pub(super) fn is_troubled(&self, agent: usize) -> bool {
        self.links()[agent].trouble.is_some()
    }

    /// Makes trouble, from between two steps. Returns false if there is some already.
    pub(super) fn trouble(&self, sim: &turmoil::Sim<'_>, agent: usize, trouble: Trouble) -> bool {
        let link = &mut self.links()[agent];
        if link.trouble.is_some() {
            return false;
        }
        link.trouble = Some(trouble);
        let name = agent_name(agent);
        match trouble {
            Trouble::Cut => sim.partition(name, CONTROLLER),
            Trouble::Deaf => sim.partition_oneway(name, CONTROLLER),
            Trouble::Mute => sim.partition_oneway(CONTROLLER, name),
            Trouble::Held => sim.hold(name, CONTROLLER),
        }
        true
    }

    /// Ends this trouble, if it is the one that there is.
    pub(super) fn mend(&self, sim: &turmoil::Sim<'_>, agent: usize, trouble: Trouble) {
        let link = &mut self.links()[agent];
        if link.trouble != Some(trouble) {
            return;
        }
        link.trouble = None;
        let name = agent_name(agent);
        match trouble {
            Trouble::Cut => sim.repair(name, CONTROLLER),
            Trouble::Deaf => sim.repair_oneway(name, CONTROLLER),
            Trouble::Mute => sim.repair_oneway(CONTROLLER, name),
            Trouble::Held => sim.release(name, CONTROLLER),
        }
    }

    /// Breaks the link when the agent answers its next StartWorker.
    pub(super) fn arm(&self, agent: usize, ms: u64) {
        self.links()[agent].armed_ms = Some(ms);
    }

    /// The agent is about to answer a StartWorker. Called on its host.
    pub(super) fn start_answered(&self, agent: usize, recorder: &Recorder) {
        let link = &mut self.links()[agent];
        if link.trouble.is_some() {
            return;
        }
        let Some(ms) = link.armed_ms.take() else { return };
        link.sprung_ms = Some(ms);
        turmoil::partition_oneway(agent_name(agent), CONTROLLER);
        link.trouble = Some(Trouble::Deaf);
        recorder.mark("start answer lost");
        recorder.note(Place::Agent(agent), Fact::AnswerLost);
    }

    /// For how long the link that just broke by itself stays broken.
    pub(super) fn take_sprung(&self, agent: usize) -> Option<u64> {
        self.links()[agent].sprung_ms.take()
    }

    /// Nothing breaks by itself any more.
    pub(super) fn disarm(&self) {
        self.links().iter_mut().for_each(|link| link.armed_ms = None);
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
