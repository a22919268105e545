//! What must never be seen from outside, whatever happens. Each method is told of something that
//! was seen, and complains.

use std::collections::{BTreeMap, BTreeSet};

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{Ask, Config, Exit, Launch, Mono, Reply, Report, StartError, StartKey, StopStatus},
};

use crate::{
    journal::Journal,
    processes::{Proc, Processes, State},
    signalling::Signalling,
};

#[derive(Default)]
pub struct Promises {
    pub broken: Vec<String>,
    pub signalling: Signalling,
    spawned: BTreeSet<WorkerId>,
    keys: BTreeMap<StartKey, WorkerId>,
    /// Acknowledgements that the agent was told of, and those of them that are in the journal.
    acknowledged: BTreeSet<WorkerId>,
    settled: BTreeSet<WorkerId>,
    announced: BTreeSet<WorkerId>,
    /// Answers that named a worker and have not been delivered, by the turn in which they left.
    undelivered: BTreeMap<RequestId, (WorkerId, u64)>,
    /// In which turn each worker was first named to a caller.
    named: BTreeMap<WorkerId, u64>,
    /// When, and in which turn, the agent was told of an end.
    ended: BTreeMap<WorkerId, (Mono, u64)>,
    pub draining_asked: bool,
    pub journal_has_failed: bool,
    pub signals_have_failed: bool,
    pub rebooted: bool,
}

impl Promises {
    pub fn expect(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(complaint());
        }
    }

    pub fn sees_spawn(&mut self, launch: &Launch, config: &Config, alive: &Processes, j: &Journal) {
        let id = launch.worker;
        self.expect(!self.spawned.contains(&id), || format!("P3: {id} is spawned twice"));
        self.spawned.insert(id);
        let durable = j.rows.get(&id).is_some_and(|row| row.is_live());
        self.expect(durable, || format!("P2: {id} is spawned and not in the journal"));
        let (used, asked) = (alive.slots_in_use(), launch.spec.slots.get());
        let total = config.task_slots;
        self.expect(used + asked <= total, || format!("P1: {used} + {asked} slots of {total}"));
    }

    pub fn sees_end(&mut self, id: WorkerId, now: Mono, turn: u64) {
        self.ended.entry(id).or_insert((now, turn));
    }

    pub fn sees_announcement(&mut self, report: &Report, proc: Option<&Proc>) {
        let id = report.worker;
        self.matches_end(report, proc);
        let first = self.announced.insert(id);
        self.expect(first, || format!("{id} is announced twice"));
    }

    pub fn sees_report(&mut self, report: &Report, proc: Option<&Proc>, now: Mono) {
        let id = report.worker;
        self.matches_end(report, proc);
        self.expect(!self.settled.contains(&id), || format!("P5: {id} is reported again"));
        let Some((ended_at, ended_in)) = self.ended.get(&id).copied() else { return };
        let first_named = self.named.get(&id).copied();
        let held = self.undelivered.values().any(|(named, turn)| {
            // A repeat that comes after the end is answered too late to be waited for.
            let before = *turn < ended_in || (*turn == ended_in && first_named == Some(*turn));
            *named == id && before && now.since(ended_at).as_secs() < 5
        });
        self.expect(!held, || format!("the report of {id} overtakes the answer to its start"));
    }

    fn matches_end(&mut self, report: &Report, proc: Option<&Proc>) {
        let id = report.worker;
        let lost = report.exit == Exit::Lost && self.rebooted;
        let Some(proc) = proc else {
            // After a reboot nobody can tell a worker that ended from one that never ran.
            return self.expect(lost, || format!("P4: {id} is reported and never ran"));
        };
        let State::Gone(exit) = proc.state else {
            return self.broken.push(format!("P4: {id} is reported and {:?}", proc.state));
        };
        self.expect(report.exit == exit || lost, || {
            format!("P4: {id} ended with {exit} and is reported with {}", report.exit)
        });
        let spec = &proc.launch.spec;
        let said = (&report.job, &report.pipeline, report.generation, report.dialect);
        let meant = (&spec.job, &spec.pipeline, spec.generation, spec.dialect);
        self.expect(said == meant, || format!("P4: {id} is reported as another: {report:?}"));
        let (said, meant) = (report.slots, spec.slots.get());
        self.expect(said == meant, || {
            format!("P4: {id} is reported with {said} slots, not {meant}")
        });
    }

    pub fn sees_acknowledgement(&mut self, id: WorkerId) {
        self.acknowledged.insert(id);
    }

    /// The journal holds all that the agent was told.
    pub fn sees_durable(&mut self) {
        self.settled.extend(&self.acknowledged);
        self.signalling.durable();
    }

    pub fn sees_release(&mut self, id: WorkerId, journal: &Journal) {
        let durable = journal.rows.get(&id).is_none_or(|row| row.end.is_some());
        self.expect(durable, || format!("the exit status of {id} goes before it is durable"));
    }

    pub fn sees_discard(&mut self, id: WorkerId, ran: bool) {
        let over = self.acknowledged.contains(&id) || !ran;
        self.expect(over, || format!("P4: {id} is forgotten and its end not acknowledged"));
    }

    pub fn sees_delivery(&mut self, request: RequestId) {
        self.undelivered.remove(&request);
    }

    pub fn sees_reply(
        &mut self,
        (request, ask): (RequestId, &Ask),
        reply: &Reply,
        (world, journal): (&Processes, &Journal),
        (config, turn): (&Config, u64),
    ) {
        match (ask, reply) {
            (Ask::Start(start), Reply::Started(Ok(id))) => {
                self.undelivered.insert(request, (*id, turn));
                self.named.entry(*id).or_insert(turn);
                self.expect(journal.rows.contains_key(id), || format!("P2: {id} has no row"));
                let same = world.get(*id).is_some_and(|proc| {
                    let spec = &proc.launch.spec;
                    (&spec.job, spec.slots, spec.generation, &spec.key)
                        == (&start.job, start.slots, start.generation, &start.key)
                });
                self.expect(same, || format!("{id} is not what was asked for: {start:?}"));
                if let Some(key) = &start.key {
                    let first = self.keys.insert(key.clone(), *id).unwrap_or(*id);
                    let forgotten = !journal.rows.contains_key(&first);
                    self.expect(first == *id || forgotten, || format!("{key:?}: {first}, {id}"));
                }
            }
            (Ask::Start(start), Reply::Started(Err(error))) => {
                self.judge_refusal(start.slots.get(), error, config);
            }
            (Ask::Stop { worker, .. }, Reply::Stopped(status)) => {
                let gone = world.get(*worker).is_none_or(Proc::is_gone);
                let honest = match status {
                    StopStatus::Stopped => gone,
                    StopStatus::Failed => {
                        let told = self.ended.get(worker).is_some_and(|(_, told)| *told < turn);
                        self.signals_have_failed && !told
                    }
                    StopStatus::Stopping => self.spawned.contains(worker),
                    StopStatus::NotFound => gone,
                };
                self.expect(honest, || format!("the stop of {worker} is answered {status:?}"));
            }
            (Ask::SetDraining(_), Reply::Draining(Ok(()))) => {
                // A later request of the same batch may have changed it again.
                let durable = journal.draining == self.draining_asked;
                self.expect(durable, || "draining is confirmed and not durable".into());
            }
            (Ask::SetDraining(_), Reply::Draining(Err(_))) => {
                self.expect(self.journal_has_failed, || "draining is refused".into());
            }
            (Ask::Alive(machine), Reply::Alive(result)) => {
                let honest = result.is_ok() == (*machine == config.machine);
                self.expect(honest, || format!("{machine} is answered {result:?}"));
            }
            (Ask::Shutdown(_), Reply::ShuttingDown) => {}
            (ask, reply) => self.broken.push(format!("{ask:?} is answered {reply:?}")),
        }
    }

    fn judge_refusal(&mut self, slots: u64, error: &StartError, config: &Config) {
        let honest = match error {
            StartError::NotEnoughSlots { asked, free, total } => {
                (*asked, *total) == (slots, config.task_slots) && asked > free
            }
            StartError::StaleGeneration { asked, alive, .. } => asked < alive,
            StartError::Superseded { asked, by, .. } => asked < by,
            StartError::SupersededStillAlive { left, .. } => *left > 0,
            StartError::JournalDown(_) => self.journal_has_failed,
            StartError::WrongMachine(wrong) => wrong.asked != wrong.this,
            StartError::Draining
            | StartError::ShuttingDown
            | StartError::Spawn(_)
            | StartError::KeyReused { .. } => true,
        };
        self.expect(honest, || format!("not an honest refusal: {error}"));
    }

    pub fn agent_lost(&mut self) {
        // An acknowledgement that was not durable by now will be asked for again.
        self.acknowledged = self.settled.clone();
        self.announced.clear();
        self.undelivered.clear();
        self.ended.clear();
        self.signalling.agent_lost();
    }
}
