//! The agent's standing with its controller.
//!
//! ```text
//!             ┌─────────────── backoff over, or an answer after all ──────────────┐
//!             ▼                                                                   │
//!  Begin ─▶ Probing ── failed ───────────────────────────────────────────▶ Disconnected
//!             │   ▲                                                            ▲
//!             │   └── the connection is lost, and the next call is due ──┐     │
//!             ├─ knows this node ─────────▶ Registering ── done ─▶ Registered ─┤ heartbeat failed
//!             │                                 ▲                     │        │
//!             └─ has forgotten it ──▶ Clearing ─┘◀── has forgotten it ┘        │
//!                                       │                                      │
//!                                       └── must not register now ─▶ Withheld ─┘
//! ```
//!
//! The first call on a new connection is a heartbeat, the probe: its answer alone tells whether the
//! controller still knows this node (a registration always succeeds). What follows from having been
//! forgotten is in `abandoned.rs`. Losing the controller costs nothing but this state: workers,
//! starts and stops go on.

use std::time::Duration;

use super::{
    Machine,
    config::SHORTEST_FENCE,
    effect::{Effect, Heartbeat, Registration},
    event::{CallError, Loss},
    record::Record,
    step::Step,
    time::Mono,
    timers::Timer,
};

/// How often at most the time at which the controller last knew this node is recorded.
const RECORD_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Session {
    state: State,
    /// Failures in a row to reach the controller, or to keep in touch.
    failures: u32,
    last_contact: Option<Mono>,
    /// The latest time at which the controller certainly knew this node: when a heartbeat was sent
    /// that it answered, or the registration after it had forgotten this node.
    known_at: Option<Mono>,
    /// What the journal has of that.
    recorded_at: Option<Mono>,
    /// Since then the controller's computer has refused or closed a connection.
    closed: bool,
    /// The connection is lost, and no probe has been sent since.
    unconnected: bool,
    /// When the registration under way was sent, if the controller did not know this node.
    introduced_at: Option<Mono>,
    /// Whether a registration of this agent's has been sent to a controller that was there.
    registered_once: bool,
    /// When the next heartbeat is due; `None`: there has not been one. Neither registering nor
    /// losing the controller puts it off: a controller that already knows this node takes only
    /// heartbeats for a sign of life, and it may have known the agent that was here before.
    heartbeat_due: Option<Mono>,
    /// Whether the next heartbeat comes at any time within the interval: agents that came back to a
    /// controller together would otherwise beat together for minutes, and notice the next loss
    /// together.
    scattering: bool,
    /// Whether the controller has been away, or has forgotten this node, since the last
    /// registration. A new connection alone does not say so: a proxy may close one after each call,
    /// or the controller itself, over a call that it fails to take.
    returning: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Waits for its backoff.
    Disconnected,
    /// A heartbeat is under way that asks whether the controller knows this node.
    Probing,
    /// It does not: abandoned workers are being killed before the registration.
    Clearing,
    /// It does not, and must not hear of this node now. Reports go out, heartbeats go on.
    Withheld,
    Registering,
    Registered,
}

impl Session {
    pub(super) fn new(known_at: Option<Mono>) -> Self {
        Self {
            state: State::Disconnected,
            failures: 0,
            last_contact: known_at,
            known_at,
            recorded_at: known_at,
            closed: false,
            unconnected: true,
            introduced_at: None,
            registered_once: false,
            heartbeat_due: None,
            scattering: true,
            returning: true,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn is_registered(&self) -> bool {
        self.state == State::Registered
    }

    /// Whether this agent has never registered, though the controller knows its node.
    pub(super) fn is_unannounced(&self) -> bool {
        self.is_registered() && !self.registered_once
    }

    /// Whether the controller is there to be called.
    pub(super) fn is_in_touch(&self) -> bool {
        matches!(self.state, State::Registered | State::Withheld)
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.unconnected
    }

    pub(super) fn last_contact(&self) -> Option<Mono> {
        self.last_contact
    }

    pub(super) fn known_at(&self) -> Option<Mono> {
        self.known_at
    }

    /// Whether the controller's computer has refused or closed a connection since it last knew
    /// this node.
    pub(super) fn saw_close(&self) -> bool {
        self.closed
    }
}

impl Machine {
    /// Asks whether the controller knows this node, as the first call on a new connection.
    pub(super) fn probe(&mut self, step: &mut Step) {
        self.enter(State::Probing);
        self.session.unconnected = false;
        self.session.heartbeat_due = Some(self.next_heartbeat(step));
        step.effect(Effect::Heartbeat(Heartbeat { sent: step.now, probe: true }));
    }

    /// Leaves a state, and the timers that belong to it.
    pub(super) fn enter(&mut self, state: State) {
        for timer in [Timer::Probe, Timer::Register, Timer::Heartbeat, Timer::Report] {
            self.timers.cancel(timer);
        }
        self.session.state = state;
    }

    /// RegisterNode to a controller that knows this node (it may want to know it better), or not.
    pub(super) fn register(&mut self, is_known: bool, step: &mut Step) {
        self.enter(State::Registering);
        self.session.introduced_at = (!is_known).then_some(step.now.mono);
        step.effect(Effect::Register(Registration {
            machine: self.config.machine.clone(),
            task_slots: self.config.task_slots,
            address: self.config.address.clone(),
            reconnect: !is_known,
        }));
    }

    pub(super) fn handle_registered(&mut self, result: Result<(), CallError>, step: &mut Step) {
        if self.session.state != State::Registering {
            return;
        }
        self.session.registered_once |= matches!(&result, Ok(()) | Err(CallError::NotConnected));
        match result {
            Ok(()) => {
                self.heard_controller(step);
                if let Some(at) = self.session.introduced_at {
                    self.controller_knew(at, step);
                }
                self.stay_in_touch(State::Registered, step);
            }
            // A courtesy that was in vain: this controller had said that it knows this node.
            Err(CallError::NotConnected) if self.session.introduced_at.is_none() => {
                self.stay_in_touch(State::Registered, step);
            }
            Err(_) => self.disconnect(step),
        }
    }

    /// The controller is there: heartbeats and reports go on.
    pub(super) fn stay_in_touch(&mut self, state: State, step: &mut Step) {
        self.enter(state);
        self.session.failures = 0;
        let due = self.session.heartbeat_due.unwrap_or(step.now.mono);
        self.timers.set(Timer::Heartbeat, due.max(step.now.mono));
        let returns = std::mem::take(&mut self.session.returning);
        self.hurry_reports(returns, step);
    }

    pub(super) fn handle_connection_lost(&mut self, loss: Loss) {
        self.session.unconnected = true;
        self.session.closed |= loss == Loss::Closed;
    }

    /// The heartbeat is due. Where the connection is lost it is the first call on the next one.
    pub(super) fn send_heartbeat(&mut self, step: &mut Step) {
        if !self.session.is_connected() {
            return self.probe(step);
        }
        step.effect(Effect::Heartbeat(Heartbeat { sent: step.now, probe: false }));
        let due = self.next_heartbeat(step);
        self.session.heartbeat_due = Some(due);
        self.timers.set(Timer::Heartbeat, due);
    }

    fn next_heartbeat(&mut self, step: &Step) -> Mono {
        let (every, jitter) = (self.config.heartbeat_every, self.config.heartbeat_jitter);
        let wait = if std::mem::take(&mut self.session.scattering) {
            self.dice.scattered_heartbeat(every)
        } else {
            self.dice.heartbeat(every, jitter)
        };
        step.now.mono + wait
    }

    pub(super) fn handle_heartbeat_answered(
        &mut self,
        heartbeat: Heartbeat,
        result: Result<(), CallError>,
        step: &mut Step,
    ) {
        if result.is_ok() {
            self.heard_controller(step);
            self.controller_knew(heartbeat.sent.mono, step);
        }
        // While a probe is under way, only its answer counts: others may be the last words of a
        // controller that is gone.
        let counts = match self.session.state {
            State::Probing => heartbeat.probe,
            state => state == State::Registered || state == State::Withheld,
        };
        if !counts {
            return;
        }
        match result {
            Ok(()) if self.session.is_registered() => {}
            Ok(()) if heartbeat.probe && self.may_register() => self.register(true, step),
            Ok(()) => self.stay_in_touch(State::Registered, step),
            Err(CallError::NotFound) => self.handle_forgotten(step),
            Err(CallError::Failed(_) | CallError::NotConnected) => self.disconnect(step),
        }
    }

    /// The controller is there after all: no need to wait for the backoff.
    pub(super) fn handle_late_answer(&mut self, step: &mut Step) {
        if self.session.state == State::Disconnected && self.begun {
            self.probe(step);
        }
    }

    /// The controller has lost its memory of this agent, and probably of all.
    fn handle_forgotten(&mut self, step: &mut Step) {
        if self.session.state != State::Withheld {
            self.session.scattering = true;
            self.session.returning = true;
        }
        self.abandon_workers(step);
    }

    fn disconnect(&mut self, step: &mut Step) {
        self.enter(State::Disconnected);
        self.session.scattering = true;
        self.session.returning = true;
        self.session.failures = self.session.failures.saturating_add(1);
        let wait = self.dice.registration(self.config.backoff.bound(self.session.failures));
        self.timers.set(Timer::Probe, step.now.mono + wait);
    }

    /// The controller has answered, and well.
    pub(super) fn heard_controller(&mut self, step: &mut Step) {
        self.session.last_contact = Some(step.now.mono);
        self.postpone_fence(step);
    }

    /// The controller had this node in its books at some time from `at` on.
    fn controller_knew(&mut self, at: Mono, step: &mut Step) {
        self.session.closed = false;
        let latest = self.session.known_at.map_or(at, |known| known.max(at));
        self.session.known_at = Some(latest);
        if self.session.recorded_at.is_none_or(|noted| latest.since(noted) >= RECORD_EVERY) {
            self.session.recorded_at = Some(latest);
            self.record(Record::KnownAt(latest), step);
        }
    }

    /// The record of it in a journal that is written anew.
    pub(super) fn known_at_record(&mut self) -> Option<Record> {
        self.session.recorded_at = self.session.known_at;
        self.session.known_at.map(Record::KnownAt)
    }

    /// Without a controller for this long, the workers are stopped, if the operator wishes so.
    pub(super) fn postpone_fence(&mut self, step: &mut Step) {
        if let Some(after) = self.config.fence_after {
            self.timers.set(Timer::Fence, step.now.mono + after.max(SHORTEST_FENCE));
        }
    }

    pub(super) fn fence(&mut self, step: &mut Step) {
        let kill_at = step.now.mono + self.config.kill_after;
        self.stop_all(kill_at, step);
        // Whatever is started meanwhile gets the same time.
        self.postpone_fence(step);
    }
}
