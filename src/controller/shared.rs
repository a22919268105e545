//! What a controller's service and its jobs' tasks have in common.
//!
//! ```text
//!  service, scheduling, stops ──▶ gate (async, fair: stock's one lock) ──▶ desk (never held
//!  snapshot, subscribe ────────────────────────────────────────────────▶   while waiting)
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    book::Books,
    event::ControllerEvent,
    nodes::{NodeCalls, Refusal},
    report::FinishOutcome,
    settings::Settings,
};
use crate::{ids::JobId, runtime::ports::Clock};

/// One controller, seen from inside.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nodes: NodeCalls,
    /// Cancelled once the controller is to be gone.
    pub(super) closed: CancellationToken,
    gate: AsyncMutex<()>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    books: Books,
    subscribers: Vec<mpsc::UnboundedSender<ControllerEvent>>,
    wakers: BTreeMap<JobId, Arc<Notify>>,
}

impl Shared {
    pub(super) fn new(settings: Settings, clock: Arc<dyn Clock>, nodes: NodeCalls) -> Self {
        Self {
            settings,
            clock,
            nodes,
            closed: CancellationToken::new(),
            gate: AsyncMutex::new(()),
            desk: Mutex::default(),
        }
    }

    /// Stock's one lock, first come, first served. An error: the controller is gone.
    pub(super) async fn gate(&self) -> Result<AsyncMutexGuard<'_, ()>, Status> {
        let gate = self.closed.run_until_cancelled(self.gate.lock()).await;
        gate.ok_or_else(|| Status::unavailable("this controller is closing"))
    }

    /// Works on the books, and tells the subscribers and the jobs what came of it.
    pub(super) fn books<R>(&self, work: impl FnOnce(&mut Books) -> R) -> R {
        let mut desk = self.desk();
        let result = work(&mut desk.books);
        for event in desk.books.take_events() {
            log(&event);
            if matches!(event, ControllerEvent::WorkerFinished { .. }) {
                desk.wakers.values().for_each(|job| job.notify_one());
            }
            desk.subscribers.retain(|subscriber| subscriber.send(event.clone()).is_ok());
        }
        result
    }

    /// A stream of everything that happens from now on. Nothing is ever left out.
    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<ControllerEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.desk().subscribers.push(sender);
        receiver
    }

    /// What wakes a job's task.
    pub(super) fn waker(&self, job: &JobId) -> Arc<Notify> {
        self.desk().wakers.entry(job.clone()).or_default().clone()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("the books are never left half-written: nothing under it panics")
    }
}

/// Bounds a call in time, or not.
pub(super) struct Deadline {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) after: Option<Duration>,
}

impl Deadline {
    pub(super) async fn of<T>(
        &self,
        call: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let Some(after) = self.after else { return call.await };
        let deadline = self.clock.now().mono + after;
        tokio::select! {
            biased;
            result = call => result,
            () = self.clock.sleep_until(deadline) => Err(Refusal {
                code: Code::DeadlineExceeded,
                message: format!("the node did not answer within {after:?}"),
            }),
        }
    }
}

fn log(event: &ControllerEvent) {
    match event {
        ControllerEvent::Violation(violation) => tracing::error!(%violation, "node misbehaved"),
        ControllerEvent::StartRefused { node, job, refusal, .. } => {
            tracing::warn!(%node, %job, %refusal, "a worker could not be started");
        }
        ControllerEvent::NodeExpired { node } => {
            tracing::warn!(%node, "node unheard for too long: forgotten");
        }
        ControllerEvent::WorkerFinished { report, outcome } if *outcome != FinishOutcome::Freed => {
            let (worker, node) = (report.worker, &report.node);
            tracing::warn!(%worker, %node, "a finished worker freed no slots: {outcome}");
        }
        event => tracing::debug!("{event}"),
    }
}
