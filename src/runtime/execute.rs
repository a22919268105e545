//! Effects to ports: one exhaustive match.

use super::ports::{Controller, Processes};
use crate::{
    machine::{Effect, Report},
    mailbox::Inbox,
};

pub(super) struct Executor {
    pub(super) inbox: Inbox,
    pub(super) processes: Box<dyn Processes>,
    pub(super) controller: Box<dyn Controller>,
    pub(super) announce: Box<dyn FnMut(Report) + Send>,
}

impl Executor {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { request, reply } => self.inbox.answer(request, reply),
            Effect::Spawn(launch) => self.processes.spawn(launch),
            Effect::Adopt { worker, process } => self.processes.adopt(worker, process),
            Effect::Signal { worker, signal } => self.processes.signal(worker, signal),
            Effect::Release(worker) => self.processes.release(worker),
            Effect::Discard(worker) => self.processes.discard(worker),
            Effect::Register(registration) => self.controller.register(registration),
            Effect::Heartbeat(heartbeat) => self.controller.heartbeat(heartbeat),
            Effect::Report(report) => self.controller.report(report),
            Effect::Announce(report) => (self.announce)(report),
            // The driver ends by itself.
            Effect::Finish => {}
        }
    }
}
