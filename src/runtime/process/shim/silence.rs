//! How long a shim has said nothing while it is to kill somebody. One that hangs was stopped, or waits for a
//! disk.
//!
//! ```text
//!  told to kill ── 0.5 s ──▶ killed for it, now and again ── patience ──▶ given up, and replaced
//!       ▲               any word of it: from the beginning
//!       └───────────────────────────┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// Half of the time that a forced stop has.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    looks: u32,
}

impl Silence {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), looks: 0 }
    }

    /// When something is to be done about it.
    pub(super) fn look_at(&self) -> Instant {
        self.since + LOOK_EVERY * (self.looks + 1)
    }

    /// Something is done about it. `true`: for the first time.
    pub(super) fn look(&mut self) -> bool {
        self.looks += 1;
        self.looks == 1
    }

    pub(super) fn has_lasted(&self, long: Duration) -> bool {
        self.since.elapsed() >= long
    }
}
