//! What an operator reads in the log: one line for each thing that changes a worker or the agent's
//! standing, with the fields to search by. What repeats (heartbeats, attempts to reach a controller
//! that is away) is said once.

use std::sync::Arc;

use tracing::{debug, error, info, warn};

use crate::{
    ids::WorkerId,
    machine::{
        Ask, CallError, Effect, Event, Exit, Process, Reply, Shutdown, Signal, StopHow, View,
        Worker,
    },
};

/// Writes the log of one agent.
#[derive(Default)]
pub(super) struct Log {
    view: Option<Arc<View>>,
    controller_away: bool,
    journal_down: bool,
    /// Whose start is still to be told: somebody waits for each to be answered, and writing a line takes as
    /// long as answering.
    started: Vec<(WorkerId, Process)>,
}

impl Log {
    pub(super) fn view(&mut self, view: &Arc<View>) {
        self.view = Some(view.clone());
    }

    /// Says what was put off.
    pub(super) fn catch_up(&mut self) {
        for (worker, process) in std::mem::take(&mut self.started) {
            self.about(worker, |who| {
                info!(
                    worker_id = %who.id, job_id = %who.spec.job,
                    generation = %who.spec.generation, slots = %who.spec.slots,
                    pid = process.pid, "worker started"
                );
            });
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Spawned { worker, process } => return self.started.push((*worker, *process)),
            _ => self.catch_up(),
        }
        match event {
            Event::Begin => info!("serving"),
            Event::Request { ask, .. } => ask_line(ask),
            Event::Delivered(_) | Event::Timeout | Event::Spawned { .. } => {}
            Event::Shutdown(how) => shutdown_line(*how),
            Event::SpawnFailed { worker, error } => {
                warn!(worker_id = %worker, %error, "worker not started");
            }
            Event::Adopted { worker, process } => {
                self.about(*worker, |who| {
                    info!(
                        worker_id = %who.id, job_id = %who.spec.job,
                        generation = %who.spec.generation, pid = process.pid, "worker adopted"
                    );
                });
            }
            Event::Exited { worker, exit } => self.exit_line(*worker, *exit),
            Event::NeverRan(worker) => info!(worker_id = %worker, "worker never ran"),
            Event::SignalFailed { worker, error } => {
                error!(worker_id = %worker, %error, "worker cannot be signalled");
            }
            Event::Connected => debug!("connected to the controller"),
            Event::Registered(result) => self.call_line("registration", result),
            Event::HeartbeatAnswered(result) => self.call_line("heartbeat", result),
            Event::ReportAnswered { worker, result } => match result {
                Ok(()) => debug!(worker_id = %worker, "end acknowledged"),
                Err(error) => debug!(worker_id = %worker, %error, "end not acknowledged yet"),
            },
            Event::JournalFailed(error) => {
                if !std::mem::replace(&mut self.journal_down, true) {
                    error!(%error, "journal cannot be written: no new workers until it can");
                }
            }
            Event::JournalRestored => {
                self.journal_down = false;
                info!("journal written again");
            }
            Event::NotDurable(_) => {}
        }
    }

    fn call_line(&mut self, call: &'static str, result: &Result<(), CallError>) {
        match result {
            Ok(()) if std::mem::take(&mut self.controller_away) => {
                info!("controller reached again");
            }
            Ok(()) if call == "registration" => info!("registered with the controller"),
            Ok(()) => {}
            Err(CallError::NotFound) => {
                warn!("the controller does not know this node: registering again");
            }
            Err(error) => {
                if !std::mem::replace(&mut self.controller_away, true) {
                    warn!(%error, call, "controller not reached: trying again, workers go on");
                }
            }
        }
    }

    fn exit_line(&self, worker: WorkerId, exit: Exit) {
        self.about(worker, |who| {
            let pid = who.process.map_or(0, |process| process.pid);
            let job = &who.spec.job;
            let asked = who.stop.is_some();
            info!(worker_id = %who.id, job_id = %job, generation = %who.spec.generation, pid, %exit, asked, "worker ended");
        });
    }

    pub(super) fn effect(&self, effect: &Effect) {
        match effect {
            Effect::Signal { worker, signal: Signal::Terminate } => {
                debug!(worker_id = %worker, "SIGTERM");
            }
            Effect::Signal { worker, signal: Signal::Kill } => {
                info!(worker_id = %worker, "SIGKILL");
            }
            Effect::Reply { reply: Reply::Started(Err(error)), .. } => {
                warn!(%error, "start refused");
            }
            Effect::Announce(report) if report.exit == Exit::Lost => {
                warn!(
                    worker_id = %report.worker, job_id = %report.job,
                    generation = %report.generation, "worker lost: the machine was rebooted"
                );
            }
            Effect::Finish => info!("finished"),
            Effect::Reply { .. }
            | Effect::Spawn(_)
            | Effect::Adopt { .. }
            | Effect::Release(_)
            | Effect::Discard(_)
            | Effect::Register(_)
            | Effect::Heartbeat { .. }
            | Effect::Report(_)
            | Effect::Announce(_) => {}
        }
    }

    fn about(&self, id: WorkerId, line: impl FnOnce(&Worker)) {
        if let Some(worker) = self.view.as_ref().and_then(|view| view.workers.get(id)) {
            line(worker);
        }
    }
}

fn ask_line(ask: &Ask) {
    match ask {
        Ask::Start(start) => debug!(
            job_id = %start.job, generation = %start.generation, slots = %start.slots,
            "start asked"
        ),
        Ask::Stop { how: StopHow::Ask, .. } | Ask::Alive(_) => {}
        Ask::Stop { worker, how } => info!(worker_id = %worker, ?how, "stop asked"),
        Ask::SetDraining(true) => info!("draining"),
        Ask::SetDraining(false) => info!("no longer draining"),
        Ask::Shutdown(how) => shutdown_line(*how),
    }
}

fn shutdown_line(how: Shutdown) {
    match how {
        Shutdown::StopWorkers => info!("shutting down: stopping all workers"),
        Shutdown::Detach => info!("detaching: workers are left to the next agent"),
    }
}
