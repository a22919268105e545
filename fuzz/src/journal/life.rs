//! The whole life of an agent that begins with what was recovered: it looks after its workers,
//! reports what is owed to a controller that takes everything, and shuts down.

use std::collections::VecDeque;

use arroyo_node::{
    ids::MachineId,
    machine::{
        CallError, Commit, Config, Effect, Effects, Event, Exit, Machine, Mono, Now, Process,
        Record, Recovered, Shutdown, Signal, Wall, Worker,
    },
    runtime::journal::{BlockingJournal as _, SqliteJournal},
};

/// What an agent held when it ended.
pub(super) struct Left {
    /// By id.
    pub(super) workers: Vec<Worker>,
    pub(super) draining: bool,
    pub(super) known_at: Option<Mono>,
}

/// Runs the machine to its end. `fates` decides what becomes of the workers. `None`: the journal
/// took no commits at the end.
pub(super) fn live(recovered: Recovered, journal: &mut SqliteJournal, fates: u64) -> Option<Left> {
    let now = Now { mono: Mono(3_600_000_000_000), wall: Wall(1_750_000_000_000_000) };
    let config = Config::new(MachineId::new("node"));
    let (draining, known_at) = (recovered.draining, recovered.known_at);
    let most = 100 + 10 * recovered.workers.len();
    let machine = Machine::new(config, [7; 32], recovered, now);
    let mut agent = Agent { machine, journal, now, fates, known_at, finished: false };
    agent.handle(Event::Begin);
    agent.handle(Event::Shutdown(Shutdown::StopWorkers));
    for _ in 0..most {
        let Some((deadline, _)) = agent.machine.next_timeout().filter(|_| !agent.finished) else {
            break;
        };
        agent.now.mono = agent.now.mono.max(deadline);
        agent.handle(Event::Timeout);
    }
    assert!(agent.finished, "a shutdown has an end: {:?}", agent.machine);
    let view = agent.machine.view();
    let workers = view.workers.iter().map(|worker| Worker::clone(worker)).collect();
    let known_at = agent.known_at;
    view.journal_error.is_none().then_some(Left { workers, draining, known_at })
}

struct Agent<'a> {
    machine: Machine,
    journal: &'a mut SqliteJournal,
    now: Now,
    fates: u64,
    /// What the journal has of the time at which the controller last knew this node.
    known_at: Option<Mono>,
    finished: bool,
}

impl Agent<'_> {
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut batch = Effects::default();
            self.machine.handle(self.now, event, &mut batch);
            while !batch.is_empty() {
                batch = self.settle(batch, &mut events);
            }
        }
    }

    /// As the driver does it: commit, then execute.
    fn settle(&mut self, batch: Effects, events: &mut VecDeque<Event>) -> Effects {
        let mut next = Effects::default();
        let committed = self.journal.commit(&batch.commit);
        if let Err(error) = &committed {
            let failed = Event::JournalFailed(error.0.as_str().into());
            self.machine.handle(self.now, failed, &mut next);
        } else {
            self.committed(&batch.commit);
            if batch.commit.rewrite {
                self.machine.handle(self.now, Event::JournalRestored, &mut next);
            }
        }
        for effect in batch.effects {
            if committed.is_err() && effect.awaits_commit() {
                self.machine.handle(self.now, Event::NotDurable(Box::new(effect)), &mut next);
            } else {
                events.extend(self.execute(effect));
            }
        }
        next
    }

    fn committed(&mut self, commit: &Commit) {
        if commit.rewrite {
            self.known_at = None;
        }
        for record in &commit.records {
            if let Record::KnownAt(at) = record {
                self.known_at = Some(*at);
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Adopt { worker, process } => {
                let process = process.unwrap_or(Process { pid: 4_711, start_time: 1 });
                Some(match self.fate() {
                    0 => Event::Exited { worker, exit: Exit::Unknown },
                    1 => Event::NeverRan(worker),
                    _ => Event::Adopted { worker, process },
                })
            }
            Effect::Signal { worker, signal } => {
                let ignored = signal == Signal::Terminate && self.fate() == 0;
                (!ignored).then_some(Event::Exited { worker, exit: Exit::Signal(9) })
            }
            Effect::Register(_) => Some(Event::Registered(Ok(()))),
            Effect::Heartbeat(heartbeat) => {
                let known = if self.fate() == 0 { Err(CallError::NotFound) } else { Ok(()) };
                Some(Event::HeartbeatAnswered { heartbeat, result: known })
            }
            Effect::Report(report) => {
                Some(Event::ReportAnswered { worker: report.worker, result: Ok(()) })
            }
            Effect::Finish => {
                self.finished = true;
                None
            }
            Effect::Reply { .. }
            | Effect::Spawn(_)
            | Effect::Release(_)
            | Effect::Discard(_)
            | Effect::Announce(_) => None,
        }
    }

    fn fate(&mut self) -> u64 {
        let fate = self.fates & 3;
        self.fates = self.fates.rotate_right(2);
        fate
    }
}
