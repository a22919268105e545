//! What the machine does, a line each, with the time since the story began.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use arroyo_node::{
    ids::{Generation, JobId, RequestId, WorkerId},
    machine::{
        Commit, Effect, End, Launch, Mono, Phase, Record, Registration, Reply, Report, Signal,
        StopHow, StopStatus, Wall, Worker,
    },
    rpc::{
        convert::{StopReply, stop_reply},
        wire::StopWorkerReq,
    },
};

use crate::story::NOON;

/// The lines of one command, and the names of workers.
#[derive(Default)]
pub(crate) struct Lines {
    text: String,
    now: Duration,
    mono: Mono,
    /// In order of appearance: the first is `w1`.
    workers: BTreeMap<WorkerId, usize>,
    /// How each caller of StopWorker asked for it.
    stops: BTreeMap<RequestId, StopHow>,
}

impl Lines {
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// What follows happens at this time in the story, when the monotonic clock reads this.
    pub(crate) fn at(&mut self, now: Duration, mono: Mono) {
        (self.now, self.mono) = (now, mono);
    }

    fn time_of(&self, other: Mono) -> f64 {
        let now = self.now + other.since(self.mono);
        now.saturating_sub(self.mono.since(other)).as_secs_f64()
    }

    pub(crate) fn stop_asked(&mut self, caller: RequestId, how: StopHow) {
        self.stops.insert(caller, how);
    }

    pub(crate) fn worker(&self, name: &str) -> Result<WorkerId, String> {
        let found = self.workers.iter().find(|(_, number)| format!("w{number}") == name);
        found.map(|(id, _)| *id).ok_or(format!("there is no worker {name} yet"))
    }

    pub(crate) fn caller(&self, name: &str) -> Result<RequestId, String> {
        let number = name.strip_prefix('c').and_then(|number| number.parse().ok());
        number.map(RequestId).ok_or(format!("no caller is called {name:?}"))
    }

    pub(crate) fn pid(&self, worker: WorkerId) -> u32 {
        let number = self.workers.get(&worker).copied().unwrap_or_default();
        1_000 + u32::try_from(number).unwrap_or_default()
    }

    pub(crate) fn remark(&mut self, text: &str) {
        self.line("view", text);
    }

    pub(crate) fn seen(&mut self, worker: &Worker) {
        let (name, spec) = (self.name(worker.id), &worker.spec);
        let asked = asked(&spec.job, spec.generation, spec.slots.get());
        let abandoned = if worker.is_abandoned() { ", abandoned" } else { "" };
        self.line("", format_args!("{name}: {asked}: {}{abandoned}", worker.phase()));
    }

    pub(crate) fn commit(&mut self, commit: &Commit, failed: bool) {
        if failed {
            return self.line("journal", "database or disk is full: nothing is written");
        }
        if commit.rewrite {
            self.line("journal", "everything, anew:");
        }
        for record in &commit.records {
            let text = match record {
                Record::Worker(worker) => self.row(worker),
                Record::Forget(id) => format!("{} is forgotten", self.name(*id)),
                Record::Draining(true) => "draining".to_owned(),
                Record::Draining(false) => "not draining".to_owned(),
                Record::KnownAt(at) => {
                    format!("the controller knew this node at {:.3}", self.time_of(*at))
                }
            };
            self.line("journal", text);
        }
    }

    fn row(&mut self, worker: &Worker) -> String {
        let mut name = self.name(worker.id);
        if worker.is_abandoned() {
            name.push_str(" abandoned,");
        }
        match (worker.phase(), worker.end, worker.stop) {
            (Phase::Exited, Some(End { exit, .. }), _) => format!("{name} exited, {exit}"),
            (Phase::Stopping, _, Some(stop)) => match stop.kill_at {
                Some(at) => format!("{name} stopping, to be killed at {:.3}", self.time_of(at)),
                None => format!("{name} stopping"),
            },
            (phase, ..) => format!("{name} {phase}"),
        }
    }

    pub(crate) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Reply { request, reply } => {
                let text = format!("c{request}: {}", self.reply(*request, reply));
                self.line("answer", text);
            }
            Effect::Spawn(launch) => self.spawn(launch),
            Effect::Adopt { worker, process } => {
                let name = self.name(*worker);
                match process {
                    Some(process) => {
                        self.line("adopt", format_args!("{name}, pid {}", process.pid))
                    }
                    None => self.line("adopt", format_args!("{name}, if it ever ran")),
                }
            }
            Effect::Signal { worker, signal } => {
                let signal = match signal {
                    Signal::Terminate => "SIGTERM",
                    Signal::Kill => "SIGKILL",
                };
                let text = format!("{signal} to {}", self.name(*worker));
                self.line("signal", text);
            }
            Effect::Release(worker) => self.about("release", *worker),
            Effect::Discard(worker) => self.about("discard", *worker),
            Effect::Register(Registration { task_slots, address, reconnect, .. }) => {
                let way = if *reconnect { "" } else { ", on this connection only" };
                self.line("register", format_args!("{task_slots} slots at {address}{way}"));
            }
            Effect::Heartbeat(heartbeat) if heartbeat.probe => self.line("probe", ""),
            Effect::Heartbeat(_) => self.line("heartbeat", ""),
            Effect::Report(report) => self.report(report),
            Effect::Announce(report) => self.about("announce", report.worker),
            Effect::Finish => self.line("finish", ""),
        }
    }

    fn reply(&mut self, caller: RequestId, reply: &Reply) -> String {
        match reply {
            Reply::Started(Ok(worker)) => format!("started {}", self.name(*worker)),
            Reply::Started(Err(error)) => format!("refused: {error}"),
            Reply::Stopped(status) => self.stopped(caller, *status),
            Reply::Alive(Ok(())) => "alive".to_owned(),
            Reply::Draining(Ok(())) => "done".to_owned(),
            Reply::ShuttingDown => "shutting down".to_owned(),
            Reply::Alive(Err(error)) => format!("refused: {error}"),
            Reply::Draining(Err(error)) => format!("not durable: {error}"),
        }
    }

    /// Where a stop stands, and what a stock controller is answered.
    fn stopped(&self, caller: RequestId, status: StopStatus) -> String {
        let text = match status {
            StopStatus::Stopped { exit: None, .. } => "stopped, never ran".to_owned(),
            StopStatus::Stopped { exit: Some(exit), acknowledged: true } => {
                format!("stopped, {exit}")
            }
            StopStatus::Stopped { exit: Some(exit), acknowledged: false } => {
                format!("stopped, {exit}, not acknowledged")
            }
            StopStatus::Stopping => "stopping".to_owned(),
            StopStatus::Failed => "stop failed".to_owned(),
            StopStatus::NotFound => "no such worker".to_owned(),
        };
        let how = self.stops.get(&caller);
        let request = StopWorkerReq {
            force: how == Some(&StopHow::Force),
            finished: how == Some(&StopHow::Ask),
            ..StopWorkerReq::default()
        };
        match stop_reply(&request, status, StopReply::Stock) {
            Ok(answer) => format!("{text} ({})", answer.status().as_str_name()),
            Err(error) => format!("{text} (error: {:?})", error.code()),
        }
    }

    fn spawn(&mut self, launch: &Launch) {
        let (name, spec) = (self.name(launch.worker), &launch.spec);
        let asked = asked(&spec.job, spec.generation, spec.slots.get());
        self.line("spawn", format_args!("{name}: {asked}"));
    }

    fn report(&mut self, report: &Report) {
        let Report { worker, job, generation, slots, exit, ended_at, dialect, .. } = report;
        let (name, asked) = (self.name(*worker), asked(job, *generation, *slots));
        let ended = clock(*ended_at);
        self.line("report", format_args!("{name}: {asked}: {exit} at {ended}, to {dialect}"));
    }

    fn about(&mut self, verb: &str, worker: WorkerId) {
        let name = self.name(worker);
        self.line(verb, name);
    }

    fn name(&mut self, worker: WorkerId) -> String {
        let next = self.workers.len() + 1;
        format!("w{}", self.workers.entry(worker).or_insert(next))
    }

    fn line(&mut self, verb: &str, text: impl Display) {
        let line = format!("{:>8.3}  {verb:<9} {text}", self.now.as_secs_f64());
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// What a StartWorker was for.
fn asked(job: &JobId, generation: Generation, slots: u64) -> String {
    let plural = if slots == 1 { "" } else { "s" };
    format!("{job}, generation {generation}, {slots} slot{plural}")
}

/// The time of day.
fn clock(wall: Wall) -> String {
    let seconds = (wall.0 - NOON.0) / 1_000_000;
    format!("{:02}:{:02}:{:02}", 12 + seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
