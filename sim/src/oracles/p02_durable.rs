//! P2: a worker that StartWorker named exists in the journal before the caller hears of it, and so does that
//! an agent drains, or no longer; and what the journal has taken, the next agent finds: all of it after a kill, after a power failure
//! what was there after some commit.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use arroyo_node::machine::{Ask, Mono, Record, Recovered, Reply, Stop};

use super::{Oracle, Verdict};
use crate::{
    fact::{Ending, Entry, Fact, Place},
    past::{Past, Rows, apply},
};

/// What a journal holds.
#[derive(Clone, PartialEq, Debug, Default)]
struct Kept {
    rows: Rows,
    draining: bool,
    known_at: Option<Mono>,
}

/// A SetDraining that has not been answered.
struct Wish {
    draining: bool,
    /// Whether the journal says so, or has said so since.
    kept: bool,
}

/// Keeps every state that each journal was in, since the life before.
#[derive(Default)]
pub(super) struct Durable {
    states: BTreeMap<usize, Vec<Kept>>,
    /// They are answered in their order.
    wishes: BTreeMap<usize, VecDeque<Wish>>,
}

impl Oracle for Durable {
    fn promise(&self) -> &'static str {
        "P2 what was promised is durable"
    }

    fn see(&mut self, entry: &Entry, past: &Past) -> Verdict {
        let Place::Agent(agent) = entry.place else { return Ok(()) };
        match &entry.fact {
            Fact::Answered(Reply::Started(Ok(id))) if !past.agents[agent].rows.contains_key(id) => {
                return Err(format!("worker {id} was named before it was in the journal"));
            }
            Fact::Spawns(launch) if !past.agents[agent].rows.contains_key(&launch.worker) => {
                let id = launch.worker;
                return Err(format!("worker {id} was spawned before it was in the journal"));
            }
            Fact::Asked(Ask::SetDraining(draining)) => {
                let said = self.states.get(&agent).and_then(|states| states.last());
                let kept = said.is_some_and(|kept| kept.draining == *draining);
                let wish = Wish { draining: *draining, kept };
                self.wishes.entry(agent).or_default().push_back(wish);
            }
            Fact::Answered(Reply::Draining(result)) => {
                let wish = self.wishes.entry(agent).or_default().pop_front();
                if result.is_ok() && wish.is_some_and(|wish| !wish.kept) {
                    return Err("a SetDraining was answered before it was in the journal".into());
                }
            }
            Fact::AgentGone(_) => drop(self.wishes.remove(&agent)),
            Fact::Committed(commit) | Fact::Written(commit) => {
                let states = self.states.entry(agent).or_default();
                let mut kept = states.last().cloned().unwrap_or_default();
                apply(&mut kept.rows, commit);
                for record in &commit.records {
                    if let Record::KnownAt(at) = record {
                        kept.known_at = Some(*at);
                    }
                    if let Record::Draining(draining) = record {
                        kept.draining = *draining;
                        let wishes = self.wishes.entry(agent).or_default();
                        let granted = wishes.iter_mut().filter(|wish| wish.draining == *draining);
                        granted.for_each(|wish| wish.kept = true);
                    }
                }
                states.push(kept);
            }
            Fact::AgentBegan { journaled, set_aside, .. } => {
                let rows = journaled.workers.iter().map(|w| (w.id, w.clone().into())).collect();
                let Recovered { draining, known_at, .. } = *journaled;
                let found = Kept { rows, draining, known_at };
                let states = self.states.insert(agent, vec![found.clone()]).unwrap_or_default();
                return match past.agents[agent].ended {
                    None => Ok(()),
                    _ if *set_aside => Ok(()),
                    Some(Ending::PowerLost) => {
                        let states: Vec<Kept> = states.iter().map(after_boot).collect();
                        one_of(&states, &found)
                    }
                    Some(Ending::Killed | Ending::Finished) => one_of(states.last(), &found),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Deadlines mean nothing to the machine's next boot.
fn after_boot(kept: &Kept) -> Kept {
    let mut kept = Kept { known_at: None, ..kept.clone() };
    for row in kept.rows.values_mut().map(Arc::make_mut) {
        row.stop = row.stop.map(|_| Stop { kill_at: None });
        row.abandoned_at = None;
    }
    kept
}

fn one_of<'a>(states: impl IntoIterator<Item = &'a Kept>, found: &Kept) -> Verdict {
    let mut last = None;
    for state in states {
        if state == found {
            return Ok(());
        }
        last = Some(state);
    }
    match last {
        // It never got to commit anything.
        None if *found == Kept::default() => Ok(()),
        _ => Err(format!("the journal held {last:?}, and the next agent found {found:?}")),
    }
}
