//! Threads and tasks without which an agent is not whole. If one of them panics, the agent ends
//! with an error, as it does when its driver panics; its workers live on, for the next agent.
//!
//! ```text
//!  Essential::thread, Essential::task ─ panic ─▶ Panics::next ──▶ BoundNode::run returns an error
//! ```
//!
//! What ends without a panic was told to, and nothing follows.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
};

use futures_util::FutureExt as _;
use thiserror::Error;
use tokio::{sync::mpsc, task};

/// Starts threads and tasks whose panics end the agent. Clones share it.
#[derive(Clone, Debug)]
pub struct Essential(mpsc::UnboundedSender<Panicked>);

/// The other end: what has panicked.
#[derive(Debug)]
pub struct Panics {
    receiver: mpsc::UnboundedReceiver<Panicked>,
    /// Keeps the channel open.
    _sender: Essential,
}

/// A part of the agent has panicked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{part} panicked: {message}")]
pub struct Panicked {
    /// Which part: "the thread journal", "the task server".
    pub part: String,
    /// What it said.
    pub message: String,
}

/// Both ends, for one agent.
pub fn essential() -> (Essential, Panics) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let essential = Essential(sender);
    (essential.clone(), Panics { receiver, _sender: essential })
}

impl Essential {
    /// Starts a thread of this name, at most 15 bytes of which the kernel shows.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn thread(
        &self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let panics = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                panics.report(format!("the thread {name}"), &*panic);
            }
        })
    }

    /// Starts a task on the runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn task(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> task::JoinHandle<()> {
        let panics = self.clone();
        tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                panics.report(format!("the task {name}"), &*panic);
            }
        })
    }

    fn report(&self, part: String, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("it gave no reason").to_owned();
        // An agent that has ended needs nothing any more.
        let _ = self.0.send(Panicked { part, message });
    }
}

impl Panics {
    /// The next panic; waits for it. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Panicked {
        match self.receiver.recv().await {
            Some(panicked) => panicked,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_thread_or_a_task_is_reported_with_its_words() {
        let (essential, mut panics) = essential();
        essential.thread("first", || panic!("no more disks")).unwrap().join().unwrap();
        let first = panics.next().await.to_string();
        assert_eq!(first, "the thread first panicked: no more disks");
        let number = 7;
        let task = essential.task("second", async move {
            tokio::task::yield_now().await;
            panic!("no more than {number}");
        });
        task.await.unwrap();
        let second = panics.next().await.to_string();
        assert_eq!(second, "the task second panicked: no more than 7");
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_no_panic() {
        let (essential, mut panics) = essential();
        essential.thread("thread", || {}).unwrap().join().unwrap();
        essential.task("task", async {}).await.unwrap();
        assert_eq!(panics.next().now_or_never(), None);
    }
}
