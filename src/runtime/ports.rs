//! What the driver needs of the world, as four small traits.
//!
//! A port submits and returns: whatever takes time is answered later, as an event through the
//! [`Events`] that the port was built with. Only [`Journal::commit`] is waited for.

use std::{future::Future, pin::Pin};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    ids::WorkerId,
    machine::{Commit, Event, Launch, Mono, Now, Process, Registration, Report, Signal, Wall},
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
    /// Makes these records durable, all or none.
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError>;
}

/// Why a commit failed.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct JournalError(pub String);

/// Calls the controller.
pub trait Controller: Send {
    /// Answered by `Registered`.
    fn register(&mut self, registration: Registration);
    /// Answered by `HeartbeatAnswered`.
    fn heartbeat(&mut self, at: Wall);
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

/// Where a port's answers go. Never blocks and never fails: when the driver is gone, so is the
/// need for answers.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// A sender of events, and the driver's end of it.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Hands an event to the driver.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }
}
