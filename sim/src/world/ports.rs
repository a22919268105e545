//! The ports of an agent, looked at: the same calls, recorded as they pass.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arroyo_node::{
    ids::{RequestId, WorkerId},
    machine::{
        Ask, CallError, Commit, Effect, Event, Heartbeat, Now, Registration, Reply, Report, Start,
        StartError, View,
    },
    runtime::{
        journal::SqliteJournal,
        metrics::Metrics,
        observer::Observers,
        ports::{Controller, Journal, JournalError, Observer},
    },
};

use super::links::Links;
use crate::{
    fact::{Fact, Place},
    recorder::Recorder,
};

/// The disk of one machine. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Option<&'static str>>>);

impl Disk {
    /// Takes no writes from now on, for this reason; or takes them again.
    pub(super) fn set(&self, error: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn error(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The real journal on a disk that fails by plan.
pub(super) struct WatchedJournal {
    /// The real one.
    pub inner: SqliteJournal,
    /// What it lies on.
    pub disk: Disk,
    /// Commits until the next checkpoint, and from then to the one after it.
    pub checkpoint: (u32, u32),
    /// Whose it is.
    pub agent: usize,
    /// Who looks on.
    pub recorder: Recorder,
}

impl Journal for WatchedJournal {
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
        let place = Place::Agent(self.agent);
        let result = match self.disk.error() {
            Some(error) => Err(JournalError(error.to_owned())),
            None => self.inner.commit(commit),
        };
        match &result {
            Ok(()) => self.recorder.note(place, Fact::Committed(commit.clone())),
            Err(_) => self.recorder.note(place, Fact::NotCommitted),
        }
        self.checkpoint.0 = self.checkpoint.0.saturating_sub(1);
        if self.checkpoint.0 == 0 && self.disk.error().is_none() {
            self.checkpoint.0 = self.checkpoint.1;
            if let Err(error) = self.inner.checkpoint() {
                self.recorder.fail("journal", format!("a checkpoint failed: {error}"));
            }
        }
        result
    }
}

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
    production: Observers,
    /// StopWorkers that are not answered yet.
    stops: BTreeMap<RequestId, WorkerId>,
    /// StartWorkers that are not answered yet.
    starts: BTreeMap<RequestId, Start>,
}

impl Watcher {
    /// Looks on at one life of an agent.
    pub(super) fn new(agent: usize, recorder: Recorder, links: Links) -> Self {
        let production = Observers::new(Arc::new(Metrics::new()));
        Self { agent, recorder, links, production, stops: BTreeMap::new(), starts: BTreeMap::new() }
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
        self.production.commit(took, result);
    }

    fn batch(&mut self, events: usize) {
        self.production.batch(events);
    }

    fn view(&mut self, view: &Arc<View>) {
        self.production.view(view);
    }
}
