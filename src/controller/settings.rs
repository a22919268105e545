//! The times and the quirks of a controller; the defaults are stock's.

use std::time::Duration;

/// How a controller behaves. It does not change while it runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// A node unheard for longer than this is forgotten, but only while something is scheduled.
    pub expire_after: Duration,
    /// Time between two looks for enough slots.
    pub poll_every: Duration,
    /// How long a job waits for enough slots before it fails.
    pub slots_patience: Duration,
    /// Time between two attempts at the same thing.
    pub retry_pause: Duration,
    /// Rounds of stopping the workers of a job that was told to stop, which make one attempt.
    pub stopping_rounds: u32,
    /// Rounds of stopping the workers of a job that lost one, which make one attempt.
    pub recovering_rounds: u32,
    /// Whether StopWorker says that this controller understands statuses. A node then answers with
    /// a status what it would tell a stock controller with a gRPC error, and STOPPED and NOT_FOUND
    /// count as done. Stock does not say so: to it no status is an end.
    pub wants_status: bool,
    /// From a worker's end until its job is scheduled anew. Stock learns of it by the worker's own
    /// heartbeat, after up to 30 s; here the default is one second.
    pub notice_after: Duration,
    /// What stock does and could do better.
    pub quirks: Quirks,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expire_after: Duration::from_secs(30),
            poll_every: Duration::from_secs(1),
            slots_patience: Duration::from_secs(600),
            retry_pause: Duration::from_millis(500),
            stopping_rounds: 20,
            recovering_rounds: 10,
            wants_status: false,
            notice_after: Duration::from_secs(1),
            quirks: Quirks::default(),
        }
    }
}

/// What stock does and could do better. The defaults are stock's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quirks {
    /// One lock is held over connect and StartWorker, for every worker of one scheduling:
    /// Register, Heartbeat, WorkerFinished and stops wait behind it.
    pub hold_lock_during_start: bool,
    /// A job fails after 20 failed attempts at one thing (0.15: 10). Otherwise it tries for ever.
    pub give_up: bool,
    /// How long a call to a node may take, connecting included; `None`: for ever, as in stock.
    pub call_deadline: Option<Duration>,
}

impl Default for Quirks {
    fn default() -> Self {
        Self { hold_lock_during_start: true, give_up: true, call_deadline: None }
    }
}
