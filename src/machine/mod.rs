//! The node state machine: every decision an agent makes, and nothing else.
//!
//! ```text
//!               ┌─────────────────────────────┐
//!  Event ─────▶ │ Machine::handle(now, event) │ ─────▶ Effects { commit, effects }
//!               └─────────────────────────────┘
//!                 next_timeout()      view()
//! ```
//!
//! The machine is pure. Its inputs are the time of each event (a monotonic and a wall reading), a
//! seed, what was recovered, and the events; the same inputs give the same outputs, byte for byte.
//! It reads no clock, does no IO and starts no task.
//!
//! Whoever drives it keeps these rules ([`crate::runtime`] does, and so do the simulators):
//!
//! 1. [`Event::Begin`] comes first, once the agent can be reached, and is a batch of its own.
//! 2. One mutation, then drain: after one or more calls of [`Machine::handle`] with the same
//!    [`Effects`], the [`Commit`] is made durable, and only then are the effects executed, in order.
//!    No effect is visible outside before what it rests on is durable.
//! 3. If the commit fails, [`Event::JournalFailed`] is handed in, then every effect that
//!    [awaits the commit](Effect::awaits_commit) as [`Event::NotDurable`]; the others are executed.
//!    A commit that has not ended in time has failed. It may become durable all the same, but only
//!    before the next commit, which is a rewriting one.
//!    After a [rewriting](Commit::rewrite) commit that succeeds: [`Event::JournalRestored`].
//! 4. When the time of [`Machine::next_timeout`] has come: [`Event::Timeout`].
//! 5. After [`Effect::Finish`] nothing is handed in any more.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod abandoned;
mod config;
mod dice;
mod drain;
mod durability;
mod effect;
mod event;
mod exit;
pub mod invariants;
mod outbox;
mod record;
mod recovery;
mod retention;
mod room;
mod roster;
mod session;
mod shutdown;
mod slots;
mod start;
mod step;
mod stop;
mod supersede;
#[cfg(test)]
mod tests;
mod time;
mod timers;
mod view;
mod worker;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub use config::{AbandonedPolicy, Backoff, Config, SHORTEST_FENCE};
pub use dice::Seed;
pub use effect::{Effect, Effects, Heartbeat, Launch, Registration, Report, Signal};
pub use event::{
    Ask, CallError, Event, JournalDown, Loss, Reply, Shutdown, SpawnError, Start, StartError,
    StopHow, StopStatus, WrongMachine,
};
pub use record::{Commit, Record, Recovered};
pub use time::{Mono, Now, Wall};
pub use timers::Timer;
pub use view::{Mode, View};
pub use worker::{Dialect, End, Exit, Phase, Process, StartKey, Stop, Worker, WorkerSpec};
pub use workers::Workers;

use crate::ids::{RequestId, WorkerId};

/// One agent's state.
#[derive(Clone, Debug)]
pub struct Machine {
    config: Config,
    started_at: Wall,
    dice: Dice,
    timers: Timers,
    journal: JournalHealth,
    session: Session,
    begun: bool,
    draining: bool,
    /// When the agent was told to end, if it was.
    shutdown_began: Option<Mono>,
    finished: bool,
    /// Why the worker program cannot be executed, if so.
    program_error: Option<Arc<str>>,

    roster: Roster,
    /// Workers whose program does not run yet, with the callers who wait for it.
    launching: BTreeMap<WorkerId, Vec<RequestId>>,
    /// Starts that wait for the workers that they end, in order of arrival.
    waiting: Vec<WaitingStart>,
    /// Answers to StartWorker that have not left yet: reports of these workers are held back.
    undelivered: BTreeMap<RequestId, WorkerId>,
    /// Callers of StopWorker who wait for the end and its acknowledgement.
    stop_callers: BTreeSet<(WorkerId, RequestId)>,
    /// The strongest signal that each worker which is being stopped has been sent.
    signalled: BTreeMap<WorkerId, Signal>,
    /// Recovered workers of which nothing is known yet.
    adopting: BTreeSet<WorkerId>,
    /// Recovered workers that a reboot ended.
    lost: BTreeSet<WorkerId>,
    /// Recovered workers that the journal does not hold.
    unwritten: BTreeSet<WorkerId>,
    outbox: Outbox,
    /// How many ends there have been on this node: the sequence of the last one.
    ends: u64,
    /// Reported workers and when they are forgotten, oldest first.
    retired: VecDeque<(Mono, WorkerId)>,
    /// Workers that were alive when this machine began: they may hold more slots than there are.
    inherited: BTreeSet<WorkerId>,
}

use dice::Dice;
use durability::JournalHealth;
use outbox::Outbox;
use room::WaitingStart;
use roster::Roster;
use session::Session;
use step::Step;
use timers::Timers;

impl Machine {
    /// A machine in the state that `recovered` describes. [`Event::Begin`] sets it going.
    pub fn new(config: Config, seed: Seed, recovered: Recovered, now: Now) -> Self {
        let mut roster = Roster::default();
        let ends = recovered.workers.iter().filter_map(|worker| worker.end);
        let ends = ends.map(|end| end.sequence).max().unwrap_or_default();
        for worker in recovered.workers {
            roster.insert(Arc::new(worker));
        }
        Self {
            config,
            started_at: now.wall,
            dice: Dice::new(seed),
            timers: Timers::default(),
            journal: JournalHealth::default(),
            session: Session::new(recovered.known_at),
            begun: false,
            draining: recovered.draining,
            shutdown_began: None,
            finished: false,
            program_error: None,
            inherited: roster.live().map(|worker| worker.id).collect(),
            roster,
            launching: BTreeMap::new(),
            waiting: Vec::new(),
            undelivered: BTreeMap::new(),
            stop_callers: BTreeSet::new(),
            signalled: BTreeMap::new(),
            adopting: BTreeSet::new(),
            lost: recovered.lost,
            unwritten: recovered.unwritten,
            outbox: Outbox::default(),
            ends,
            retired: VecDeque::new(),
        }
    }

    /// Takes in one event; adds what is to be done about it to `effects`.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        self.dispatch(event, &mut Step { now, out: effects });
        debug_assert_eq!(invariants::check(self), Ok(()));
    }

    /// When [`Event::Timeout`] is due, and what for.
    pub fn next_timeout(&self) -> Option<(Mono, Timer)> {
        self.timers.next()
    }

    fn dispatch(&mut self, event: Event, step: &mut Step) {
        if self.finished && event != Event::JournalRestored {
            // What else was ready in the last batch is the next agent's business; but that does not
            // know whose ends were forgotten while the journal was down, and are to be released.
            return;
        }
        match event {
            Event::Begin => self.handle_begin(step),
            Event::Request { request, ask } => self.handle_request(request, ask, step),
            Event::Delivered(request) => self.handle_delivered(request, step),
            Event::Shutdown(how) => self.handle_shutdown(how, step),
            Event::Spawned { worker, process } => self.handle_spawned(worker, process, step),
            Event::SpawnFailed { worker, error } => self.handle_spawn_failed(worker, error, step),
            Event::Adopted { worker, process } => self.handle_adopted(worker, process, step),
            Event::Exited { worker, exit } => self.handle_exited(worker, exit, step),
            Event::NeverRan(worker) => self.handle_never_ran(worker, step),
            Event::SignalFailed { worker, .. } => self.handle_signal_failed(worker, step),
            Event::ConnectionLost(loss) => self.handle_connection_lost(loss),
            Event::Registered(result) => self.handle_registered(result, step),
            Event::HeartbeatAnswered { heartbeat, result } => {
                self.handle_heartbeat_answered(heartbeat, result, step);
            }
            Event::LateAnswer => self.handle_late_answer(step),
            Event::ReportAnswered { worker, result } => {
                self.handle_report_answered(worker, result, step);
            }
            Event::ProgramChecked(result) => {
                self.program_error = result.err();
                self.register_when_possible(step);
            }
            Event::JournalFailed(error) => self.handle_journal_failed(error, step),
            Event::JournalRestored => self.handle_journal_restored(step),
            Event::NotDurable(effect) => self.handle_not_durable(*effect, step),
            Event::Timeout => self.handle_timeout(step),
        }
    }

    fn handle_request(&mut self, request: RequestId, ask: Ask, step: &mut Step) {
        match ask {
            Ask::Start(start) => self.handle_start(request, start, step),
            Ask::Stop { worker, how } => self.handle_stop(request, worker, how, step),
            Ask::Alive(machine) => {
                let reply = Reply::Alive(self.check_machine(&machine));
                step.reply(request, reply);
            }
            Ask::SetDraining(draining) => self.handle_set_draining(request, draining, step),
            Ask::Shutdown(how) => self.ask_shutdown(request, how, step),
        }
    }

    fn handle_timeout(&mut self, step: &mut Step) {
        while let Some(timer) = self.timers.expire(step.now.mono) {
            match timer {
                Timer::Kill(worker) => self.resume_stop(worker, step),
                Timer::AnswerStop(worker, request) => self.answer_stop_late(worker, request, step),
                Timer::AbandonStart(request) => self.abandon_start(request, step),
                Timer::AbandonSpawn(worker) => self.abandon_spawn(worker, step),
                Timer::Probe => self.probe(step),
                Timer::Register => self.introduce(step),
                Timer::StopAbandoned(worker) => self.stop_abandoned(worker, step),
                Timer::Heartbeat => self.send_heartbeat(step),
                Timer::Report => self.send_reports(step),
                Timer::Fence => self.fence(step),
                Timer::Forget => self.forget_expired(step),
                Timer::Rewrite => self.rewrite_journal(step),
                Timer::GiveUp => self.finish(step),
            }
        }
    }

    /// A snapshot for readers.
    pub fn view(&self) -> View {
        View {
            machine: self.config.machine.clone(),
            task_slots: self.config.task_slots,
            free_slots: self.free_slots(),
            mode: match (self.is_shutting_down(), self.draining) {
                (true, _) => Mode::ShuttingDown,
                (false, true) => Mode::Draining,
                (false, false) => Mode::Serving,
            },
            registered: self.session.is_registered(),
            last_contact: self.session.last_contact(),
            workers: self.roster.workers(),
            live_workers: self.roster.live_count(),
            abandoned_workers: self.roster.abandoned().len(),
            reports_owed: self.outbox.len(),
            journal_error: self.journal.error().cloned(),
            program_error: self.program_error.clone(),
            started_at: self.started_at,
        }
    }
}
