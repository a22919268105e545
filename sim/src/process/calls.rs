//! What agents ask of the table, and how they are answered.

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Launch, Process, Signal, SpawnError},
};
use std::{collections::BTreeSet, time::Duration};

use super::{
    Table,
    agenda::Due,
    behaviour::Behaviour,
    table::{SWEEP, Stage, Tracked},
};
use crate::fact::Fact;

/// How long an answer about an earlier agent's worker takes.
const LOOK_UP: Duration = Duration::from_millis(7);

impl Table {
    pub(super) fn spawn(&mut self, launch: Launch) {
        let now = self.recorder.now();
        self.note(Fact::Spawns(launch.clone()));
        let id = launch.worker;
        let nth = self.recorder.past(|past| {
            let same = |spec: &arroyo_node::machine::WorkerSpec| {
                spec.job == launch.spec.job && spec.generation == launch.spec.generation
            };
            let of = past.workers.values();
            of.filter(|w| w.agent == self.machine.agent && same(&w.spec)).count()
        });
        let super::Machine { seed, temper, agent, .. } = &self.machine;
        let behaviour = Behaviour::draw(*seed, temper, *agent, &launch.spec, nth);
        let life = self.agent.as_ref().map_or(0, |agent| agent.life);
        self.agenda.add(now + behaviour.exec_after, Due::Exec(id));
        self.workers.insert(
            id,
            Tracked {
                spec: launch.spec,
                admitted_at: launch.admitted_at,
                life,
                behaviour,
                stage: Stage::Queued,
                leader: None,
                known: BTreeSet::new(),
                exit: None,
                has_parent: true,
                known_at: Duration::ZERO,
                killed: false,
            },
        );
        self.follow(id);
    }

    pub(super) fn adopt(&mut self, id: WorkerId, process: Option<Process>) {
        let now = self.recorder.now();
        self.note(Fact::Adopts(id, process));
        self.follow(id);
        let at = now + LOOK_UP;
        let Some(worker) = self.workers.get(&id) else {
            match process {
                // An earlier agent knew its process, and nobody does any longer.
                Some(_) => self.say(at, Event::Exited { worker: id, exit: Exit::Unknown }),
                None => {
                    self.recorder.mark("recovered worker never ran");
                    self.say(at, Event::NeverRan(id));
                }
            }
            return;
        };
        let known = match (process, worker.leader) {
            (Some(process), Some(leader)) => process.is_same_as(leader),
            (process, _) => process.is_none(),
        };
        match worker.stage {
            // The shim is about to run it: the answer follows then.
            Stage::Queued => {}
            Stage::Running if known => {
                let leader = worker.leader.expect("a running worker has a leader");
                self.recorder.mark("worker adopted alive");
                self.say(at.max(worker.known_at), Event::Adopted { worker: id, process: leader });
            }
            Stage::Gone if known => {
                let exit = worker.exit.unwrap_or(Exit::Unknown);
                self.recorder.mark(match exit {
                    Exit::Unknown => "worker adopted with an unknown exit status",
                    _ => "worker adopted with a kept exit status",
                });
                self.say(at, Event::Exited { worker: id, exit });
            }
            Stage::Orphaned if self.shim_up => self.clear(id, now),
            // The end of the clearing is told.
            Stage::Clearing | Stage::Orphaned => {}
            // Somebody else has that pid.
            Stage::Running | Stage::Gone => {
                self.say(at, Event::Exited { worker: id, exit: Exit::Unknown });
            }
        }
    }

    pub(super) fn signal(&mut self, id: WorkerId, signal: Signal) {
        let now = self.recorder.now();
        self.note(Fact::Signals(id, signal));
        if self.shim_up {
            self.deliver(id, signal, now);
        } else {
            self.deferred.push((id, signal));
        }
    }

    pub(super) fn deliver(&mut self, id: WorkerId, signal: Signal, now: Duration) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if signal == Signal::Kill {
            worker.killed = true;
            self.agenda.add(now + SWEEP, Due::Sweep(id));
            return;
        }
        let (obeys, dying) = (worker.behaviour.obeys, worker.behaviour.dying);
        for process in self.look(id) {
            self.hit(id, process, signal);
            if obeys {
                self.agenda.add(now + dying, Due::Die(process, Exit::Code(0)));
            }
        }
    }

    pub(super) fn release(&mut self, id: WorkerId) {
        self.note(Fact::Releases(id));
        if self.workers.get(&id).is_some_and(|worker| worker.stage == Stage::Gone) {
            self.workers.remove(&id);
        }
    }

    fn follow(&mut self, id: WorkerId) {
        if let Some(agent) = &mut self.agent {
            agent.workers.insert(id);
        }
    }

    pub(super) fn answer_exec(&mut self, id: WorkerId, process: Process, at: Duration) {
        if !self.is_followed(id) {
            return;
        }
        let event = match self.is_of_this_life(id) {
            true => Event::Spawned { worker: id, process },
            false => Event::Adopted { worker: id, process },
        };
        self.say(at, event);
    }

    pub(super) fn exec_failed(&mut self, id: WorkerId, reason: &'static str, at: Duration) {
        self.note(Fact::NeverRan(id));
        let error = SpawnError { program: "/opt/arroyo/worker".into(), reason: reason.into() };
        let event = match self.is_of_this_life(id) {
            true => Event::SpawnFailed { worker: id, error },
            false => Event::NeverRan(id),
        };
        if self.is_followed(id) {
            self.say(at, event);
        }
        self.workers.remove(&id);
    }

    /// Whether the agent that runs is the one that asked for the worker, and not a later one.
    fn is_of_this_life(&self, id: WorkerId) -> bool {
        let life = self.agent.as_ref().map(|agent| agent.life);
        self.workers.get(&id).is_some_and(|worker| Some(worker.life) == life)
    }
}
