//! The agent's standing with its controller.
//!
//! ```text
//!              ┌────────── backoff over ──────────┐
//!              ▼                                  │
//!  Begin ─▶ Registering ── failed ─────────▶ Disconnected
//!              │    ▲                             ▲
//!              ok   │ unknown to the controller,  │ heartbeat failed
//!              ▼    │ or a new connection         │
//!           Registered ───────────────────────────┘
//! ```
//!
//! Losing the controller costs nothing but this state: workers, starts and stops go on.

use super::{
    Machine,
    config::SHORTEST_FENCE,
    effect::{Effect, Registration},
    event::CallError,
    step::Step,
    time::Mono,
    timers::Timer,
};

#[derive(Clone, Debug)]
pub(super) struct Session {
    state: State,
    /// Failures in a row to register or to keep registered.
    failures: u32,
    last_contact: Option<Mono>,
    /// When the next heartbeat is due; `None`: there has not been one. Neither registering nor
    /// losing the controller puts it off: a controller that already knows this node takes only
    /// heartbeats for a sign of life, and it may have known the agent that was here before.
    heartbeat_due: Option<Mono>,
    /// Whether the heartbeat after the next comes at any time within the interval: agents that came
    /// back to a controller together would otherwise beat together for minutes, and notice the next
    /// loss together.
    scattering: bool,
    /// Whether the controller has been away, or has forgotten this node, since the last registration. A new
    /// connection alone does not say so: a proxy may close one after each call, or the controller
    /// itself, over a call that it fails to take.
    returning: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Disconnected,
    Registering,
    Registered,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            state: State::Disconnected,
            failures: 0,
            last_contact: None,
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

    pub(super) fn last_contact(&self) -> Option<Mono> {
        self.last_contact
    }
}

impl Machine {
    pub(super) fn register(&mut self, step: &mut Step) {
        self.session.state = State::Registering;
        self.timers.cancel(Timer::Register);
        self.timers.cancel(Timer::Heartbeat);
        self.timers.cancel(Timer::Report);
        step.effect(Effect::Register(Registration {
            machine: self.config.machine.clone(),
            task_slots: self.config.task_slots,
            address: self.config.address.clone(),
        }));
    }

    pub(super) fn handle_registered(&mut self, result: Result<(), CallError>, step: &mut Step) {
        if self.session.state != State::Registering {
            return;
        }
        match result {
            Ok(()) => {
                self.session.state = State::Registered;
                self.session.failures = 0;
                self.heard_controller(step);
                self.resume_heartbeats(step);
                let returns = std::mem::take(&mut self.session.returning);
                self.hurry_reports(returns, step);
            }
            Err(_) => self.disconnect(step),
        }
    }

    /// The client made a new connection: who answers may be a controller that forgot this node.
    pub(super) fn handle_connected(&mut self, step: &mut Step) {
        if self.session.is_registered() {
            self.register(step);
        }
    }

    pub(super) fn send_heartbeat(&mut self, step: &mut Step) {
        step.effect(Effect::Heartbeat { at: step.now.wall });
        self.schedule_heartbeat(step);
    }

    fn schedule_heartbeat(&mut self, step: &mut Step) {
        let (every, jitter) = (self.config.heartbeat_every, self.config.heartbeat_jitter);
        let wait = if std::mem::take(&mut self.session.scattering) {
            self.dice.scattered_heartbeat(every)
        } else {
            self.dice.heartbeat(every, jitter)
        };
        let due = step.now.mono + wait;
        self.session.heartbeat_due = Some(due);
        self.timers.set(Timer::Heartbeat, due);
    }

    fn resume_heartbeats(&mut self, step: &mut Step) {
        let due = self.session.heartbeat_due.unwrap_or(step.now.mono);
        self.timers.set(Timer::Heartbeat, due.max(step.now.mono));
    }

    pub(super) fn handle_heartbeat_answered(
        &mut self,
        result: Result<(), CallError>,
        step: &mut Step,
    ) {
        match result {
            Ok(()) => self.heard_controller(step),
            Err(CallError::NotFound) => self.handle_forgotten(step),
            // The answer to a heartbeat sent before the registration that is under way, or before
            // the connection was given up, says nothing new.
            Err(CallError::Failed(_)) if !self.session.is_registered() => {}
            Err(CallError::Failed(_)) => self.disconnect(step),
        }
    }

    /// The controller has lost its memory, of this agent and probably of all. That may be known by
    /// a new connection already, and the registration be under way.
    fn handle_forgotten(&mut self, step: &mut Step) {
        self.session.scattering = true;
        self.session.returning = true;
        if self.session.is_registered() {
            self.register(step);
        }
    }

    fn disconnect(&mut self, step: &mut Step) {
        self.session.state = State::Disconnected;
        self.session.scattering = true;
        self.session.returning = true;
        self.session.failures = self.session.failures.saturating_add(1);
        self.timers.cancel(Timer::Heartbeat);
        self.timers.cancel(Timer::Report);
        let wait = self.dice.registration(self.config.backoff.bound(self.session.failures));
        self.timers.set(Timer::Register, step.now.mono + wait);
    }

    /// The controller has answered, and well.
    pub(super) fn heard_controller(&mut self, step: &mut Step) {
        self.session.last_contact = Some(step.now.mono);
        self.postpone_fence(step);
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
