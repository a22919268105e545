//! How a client gets a shim that works, keeps it, and replaces it.

use std::time::Duration;

use super::{
    super::{
        LinkId, protocol,
        protocol::{Request, RequestKind},
        watchdog::{BACKUP_INTERVAL, Step},
    },
    Client, ClientAction, ClientOutput, LogLevel, Next, ShimError, State,
};
use crate::machine::{Backoff, Mono};

/// Pauses between two attempts to connect to a shim that lives, and between two looks at one that
/// was killed.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
const KILL_PAUSE: Duration = Duration::from_millis(10);
/// Between two attempts to get a shim that works.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };
/// How much longer than the timeout an answer is waited for: what gives it has that timeout, too.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// How often a shim is started anew before the first connection, if it ends at once.
const MAX_LAUNCHES: u32 = 3;

impl Client {
    /// Asks for something; the answer leads out of this state.
    fn ask(&mut self, now: Mono, state: State, action: ClientAction, out: &mut ClientOutput) {
        self.state = state;
        self.answer_by = now + self.settings.timeout + ANSWER_SLACK;
        out.push_back(action);
    }

    pub(super) fn connect(&mut self, now: Mono, out: &mut ClientOutput) {
        self.ask(now, State::Connecting, ClientAction::Connect, out);
    }

    pub(super) fn check_lock(&mut self, now: Mono, reason: String, out: &mut ClientOutput) {
        self.ask(now, State::CheckingLock { reason }, ClientAction::CheckLock, out);
    }

    pub(super) fn connected(&mut self, now: Mono, link: LinkId, out: &mut ClientOutput) {
        let State::Connecting = self.state else {
            return out.push_back(ClientAction::Disconnect(link));
        };
        let deadline = now + self.settings.timeout;
        self.state = State::Greeting { link, known: Vec::new(), deadline };
        out.push_back(ClientAction::Send(link, hello()));
        let list = Request::from(RequestKind::List(protocol::List {}));
        out.push_back(ClientAction::Send(link, list));
    }

    pub(super) fn refused(
        &mut self,
        now: Mono,
        link: LinkId,
        reason: String,
        out: &mut ClientOutput,
    ) {
        out.push_back(ClientAction::Disconnect(link));
        self.give_up(now, ShimError::Refused(reason), out);
    }

    /// The connection is gone; what that means, the lock will tell.
    pub(super) fn lose(&mut self, now: Mono, link: LinkId, reason: String, out: &mut ClientOutput) {
        out.push_back(ClientAction::Disconnect(link));
        match self.state {
            State::Connected { .. } => {
                let text = format!("lost the shim: {reason}; its workers live on");
                out.push_back(ClientAction::Log(LogLevel::Error, text));
                self.unsettled = true;
                self.deadline = now + self.settings.timeout;
                self.connect(now, out);
            }
            _ => self.check_lock(now, reason, out),
        }
    }

    pub(super) fn handle_lock(
        &mut self,
        now: Mono,
        held: Result<bool, String>,
        out: &mut ClientOutput,
    ) {
        let State::CheckingLock { reason } = &mut self.state else { return };
        let reason = std::mem::take(reason);
        match held {
            Ok(false) if self.launched => self.useless(now, reason, out),
            Ok(false) => self.launch(now, out),
            Ok(true) if now < self.deadline => {
                self.state = State::Waiting { until: now + CONNECT_PAUSE, next: Next::Connect };
            }
            Ok(true) => self.kill_holders(now, &reason, out),
            Err(error) => self.give_up(now, ShimError::Lock(error), out),
        }
    }

    /// The shim that was started has ended already.
    fn useless(&mut self, now: Mono, reason: String, out: &mut ClientOutput) {
        self.launched = false;
        if self.begun || self.failures >= MAX_LAUNCHES {
            return self.give_up(now, ShimError::Connect(reason), out);
        }
        self.failures += 1;
        self.launch(now, out);
    }

    fn kill_holders(&mut self, now: Mono, reason: &str, out: &mut ClientOutput) {
        let text = format!("the shim does not answer: {reason}; it is killed");
        out.push_back(ClientAction::Log(LogLevel::Warn, text));
        let deadline = now + self.settings.timeout;
        self.ask(now, State::Killing { deadline }, ClientAction::KillHolders, out);
    }

    pub(super) fn handle_killed(
        &mut self,
        now: Mono,
        left: Result<usize, String>,
        out: &mut ClientOutput,
    ) {
        let State::Killing { deadline } = self.state else { return };
        match left {
            Ok(0) => self.launch(now, out),
            Ok(_) if now < deadline => {
                let next = Next::KillAgain { deadline };
                self.state = State::Waiting { until: now + KILL_PAUSE, next };
            }
            // It may come back to life and do what it was asked: its workers are still its own.
            Ok(_) => {
                let reason = "it was killed and is still there".to_owned();
                self.give_up(now, ShimError::Stale(reason), out);
            }
            Err(error) => self.give_up(now, ShimError::Stale(error), out),
        }
    }

    /// There is no shim: its workers are looked after here, and another one is started.
    fn launch(&mut self, now: Mono, out: &mut ClientOutput) {
        if std::mem::take(&mut self.unsettled) {
            self.consult(out, |registry, then| registry.compare(&[], then));
        }
        self.ask(now, State::Launching, ClientAction::Launch, out);
    }

    pub(super) fn handle_launched(
        &mut self,
        now: Mono,
        result: Result<(), String>,
        out: &mut ClientOutput,
    ) {
        let State::Launching = self.state else { return };
        match result {
            Ok(()) => {
                self.launched = true;
                self.connect(now, out);
            }
            Err(reason) => self.give_up(now, ShimError::Start(reason), out),
        }
    }

    /// There is no shim that works. Before the first one that is the end; later it is tried again.
    fn give_up(&mut self, now: Mono, error: ShimError, out: &mut ClientOutput) {
        if !self.begun {
            self.state = State::Failed;
            return out.push_back(ClientAction::Fail(error));
        }
        self.failures = self.failures.saturating_add(1);
        let wait = BACKOFF.bound(self.failures);
        let text = format!("{error}; trying again in {wait:?}");
        out.push_back(ClientAction::Log(LogLevel::Error, text));
        let reason = error.to_string();
        self.consult(out, |registry, then| registry.give_up_starts(&reason, then));
        self.deadline = now + wait + self.settings.timeout;
        self.state = State::Waiting { until: now + wait, next: Next::Connect };
    }

    pub(super) fn handle_timeout(&mut self, now: Mono, out: &mut ClientOutput) {
        if self.backup_at.is_some_and(|at| at <= now) {
            self.backup_at = Some(now + BACKUP_INTERVAL);
            self.backup_kill(false, out);
        }
        match &mut self.state {
            State::Greeting { link, deadline, .. } if *deadline <= now => {
                let link = *link;
                out.push_back(ClientAction::Disconnect(link));
                let timeout = self.settings.timeout;
                self.kill_holders(now, &format!("no welcome within {timeout:?}"), out);
            }
            State::Connected { link, watchdog: Some(watchdog) } => {
                let link = *link;
                match watchdog.step(now, self.settings.timeout) {
                    Some(Step::Ping) => out.push_back(ClientAction::Send(link, hello())),
                    Some(Step::BackupKill { first }) => self.backup_kill(first, out),
                    Some(Step::GiveUp) => {
                        out.push_back(ClientAction::Disconnect(link));
                        self.unsettled = true;
                        let timeout = self.settings.timeout;
                        self.kill_holders(now, &format!("no message for {timeout:?}"), out);
                    }
                    None => {}
                }
            }
            State::Waiting { until, next } if *until <= now => match *next {
                Next::Connect => self.connect(now, out),
                Next::KillAgain { deadline } => {
                    self.ask(now, State::Killing { deadline }, ClientAction::KillHolders, out);
                }
            },
            State::Connecting
            | State::CheckingLock { .. }
            | State::Killing { .. }
            | State::Launching
                if self.answer_by <= now =>
            {
                self.not_answered(now, out);
            }
            _ => {}
        }
    }

    /// What was asked takes longer than anything may. Should it be answered after all, nothing is
    /// done about it.
    fn not_answered(&mut self, now: Mono, out: &mut ClientOutput) {
        let reason = "no answer in time".to_owned();
        match self.state {
            State::Connecting => self.check_lock(now, reason, out),
            State::CheckingLock { .. } => self.handle_lock(now, Err(reason), out),
            State::Killing { .. } => self.handle_killed(now, Err(reason), out),
            State::Launching => self.handle_launched(now, Err(reason), out),
            State::Greeting { .. }
            | State::Connected { .. }
            | State::Waiting { .. }
            | State::Failed => {}
        }
    }

    /// Kills that a shim would have to carry out to which there is no connection: it may be
    /// stopped, or stuck in the kernel, for ever.
    pub(super) fn plan_backup(&mut self, now: Mono) {
        let connected = matches!(self.state, State::Connected { .. });
        if connected || self.registry.kill_pending().next().is_none() {
            self.backup_at = None;
        } else {
            self.backup_at.get_or_insert(now + BACKUP_INTERVAL);
        }
    }
}

/// Answered by a welcome, whenever it is sent.
pub(super) fn hello() -> Request {
    Request::from(RequestKind::Hello(protocol::Hello {
        version: protocol::VERSION,
        lowest: protocol::LOWEST_VERSION,
        capabilities: 0,
    }))
}
