//! Whether the shim still answers, while it owes something. It may have been stopped, or it waits
//! for the kernel; or it only waits for a process that cannot die, and then it answers a ping.
//!
//! ```text
//!  owes something ─ 0.25 s ─▶ ping ─ 0.5 s ─▶ backup kill, every 0.5 s ─ timeout ─▶ give up
//!        ▲                     │ any message of it
//!        └──────── 5 s ◀───────┘
//! ```

use std::time::Duration;

use crate::machine::Mono;

const PING_AFTER: Duration = Duration::from_millis(250);
/// Half of the time that a forced stop has.
pub(super) const BACKUP_INTERVAL: Duration = Duration::from_millis(500);
/// After a ping that was answered.
const QUIET_AFTER_ANSWER: Duration = Duration::from_secs(5);

/// Watches a shim that owes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watchdog {
    since: Mono,
    steps: u32,
}

/// What to do about a shim that is silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Ask it whether it is there.
    Ping,
    /// Kill in its place.
    BackupKill {
        /// Not before in this silence.
        first: bool,
    },
    /// Replace it.
    GiveUp,
}

impl Watchdog {
    /// From now on.
    pub(super) fn new(now: Mono) -> Self {
        Self { since: now, steps: 0 }
    }

    /// After a message of the shim.
    pub(super) fn answered(self, now: Mono) -> Self {
        let pause = if self.steps > 0 { QUIET_AFTER_ANSWER } else { Duration::ZERO };
        Self { since: now + pause, steps: 0 }
    }

    /// After a request: it is not left alone any longer.
    pub(super) fn asked(self, now: Mono) -> Self {
        if self.since > now { Self::new(now) } else { self }
    }

    /// When the next step is due.
    pub(super) fn next_at(self) -> Mono {
        self.since + if self.steps == 0 { PING_AFTER } else { BACKUP_INTERVAL * self.steps }
    }

    /// The step that is due, if one is.
    pub(super) fn step(&mut self, now: Mono, timeout: Duration) -> Option<Step> {
        if now < self.next_at() {
            return None;
        }
        if now.since(self.since) >= timeout {
            return Some(Step::GiveUp);
        }
        self.steps += 1;
        Some(match self.steps {
            1 => Step::Ping,
            steps => Step::BackupKill { first: steps == 2 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn millis(at: Mono) -> u64 {
        at.0 / 1_000_000
    }

    #[test]
    fn a_silent_shim_is_pinged_then_helped_and_then_given_up() {
        let mut watchdog = Watchdog::new(Mono(0));
        let mut steps = Vec::new();
        while steps.last().is_none_or(|(_, step)| *step != Step::GiveUp) {
            let at = watchdog.next_at();
            assert_eq!(watchdog.step(Mono(at.0 - 1), TIMEOUT), None, "not before its time");
            steps.push((millis(at), watchdog.step(at, TIMEOUT).unwrap()));
        }
        let again = Step::BackupKill { first: false };
        let expected = [
            (250, Step::Ping),
            (500, Step::BackupKill { first: true }),
            (1_000, again),
            (1_500, again),
            (2_000, Step::GiveUp),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_shim_that_is_asked_for_more_is_not_left_alone_any_longer() {
        let mut quiet = Watchdog::new(Mono(0));
        quiet.step(quiet.next_at(), TIMEOUT).unwrap();
        let quiet = quiet.answered(Mono(300_000_000));
        assert_eq!(millis(quiet.next_at()), 5_550);
        assert_eq!(millis(quiet.asked(Mono(400_000_000)).next_at()), 650);
        let silent = Watchdog::new(Mono(0));
        assert_eq!(silent.asked(Mono(200_000_000)), silent, "it owes more, not later");
    }

    #[test]
    fn a_shim_that_answers_is_left_alone_for_a_while_and_never_given_up() {
        let mut watchdog = Watchdog::new(Mono(0)).answered(Mono(0));
        let mut pings = Vec::new();
        for _ in 0..3 {
            let at = watchdog.next_at();
            assert_eq!(watchdog.step(at, TIMEOUT), Some(Step::Ping));
            pings.push(millis(at));
            watchdog = watchdog.answered(at);
        }
        assert_eq!(pings, [250, 5_500, 10_750]);
    }
}
