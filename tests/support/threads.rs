//! A part of a test that runs on threads of its own, and can be made to vanish like a killed process:
//! whatever it was about to do, it does not do it.

use std::{thread, time::Duration};

use tokio::sync::oneshot;

/// Runs until it is done or dropped; gone when the drop returns.
pub struct Vanishing<T: Send + 'static> {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Option<T>>>,
}

impl<T: Send + 'static> Vanishing<T> {
    /// Runs what `make` gives on a runtime of its own.
    pub fn run<F>(make: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = T>,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
            let result = runtime.block_on(async {
                tokio::select! {
                    result = make() => Some(result),
                    _ = stopped => None,
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(10));
            result
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// Whether it has ended by itself.
    pub fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// What came of it, once [`Self::is_done`].
    pub fn result(&mut self) -> Option<T> {
        self.thread.take()?.join().expect("it did not panic")
    }
}

impl<T: Send + 'static> Drop for Vanishing<T> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
