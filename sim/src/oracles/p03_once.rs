//! P3: each worker id is spawned at most once, and never given out twice.

use std::collections::BTreeMap;

use arroyo_node::ids::WorkerId;

use super::{Oracle, Verdict};
use crate::{
    fact::{Entry, Fact, Place},
    past::Past,
};

/// Remembers every spawn on every machine, and every name that callers were given.
#[derive(Default)]
pub(super) struct Once {
    heard: BTreeMap<String, String>,
}

impl Oracle for Once {
    fn promise(&self) -> &'static str {
        "P3 a worker id is used once"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        match (entry.place, &entry.fact) {
            (Place::Agent(agent), Fact::Spawns(launch)) => unused(past, launch.worker, agent),
            (Place::Agent(_), Fact::Ran(id, _)) => {
                let again = past.workers.get(id).is_some_and(|worker| worker.ran.is_some());
                if again { Err(format!("worker {id} was run a second time")) } else { Ok(()) }
            }
            (_, Fact::Heard { call, answer: Ok(id), .. }) if call.starts_with("StartWorker") => {
                let other = self.heard.insert(id.clone(), call.clone());
                match other.filter(|other| other != call || call.ends_with("key \"\"")) {
                    Some(other) => Err(format!("worker {id} was given to {call:?} and {other:?}")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn unused(past: &Past, id: WorkerId, agent: usize) -> Verdict {
    match past.workers.get(&id) {
        None => Ok(()),
        Some(before) => Err(format!(
            "worker {id} is spawned on agent {agent}, and was on agent {} at {:?}",
            before.agent, before.asked_at
        )),
    }
}
