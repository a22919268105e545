//! Kills that wait for the worst moment.

use std::collections::BTreeMap;

use crate::{
    fact::{Arrival, Entry, Fact, Place},
    plan::Moment,
};
use arroyo_node::machine::Reply;

/// What waits, and what is to be done now.
#[derive(Debug, Default)]
pub struct Triggers {
    waiting: BTreeMap<usize, (Moment, u64)>,
    sprung: BTreeMap<usize, u64>,
}

impl Triggers {
    /// An agent is to be killed at this moment, and to be away for so many milliseconds.
    pub fn set(&mut self, agent: usize, moment: Moment, ms: u64) {
        self.waiting.insert(agent, (moment, ms));
    }

    /// Nobody is to be killed any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The agents whose moment has come.
    pub fn take(&mut self) -> BTreeMap<usize, u64> {
        std::mem::take(&mut self.sprung)
    }

    /// Something happened.
    pub fn see(&mut self, entry: &Entry) {
        let Place::Agent(agent) = entry.place else { return };
        let Some((moment, ms)) = self.waiting.get(&agent).copied() else { return };
        if moment_of(&entry.fact) == Some(moment) {
            self.waiting.remove(&agent);
            self.sprung.insert(agent, ms);
        }
    }
}

fn moment_of(fact: &Fact) -> Option<Moment> {
    match fact {
        Fact::Spawns(_) => Some(Moment::Spawn),
        Fact::Answered(Reply::Started(Ok(_))) => Some(Moment::Answer),
        Fact::Signals(..) => Some(Moment::Signal),
        Fact::TreeGone(..) => Some(Moment::End),
        Fact::Reports(_) => Some(Moment::Report),
        Fact::Arrived(Arrival::Finished(_)) => Some(Moment::Arrival),
        Fact::NotCommitted => Some(Moment::Refusal),
        Fact::Committed(commit) if commit.rewrite => Some(Moment::Rewrite),
        _ => None,
    }
}
