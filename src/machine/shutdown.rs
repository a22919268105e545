//! The end of the agent: with its workers, or without them.
//!
//! ```text
//!  StopWorkers ─▶ SIGTERM all ─▶ (deadline: SIGKILL) ─▶ all ended ─▶ all reported ─▶ Finish
//!                       └────── patience is at an end: what is owed stays owed ────────▲
//!  Detach ─────────────────────────────────────────────────────────────────────────────┘
//! ```

use super::{
    Machine,
    effect::Effect,
    event::{Reply, Shutdown, StartError},
    step::Step,
    time::Mono,
    timers::Timer,
};
use crate::ids::{RequestId, WorkerId};

impl Machine {
    pub(super) fn ask_shutdown(&mut self, request: RequestId, how: Shutdown, step: &mut Step) {
        step.reply(request, Reply::ShuttingDown);
        self.handle_shutdown(how, step);
    }

    pub(super) fn handle_shutdown(&mut self, how: Shutdown, step: &mut Step) {
        match how {
            Shutdown::Detach => self.finish(step),
            Shutdown::StopWorkers if self.shutting_down => {}
            Shutdown::StopWorkers => {
                self.shutting_down = true;
                self.refuse_all_waiting(&StartError::ShuttingDown, step);
                let kill_at = step.now.mono + self.config.shutdown_kill_after;
                self.timers.set(Timer::GiveUp, kill_at + self.config.shutdown_patience);
                self.stop_all(kill_at, step);
                self.shorten_shutdown(step);
            }
        }
    }

    pub(super) fn stop_all(&mut self, kill_at: Mono, step: &mut Step) {
        let live: Vec<WorkerId> = self.roster.live().map(|worker| worker.id).collect();
        for id in live {
            self.begin_stop(id, Some(kill_at), step);
        }
    }

    /// Once no worker is left, only reports are waited for.
    pub(super) fn shorten_shutdown(&mut self, step: &mut Step) {
        if self.shutting_down && self.roster.live_count() == 0 {
            let latest = step.now.mono + self.config.shutdown_patience;
            self.timers.set_earlier(Timer::GiveUp, latest);
        }
        self.finish_when_done(step);
    }

    pub(super) fn finish_when_done(&mut self, step: &mut Step) {
        if self.shutting_down && self.roster.live_count() == 0 && self.outbox.len() == 0 {
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
