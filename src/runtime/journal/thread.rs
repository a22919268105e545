//! A thread for the journal, so that nothing else waits for a disk.
//!
//! ```text
//!  driver ── commit ──▶ the thread ──▶ BlockingJournal ──▶ the disk
//!         ◀─ result, when it comes; the driver decides for how long it waits ──┘
//! ```
//!
//! The thread owns the journal. Once the port is dropped it finishes the commit at hand, closes the
//! journal and ends; for that the port waits, but not for a disk that hangs.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    machine::Commit,
    runtime::{
        essential::Essential,
        ports::{Committing, Journal, JournalError},
        time_slice,
    },
};

/// How long an agent that ends waits for its journal to be closed. SQLite syncs the file then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A journal whose caller waits for the disk.
pub trait BlockingJournal: Send {
    /// Makes these records durable, all or none.
    ///
    /// # Errors
    /// The records are not durable: why.
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError>;
}

/// A [`Journal`] on a thread of its own.
#[derive(Debug)]
pub struct JournalThread {
    /// Until it is dropped.
    requests: Option<mpsc::Sender<Request>>,
    /// Disconnected once the journal is closed.
    closed: mpsc::Receiver<()>,
}

struct Request {
    commit: Commit,
    result: oneshot::Sender<Result<(), JournalError>>,
}

impl JournalThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(journal: Box<dyn BlockingJournal>, essential: &Essential) -> io::Result<Self> {
        let (requests, wanted) = mpsc::channel::<Request>();
        let (closing, closed) = mpsc::channel();
        essential.thread("journal", move || {
            // Declared first, so dropped last: after the journal, also when that panics.
            let _closing: mpsc::Sender<()> = closing;
            let mut journal = journal;
            // A start waits for it twice. A kernel that knows no such wish takes only promptness.
            let _ = time_slice::shorten();
            for Request { commit, result } in wanted {
                // A driver that has ended does not ask how it went.
                let _ = result.send(journal.commit(&commit));
            }
        })?;
        Ok(Self { requests: Some(requests), closed })
    }
}

impl Drop for JournalThread {
    /// Waits until the journal is closed, unless the disk hangs.
    fn drop(&mut self) {
        self.requests = None;
        if self.closed.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the journal is not closed: the disk does not answer");
        }
    }
}

impl Journal for JournalThread {
    fn commit(&mut self, commit: Commit) -> Committing {
        let (result, committed) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // If it fails, so does the receiver.
            let _ = requests.send(Request { commit, result });
        }
        Box::pin(async {
            let gone = || JournalError("the thread of the journal has ended".to_owned());
            committed.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::runtime::essential::essential;

    /// A disk that answers when it is told to.
    struct Slow {
        answers: mpsc::Receiver<Result<(), JournalError>>,
        began: mpsc::Sender<usize>,
    }

    impl BlockingJournal for Slow {
        fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
            self.began.send(commit.records.len()).unwrap();
            self.answers.recv().unwrap()
        }
    }

    #[tokio::test]
    async fn the_caller_does_not_wait_and_the_last_commit_is_finished() {
        let (answer, answers) = mpsc::channel();
        let (began, beginnings) = mpsc::channel();
        let (essential, mut panics) = essential();
        let slow = Box::new(Slow { answers, began });
        let mut journal = JournalThread::start(slow, &essential).unwrap();

        let mut first = journal.commit(Commit::default());
        beginnings.recv().unwrap();
        assert!((&mut first).now_or_never().is_none());
        answer.send(Err(JournalError("full".into()))).unwrap();
        assert_eq!(first.await.unwrap_err().to_string(), "full");

        drop(journal.commit(Commit::default()));
        beginnings.recv().unwrap();
        answer.send(Ok(())).unwrap();
        drop(journal);
        assert!(beginnings.recv().is_err(), "the journal is gone");
        assert_eq!(panics.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_panic_fails_the_commit_and_is_reported() {
        let (answer, answers) = mpsc::channel();
        let (began, _) = mpsc::channel();
        let (essential, mut panics) = essential();
        let slow = Box::new(Slow { answers, began });
        let mut journal = JournalThread::start(slow, &essential).unwrap();
        drop(answer);
        let error = journal.commit(Commit::default()).await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
        assert_eq!(panics.next().await.part, "the thread journal");
        journal.commit(Commit::default()).await.unwrap_err();
    }
}
