//! What the driver needs of the world, as a few small traits.
//!
//! A port submits and returns: whatever takes time is answered later, as an event through the
//! [`Events`] that the port was built with, or as a future. No port waits for the world.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use thiserror::Error;

pub use crate::mailbox::Events;
use crate::{
    ids::WorkerId,
    machine::{
        Commit, Effect, Event, Heartbeat, Launch, Mono, Now, Process, Registration, Report, Signal,
        View,
    },
};

/// Starts, signals and watches processes.
pub trait Processes: Send {
    /// Runs a worker's program: answered by `Spawned` or `SpawnFailed`, and after `Spawned`, once
    /// the worker and everything it started is gone, by one `Exited`.
    fn spawn(&mut self, launch: Launch);

    /// Finds a worker that an earlier agent started: answered by `Adopted` and, in the end,
    /// `Exited`; or at once by `Exited` or `NeverRan`.
    fn adopt(&mut self, worker: WorkerId, process: Option<Process>);

    /// Signals everything that the worker started. `Kill` is repeated until nothing is left.
    /// To signal a worker that has ended is no error.
    fn signal(&mut self, worker: WorkerId, signal: Signal);

    /// The worker's end is durable: its exit status need not be kept.
    fn release(&mut self, worker: WorkerId);

    /// The worker is forgotten: its output may go.
    fn discard(&mut self, worker: WorkerId);
}

/// Keeps the machine's records.
pub trait Journal: Send {
    /// Begins to make these records durable, all or none, and returns at once. The commit goes on
    /// whether or not somebody waits for its result. There is one at a time: the driver begins the
    /// next one when it has the result of this one.
    fn commit(&mut self, commit: Commit) -> Committing;
}

/// A commit that has begun. Its result is that of the commit.
pub type Committing = Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send>>;

/// Why a commit failed.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct JournalError(pub String);

/// Calls the controller.
pub trait Controller: Send {
    /// Answered by `Registered`.
    fn register(&mut self, registration: Registration);
    /// Answered by `HeartbeatAnswered`.
    fn heartbeat(&mut self, heartbeat: Heartbeat);
    /// Answered by `ReportAnswered`.
    fn report(&mut self, report: Report);
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
    /// Ends at, or a little after, this time.
    fn sleep_until(&self, deadline: Mono) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Sees everything that the driver does, and changes nothing: logs, metrics, traces.
pub trait Observer: Send {
    /// Before the machine handles it.
    fn event(&mut self, now: Now, event: &Event);
    /// Before it is executed.
    fn effect(&mut self, now: Now, effect: &Effect);
    /// After a commit was tried; how long it took.
    fn commit(&mut self, took: Duration, result: Result<(), &JournalError>);
    /// After each batch was handled; how many events it had.
    fn batch(&mut self, events: usize);
    /// When readers get a new view.
    fn view(&mut self, view: &Arc<View>);
}
