//! The way into the machine, from outside its loop.
//!
//! ```text
//!  callers ── Mailbox::ask ──▶ bounded ────┐
//!                                          ├──▶ Inbox ──▶ the driver
//!  ports ──── Events::send ──▶ unbounded ──┘      │
//!  callers ◀── Reply, Receipt ◀── Inbox::answer ──┘
//! ```
//!
//! Requests are bounded: when the driver is behind, callers wait. Answers of ports are not: each
//! belongs to something that the driver submitted itself, and none may be lost. They go first.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    ids::RequestId,
    machine::{Ask, Event, Reply, Shutdown},
};

/// How many requests may wait to be taken in.
const CAPACITY: usize = 1_024;

/// A mailbox and the driver's end of it.
pub fn mailbox() -> (Mailbox, Inbox) {
    let (letter_sender, letters) = mpsc::channel(CAPACITY);
    let (event_sender, events) = mpsc::unbounded_channel();
    let sender = Events(event_sender);
    let mailbox = Mailbox {
        letters: letter_sender,
        events: sender.clone(),
        next: Arc::new(AtomicU64::new(1)),
    };
    (mailbox, Inbox { letters, events, sender, callers: BTreeMap::new() })
}

/// Where requests are handed in. Clones share it.
#[derive(Clone, Debug)]
pub struct Mailbox {
    letters: mpsc::Sender<Letter>,
    events: Events,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Letter {
    request: RequestId,
    ask: Ask,
    caller: oneshot::Sender<Answer>,
}

/// A reply, and the receipt to drop once it has left.
pub type Answer = (Reply, Receipt);

/// The driver has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("this node has shut down")]
pub struct Closed;

impl Mailbox {
    /// Asks, and waits for the reply.
    ///
    /// # Errors
    /// The driver has ended, or ends before it answers.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Closed> {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (caller, answer) = oneshot::channel();
        let letter = Letter { request, ask, caller };
        self.letters.send(letter).await.map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }

    /// Has the agent end. Nobody waits for it: the driver's end is the answer.
    pub fn shut_down(&self, how: Shutdown) {
        self.events.send(Event::Shutdown(how));
    }

    /// The way in for ports.
    pub fn events(&self) -> Events {
        self.events.clone()
    }
}

/// Where a port's answers go. Never blocks and never fails: when the driver is gone, so is the
/// need for answers.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// A sender of events and the other end of it, for using a port without a driver.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Hands an event to the driver.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }
}

/// Held until a reply has left: dropping it tells the machine so, if it wants to know. A caller who has
/// gone drops it, too.
pub struct Receipt {
    request: RequestId,
    events: Option<Events>,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(events) = &self.events {
            events.send(Event::Delivered(self.request));
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({})", self.request)
    }
}

/// The driver's end of a mailbox.
#[derive(Debug)]
pub struct Inbox {
    letters: mpsc::Receiver<Letter>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: Events,
    callers: BTreeMap<RequestId, oneshot::Sender<Answer>>,
}

impl Inbox {
    /// The next event; waits for it. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Event {
        // `self.sender` keeps the channel of events open, so the first branch never ends.
        let letter = tokio::select! {
            biased;
            Some(event) = self.events.recv() => return event,
            Some(letter) = self.letters.recv() => letter,
        };
        self.open(letter)
    }

    /// The next event, if one is there.
    pub fn take(&mut self) -> Option<Event> {
        if let Ok(event) = self.events.try_recv() {
            return Some(event);
        }
        let letter = self.letters.try_recv().ok()?;
        Some(self.open(letter))
    }

    fn open(&mut self, letter: Letter) -> Event {
        self.callers.insert(letter.request, letter.caller);
        Event::Request { request: letter.request, ask: letter.ask }
    }

    /// Hands a reply to whoever made the request.
    pub fn answer(&mut self, request: RequestId, reply: Reply) {
        let events = reply.is_followed().then(|| self.sender.clone());
        let receipt = Receipt { request, events };
        if let Some(caller) = self.callers.remove(&request) {
            // A caller who has gone gives both back, and the receipt says so when it is dropped.
            let _ = caller.send((reply, receipt));
        }
    }
}
