//! The ports of an agent, looked at: the same calls, recorded as they pass.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{
        Ask, CallError, Effect, Event, Heartbeat, Now, Registration, Reply, Report, Start,
        StartError, View,
    },
    runtime::{
        metrics::Metrics,
        observer::Observers,
        ports::{Controller, JournalError, Observer},
    },
};

use super::{disk::Disk, links::Links};
use crate::{
    fact::{Fact, Place},
    recorder::Recorder,
};

/// The real calls to the controller.
pub(super) struct WatchedController<C> {
    /// The real port.
    pub inner: C,
    /// Whose it is.
    pub agent: usize,
    /// Who looks on.
    pub recorder: Recorder,
}

impl<C: Controller> Controller for WatchedController<C> {
    fn register(&mut self, registration: Registration) {
        let fact = Fact::Registers(registration.clone());
        self.recorder.note(Place::Agent(self.agent), fact);
        self.inner.register(registration);
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) {
        let fact = Fact::Heartbeats { probe: heartbeat.probe };
        self.recorder.note(Place::Agent(self.agent), fact);
        self.inner.heartbeat(heartbeat);
    }

    fn report(&mut self, report: Report) {
        self.recorder.note(Place::Agent(self.agent), Fact::Reports(report.clone()));
        self.inner.report(report);
    }
}

/// Production's log and metrics, and the trace.
pub(super) struct Watcher {
    agent: usize,
    recorder: Recorder,
    links: Links,
    disk: Disk,
    production: Observers,
    /// StopWorkers that are not answered yet.
    stops: BTreeMap<RequestId, WorkerId>,
    /// StartWorkers that are not answered yet.
    starts: BTreeMap<RequestId, Start>,
}

impl Watcher {
    /// Looks on at one life of an agent.
    pub(super) fn new(agent: usize, recorder: Recorder, links: Links, disk: Disk) -> Self {
        let production = Observers::new(Arc::new(Metrics::new()));
        let (stops, starts) = (BTreeMap::new(), BTreeMap::new());
        Self { agent, recorder, links, disk, production, stops, starts }
    }

    fn note(&self, fact: Fact) {
        self.recorder.note(Place::Agent(self.agent), fact);
    }
}

impl Observer for Watcher {
    fn event(&mut self, now: Now, event: &Event) {
        self.production.event(now, event);
        match event {
            Event::Request { request, ask: Ask::Start(start) } => {
                let mut start = start.clone();
                start.env.clear();
                self.starts.insert(*request, start.clone());
                self.note(Fact::Asked(Ask::Start(start)));
            }
            Event::Request { request, ask } => {
                if let Ask::Stop { worker, .. } = ask {
                    self.stops.insert(*request, *worker);
                }
                self.note(Fact::Asked(ask.clone()));
            }
            Event::Shutdown(how) => self.note(Fact::Told(*how)),
            Event::ReportAnswered { worker, result: Ok(()) } => {
                self.note(Fact::Acknowledged(*worker));
            }
            Event::ConnectionLost(loss) => self.note(Fact::ConnectionLost(*loss)),
            Event::LateAnswer => self.note(Fact::LateAnswer),
            Event::HeartbeatAnswered { result: Err(CallError::NotFound), .. } => {
                self.note(Fact::ToldForgotten);
            }
            _ => {}
        }
    }

    fn effect(&mut self, now: Now, effect: &Effect) {
        self.production.effect(now, effect);
        if let Effect::Reply { request, reply } = effect {
            if let Reply::Stopped(status) = reply
                && let Some(worker) = self.stops.remove(request)
            {
                return self.note(Fact::StopAnswered(worker, *status));
            }
            let start = self.starts.remove(request);
            if let Reply::Started(Err(StartError::NotEnoughSlots { .. })) = reply {
                self.note(Fact::FoundNoRoom(start));
            }
            self.note(Fact::Answered(reply.clone()));
            if matches!(reply, Reply::Started(Ok(_))) {
                self.links.start_answered(self.agent, &self.recorder);
            }
        }
    }

    fn commit(&mut self, took: Duration, result: Result<(), &JournalError>) {
        if result.is_err() {
            self.disk.give_up();
            self.note(Fact::NotCommitted);
        }
        self.production.commit(took, result);
    }

    fn batch(&mut self, events: usize) {
        self.production.batch(events);
    }

    fn view(&mut self, view: &Arc<View>) {
        self.production.view(view);
    }
}
