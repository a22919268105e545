//! How long a shim has said nothing while it is to kill somebody. It hangs, if somebody has stopped it or a
//! disk keeps it; or it waits for a process that cannot die, and then it answers if it is asked.
//!
//! ```text
//!  told to kill ── 0.25 s ──▶ asked ── 0.5 s ──▶ killed for it, now and again ── patience ──▶ given up
//!       ▲                       │ any word of it
//!       └──── 5 s later ◀───────┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

const ASK_AFTER: Duration = Duration::from_millis(250);
/// Half of the time that a forced stop has.
const STAND_IN_EVERY: Duration = Duration::from_millis(500);
/// After it was asked and has answered.
const LEAVE_ALONE_FOR: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    looks: u32,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Ask the shim whether it is there.
    Ask,
    /// Kill in its place.
    StandIn {
        /// Not before in this silence.
        first: bool,
    },
    /// It has had its chance.
    GiveUp,
}

impl Silence {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), looks: 0 }
    }

    /// After a word of the shim.
    pub(super) fn broken(before: Option<Self>) -> Self {
        let asked = before.is_some_and(|silence| silence.looks > 0);
        let pause = if asked { LEAVE_ALONE_FOR } else { Duration::ZERO };
        Self { since: Instant::now() + pause, looks: 0 }
    }

    /// When the next step is due.
    pub(super) fn next_at(&self) -> Instant {
        self.since + if self.looks == 0 { ASK_AFTER } else { STAND_IN_EVERY * self.looks }
    }

    /// The step that is due now.
    pub(super) fn step(&mut self, patience: Duration) -> Step {
        if self.since.elapsed() >= patience {
            return Step::GiveUp;
        }
        self.looks += 1;
        match self.looks {
            1 => Step::Ask,
            looks => Step::StandIn { first: looks == 2 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn who_hangs_is_asked_then_stood_in_for_and_then_given_up() {
        let (began, mut silence) = (Instant::now(), Silence::new());
        let mut steps = Vec::new();
        while steps.last().is_none_or(|(_, step)| *step != Step::GiveUp) {
            tokio::time::sleep_until(silence.next_at()).await;
            steps.push((began.elapsed().as_millis(), silence.step(PATIENCE)));
        }
        let again = Step::StandIn { first: false };
        let expected = [
            (250, Step::Ask),
            (500, Step::StandIn { first: true }),
            (1_000, again),
            (1_500, again),
            (2_000, Step::GiveUp),
        ];
        assert_eq!(steps, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_left_alone_for_a_while_and_never_given_up() {
        let began = Instant::now();
        let mut silence = Silence::broken(Some(Silence::new()));
        let mut asked = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep_until(silence.next_at()).await;
            assert_eq!(silence.step(PATIENCE), Step::Ask);
            asked.push(began.elapsed().as_millis());
            silence = Silence::broken(Some(silence));
        }
        assert_eq!(asked, [250, 5_500, 10_750]);
    }
}
