//! The reference model: the simplest statement of what an agent owes its controller, its callers
//! and its workers. It is told the same events as the machine, and says what must come of each.
//!
//! ```text
//!           ┌────────▶ machine ────────────┐ effects
//!  event ───┤                              ▼
//!           └──▶ Reference::hears ──▶ Reference::sees(each) ──▶ Reference::satisfied
//!                what is owed now      owed, or allowed?         is anything still owed?
//! ```
//!
//! Nothing here is as in the machine: there are no timers, indexes, queues or records, only lists
//! that are searched and rules that are applied again after every event. What chance decides is not
//! foretold but bounded: ids are taken from what is seen, jitter and backoff are `Window`s.
//!
//! | promise | where it is stated |
//! |---|---|
//! | P1 slots | `starts.rs`: `room_for`; `free` |
//! | P2 durable before named | [`Reference::commits`]: what is durable is all that a restart finds |
//! | P3 ids | `starts.rs`: `sees_spawn` |
//! | P4 every end is reported | `reports.rs`: `owe_report`, `sees_report`, `idle_report` |
//! | P5 not again | `reports.rs`: `report_answered` |
//! | P7 adoption, P9 causes | [`Reference::hears`] of `Begin`; nothing else than `tell_to_end` leads to a signal |
//! | P8 forced stops | `stops.rs`: `press` |
//! | P9 who is abandoned, P10 heartbeats | `session.rs` |
//! | P12 bad input changes nothing | `starts.rs`: `objection` |
//! | P13 wall clock | it appears in no rule |
//! | P15 room | `starts.rs`: `room_for` |
//!
//! (P6, P11 and P14 are about processes, healing and repetition: see [`crate::world`].)

mod listing;
mod reports;
mod session;
mod starts;
mod stops;

use std::{sync::Arc, time::Duration};

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{
        self, Ask, Config, Effect, End, Event, Exit, JournalDown, Mono, Now, Process, Reply,
        Shutdown, Signal, StartError, Stop, WorkerSpec,
    },
};

use reports::{Pace, Telling};
use session::{Session, Standing};
use starts::{Admitted, Waiting};
use stops::StopCaller;

/// What one agent is, as far as anybody outside can tell.
#[derive(Clone, Debug)]
pub struct Reference {
    config: Config,
    now: Now,
    /// Every worker that is not forgotten.
    workers: Vec<Worker>,
    /// Starts that wait for the workers they supersede.
    waiting: Vec<Waiting>,
    /// Callers of StopWorker who wait.
    stop_callers: Vec<StopCaller>,
    /// Answers to StartWorker that have not left.
    undelivered: Vec<(RequestId, WorkerId)>,
    session: Session,
    pace: Pace,
    draining: bool,
    /// Set while shutting down: since when, and when patience is at an end.
    closing: Option<Mono>,
    closing_since: Mono,
    /// Why the program of workers cannot be executed.
    program: Option<Arc<str>>,
    /// How many workers have ended.
    ends: u64,
    /// What was due before is due then.
    began_at: Mono,
    /// Whether the present event is that a time has come.
    is_timeout: bool,
    over: bool,
    journal: Option<Trouble>,
    /// When the workers are stopped for want of a controller.
    fence_at: Option<Mono>,
    /// What a successor will find: workers, whether it drains, when it was last known.
    durable: (Vec<Worker>, bool, Option<Mono>),
    rebooted: bool,
    owed: Owed,
}

#[derive(Clone, Debug)]
struct Worker {
    id: WorkerId,
    spec: WorkerSpec,
    process: Option<Process>,
    /// Whether this agent knows what has become of it; until then it cannot be signalled.
    found: bool,
    /// Who waits for its start.
    callers: Vec<RequestId>,
    /// While somebody does: until when.
    answer_by: Option<Mono>,
    stop: Option<Stop>,
    abandoned_at: Option<Mono>,
    /// The strongest signal that it has been sent.
    signalled: Option<Signal>,
    /// After a SIGKILL that could not be sent: when it is tried again.
    kill_again_at: Mono,
    end: Option<End>,
    telling: Telling,
}

/// The journal takes no commits.
#[derive(Clone, Debug)]
struct Trouble {
    reason: JournalDown,
    failures: u32,
    /// When all rows are written anew; `None`: that is under way.
    rewrite_at: Option<Mono>,
}

/// What must come of the present event.
#[derive(Clone, Debug, Default)]
struct Owed {
    replies: Vec<(RequestId, Reply)>,
    spawns: Vec<Admitted>,
    signals: Vec<(WorkerId, Signal)>,
    adoptions: Vec<(WorkerId, Option<Process>)>,
    announcements: Vec<machine::Report>,
    discards: Vec<WorkerId>,
    probe: bool,
    register: bool,
    rewrite: bool,
    finish: bool,
}

/// A time that chance picks.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    from: Mono,
    by: Mono,
}

impl Worker {
    fn is_live(&self) -> bool {
        self.end.is_none()
    }
}

impl Reference {
    /// An agent that was never here before.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Now::default(),
            workers: Vec::new(),
            waiting: Vec::new(),
            stop_callers: Vec::new(),
            undelivered: Vec::new(),
            session: Session::default(),
            pace: Pace::default(),
            draining: false,
            closing: None,
            closing_since: Mono::default(),
            program: None,
            ends: 0,
            began_at: Mono::default(),
            is_timeout: false,
            over: false,
            journal: None,
            fence_at: None,
            durable: (Vec::new(), false, None),
            rebooted: false,
            owed: Owed::default(),
        }
    }

    /// The agent that comes after this one: it has what is durable, and nothing else.
    #[must_use]
    pub fn successor(&self, config: Config, rebooted: bool) -> Self {
        let (mut workers, draining, recorded) = self.durable.clone();
        // Times count from the boot.
        let recorded = recorded.filter(|_| !rebooted);
        for worker in &mut workers {
            (worker.found, worker.signalled) = (false, None);
            worker.kill_again_at = Mono::default();
            worker.callers.clear();
            worker.answer_by = None;
        }
        let durable = (self.durable.0.clone(), draining, recorded);
        let ends = workers.iter().filter_map(|worker| worker.end).map(|end| end.sequence).max();
        let session = Session::after(recorded);
        let ends = ends.unwrap_or_default();
        Self { workers, draining, durable, rebooted, ends, session, ..Self::new(config) }
    }

    /// Something happens.
    pub fn hears(&mut self, now: Now, event: &Event) {
        self.now = now;
        self.is_timeout = *event == Event::Timeout;
        if self.over {
            return;
        }
        match event {
            Event::Begin => self.begin(),
            Event::Request { request, ask } => self.asked(*request, ask),
            Event::Delivered(request) => self.delivered(*request),
            Event::Shutdown(how) => self.signalled_to_end(*how),
            Event::Spawned { worker, process } => self.runs(*worker, *process),
            Event::SpawnFailed { worker, error } => {
                self.never_started(*worker, &error.clone().into())
            }
            Event::Adopted { worker, process } => self.runs(*worker, *process),
            Event::Exited { worker, exit } => self.ended(*worker, *exit),
            Event::NeverRan(worker) => self.never_started(*worker, &StartError::NeverRan),
            Event::SignalFailed { worker, .. } => self.signal_failed(*worker),
            Event::ConnectionLost(loss) => self.connection_lost(*loss),
            Event::Registered(result) => self.registered(result),
            Event::HeartbeatAnswered { heartbeat, result } => {
                self.heartbeat_answered(heartbeat, result);
            }
            Event::LateAnswer => self.answered_late(),
            Event::ProgramChecked(result) => self.program = result.clone().err(),
            Event::ReportAnswered { worker, result } => {
                self.report_answered(*worker, result.is_ok())
            }
            Event::JournalFailed(reason) => {
                let failures = self.journal.take().map_or(1, |trouble| trouble.failures + 1);
                let rewrite_at = Some(now.mono + self.backoff(failures));
                let reason = JournalDown { reason: reason.clone() };
                self.journal = Some(Trouble { reason, failures, rewrite_at });
            }
            Event::JournalRestored => self.journal = None,
            Event::NotDurable(effect) => self.not_durable(effect),
            Event::Timeout => self.time_has_come(),
        }
        self.settle();
    }

    /// A commit succeeded or failed. `rewrite`: it replaced all rows.
    ///
    /// # Errors
    /// All rows were to be replaced now and were not, or the other way round.
    pub fn commits(&mut self, succeeded: bool, rewrite: bool) -> Result<(), String> {
        if std::mem::take(&mut self.owed.rewrite) != rewrite {
            return Err(format!("a commit that rewrites: {rewrite}"));
        }
        if succeeded && (self.journal.is_none() || rewrite) {
            self.durable = (self.workers.clone(), self.draining, self.session.recorded);
        }
        Ok(())
    }

    /// The agent does something.
    ///
    /// # Errors
    /// It should not.
    pub fn sees(&mut self, effect: &Effect) -> Result<(), String> {
        let owed = &mut self.owed;
        let was_owed = match effect {
            Effect::Reply { request, reply } => {
                take(&mut owed.replies, |owed| owed == &(*request, reply.clone()))
            }
            Effect::Spawn(launch) => return self.sees_spawn(launch),
            Effect::Adopt { worker, process } => {
                take(&mut owed.adoptions, |owed| owed == &(*worker, *process))
            }
            Effect::Signal { worker, signal } => {
                take(&mut owed.signals, |owed| owed == &(*worker, *signal))
            }
            Effect::Announce(report) => take(&mut owed.announcements, |owed| owed == report),
            Effect::Report(report) => return self.sees_report(report),
            Effect::Register(registration) => return self.sees_registration(registration),
            Effect::Heartbeat(heartbeat) => return self.sees_heartbeat(heartbeat),
            Effect::Discard(worker) => return self.sees_discard(*worker),
            // Whose exit statuses are kept is between the agent and its processes.
            Effect::Release(_) => true,
            Effect::Finish => std::mem::take(&mut owed.finish),
        };
        if was_owed { Ok(()) } else { Err(format!("{effect:?} is not owed, but: {owed:?}")) }
    }

    /// After an event and all that came of it.
    ///
    /// # Errors
    /// Something more should have come of it.
    pub fn satisfied(&self, event: &Event) -> Result<(), String> {
        let Owed { replies, spawns, signals, adoptions, announcements, discards, .. } = &self.owed;
        let left = replies.len() + spawns.len() + signals.len() + adoptions.len();
        let left = left + announcements.len() + discards.len();
        if left > 0 || self.owed.probe || self.owed.register || self.owed.finish {
            return Err(format!("of {event:?} more was owed: {:?}", self.owed));
        }
        if let Some(idle) = self.idle_report() {
            return Err(format!("the report of {idle} could be on its way"));
        }
        match event {
            Event::Timeout => self.overdue(Mono(self.now.mono.0.saturating_add(1))),
            _ => Ok(()),
        }
    }

    /// Time has passed, and the agent was not woken: does it sleep too long?
    ///
    /// # Errors
    /// Something was due before `now`.
    pub fn overdue(&self, now: Mono) -> Result<(), String> {
        let due = self.deadlines().into_iter().filter(|(at, _)| *at < now).min();
        match due.filter(|_| !self.over) {
            None => Ok(()),
            Some((at, what)) => Err(format!("{what} was due at {at:?}")),
        }
    }

    fn deadlines(&self) -> Vec<(Mono, &'static str)> {
        let mut all = Vec::new();
        all.extend(self.stop_callers.iter().map(|caller| (caller.until, "an answer to a stop")));
        all.extend(self.waiting.iter().map(|start| (start.until, "an answer to a start")));
        let launching = self.workers.iter().filter_map(|worker| worker.answer_by);
        all.extend(launching.map(|at| (at, "an answer to a start")));
        all.extend(
            self.workers.iter().filter_map(Worker::kill_due).map(|at| (at, "P8: a SIGKILL")),
        );
        all.extend(self.reports_due().map(|at| (at, "P4: a report")));
        all.extend(self.forgetting_due().map(|at| (at, "forgetting a worker")));
        all.extend(match self.session.standing {
            Standing::Apart(window) => Some((window.by, "P10: a heartbeat to come back")),
            Standing::Clearing(until) => Some((until, "P10: a registration")),
            Standing::Probing | Standing::Asking(_) => None,
            Standing::Known | Standing::Withheld => {
                self.session.beat.map(|beat| (beat.by, "P10: a heartbeat"))
            }
        });
        let abandoned = self.workers.iter().filter_map(|worker| self.abandoned_until(worker));
        let abandoned = abandoned.map(|at| at.max(self.began_at));
        all.extend(abandoned.map(|at| (at, "P15: the stop of an abandoned worker")));
        all.extend(self.fence_at.map(|at| (at, "fencing")));
        all.extend(self.closing.map(|at| (at, "the end of the agent")));
        let rewrite = self.journal.as_ref().and_then(|trouble| trouble.rewrite_at);
        all.extend(rewrite.map(|at| (at, "writing the journal anew")));
        all
    }

    fn begin(&mut self) {
        self.began_at = self.now.mono;
        self.fence_at = self.config.fence_after.map(|after| self.now.mono + after);
        self.owed.probe = true;
        // Those that ended with the computer did so together.
        self.workers.sort_by_key(|worker| worker.id);
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            match (worker.is_live(), worker.telling.is_acknowledged()) {
                (false, true) => self.remember(index),
                (false, false) => self.owe_report(index),
                (true, _) if self.rebooted => self.ended(worker.id, Exit::Lost),
                (true, _) => self.owed.adoptions.push((worker.id, worker.process)),
            }
        }
    }

    fn asked(&mut self, request: RequestId, ask: &Ask) {
        match ask {
            Ask::Start(start) => self.asked_to_start(request, start),
            Ask::Stop { worker, how } => self.asked_to_stop(request, *worker, *how),
            Ask::Alive(asked) => {
                let reply = Reply::Alive(self.is_meant(asked));
                self.owed.replies.push((request, reply));
            }
            Ask::SetDraining(draining) => {
                self.draining = *draining;
                if *draining {
                    self.refuse_waiting(|_, _| Some(StartError::Draining));
                }
                let down = self.journal.as_ref().map(|trouble| trouble.reason.clone());
                self.owed.replies.push((request, Reply::Draining(down.map_or(Ok(()), Err))));
            }
            Ask::Shutdown(how) => {
                self.owed.replies.push((request, Reply::ShuttingDown));
                if self.closing.is_none() || *how == Shutdown::Detach {
                    self.shut_down(*how);
                }
            }
        }
    }

    /// Who is told to end twice within a second is told once; later it is to be quick.
    fn signalled_to_end(&mut self, how: Shutdown) {
        let now = self.now.mono;
        match self.closing {
            Some(until) if how == Shutdown::StopWorkers => {
                if now.since(self.closing_since) >= Duration::from_secs(1) {
                    self.closing = Some(until.min(now + self.config.shutdown_patience));
                    self.tell_all_to_end(now);
                }
            }
            _ => self.shut_down(how),
        }
    }

    fn shut_down(&mut self, how: Shutdown) {
        match how {
            Shutdown::Detach => self.finish(),
            Shutdown::StopWorkers => {
                self.closing_since = self.now.mono;
                self.refuse_waiting(|_, _| Some(StartError::ShuttingDown));
                let kill_at = self.now.mono + self.config.shutdown_kill_after;
                self.closing = Some(kill_at + self.config.shutdown_patience);
                self.tell_all_to_end(kill_at);
            }
        }
    }

    fn finish(&mut self) {
        self.owed.finish = true;
        self.over = true;
    }

    /// Nothing of this happened: the commit that it rests on failed.
    fn not_durable(&mut self, effect: &Effect) {
        let Some(down) = self.journal.as_ref().map(|trouble| trouble.reason.clone()) else {
            return;
        };
        match effect {
            Effect::Spawn(launch) => self.never_started(launch.worker, &down.into()),
            Effect::Reply { request, .. } => {
                self.owed.replies.push((*request, Reply::Draining(Err(down))));
            }
            Effect::Register(_) if matches!(self.session.standing, Standing::Asking(_)) => {
                self.owed.register = false;
                self.introduce();
            }
            _ => {}
        }
    }

    /// Whatever is due at a set time.
    fn time_has_come(&mut self) {
        let now = self.now.mono;
        self.answer_late_stops();
        self.abandon_late_starts();
        self.abandon_late_spawns();
        self.stop_abandoned();
        if self.fence_at.is_some_and(|at| at <= now) {
            self.fence_at = self.config.fence_after.map(|after| now + after);
            self.tell_all_to_end(now + self.config.kill_after);
        }
        if let Some(trouble) = &mut self.journal
            && trouble.rewrite_at.is_some_and(|at| at <= now)
        {
            trouble.rewrite_at = None;
            self.owed.rewrite = true;
            self.session.record();
        }
        if self.closing.is_some_and(|at| at <= now) {
            self.finish();
        }
    }

    /// What follows from how things are, whatever led to it.
    fn settle(&mut self) {
        self.bound_waits_for_spawns();
        self.kill_what_is_due();
        self.answer_settled_stops();
        self.admit_waiting();
        self.introduce_when_possible();
        if let Some(until) = self.closing
            && !self.workers.iter().any(Worker::is_live)
        {
            self.closing = Some(until.min(self.now.mono + self.config.shutdown_patience));
            if self.reports_owed() == 0 && !self.over {
                self.finish();
            }
        }
    }

    fn position(&self, id: WorkerId) -> Option<usize> {
        self.workers.iter().position(|worker| worker.id == id)
    }

    /// The longest wait after so many failures in a row: quadrupling, bounded.
    fn backoff(&self, failures: u32) -> Duration {
        let bounds = self.config.backoff;
        (1..failures.min(40))
            .fold(bounds.first, |wait, _| (wait * 4).min(bounds.most))
            .min(bounds.most)
    }
}

/// Takes out the first that fits; says whether there was one.
fn take<T>(list: &mut Vec<T>, fits: impl FnMut(&T) -> bool) -> bool {
    list.iter().position(fits).map(|index| list.remove(index)).is_some()
}
