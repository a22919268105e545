//! How long the driver waits for a commit: a disk that hangs is a journal that fails.
//!
//! ```text
//!  Idle ── begin ──▶ UnderWay ── deadline ──▶ Overdue ── begin ──▶ fails at once
//!    ▲                  │ ended, in time         │
//!    └──────────────────┴────────────────────────┘ ended, late: its result counts for nothing
//! ```
//!
//! There is one commit at a time. While one is overdue no other begins, so that none piles up
//! behind a disk, and rows are written in the order in which they were made. What an overdue commit
//! writes in the end has failed for the node all the same. The next commit that succeeds is a
//! rewrite, which leaves nothing of it. If the agent is killed before that, the next one finds rows
//! as they are after a kill between commit and effect: a worker that was never spawned, an end that
//! is not there.

use std::time::Duration;

use crate::{machine::Mono, runtime::ports::JournalError};

/// How long a commit may take. Most take less than a millisecond, and nobody waits for longer.
const TIMEOUT: Duration = Duration::from_millis(250);
/// What each record adds to that: a rewrite of ten thousand workers has a second more.
const TIMEOUT_PER_RECORD: Duration = Duration::from_micros(100);
/// A deadline that is noticed later than this says that the agent itself did not run.
const MAX_LATENESS: Duration = Duration::from_millis(100);

/// What is known of the commit at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Commits {
    /// There is none.
    #[default]
    Idle,
    /// It is waited for.
    UnderWay {
        /// When it began.
        began: Mono,
        /// When it is given up.
        deadline: Mono,
        /// How long it may take.
        timeout: Duration,
    },
    /// It was given up, and may still write.
    Overdue {
        /// When it began.
        began: Mono,
    },
}

impl Commits {
    /// A commit with so many records is wanted. Returns until when to wait for it.
    ///
    /// # Errors
    /// An earlier one has not ended, so this one must not begin: it has failed.
    pub(super) fn begin(&mut self, now: Mono, records: usize) -> Result<Mono, JournalError> {
        if let Self::UnderWay { began, .. } | Self::Overdue { began } = *self {
            *self = Self::Overdue { began };
            return Err(no_answer_since(began, now));
        }
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let timeout = TIMEOUT + TIMEOUT_PER_RECORD.saturating_mul(records);
        let deadline = now + timeout;
        *self = Self::UnderWay { began: now, deadline, timeout };
        Ok(deadline)
    }

    /// The deadline has come. Returns until when to wait on.
    ///
    /// # Errors
    /// There is nothing to wait for: the commit has failed.
    pub(super) fn handle_deadline(&mut self, now: Mono) -> Result<Mono, JournalError> {
        let Self::UnderWay { began, deadline, timeout } = *self else {
            return Err(no_answer_since(now, now));
        };
        if now.since(deadline) > MAX_LATENESS {
            // The agent was stopped, or the computer slept: perhaps it was not the disk.
            let deadline = now + timeout;
            *self = Self::UnderWay { began: now, deadline, timeout };
            return Ok(deadline);
        }
        *self = Self::Overdue { began };
        Err(no_answer_since(began, now))
    }

    /// The commit has ended, well or not, in time or late.
    pub(super) fn handle_ended(&mut self) {
        *self = Self::Idle;
    }
}

fn no_answer_since(began: Mono, now: Mono) -> JournalError {
    let waited = now.since(began);
    let waited = match waited.as_secs() {
        0 => format!("{} ms", waited.as_millis()),
        seconds => format!("{seconds} s"),
    };
    JournalError(format!("the disk has not answered for {waited}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(7_000_000_000);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_that_ends_in_time_is_followed_by_the_next() {
        let mut commits = Commits::default();
        assert_eq!(commits.begin(NOW, 0).unwrap(), NOW + ms(250));
        commits.handle_ended();
        assert_eq!(commits, Commits::Idle);
        assert_eq!(commits.begin(NOW + ms(1), 10_000).unwrap(), NOW + ms(1_251), "a large one");
    }

    #[test]
    fn one_that_does_not_end_fails_and_so_do_those_that_come_meanwhile() {
        let mut commits = Commits::default();
        let deadline = commits.begin(NOW, 0).unwrap();
        let error = commits.handle_deadline(deadline).unwrap_err();
        assert_eq!(error.to_string(), "the disk has not answered for 250 ms");
        for _ in 0..2 {
            let error = commits.begin(NOW + ms(20_400), 1).unwrap_err();
            assert_eq!(error.to_string(), "the disk has not answered for 20 s");
        }
        commits.handle_ended();
        commits.begin(NOW + ms(21_000), 1).unwrap();
    }

    #[test]
    fn an_agent_that_did_not_run_does_not_blame_the_disk() {
        let mut commits = Commits::default();
        let deadline = commits.begin(NOW, 0).unwrap();
        let resumed = deadline + ms(40_000);
        assert_eq!(commits.handle_deadline(resumed).unwrap(), resumed + ms(250));
        let error = commits.handle_deadline(resumed + ms(251)).unwrap_err();
        assert_eq!(error.to_string(), "the disk has not answered for 251 ms");
    }
}
