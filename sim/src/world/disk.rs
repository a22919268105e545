//! A disk that fails by plan, and the real journal on it.
//!
//! ```text
//!  Works   a commit is the real one, at once
//!  Full    a commit fails at once
//!  Hangs   a commit has no result before that is over; its rows are written first, last or never
//! ```
//!
//! A commit that hangs goes on without the agent's driver, as on a thread of its own: with the
//! agent's process it ends.

use std::{
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arroyo_node::{
    machine::Commit,
    runtime::{
        journal::{BlockingJournal as _, SqliteJournal},
        ports::{Committing, Journal, JournalError},
    },
};
use tokio::sync::{oneshot, watch};

use crate::{
    fact::{Fact, Place},
    plan::Writes,
    recorder::Recorder,
};

/// How a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Condition {
    /// As it should be.
    #[default]
    Works,
    /// It takes no writes, for this reason.
    Full(&'static str),
    /// It does not answer.
    Hangs(Writes),
}

/// The disk of one machine. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    condition: Arc<watch::Sender<Condition>>,
    /// Whether the agent has given up the commit that is under way.
    given_up: Arc<Mutex<bool>>,
}

impl Disk {
    /// From now on it is like this.
    pub(super) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// The agent takes its last commit for failed.
    pub(super) fn give_up(&self) {
        *self.given_up() = true;
    }

    fn given_up(&self) -> MutexGuard<'_, bool> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The real journal on such a disk.
pub(super) struct WatchedJournal {
    /// The real one.
    pub inner: Arc<Mutex<Kept>>,
    /// What it lies on.
    pub disk: Disk,
    /// Whose it is.
    pub agent: usize,
    /// Who looks on.
    pub recorder: Recorder,
}

/// The real journal, and when it is checkpointed.
pub(super) struct Kept {
    /// The real one.
    pub journal: SqliteJournal,
    /// Commits until the next checkpoint, and from then to the one after it.
    pub checkpoint: (u32, u32),
}

impl Journal for WatchedJournal {
    fn commit(&mut self, commit: Commit) -> Committing {
        *self.disk.given_up() = false;
        let condition = *self.disk.condition.borrow();
        match condition {
            Condition::Works => Box::pin(ready(self.write(&commit, Fact::Committed))),
            Condition::Full(error) => Box::pin(ready(Err(JournalError(error.to_owned())))),
            Condition::Hangs(writes) => self.hang(commit, writes),
        }
    }
}

impl WatchedJournal {
    fn hang(&self, commit: Commit, writes: Writes) -> Committing {
        let (done, result) = oneshot::channel();
        let disk = self.disk.clone();
        let mut condition = disk.condition.subscribe();
        let journal = Self {
            inner: self.inner.clone(),
            disk: self.disk.clone(),
            agent: self.agent,
            recorder: self.recorder.clone(),
        };
        self.recorder.mark("a commit hung");
        let early = (writes == Writes::First).then(|| self.write(&commit, Fact::Written));
        tokio::spawn(async move {
            // Its sender is in `disk`, so it does not close.
            let _ = condition.wait_for(|now| !matches!(now, Condition::Hangs(_))).await;
            let given_up = *disk.given_up();
            let fact = if given_up { Fact::Written } else { Fact::Committed };
            let result = match (writes, early) {
                (Writes::First, Some(Ok(()))) if !given_up => {
                    journal.note(Fact::Committed(commit));
                    Ok(())
                }
                (Writes::First, early) => early.unwrap_or(Ok(())),
                (Writes::Last, _) => journal.write(&commit, fact),
                (Writes::Never, _) => Err(JournalError("Input/output error".to_owned())),
            };
            if given_up && result.is_ok() {
                journal.recorder.mark("a commit that was given up was written");
            }
            // The agent may be gone.
            let _ = done.send(result);
        });
        Box::pin(async {
            result.await.unwrap_or_else(|_| Err(JournalError("the agent is gone".to_owned())))
        })
    }

    fn write(&self, commit: &Commit, fact: fn(Commit) -> Fact) -> Result<(), JournalError> {
        let mut kept = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        kept.journal.commit(commit)?;
        self.note(fact(commit.clone()));
        kept.checkpoint.0 = kept.checkpoint.0.saturating_sub(1);
        if kept.checkpoint.0 == 0 {
            kept.checkpoint.0 = kept.checkpoint.1;
            if let Err(error) = kept.journal.checkpoint() {
                self.recorder.fail("journal", format!("a checkpoint failed: {error}"));
            }
        }
        Ok(())
    }

    fn note(&self, fact: Fact) {
        self.recorder.note(Place::Agent(self.agent), fact);
    }
}
