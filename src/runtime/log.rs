//! What an operator reads in the log: one line for each thing that changes a worker or the agent's
//! standing, with the fields to search by. What repeats (heartbeats, attempts to reach a controller
//! that is away, reports that it refuses) is said once for each reason.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    sync::Arc,
};

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
    /// Why it is away, as far as that has been said.
    reasons: Reasons,
    /// Why reports are not acknowledged, as far as that has been said.
    refusals: Reasons,
    journal_down: bool,
    program_missing: bool,
    /// That the controller has forgotten this node has been said.
    forgotten: bool,
    /// Whose start is still to be told: somebody waits for each to be answered, and writing a line takes as
    /// long as answering.
    started: Vec<(WorkerId, Process)>,
}

/// Reasons that have been said: each once, until all is well again.
#[derive(Default)]
struct Reasons(BTreeSet<Arc<str>>);

impl Reasons {
    /// As many are said. What has a time or a number in it could be said for ever.
    const MOST: usize = 8;

    fn is_news(&mut self, error: &CallError) -> bool {
        self.0.len() < Self::MOST && self.0.insert(error.to_string().into())
    }
}

/// A text from outside: on one line, and without characters that steer a terminal.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => f.write_char(character)?,
            }
        }
        Ok(())
    }
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
                    worker_id = %who.id, job_id = %Plain(who.spec.job.as_str()),
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
                        worker_id = %who.id, job_id = %Plain(who.spec.job.as_str()),
                        generation = %who.spec.generation, pid = process.pid, "worker adopted"
                    );
                });
            }
            Event::Exited { worker, exit } => self.exit_line(*worker, *exit),
            Event::NeverRan(worker) => info!(worker_id = %worker, "worker never ran"),
            Event::SignalFailed { worker, error } => {
                error!(worker_id = %worker, %error, "worker cannot be signalled");
            }
            Event::Registered(result) => self.call_line("registration", result),
            Event::HeartbeatAnswered { result, .. } => self.call_line("heartbeat", result),
            Event::ConnectionLost(loss) => debug!(?loss, "connection to the controller lost"),
            Event::LateAnswer => debug!("the controller has answered a heartbeat late"),
            Event::ProgramChecked(result) => self.program_line(result),
            Event::ReportAnswered { worker, result } => match result {
                Ok(()) => {
                    debug!(worker_id = %worker, "end acknowledged");
                    if self.view.as_ref().is_some_and(|view| view.reports_owed <= 1) {
                        self.refusals = Reasons::default();
                    }
                }
                Err(error) => self.refusal_line(*worker, error),
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
        self.forgotten &= result.is_err();
        match result {
            Ok(()) if std::mem::take(&mut self.controller_away) => {
                self.reasons = Reasons::default();
                info!("controller reached again");
            }
            Ok(()) if call == "registration" => info!("registered with the controller"),
            Ok(()) => {}
            Err(CallError::NotFound) => {
                self.forgotten_line();
            }
            Err(error) => {
                let news = self.reasons.is_news(error);
                if !std::mem::replace(&mut self.controller_away, true) {
                    warn!(%error, call, "controller not reached: trying again, workers go on");
                } else if news {
                    warn!(%error, call, "controller still not reached, for another reason");
                }
            }
        }
    }

    /// Said once the machine has decided: the view that it is about comes with the next one.
    fn forgotten_line(&mut self) {
        if std::mem::replace(&mut self.forgotten, true) {
            return;
        }
        match self.view.as_ref().map_or(0, |view| view.live_workers) {
            // As for a node that is new to it.
            0 => info!("the controller does not know this node: registering"),
            live => warn!(
                live_workers = live,
                "the controller does not know this node: its workers are abandoned, registering again"
            ),
        }
    }

    fn program_line(&mut self, result: &Result<(), Arc<str>>) {
        let down = result.is_err();
        match result {
            Err(error) if !self.program_missing => {
                error!(%error, "the worker program cannot be run: not registering until it can");
            }
            Ok(()) if self.program_missing => info!("the worker program can be run again"),
            _ => {}
        }
        self.program_missing = down;
    }

    fn refusal_line(&mut self, worker: WorkerId, error: &CallError) {
        if self.refusals.is_news(error) {
            warn!(worker_id = %worker, %error, "end not acknowledged: reporting it again until it is");
        } else {
            debug!(worker_id = %worker, %error, "end not acknowledged yet");
        }
    }

    fn exit_line(&self, worker: WorkerId, exit: Exit) {
        self.about(worker, |who| {
            let pid = who.process.map_or(0, |process| process.pid);
            let job = Plain(who.spec.job.as_str());
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
                    worker_id = %report.worker, job_id = %Plain(report.job.as_str()),
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
            | Effect::Heartbeat(_)
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
            job_id = %Plain(start.job.as_str()), generation = %start.generation, slots = %start.slots,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(why: &str) -> CallError {
        CallError::Failed(why.into())
    }

    #[test]
    fn each_reason_is_said_once_and_not_for_ever() {
        let mut reasons = Reasons::default();
        let news = ["refused", "refused", "no certificate", "refused", "no certificate"];
        let news: Vec<_> = news.map(|why| reasons.is_news(&failed(why))).into();
        assert_eq!(news, [true, false, true, false, false]);
        let said = (0..1_000).filter(|i| reasons.is_news(&failed(&format!("at {i}")))).count();
        assert_eq!(said, Reasons::MOST - 2);
    }

    #[test]
    fn a_text_from_outside_stays_on_its_line() {
        assert_eq!(Plain("a\n\u{1b}[31mb\0 \u{e9}").to_string(), "a\\n\\u{1b}[31mb\\u{0} \u{e9}");
    }
}
