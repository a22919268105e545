//! What an agent does about its shim.
//!
//! ```text
//!            ┌──────────────────────────── the connection ends ─────────────┐
//!            ▼                                                              │
//!       Connecting ── connected ─▶ Greeting ── the list is complete ─▶ Connected
//!         │ refused                   │ no answer in time                   │ silent for too long
//!         ▼                           ▼                                     ▼
//!      CheckingLock ─ held too long ─▶ Killing (what holds the lock) ◀──────┘
//!         │ free: there is no shim        │ nothing holds it any more
//!         ▼                               ▼
//!      its workers are taken over by the local supervisor; Launching ─▶ Connecting
//! ```
//!
//! Whatever waits for an answer gives up waiting for it, and a late answer changes nothing: each
//! state but `Failed` has a way out. While there is no connection, what the shim is to kill is
//! killed for it.
//!
//! **Only a free lock says that there is no shim.** A connection may be refused although it lives;
//! were its workers taken over then, two would look after them.

mod connection;
mod io;
mod messages;

use std::collections::VecDeque;

pub use self::io::{ClientAction, ClientInput, ClientSettings, Known, LogLevel, ShimError};
use super::{
    LinkId, label, payload,
    registry::{Consequences, Registry},
    watchdog::Watchdog,
};
use crate::{
    machine::{Event, Launch, Mono},
    supervisor::Notice,
};

/// The decisions about one shim.
#[derive(Debug)]
pub struct Client {
    settings: ClientSettings,
    state: State,
    registry: Registry,
    /// Whether a shim has been connected to, ever.
    begun: bool,
    /// Whether the workers of the shim that was connected are still to be looked after by someone.
    unsettled: bool,
    /// When a shim that has the lock and cannot be connected to is killed.
    deadline: Mono,
    /// Whether a shim was started that has not been connected to yet.
    launched: bool,
    /// Attempts in a row that brought no shim that works.
    failures: u32,
    /// When what was asked last counts as failed, if it is not answered.
    answer_by: Mono,
    /// While there is no connection: when to kill next in the shim's place.
    backup_at: Option<Mono>,
}

#[derive(Debug)]
enum State {
    Connecting,
    Greeting { link: LinkId, known: Vec<Known>, deadline: Mono },
    Connected { link: LinkId, watchdog: Option<Watchdog> },
    CheckingLock { reason: String },
    Killing { deadline: Mono },
    Launching,
    Waiting { until: Mono, next: Next },
    Failed,
}

/// What a wait is for.
#[derive(Clone, Copy, Debug)]
enum Next {
    Connect,
    KillAgain { deadline: Mono },
}

/// What comes of an input of a client.
pub type ClientOutput = VecDeque<ClientAction>;

impl Client {
    /// A client that looks for its shim at once.
    pub fn new(settings: ClientSettings, now: Mono, out: &mut ClientOutput) -> Self {
        let mut this = Self {
            deadline: now + settings.timeout,
            settings,
            state: State::Connecting,
            registry: Registry::default(),
            begun: false,
            unsettled: false,
            launched: false,
            failures: 0,
            answer_by: now,
            backup_at: None,
        };
        this.connect(now, out);
        this
    }

    /// Takes in one input.
    pub fn handle(&mut self, now: Mono, input: ClientInput, out: &mut ClientOutput) {
        match input {
            ClientInput::Start(launch) => self.start(&launch, out),
            ClientInput::Adopt(worker, process) => {
                self.consult(out, |registry, then| registry.adopt(worker, process, then));
            }
            ClientInput::Signal(worker, signal) => {
                self.consult(out, |registry, then| registry.signal(worker, signal, then));
            }
            ClientInput::Release(worker) => self.registry.release(worker),
            ClientInput::Local(notice) => self.handle_local(notice, out),
            ClientInput::Connected(link) => self.connected(now, link, out),
            ClientInput::ConnectFailed(reason) => {
                if let State::Connecting = self.state {
                    self.check_lock(now, reason, out);
                }
            }
            ClientInput::Received(link, received) if self.is_current(link) => match received {
                Ok(response) => self.handle_response(now, link, response, out),
                Err(error) => self.lose(now, link, error, out),
            },
            ClientInput::Disconnected(link, reason) if self.is_current(link) => {
                self.lose(now, link, reason, out);
            }
            ClientInput::Received(..) | ClientInput::Disconnected(..) => {}
            ClientInput::LockChecked(held) => self.handle_lock(now, held, out),
            ClientInput::HoldersKilled(left) => self.handle_killed(now, left, out),
            ClientInput::Launched(result) => self.handle_launched(now, result, out),
            ClientInput::Timeout => self.handle_timeout(now, out),
        }
        self.send_orders(now, out);
    }

    /// When [`ClientInput::Timeout`] is due.
    pub fn next_timeout(&self) -> Option<Mono> {
        let of_state = match &self.state {
            State::Greeting { deadline, .. } => Some(*deadline),
            State::Connected { watchdog, .. } => watchdog.map(Watchdog::next_at),
            State::Waiting { until, .. } => Some(*until),
            State::Connecting
            | State::CheckingLock { .. }
            | State::Killing { .. }
            | State::Launching => Some(self.answer_by),
            State::Failed => None,
        };
        of_state.into_iter().chain(self.backup_at).min()
    }

    fn is_current(&self, link: LinkId) -> bool {
        match self.state {
            State::Greeting { link: current, .. } | State::Connected { link: current, .. } => {
                current == link
            }
            _ => false,
        }
    }

    fn start(&mut self, launch: &Launch, out: &mut ClientOutput) {
        let worker = launch.worker;
        let payload = self.settings.template.spec(launch).and_then(|spec| {
            let payload = payload::encode(&spec, label::write(launch));
            payload.map_err(|reason| self.settings.template.spawn_error(&reason))
        });
        match payload {
            Ok(payload) => self.registry.start(worker, payload),
            Err(error) => out.push_back(ClientAction::Tell(Event::SpawnFailed { worker, error })),
        }
    }

    /// Has the registry decide, and does what comes of it.
    fn consult(
        &mut self,
        out: &mut ClientOutput,
        decide: impl FnOnce(&mut Registry, &mut Consequences),
    ) {
        let mut then = Consequences::default();
        decide(&mut self.registry, &mut then);
        let failed = then.failed.into_iter().map(|(worker, reason)| Event::SpawnFailed {
            worker,
            error: self.settings.template.spawn_error(&reason),
        });
        out.extend(then.events.into_iter().chain(failed).map(ClientAction::Tell));
        out.extend(then.local.into_iter().map(ClientAction::Local));
    }

    fn handle_local(&mut self, notice: Notice, out: &mut ClientOutput) {
        if let Notice::Ended { worker, .. }
        | Notice::NeverRan(worker)
        | Notice::StartFailed { worker, .. } = notice
        {
            self.registry.local_ended(worker);
        }
        let template = &self.settings.template;
        let event = notice.into_event(|reason| template.spawn_error(reason));
        out.extend(event.map(ClientAction::Tell));
    }
}
