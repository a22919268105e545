//! The agent's standing with its controller: registered, and heard of often enough.

use std::time::Duration;

use arroyo_node::machine::{CallError, Registration, Wall};

use super::{Reference, Window};

#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) standing: Standing,
    failures: u32,
    /// When the next heartbeat is due; `None`: at once. Nothing puts it off.
    pub(super) beat: Option<Window>,
    /// Whether a heartbeat has been drawn from the whole interval since the last return.
    scattered: bool,
    /// Whether the controller has been with the agent all the time since the last registration.
    stayed: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) enum Standing {
    /// RegisterNode is under way.
    #[default]
    Asking,
    Known,
    /// It failed, or what kept the agent known did; tried again in this time.
    Apart(Window),
}

impl Session {
    pub(super) fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Known)
    }
}

impl Reference {
    pub(super) fn registered(&mut self, taken: bool) {
        if !matches!(self.session.standing, Standing::Asking) {
            return;
        }
        if !taken {
            return self.lose_controller();
        }
        (self.session.standing, self.session.failures) = (Standing::Known, 0);
        self.heard_controller();
        let at_once = Window { from: self.now.mono, by: self.now.mono };
        let beat = self.session.beat.unwrap_or(at_once);
        let by = beat.by.max(self.now.mono);
        self.session.beat = Some(Window { by, ..beat });
        let stayed = std::mem::replace(&mut self.session.stayed, true);
        self.hurry_reports(stayed);
    }

    /// A new connection may lead to a controller that knows nobody.
    pub(super) fn connected(&mut self) {
        if self.session.is_known() {
            self.ask_to_register();
        }
    }

    pub(super) fn heartbeat_answered(&mut self, result: &Result<(), CallError>) {
        self.session.scattered &= *result != Err(CallError::NotFound);
        self.session.stayed &= *result != Err(CallError::NotFound);
        match result {
            Ok(()) => self.heard_controller(),
            Err(_) if !self.session.is_known() => {}
            Err(CallError::NotFound) => self.ask_to_register(),
            Err(CallError::Failed(_)) => self.lose_controller(),
        }
    }

    fn ask_to_register(&mut self) {
        self.session.standing = Standing::Asking;
        self.owed.register = true;
    }

    fn lose_controller(&mut self) {
        self.session.failures += 1;
        let by = self.now.mono + self.backoff(self.session.failures);
        self.session.standing = Standing::Apart(Window { from: self.now.mono, by });
        (self.session.scattered, self.session.stayed) = (false, false);
    }

    pub(super) fn heard_controller(&mut self) {
        self.fence_at = self.config.fence_after.map(|after| self.now.mono + after);
    }

    pub(super) fn sees_registration(&mut self, said: &Registration) -> Result<(), String> {
        let due = match self.session.standing {
            Standing::Apart(window) => window.from <= self.now.mono,
            Standing::Asking => self.owed.register,
            Standing::Known => false,
        };
        let Registration { machine, task_slots, address } = said;
        let meant = (&self.config.machine, self.config.task_slots, &self.config.address);
        if !due || (machine, *task_slots, address) != meant {
            return Err(format!("{said:?}: {:?}", self.session));
        }
        self.owed.register = false;
        self.session.standing = Standing::Asking;
        Ok(())
    }

    pub(super) fn sees_heartbeat(&mut self, at: Wall) -> Result<(), String> {
        let due = self.session.beat.is_some_and(|beat| beat.from <= self.now.mono);
        if !due || !self.session.is_known() || at != self.now.wall {
            return Err(format!("a heartbeat of {at:?}: {:?}", self.session));
        }
        self.session.beat = Some(self.next_beat());
        self.session.scattered = true;
        Ok(())
    }

    fn next_beat(&self) -> Window {
        let (every, jitter) = (self.config.heartbeat_every, self.config.heartbeat_jitter);
        if !self.session.scattered {
            return Window { from: self.now.mono, by: self.now.mono + every };
        }
        let earliest = every.checked_sub(jitter).unwrap_or(Duration::ZERO);
        Window { from: self.now.mono + earliest, by: self.now.mono + every + jitter }
    }
}
