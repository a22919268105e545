//! Stopping a process for a while, as SIGSTOP does: its loop is not polled.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

/// Lets a future run, or not. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: Option<Waker>,
}

impl Gate {
    /// Runs a future while the gate is open.
    pub(super) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            {
                let mut state = self.state();
                if state.closed {
                    state.waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
            future.as_mut().poll(context)
        })
        .await
    }

    /// Nothing runs from now on.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    /// Everything runs again.
    pub(super) fn open(&self) {
        let mut state = self.state();
        state.closed = false;
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    /// Whether nothing runs.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
