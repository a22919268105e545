//! The end of the agent: with its workers, or without them.
//!
//! ```text
//!  StopWorkers ─▶ SIGTERM all ─▶ (deadline: SIGKILL) ─▶ all ended ─▶ all reported ─▶ Finish
//!                       │              ▲                                               ▲
//!                       │              └─ told again, a second later or more           │
//!                       └────── patience is at an end: what is owed stays owed ────────┤
//!  Detach ─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Being told twice within a second is one wish: `timeout`, for one, sends its signal twice.

use std::time::Duration;

use super::{
    Machine,
    effect::Effect,
    event::{Reply, Shutdown, StartError},
    step::Step,
    time::Mono,
    timers::Timer,
};
use crate::ids::{RequestId, WorkerId};

/// How long being told to end again is taken for the same wish.
const SAME_WISH: Duration = Duration::from_secs(1);

impl Machine {
    /// A request to end. Repeating it changes nothing: only signals grow impatient.
    pub(super) fn ask_shutdown(&mut self, request: RequestId, how: Shutdown, step: &mut Step) {
        step.reply(request, Reply::ShuttingDown);
        if self.shutdown_began.is_none() || how == Shutdown::Detach {
            self.handle_shutdown(how, step);
        }
    }

    pub(super) fn handle_shutdown(&mut self, how: Shutdown, step: &mut Step) {
        match how {
            Shutdown::Detach => self.finish(step),
            Shutdown::StopWorkers => match self.shutdown_began {
                None => self.begin_shutdown(step),
                Some(began) if step.now.mono.since(began) < SAME_WISH => {}
                Some(_) => self.hasten_shutdown(step),
            },
        }
    }

    fn begin_shutdown(&mut self, step: &mut Step) {
        self.shutdown_began = Some(step.now.mono);
        self.refuse_all_waiting(&StartError::ShuttingDown, step);
        let kill_at = step.now.mono + self.config.shutdown_kill_after;
        self.timers.set(Timer::GiveUp, kill_at + self.config.shutdown_patience);
        self.stop_all(kill_at, step);
        self.shorten_shutdown(step);
    }

    /// Kills what is left now, and only delivers what is owed.
    fn hasten_shutdown(&mut self, step: &mut Step) {
        let latest = step.now.mono + self.config.shutdown_patience;
        self.timers.set_earlier(Timer::GiveUp, latest);
        self.stop_all(step.now.mono, step);
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown_began.is_some()
    }

    pub(super) fn stop_all(&mut self, kill_at: Mono, step: &mut Step) {
        let live: Vec<WorkerId> = self.roster.live().map(|worker| worker.id).collect();
        for id in live {
            self.begin_stop(id, Some(kill_at), step);
        }
    }

    /// Once no worker is left, only reports are waited for.
    pub(super) fn shorten_shutdown(&mut self, step: &mut Step) {
        if self.is_shutting_down() && self.roster.live_count() == 0 {
            let latest = step.now.mono + self.config.shutdown_patience;
            self.timers.set_earlier(Timer::GiveUp, latest);
        }
        self.finish_when_done(step);
    }

    pub(super) fn finish_when_done(&mut self, step: &mut Step) {
        let idle = self.roster.live_count() == 0 && self.outbox.len() == 0;
        if self.is_shutting_down() && idle {
            self.finish(step);
        }
    }

    pub(super) fn finish(&mut self, step: &mut Step) {
        if !self.finished {
            self.finished = true;
            step.effect(Effect::Finish);
        }
    }
}
