//! The agent's standing with its controller: known to it, registered, and heard of often enough;
//! and what follows if the controller has forgotten this node.

use std::time::Duration;

use arroyo_node::{
    ids::WorkerId,
    machine::{AbandonedPolicy, CallError, Heartbeat, Loss, Mono, Registration, StartError},
};

use super::{Reference, Window};

/// A controller that goes on forgets no node that was heard less than this ago.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// How long a registration waits for killed workers.
const CLEARING: Duration = Duration::from_secs(2);
/// How often the time at which the controller last knew this node is recorded.
const RECORDED_EVERY: Duration = Duration::from_secs(10);

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
    /// Whether this agent has registered with a controller that was there.
    announced: bool,
    /// Whether a call would find a connection, for all the agent was told.
    connected: bool,
    /// Whether the controller's computer has refused or closed one since it last knew this node.
    closed: bool,
    /// When it last knew this node, and what of that is recorded.
    known_at: Option<Mono>,
    pub(super) recorded: Option<Mono>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum Standing {
    /// A heartbeat is under way that asks whether this node is known.
    #[default]
    Probing,
    /// It is not, and abandoned workers are to be gone before it is: until then at most.
    Clearing(Mono),
    /// It is not, and cannot be made so now.
    Withheld,
    /// RegisterNode is under way; if the controller did not know this node, since when.
    Asking(Option<Mono>),
    Known,
    /// Something of that failed; tried again in this time.
    Apart(Window),
}

impl Session {
    /// Of an agent whose predecessor recorded this.
    pub(super) fn after(recorded: Option<Mono>) -> Self {
        Self { known_at: recorded, recorded, ..Self::default() }
    }

    pub(super) fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Known)
    }

    /// Whether heartbeats and reports go out.
    pub(super) fn is_in_touch(&self) -> bool {
        matches!(self.standing, Standing::Known | Standing::Withheld)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// The journal is written anew.
    pub(super) fn record(&mut self) {
        self.recorded = self.known_at;
    }
}

impl Reference {
    pub(super) fn registered(&mut self, result: &Result<(), CallError>) {
        let Standing::Asking(introduced) = self.session.standing else { return };
        self.session.announced |= matches!(result, Ok(()) | Err(CallError::NotConnected));
        match result {
            Ok(()) => {
                self.heard_controller();
                if let Some(at) = introduced {
                    self.was_known(at);
                }
            }
            // It was known all the same.
            Err(CallError::NotConnected) if introduced.is_none() => {}
            Err(_) => return self.lose_controller(),
        }
        self.keep_in_touch(Standing::Known);
    }

    fn keep_in_touch(&mut self, standing: Standing) {
        (self.session.standing, self.session.failures) = (standing, 0);
        let at_once = Window { from: self.now.mono, by: self.now.mono };
        let beat = self.session.beat.unwrap_or(at_once);
        let by = beat.by.max(self.now.mono);
        self.session.beat = Some(Window { by, ..beat });
        let stayed = std::mem::replace(&mut self.session.stayed, true);
        self.hurry_reports(stayed);
    }

    pub(super) fn connection_lost(&mut self, loss: Loss) {
        self.session.connected = false;
        self.session.closed |= loss == Loss::Closed;
    }

    pub(super) fn heartbeat_answered(
        &mut self,
        heartbeat: &Heartbeat,
        result: &Result<(), CallError>,
    ) {
        if result.is_ok() {
            self.heard_controller();
            self.was_known(heartbeat.sent.mono);
        }
        let probed = matches!(self.session.standing, Standing::Probing) && heartbeat.probe;
        if !probed && !self.session.is_in_touch() {
            return;
        }
        match result {
            Ok(()) if self.session.is_known() => {}
            Ok(()) if probed && self.may_register() => self.ask_to_register(None),
            Ok(()) => self.keep_in_touch(Standing::Known),
            Err(CallError::NotFound) => self.forgotten(),
            Err(CallError::Failed(_) | CallError::NotConnected) => self.lose_controller(),
        }
    }

    pub(super) fn answered_late(&mut self) {
        if matches!(self.session.standing, Standing::Apart(_)) {
            self.owed.probe = true;
        }
    }

    /// No controller knows of this node or its workers.
    fn forgotten(&mut self) {
        if !matches!(self.session.standing, Standing::Withheld) {
            (self.session.scattered, self.session.stayed) = (false, false);
        }
        self.refuse_waiting(|_, _| Some(StartError::Forgotten));
        let now = self.now.mono;
        let recent = self.session.known_at.is_some_and(|at| now.since(at) < REMEMBERED_FOR);
        let at_once = match self.config.abandoned {
            AbandonedPolicy::StopAfter(_) => self.session.closed || recent,
            AbandonedPolicy::End => true,
            AbandonedPolicy::Keep => false,
        };
        let live: Vec<WorkerId> =
            self.workers.iter().filter(|worker| worker.is_live()).map(|it| it.id).collect();
        for id in &live {
            let index = self.position(*id).expect("it is listed");
            self.workers[index].abandoned_at.get_or_insert(now);
            if at_once {
                self.tell_to_end(*id, Some(now));
            }
        }
        match at_once && !live.is_empty() {
            true => self.session.standing = Standing::Clearing(now + CLEARING),
            false => self.introduce(),
        }
    }

    /// What nothing speaks against any more is done.
    pub(super) fn introduce_when_possible(&mut self) {
        let due = match self.session.standing {
            Standing::Clearing(until) => {
                until <= self.now.mono && self.is_timeout || !self.has_abandoned()
            }
            Standing::Withheld => self.may_register(),
            Standing::Known if !self.session.announced && self.may_register() => {
                return self.ask_to_register(None);
            }
            _ => false,
        };
        if due {
            self.introduce();
        }
    }

    pub(super) fn introduce(&mut self) {
        match self.may_register() {
            true => self.ask_to_register(Some(self.now.mono)),
            false => self.keep_in_touch(Standing::Withheld),
        }
    }

    /// A node without a program for workers stays unknown, and one whose journal cannot keep which
    /// of its workers nobody counts.
    fn may_register(&self) -> bool {
        self.program.is_none() && (self.journal.is_none() || !self.has_abandoned())
    }

    fn has_abandoned(&self) -> bool {
        self.workers.iter().any(|worker| worker.is_live() && worker.abandoned_at.is_some())
    }

    fn ask_to_register(&mut self, introduced: Option<Mono>) {
        self.session.standing = Standing::Asking(introduced);
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

    fn was_known(&mut self, at: Mono) {
        self.session.closed = false;
        let latest = self.session.known_at.max(Some(at));
        self.session.known_at = latest;
        let old = |recorded| latest.is_some_and(|at| at.since(recorded) >= RECORDED_EVERY);
        if self.session.recorded.is_none_or(old) {
            self.session.recorded = latest;
        }
    }

    pub(super) fn sees_registration(&mut self, said: &Registration) -> Result<(), String> {
        let Registration { machine, task_slots, address, reconnect } = said;
        let meant = (&self.config.machine, self.config.task_slots, &self.config.address);
        let due = match self.session.standing {
            Standing::Asking(introduced) => {
                self.owed.register && *reconnect == introduced.is_some()
            }
            _ => false,
        };
        if !due || (machine, *task_slots, address) != meant {
            return Err(format!("P9, P15: {said:?}: {:?}", self.session));
        }
        self.owed.register = false;
        Ok(())
    }

    pub(super) fn sees_heartbeat(&mut self, seen: &Heartbeat) -> Result<(), String> {
        let now = self.now.mono;
        let beat_due = self.session.beat.is_some_and(|beat| beat.from <= now);
        let in_touch = self.session.is_in_touch();
        let due = match (&self.session.standing, seen.probe) {
            (_, true) if self.owed.probe => true,
            (Standing::Apart(window), true) => window.from <= now,
            (_, true) => in_touch && !self.session.connected && (beat_due || self.could_report()),
            (_, false) => in_touch && self.session.connected && beat_due,
        };
        if !due || seen.sent != self.now {
            return Err(format!("{seen:?}: {:?}", self.session));
        }
        self.session.beat = Some(self.next_beat());
        self.session.scattered = true;
        if seen.probe {
            self.owed.probe = false;
            (self.session.standing, self.session.connected) = (Standing::Probing, true);
        }
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
