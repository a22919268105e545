//! What happens when the journal does not take commits: the agent goes on supervising, keeps in
//! memory what it owes, refuses new work, and tries again.
//!
//! ```text
//!  Up ── commit failed ─▶ Down: no records are made; on a timer, all rows are written anew
//!   ▲                       │
//!   └── rewrite succeeded ──┘
//! ```

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Machine,
    effect::Effect,
    event::{JournalDown, Reply},
    record::Record,
    session::State,
    step::Step,
    timers::Timer,
    worker::Worker,
};
use crate::ids::WorkerId;

#[derive(Clone, Debug, Default)]
pub(super) struct JournalHealth {
    failures: u32,
    error: Option<Arc<str>>,
    rewriting: bool,
    /// Ended workers that were forgotten meanwhile: their exit statuses are still kept, in case
    /// the rows that the journal has of them are read again.
    unreleased: BTreeSet<WorkerId>,
}

impl JournalHealth {
    /// Why the journal takes no commits, if so.
    pub(super) fn error(&self) -> Option<&Arc<str>> {
        self.error.as_ref()
    }

    /// Whether a commit that rewrites everything is under way.
    pub(super) fn rewriting(&self) -> bool {
        self.rewriting
    }

    /// How many ends that were forgotten meanwhile are still to be released.
    pub(super) fn unreleased_count(&self) -> usize {
        self.unreleased.len()
    }

    pub(super) fn remember_unreleased(&mut self, id: WorkerId) {
        if self.error.is_some() {
            self.unreleased.insert(id);
        }
    }

    pub(super) fn down(&self) -> Option<JournalDown> {
        self.error.clone().map(|reason| JournalDown { reason })
    }
}

impl Machine {
    pub(super) fn record(&mut self, record: Record, step: &mut Step) {
        // While the journal is down a rewrite is to come, which will say it all; once that is
        // under way, what happens in the same batch belongs to it.
        if self.journal.error.is_none() || step.out.commit.rewrite {
            step.out.commit.records.push(record);
        }
    }

    /// Changes a worker and records it.
    pub(super) fn amend(
        &mut self,
        id: WorkerId,
        step: &mut Step,
        change: impl FnOnce(&mut Worker),
    ) {
        if let Some(worker) = self.roster.amend(id, change) {
            self.record(Record::Worker(worker), step);
        }
    }

    pub(super) fn handle_journal_failed(&mut self, error: Arc<str>, step: &mut Step) {
        self.journal.failures = self.journal.failures.saturating_add(1);
        self.journal.error = Some(error);
        self.journal.rewriting = false;
        let wait = self.config.backoff.bound(self.journal.failures);
        self.timers.set(Timer::Rewrite, step.now.mono + wait);
    }

    pub(super) fn rewrite_journal(&mut self, step: &mut Step) {
        self.journal.rewriting = true;
        step.out.commit.rewrite = true;
        step.out.commit.records = vec![Record::Draining(self.draining)];
        step.out.commit.records.extend(self.known_at_record());
        step.out.commit.records.extend(self.roster.iter().cloned().map(Record::Worker));
    }

    pub(super) fn handle_journal_restored(&mut self, step: &mut Step) {
        let forgotten = std::mem::take(&mut self.journal).unreleased;
        self.timers.cancel(Timer::Rewrite);
        // The ends that could not be recorded when they came are durable now.
        let ended = self.roster.iter().filter(|worker| !worker.is_live()).map(|worker| worker.id);
        step.out.effects.extend(ended.chain(forgotten).map(Effect::Release));
        if !self.finished {
            self.register_when_possible(step);
        }
    }

    /// An effect that rests on a failed commit did not happen.
    pub(super) fn handle_not_durable(&mut self, effect: Effect, step: &mut Step) {
        match effect {
            Effect::Spawn(launch) => {
                let reason = "the commit failed".into();
                let down = self.journal.down().unwrap_or(JournalDown { reason });
                self.undo_start(launch.worker, down.into(), step);
            }
            Effect::Reply { request, reply: Reply::Draining(Ok(())) } => {
                self.draining_not_durable(request, step);
            }
            // Not while the next agent would not know whom this controller does not count.
            Effect::Register(_) if self.session.state() == State::Registering => {
                self.introduce(step);
            }
            // Comes again when the journal is restored.
            Effect::Release(_) => {}
            Effect::Reply { .. }
            | Effect::Adopt { .. }
            | Effect::Signal { .. }
            | Effect::Discard(_)
            | Effect::Register(_)
            | Effect::Heartbeat(_)
            | Effect::Report(_)
            | Effect::Announce(_)
            | Effect::Finish => {}
        }
    }
}
