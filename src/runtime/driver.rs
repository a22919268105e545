//! The only loop: wait, handle, commit, execute.
//!
//! ```text
//!        ┌──────────────────────────────────────────────────────────────┐
//!        ▼                                                              │
//!  wait for an event ─▶ handle it and all that are ready ─▶ commit ─▶ execute
//! ```
//!
//! The same driver runs in production and in the simulator; only its ports differ. It never waits
//! for a port, the journal's commit excepted: for that it waits a quarter of a second
//! (`commits`). Meanwhile its thread serves whoever needs no driver: connections, answers from
//! the view.

mod commits;

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::{
    execute::Executor,
    ports::{Clock, Committing, Controller, Journal, JournalError, Observer, Processes},
};
use crate::{
    machine::{Commit, Effect, Effects, Event, Machine, Now, Report, View},
    mailbox::Inbox,
};
use commits::Commits;

/// How many events share a commit at most: enough to amortise it, few enough that replies to the
/// first do not wait for long.
const BATCH: usize = 256;

/// Everything that a driver needs.
pub struct Parts {
    /// The decisions.
    pub machine: Machine,
    /// Where events come from.
    pub inbox: Inbox,
    /// Where worker processes are.
    pub processes: Box<dyn Processes>,
    /// Where records are kept.
    pub journal: Box<dyn Journal>,
    /// Whom to register with and report to.
    pub controller: Box<dyn Controller>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who looks on.
    pub observer: Box<dyn Observer>,
    /// Where readers find the machine's state.
    pub view: watch::Sender<Arc<View>>,
    /// Who inside this process hears of ends.
    pub announce: Box<dyn FnMut(Report) + Send>,
}

/// Drives a machine until it finishes.
pub struct Driver {
    machine: Machine,
    journal: Box<dyn Journal>,
    commits: Commits,
    /// A commit that was given up, and has not ended.
    overdue: Option<Committing>,
    clock: Arc<dyn Clock>,
    observer: Box<dyn Observer>,
    view: watch::Sender<Arc<View>>,
    executor: Executor,
    finished: bool,
}

impl Driver {
    /// A driver at rest.
    pub fn new(parts: Parts) -> Self {
        Self {
            machine: parts.machine,
            journal: parts.journal,
            commits: Commits::default(),
            overdue: None,
            clock: parts.clock,
            observer: parts.observer,
            view: parts.view,
            executor: Executor {
                inbox: parts.inbox,
                processes: parts.processes,
                controller: parts.controller,
                announce: parts.announce,
            },
            finished: false,
        }
    }

    /// Runs until the machine has finished. To be called once the agent can be reached.
    pub async fn run(mut self) {
        self.turn(Event::Begin, 1).await;
        while !self.finished {
            let event = self.next_event().await;
            self.turn(event, BATCH).await;
        }
    }

    async fn next_event(&mut self) -> Event {
        let Some((deadline, _)) = self.machine.next_timeout() else {
            return self.executor.inbox.next().await;
        };
        if deadline <= self.clock.now().mono {
            return Event::Timeout;
        }
        tokio::select! {
            biased;
            event = self.executor.inbox.next() => event,
            () = self.clock.sleep_until(deadline) => Event::Timeout,
        }
    }

    /// Handles this event and whatever else is ready, up to so many, as one batch.
    async fn turn(&mut self, first: Event, most: usize) {
        let now = self.clock.now();
        let mut effects = Effects::default();
        self.handle(now, first, &mut effects);
        let mut events = 1;
        while events < most
            && let Some(event) = self.executor.inbox.take()
        {
            self.handle(now, event, &mut effects);
            events += 1;
        }
        self.observer.batch(events);
        if effects.is_empty() {
            self.publish();
        }
        while !effects.is_empty() {
            effects = self.commit_and_execute(effects).await;
        }
    }

    fn publish(&mut self) {
        let view = Arc::new(self.machine.view());
        self.observer.view(&view);
        self.view.send_replace(view);
    }

    fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        self.observer.event(now, &event);
        self.machine.handle(now, event, effects);
    }

    /// Commits, then executes. Returns what the machine makes of the commit's result.
    async fn commit_and_execute(&mut self, batch: Effects) -> Effects {
        let rewrite = batch.commit.rewrite;
        let committed = self.commit(batch.commit).await;
        let now = self.clock.now();
        let mut next = Effects::default();
        if let Err(error) = &committed {
            self.handle(now, Event::JournalFailed(error.0.as_str().into()), &mut next);
        } else if rewrite {
            self.handle(now, Event::JournalRestored, &mut next);
        }
        // Readers see what replies speak of before the replies leave.
        self.publish();
        for effect in batch.effects {
            if committed.is_err() && effect.awaits_commit() {
                self.handle(now, Event::NotDurable(Box::new(effect)), &mut next);
            } else {
                self.execute(now, effect);
            }
        }
        next
    }

    fn execute(&mut self, now: Now, effect: Effect) {
        self.observer.effect(now, &effect);
        self.finished |= effect == Effect::Finish;
        self.executor.execute(effect);
    }

    /// Commits, for as long as that may take.
    async fn commit(&mut self, commit: Commit) -> Result<(), JournalError> {
        if commit.is_empty() {
            return Ok(());
        }
        let began = self.clock.now().mono;
        let result = self.commit_in_time(commit).await;
        self.observer.commit(self.clock.now().mono.since(began), result.as_ref().copied());
        result
    }

    async fn commit_in_time(&mut self, commit: Commit) -> Result<(), JournalError> {
        if let Some(late) = &mut self.overdue
            && late.now_or_never().is_some()
        {
            self.overdue = None;
            self.commits.handle_ended();
        }
        let mut deadline = self.commits.begin(self.clock.now().mono, commit.records.len())?;
        let mut committing = self.journal.commit(commit);
        loop {
            tokio::select! {
                biased;
                result = &mut committing => {
                    self.commits.handle_ended();
                    return result;
                }
                () = self.clock.sleep_until(deadline) => {}
            }
            match self.commits.handle_deadline(self.clock.now().mono) {
                Ok(later) => deadline = later,
                Err(error) => {
                    self.overdue = Some(committing);
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
