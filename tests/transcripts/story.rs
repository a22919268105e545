//! One agent, driven as the driver drives it, by the lines of a story.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    time::Duration,
};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, PipelineId, RequestId, WorkerId},
    machine::{
        Ask, CallError, Config, Dialect, Effect, Effects, Event, Heartbeat, Machine, Mono, Now,
        Process, Recovered, Shutdown, SpawnError, Start, StartKey, Stop, StopHow, Wall,
    },
    runtime::journal::{BlockingJournal as _, MemoryJournal},
};
use goldenscript::Context;

use crate::{command::Command, lines::Lines};

pub(crate) const MACHINE: &str = "node-1";

/// Noon, on the 15th of June 2025.
pub(crate) const NOON: Wall = Wall(1_749_988_800_000_000);

/// How long the machine (the computer) has been up when the story begins, or is rebooted.
const UPTIME: Duration = Duration::from_secs(60);

type Outcome = Result<(), Box<dyn Error>>;

#[derive(Default)]
pub(crate) struct Story {
    machine: Option<Machine>,
    config: Option<Config>,
    journal: MemoryJournal,
    disk_is_full: bool,
    now: Now,
    /// When in the story the machine (the computer) was last started.
    booted: Duration,
    agents: u8,
    callers: u64,
    /// Callers whose answers do not leave at once.
    slow: BTreeSet<RequestId>,
    /// The last heartbeat that was sent: the one that is answered.
    heartbeat: Option<Heartbeat>,
    lines: Lines,
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        if context.tags.contains("slow") {
            self.slow.insert(RequestId(self.callers + 1));
        }
        self.happen(command)?;
        Ok(self.lines.take())
    }
}

impl Story {
    fn happen(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Agent { .. } => self.first_agent(command),
            Command::After(time) => self.pass(**time),
            Command::Paused(time) => {
                self.pass_to(self.now.mono + **time);
                self.pass(Duration::ZERO)
            }
            Command::ClockJumps(by) => {
                self.now.wall.0 += u64::try_from(by.as_micros())?;
                Ok(())
            }
            Command::Start { .. } => self.start(command),
            Command::Delivered(caller) => self.give(Event::Delivered(self.lines.caller(caller)?)),
            Command::Stop(worker, how) => self.stop(worker, how.as_deref()),
            Command::Drain => self.ask(Ask::SetDraining(true)),
            Command::Undrain => self.ask(Ask::SetDraining(false)),
            Command::Shutdown => self.ask(Ask::Shutdown(Shutdown::StopWorkers)),
            Command::Detach => self.ask(Ask::Shutdown(Shutdown::Detach)),
            Command::Sigterm => self.give(Event::Shutdown(Shutdown::StopWorkers)),
            Command::ConnectionIs(lost) => self.give(Event::ConnectionLost(lost.0)),
            Command::Registers(answer) => self.give(Event::Registered(answer.0.clone())),
            Command::HeartbeatIs(answer) => self.answer_heartbeat(answer.0.clone()),
            Command::HeartbeatIsLate => self.give(Event::LateAnswer),
            Command::ProgramIs(check) => self.give(Event::ProgramChecked(check.0.clone())),
            Command::DiskIsFull => {
                self.disk_is_full = true;
                Ok(())
            }
            Command::DiskHasRoom => {
                self.disk_is_full = false;
                Ok(())
            }
            Command::Crash => self.next_agent(self.journal.recovered()),
            Command::Reboot => self.reboot(),
            Command::View => self.view(),
            Command::Runs(_)
            | Command::CannotRun(_)
            | Command::Ends(..)
            | Command::Adopted(_)
            | Command::NeverRan(_)
            | Command::SignalFails(_)
            | Command::ReportIs(..) => self.of_a_worker(command),
        }
    }

    fn of_a_worker(&mut self, command: &Command) -> Outcome {
        let named = |name: &str| self.lines.worker(name);
        // In the order of their numbers.
        let start_time = |id| u64::from(self.lines.pid(id));
        let process = |id| Process { pid: self.lines.pid(id), start_time: start_time(id) };
        let event = match command {
            Command::Runs(name) => {
                let worker = named(name)?;
                Event::Spawned { worker, process: process(worker) }
            }
            Command::CannotRun(name) => {
                let error = SpawnError {
                    program: "/usr/bin/arroyo".into(),
                    reason: "No such file or directory".into(),
                };
                Event::SpawnFailed { worker: named(name)?, error }
            }
            Command::Ends(name, end) => Event::Exited { worker: named(name)?, exit: end.0 },
            Command::Adopted(name) => {
                let worker = named(name)?;
                Event::Adopted { worker, process: process(worker) }
            }
            Command::NeverRan(name) => Event::NeverRan(named(name)?),
            Command::SignalFails(name) => {
                let error = "Operation not permitted".into();
                Event::SignalFailed { worker: named(name)?, error }
            }
            Command::ReportIs(name, answer) => {
                Event::ReportAnswered { worker: named(name)?, result: answer.0.clone() }
            }
            _ => return Err("this is not about a worker".into()),
        };
        self.give(event)
    }

    fn first_agent(&mut self, command: &Command) -> Outcome {
        let Command::Agent { slots, kill_after, heartbeat_every, fence_after, abandoned } = command
        else {
            return Err("this is no agent".into());
        };
        let mut config = Config::new(MachineId::new(MACHINE));
        config.address = "10.0.0.7:5118".into();
        config.task_slots = slots.unwrap_or(config.task_slots);
        config.kill_after = kill_after.map_or(config.kill_after, Into::into);
        config.heartbeat_every = heartbeat_every.map_or(config.heartbeat_every, Into::into);
        config.fence_after = fence_after.map(Into::into);
        config.abandoned = abandoned.as_ref().map_or(config.abandoned, |policy| policy.0);
        self.config = Some(config);
        self.now = Now { mono: Mono(0) + UPTIME, wall: NOON };
        self.next_agent(Recovered::default())
    }

    /// The agent that comes after this one was killed: it has what was committed, and nothing else.
    fn next_agent(&mut self, recovered: Recovered) -> Outcome {
        let config = self.config.clone().ok_or("a story begins with its agent")?;
        self.agents += 1;
        self.machine = Some(Machine::new(config, [self.agents; 32], recovered, self.now));
        self.give(Event::Begin)
    }

    fn reboot(&mut self) -> Outcome {
        self.booted = self.elapsed();
        self.now.mono = Mono(0) + UPTIME;
        let mut recovered = self.journal.recovered();
        let live = recovered.workers.iter_mut().filter(|worker| worker.is_live());
        for worker in live {
            recovered.lost.insert(worker.id);
            // As every reader of the journal: the clock that it refers to began anew.
            worker.stop = worker.stop.map(|_| Stop { kill_at: None });
            worker.abandoned_at = None;
        }
        recovered.known_at = None;
        self.next_agent(recovered)
    }

    fn pass(&mut self, time: Duration) -> Outcome {
        let until = self.now.mono + time;
        while let Some((at, _)) = self.machine()?.next_timeout().filter(|(at, _)| *at <= until) {
            self.pass_to(at.max(self.now.mono));
            self.give(Event::Timeout)?;
        }
        self.pass_to(until);
        Ok(())
    }

    fn pass_to(&mut self, mono: Mono) {
        // Not the difference: that would lose the nanoseconds of each step.
        self.now.wall.0 += mono.0 / 1_000 - self.now.mono.0 / 1_000;
        self.now.mono = mono;
    }

    fn start(&mut self, command: &Command) -> Outcome {
        let Command::Start { job, slots, generation, pipeline, key, machine } = command else {
            return Err("this is no start".into());
        };
        self.ask(Ask::Start(Start {
            machine: MachineId::new(machine.as_deref().unwrap_or(MACHINE)),
            name: job.clone(),
            job: JobId::new(job),
            pipeline: pipeline.as_ref().map(PipelineId::new),
            generation: Generation(generation.unwrap_or(1)),
            slots: (*slots).try_into()?,
            dialect: if pipeline.is_some() { Dialect::V0_16 } else { Dialect::V0_15 },
            env: BTreeMap::new(),
            key: key.as_deref().map(|key| StartKey(key.into())),
        }))
    }

    fn stop(&mut self, worker: &str, how: Option<&str>) -> Outcome {
        let how = match how {
            None => StopHow::Gentle,
            Some("force") => StopHow::Force,
            Some("ask") => StopHow::Ask,
            Some(other) => return Err(format!("a stop is not {other:?}").into()),
        };
        // A worker that no agent here has ever known can be asked for, too.
        let worker = self.lines.worker(worker).unwrap_or(WorkerId(1));
        self.ask(Ask::Stop { worker, how })
    }

    fn answer_heartbeat(&mut self, result: Result<(), CallError>) -> Outcome {
        let heartbeat = self.heartbeat.ok_or("no heartbeat has been sent yet")?;
        self.give(Event::HeartbeatAnswered { heartbeat, result })
    }

    fn ask(&mut self, ask: Ask) -> Outcome {
        self.callers += 1;
        if let Ask::Stop { how, .. } = ask {
            self.lines.stop_asked(RequestId(self.callers), how);
        }
        self.give(Event::Request { request: RequestId(self.callers), ask })
    }

    fn give(&mut self, event: Event) -> Outcome {
        let mut batch = Effects::default();
        let now = self.now;
        self.machine()?.handle(now, event, &mut batch);
        while !batch.is_empty() {
            batch = self.settle(batch)?;
        }
        Ok(())
    }

    /// Commits, then executes: what the machine's contract asks of a driver.
    fn settle(&mut self, batch: Effects) -> Result<Effects, Box<dyn Error>> {
        let (now, mut next) = (self.now, Effects::default());
        self.lines.at(self.elapsed(), now.mono);
        let failed = self.disk_is_full && !batch.commit.is_empty();
        self.lines.commit(&batch.commit, failed);
        if failed {
            let reason = "database or disk is full".into();
            self.machine()?.handle(now, Event::JournalFailed(reason), &mut next);
        } else {
            self.journal.commit(&batch.commit)?;
            if batch.commit.rewrite {
                self.machine()?.handle(now, Event::JournalRestored, &mut next);
            }
        }
        for effect in batch.effects {
            if failed && effect.awaits_commit() {
                self.machine()?.handle(now, Event::NotDurable(Box::new(effect)), &mut next);
                continue;
            }
            self.execute(&effect, &mut next)?;
        }
        Ok(next)
    }

    fn execute(&mut self, effect: &Effect, next: &mut Effects) -> Result<(), Box<dyn Error>> {
        self.lines.effect(effect);
        if let Effect::Heartbeat(heartbeat) = effect {
            self.heartbeat = Some(*heartbeat);
        }
        if let Effect::Reply { request, .. } = effect
            && !self.slow.contains(request)
        {
            let now = self.now;
            self.machine()?.handle(now, Event::Delivered(*request), next);
        }
        Ok(())
    }

    fn view(&mut self) -> Outcome {
        self.lines.at(self.elapsed(), self.now.mono);
        let view = self.machine()?.view();
        let contact = if view.registered { "registered" } else { "not registered" };
        let (free, most, owed) = (view.free_slots, view.task_slots, view.reports_owed);
        let mut text =
            format!("{:?}, {contact}: {free} of {most} slots free, {owed} owed", view.mode);
        if view.abandoned_workers > 0 {
            write!(text, ", {} abandoned", view.abandoned_workers)?;
        }
        if let Some(error) = &view.journal_error {
            write!(text, "; journal down: {error}")?;
        }
        if let Some(error) = &view.program_error {
            write!(text, "; no program: {error}")?;
        }
        self.lines.remark(&text);
        for worker in view.workers.iter() {
            self.lines.seen(worker);
        }
        Ok(())
    }

    /// Since the story began.
    fn elapsed(&self) -> Duration {
        self.booted + self.now.mono.since(Mono(0) + UPTIME)
    }

    fn machine(&mut self) -> Result<&mut Machine, &'static str> {
        self.machine.as_mut().ok_or("a story begins with its agent")
    }
}
