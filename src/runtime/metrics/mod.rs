//! Metrics, in a registry of their own so that several agents fit in one process.
//!
//! Nothing in the machine counts: what happened is read off the events that go in, the effects that
//! are executed and the views that come out. The driver calls
//!
//! ```text
//! observe_event(&event)     for every event, before the machine handles it
//! batch(n)                  after a batch of n events
//! commit(took, ok)          after a commit
//! observe_effect(&effect)   for every effect, before it is executed
//! observe_view(&view)       for every new view
//! ```
//!
//! | `arroyo_node_…` | kind | what |
//! |---|---|---|
//! | `running_workers` | gauge | workers that hold slots (the name is stock Arroyo's) |
//! | `task_slots`, `free_slots` | gauge | capacity offered, and what of it is free |
//! | `abandoned_workers` | gauge | workers that hold slots and that the controller has forgotten |
//! | `reports_owed` | gauge | ends that the controller has not acknowledged |
//! | `registered`, `draining`, `journal_healthy`, `program_runnable` | gauge | 1: yes, 0: no |
//! | `workers_started_total` | counter | workers whose program ran |
//! | `worker_start_failures_total{reason}` | counter | StartWorkers that were answered with an error |
//! | `workers_ended_total{how}` | counter | ends of workers |
//! | `signals_sent_total{signal}` | counter | signals sent to workers |
//! | `reports_sent_total{result}` | counter | answers to WorkerFinished |
//! | `heartbeats_total{result}` | counter | answers to HeartbeatNode |
//! | `registrations_total{result}` | counter | answers to RegisterNode |
//! | `journal_commits_total{result}` | counter | commits |
//! | `start_worker_seconds` | histogram | from StartWorker to its answer |
//! | `stop_worker_seconds` | histogram | from the first signal to a worker to its end |
//! | `call_seconds{call}` | histogram | from a call to the controller to its answer |
//! | `journal_commit_seconds` | histogram | how long a commit took |
//! | `batch_events` | histogram | events handled together |
//!
//! Besides, as stock has them: `process_…`, the CPU time, memory, descriptors and threads of this
//! process.

mod catalog;
mod refusals;
mod stopwatch;

use std::{sync::Mutex, time::Duration};

use prometheus::{
    Encoder as _, ProtobufEncoder, Registry, TextEncoder, process_collector::ProcessCollector,
};

use crate::machine::{Ask, CallError, Effect, Event, Exit, Mode, Reply, Signal, View};
use catalog::Catalog;
use stopwatch::{Lap, Stopwatch};

/// The metrics of one agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    catalog: Catalog,
    running: Mutex<Stopwatch>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let catalog = Catalog::new(&registry);
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .expect("no other metric has a name of its");
        Self { registry, catalog, running: Mutex::default() }
    }

    /// All metrics in Prometheus' text format.
    pub fn encode(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("every metric has a name and a value, and a string can always be written to")
    }

    /// All metrics as Prometheus' protobuf messages, each after its length.
    pub fn encode_protobuf(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ProtobufEncoder::new()
            .encode(&self.registry.gather(), &mut bytes)
            .expect("every metric has a name and a value, and memory can always be written to");
        bytes
    }

    /// Shows how the agent stands.
    pub fn observe_view(&self, view: &View) {
        let all = &self.catalog;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        all.running_workers.set(number(view.live_workers as u64));
        all.task_slots.set(number(view.task_slots));
        all.free_slots.set(number(view.free_slots));
        all.abandoned_workers.set(number(view.abandoned_workers as u64));
        all.reports_owed.set(number(view.reports_owed as u64));
        all.registered.set(view.registered.into());
        all.draining.set((view.mode == Mode::Draining).into());
        all.journal_healthy.set(view.journal_error.is_none().into());
        all.program_runnable.set(view.program_error.is_none().into());
    }

    /// Counts what happened.
    pub fn observe_event(&self, event: &Event) {
        let all = &self.catalog;
        match event {
            Event::Request { request, ask: Ask::Start(_) } => self.begin(Lap::Start(*request)),
            Event::Delivered(request) => drop(self.end(Lap::Start(*request))),
            Event::Spawned { .. } => all.workers_started.inc(),
            Event::Exited { worker, exit } => {
                all.workers_ended.with_label_values(&[exit_label(*exit)]).inc();
                if let Some(took) = self.end(Lap::Stop(*worker)) {
                    all.stop_worker_seconds.observe(took.as_secs_f64());
                }
            }
            Event::NeverRan(worker) => {
                all.workers_ended.with_label_values(&["never_ran"]).inc();
                self.end(Lap::Stop(*worker));
            }
            Event::SpawnFailed { worker, .. } => drop(self.end(Lap::Stop(*worker))),
            Event::Registered(result) => {
                all.registrations.with_label_values(&[call_label(result)]).inc();
                self.end_call(Lap::Register, "register");
            }
            Event::HeartbeatAnswered { result, .. } => {
                all.heartbeats.with_label_values(&[call_label(result)]).inc();
                self.end_call(Lap::Heartbeat, "heartbeat");
            }
            Event::ReportAnswered { worker, result } => {
                all.reports_sent.with_label_values(&[call_label(result)]).inc();
                self.end_call(Lap::Report(*worker), "report");
            }
            Event::Begin
            | Event::Request { .. }
            | Event::Shutdown(_)
            | Event::Adopted { .. }
            | Event::SignalFailed { .. }
            | Event::ConnectionLost(_)
            | Event::LateAnswer
            | Event::ProgramChecked(_)
            | Event::JournalFailed(_)
            | Event::JournalRestored
            | Event::NotDurable(_)
            | Event::Timeout => {}
        }
    }

    /// Counts what is done.
    pub fn observe_effect(&self, effect: &Effect) {
        let all = &self.catalog;
        match effect {
            Effect::Reply { request, reply: Reply::Started(result) } => {
                if let Err(error) = result {
                    all.worker_start_failures.with_label_values(&[refusals::label(error)]).inc();
                }
                if let Some(took) = self.end(Lap::Start(*request)) {
                    all.start_worker_seconds.observe(took.as_secs_f64());
                }
            }
            Effect::Signal { worker, signal } => {
                all.signals_sent.with_label_values(&[signal_label(*signal)]).inc();
                self.begin(Lap::Stop(*worker));
            }
            // Those that a reboot ended raise no event of their own.
            Effect::Announce(report) if report.exit == Exit::Lost => {
                all.workers_ended.with_label_values(&[exit_label(report.exit)]).inc();
            }
            Effect::Register(_) => self.begin(Lap::Register),
            Effect::Heartbeat(_) => self.begin(Lap::Heartbeat),
            Effect::Report(report) => self.begin(Lap::Report(report.worker)),
            Effect::Reply { .. }
            | Effect::Spawn(_)
            | Effect::Adopt { .. }
            | Effect::Release(_)
            | Effect::Discard(_)
            | Effect::Announce(_)
            | Effect::Finish => {}
        }
    }

    /// A commit took this long, and succeeded or not.
    pub fn commit(&self, took: Duration, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.catalog.journal_commits.with_label_values(&[result]).inc();
        self.catalog.journal_commit_seconds.observe(took.as_secs_f64());
    }

    /// So many events were handled together.
    pub fn batch(&self, events: usize) {
        self.catalog.batch_events.observe(events as f64);
    }

    fn begin(&self, lap: Lap) {
        self.stopwatch().begin(lap);
    }

    fn end(&self, lap: Lap) -> Option<Duration> {
        self.stopwatch().end(lap)
    }

    fn end_call(&self, lap: Lap, call: &str) {
        if let Some(took) = self.end(lap) {
            self.catalog.call_seconds.with_label_values(&[call]).observe(took.as_secs_f64());
        }
    }

    fn stopwatch(&self) -> std::sync::MutexGuard<'_, Stopwatch> {
        // What a panicking thread leaves is at worst one time that is never taken.
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn exit_label(exit: Exit) -> &'static str {
    match exit {
        Exit::Code(0) => "success",
        Exit::Code(_) => "failure",
        Exit::Signal(_) => "signal",
        Exit::OomKilled => "oom_killed",
        Exit::Lost => "lost",
        Exit::Unknown => "unknown",
    }
}

fn call_label(result: &Result<(), CallError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(CallError::NotFound) => "not_found",
        Err(CallError::Failed(_) | CallError::NotConnected) => "failed",
    }
}

fn signal_label(signal: Signal) -> &'static str {
    match signal {
        Signal::Terminate => "SIGTERM",
        Signal::Kill => "SIGKILL",
    }
}

#[cfg(test)]
mod tests;
