//! The live account: a line for everything that happens, as it happens, with who says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::IsTerminal as _,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{stage::Stage, tail::Tail};
use crate::{
    admin::row::{Row, plain},
    cli::{stdout::say, waiting::Waiting},
    controller::{ControllerEvent, FinishOutcome, JobState},
    ids::WorkerId,
    machine::{Phase, View, Worker},
    runtime::output::OutputDir,
};

/// How often output is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Lines of one worker that are shown at a time; a flood is summed up.
const LINES_SHOWN: usize = 4;

/// Tells what happens on a stage.
pub(super) struct Story {
    began: Instant,
    color: bool,
    view: watch::Receiver<Arc<View>>,
    events: mpsc::UnboundedReceiver<ControllerEvent>,
    tail: Tail,
    /// Every worker that was ever seen, as it was last.
    pub(super) workers: BTreeMap<WorkerId, Arc<Worker>>,
    /// Those of them that the agent knew from the start: an earlier run left them in its state.
    pub(super) inherited: BTreeSet<WorkerId>,
    waiting: Waiting,
    registered: bool,
}

impl Story {
    pub(super) fn begin(
        stage: &Stage,
        events: mpsc::UnboundedReceiver<ControllerEvent>,
    ) -> anyhow::Result<Self> {
        let mut tail = Tail::new(OutputDir::create(stage.state_dir.join("output"))?);
        let known = stage.view.borrow().workers.clone();
        let workers: BTreeMap<_, _> =
            known.iter().map(|worker| (worker.id, worker.clone())).collect();
        workers.keys().for_each(|worker| tail.skip(*worker));
        let alive = workers.values().filter(|worker| worker.is_live()).count();
        let story = Self {
            began: Instant::now(),
            color: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            view: stage.view.clone(),
            events,
            tail,
            inherited: workers.keys().copied().collect(),
            workers,
            waiting: Waiting::default(),
            registered: false,
        };
        story.note("dev", format_args!("controller at {}", stage.controller_address));
        story.note(
            "dev",
            format_args!("agent at {}, {} slots", stage.agent_address, super::stage::SLOTS),
        );
        story.note("dev", format_args!("state in {}", stage.state_dir.display()));
        story.note("dev", format_args!("status page: http://{}/", stage.admin_address));
        story.note("dev", format_args!("worker program: {}", stage.worker.program.display()));
        if alive > 0 {
            story.note("dev", format_args!("workers of an earlier run that are alive: {alive}"));
        }
        Ok(story)
    }

    /// One line: when, who, what.
    pub(super) fn note(&self, who: &str, what: impl fmt::Display) {
        let at = self.began.elapsed().as_secs_f64();
        if !self.color {
            return say(format_args!("{at:7.2}s  {who:<10}  {what}"));
        }
        let hue = match who {
            "controller" => 36,
            "agent" => 32,
            "dev" => 90,
            _ => 33,
        };
        say(format_args!("\x1b[90m{at:7.2}s\x1b[0m  \x1b[{hue}m{who:<10}\x1b[0m  {what}"));
    }

    /// Tells, without end. Nothing is lost when the future is dropped.
    pub(super) async fn tell(&mut self) {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.controller_event(&event),
                Ok(()) = self.view.changed() => self.agent_view(),
                () = tokio::time::sleep(LOOK_EVERY) => self.output(),
            }
        }
    }

    /// Tells what there is left to tell.
    pub(super) fn catch_up(&mut self) {
        self.agent_view();
        self.output();
        while let Ok(event) = self.events.try_recv() {
            self.controller_event(&event);
        }
    }

    fn controller_event(&mut self, event: &ControllerEvent) {
        if let Some(job) = self.waiting.ended_by(event) {
            self.note("controller", format_args!("job {job} no longer waits for slots"));
        }
        match event {
            ControllerEvent::NodeRegistered { node, slots, address, repeat: false } => {
                self.note(
                    "controller",
                    format_args!("node {node} registered: {slots} slots at {address}"),
                );
            }
            ControllerEvent::WorkerStarted { worker, job, generation, slots, .. } => {
                self.note("controller", format_args!(
                    "job {job}: generation {generation} runs with {slots} slots as worker {worker}"
                ));
            }
            ControllerEvent::StartRefused { job, refusal, .. } => {
                self.note("controller", format_args!("job {job}: start refused: {refusal}"));
            }
            ControllerEvent::NotEnoughSlots { job, .. } => {
                if self.waiting.begins(job) {
                    self.note("controller", event);
                }
            }
            ControllerEvent::JobChanged { job, generation, state } => match state {
                JobState::Recovering => self.note(
                    "controller",
                    format_args!(
                        "job {job}: lost a worker of generation {generation}, scheduling it anew"
                    ),
                ),
                JobState::Failed(why) => {
                    self.note("controller", format_args!("job {job}: failed: {why}"))
                }
                JobState::Stopped => self.note("controller", format_args!("job {job}: stopped")),
                JobState::Scheduling | JobState::Running | JobState::Stopping => {}
            },
            ControllerEvent::WorkerFinished { report, outcome } => {
                let freed = match outcome {
                    FinishOutcome::Freed => format!("{} slots free again", report.slots),
                    other => other.to_string(),
                };
                self.note(
                    "controller",
                    format_args!(
                        "told that worker {} of job {} ended: {freed}",
                        report.worker, report.job
                    ),
                );
            }
            ControllerEvent::Violation(violation) => {
                self.note("controller", format_args!("VIOLATION: {violation}"));
            }
            ControllerEvent::NodeExpired { node } | ControllerEvent::NodeForgotten { node } => {
                self.note("controller", format_args!("node {node} forgotten"));
            }
            ControllerEvent::AttemptFailed { .. } => self.note("controller", event),
            ControllerEvent::NodeRegistered { repeat: true, .. }
            | ControllerEvent::Heartbeat { .. }
            | ControllerEvent::StopTried { .. } => {}
        }
    }

    fn agent_view(&mut self) {
        let view = self.view.borrow_and_update().clone();
        if view.registered != self.registered {
            self.registered = view.registered;
            let standing = if view.registered { "registered" } else { "lost the controller" };
            self.note("agent", standing);
        }
        for worker in view.workers.iter() {
            let before = self.workers.insert(worker.id, worker.clone());
            self.worker_line(before.as_deref(), worker);
        }
    }

    fn worker_line(&self, before: Option<&Worker>, now: &Worker) {
        let (job, id) = (&now.spec.job, now.id);
        let was = before.map(Worker::phase);
        let phase = now.phase();
        if was == Some(phase) {
            return;
        }
        if let Some(process) = now.process
            && was.is_none_or(|was| was == Phase::Starting)
        {
            self.note("agent", format_args!("job {job}: worker {id} started, pid {}", process.pid));
        }
        let ended_before = was.is_some_and(|was| was >= Phase::Exited);
        if let Some(ending) = Row::from(now).exit.filter(|_| !ended_before) {
            self.note("agent", format_args!("job {job}: worker {id} ended: {ending}"));
        } else if phase == Phase::Stopping {
            self.note("agent", format_args!("job {job}: stopping worker {id}"));
        }
    }

    fn output(&mut self) {
        for worker in self.workers.values() {
            let lines = self.tail.new_lines(worker.id);
            let job = worker.spec.job.as_str();
            for line in lines.iter().take(LINES_SHOWN) {
                self.note(job, format_args!("│ {}", plain(line)));
            }
            if lines.len() > LINES_SHOWN {
                self.note(job, format_args!("│ … and {} lines more", lines.len() - LINES_SHOWN));
            }
        }
    }
}
