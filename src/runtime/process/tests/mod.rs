//! Real processes under the in-process port. The workers are shell scripts, each given in the
//! variable SCRIPT of its launch.

mod adoption;
mod lives;
mod replaced;
mod trees;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZeroU64,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{InProcess, ProcessesConfig, WorkerCommand, procfs};
use crate::{
    ids::{Generation, JobId, WorkerId},
    machine::{Dialect, Event, Exit, Launch, Process, Signal, Wall, WorkerSpec},
    runtime::{
        essential::essential,
        output::{OutputDir, Stream},
        ports::{Events, Processes as _},
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A launch of this worker: job "job", generation 3, two slots.
pub(super) fn launch(worker: WorkerId) -> Launch {
    let spec = WorkerSpec {
        name: "name".to_owned(),
        job: JobId::new("job"),
        pipeline: None,
        generation: Generation(3),
        slots: NonZeroU64::new(2).unwrap(),
        dialect: Dialect::V0_15,
        key: None,
    };
    Launch { worker, spec: Arc::new(spec), admitted_at: Wall(1), env: BTreeMap::new() }
}

/// An id that no other test has, in whatever process it runs.
fn worker_id() -> WorkerId {
    WorkerId(uuid::Uuid::new_v4().as_u64_pair().0)
}

/// Waits until this holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The port, its events, and a directory for what workers write. Dropped, it leaves no process.
struct Bench {
    port: Option<InProcess>,
    config: ProcessesConfig,
    sender: Events,
    events: UnboundedReceiver<Event>,
    temp: TempDir,
    /// Started or adopted, and not ended.
    alive: BTreeSet<WorkerId>,
}

impl Bench {
    fn new() -> Self {
        Self::running(WorkerCommand {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "eval \"$SCRIPT\"".into()],
            cwd: None,
            env: Vec::new(),
        })
    }

    fn running(command: WorkerCommand) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let output = OutputDir::create(temp.path().join("output")).unwrap();
        let config = ProcessesConfig { command, output, groups: None };
        let (sender, events) = Events::channel();
        let port = InProcess::start(&config, sender.clone(), &essential().0).unwrap();
        Self { port: Some(port), config, sender, events, temp, alive: BTreeSet::new() }
    }

    fn port(&mut self) -> &mut InProcess {
        self.port.as_mut().expect("restart() puts a new one in its place")
    }

    /// What an agent's end and the next one's start are to the workers.
    fn restart(&mut self) {
        self.port = None;
        self.port =
            Some(InProcess::start(&self.config, self.sender.clone(), &essential().0).unwrap());
    }

    /// Asks for a worker that runs this script; `$PIDS` is the file of `wait_for_pids`.
    fn spawn(&mut self, script: &str) -> WorkerId {
        let worker = worker_id();
        let mut launch = launch(worker);
        launch.env.insert("SCRIPT".to_owned(), script.to_owned());
        launch.env.insert("PIDS".to_owned(), self.pids_file().to_str().unwrap().to_owned());
        self.alive.insert(worker);
        self.port().spawn(launch);
        worker
    }

    fn start(&mut self, script: &str) -> (WorkerId, Process) {
        let worker = self.spawn(script);
        match self.next() {
            Event::Spawned { worker: spawned, process } if spawned == worker => (worker, process),
            other => panic!("{other:?} instead of Spawned"),
        }
    }

    fn try_next(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok()?;
        if let Event::Exited { worker, .. } | Event::SpawnFailed { worker, .. } = &event {
            self.alive.remove(worker);
        }
        Some(event)
    }

    fn next(&mut self) -> Event {
        let mut next = None;
        eventually("an event comes", || {
            next = self.try_next();
            next.is_some()
        });
        next.unwrap()
    }

    fn exit_of(&mut self, worker: WorkerId) -> Exit {
        match self.next() {
            Event::Exited { worker: ended, exit } if ended == worker => exit,
            other => panic!("{other:?} instead of Exited"),
        }
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.port().signal(worker, signal);
    }

    fn output(&self, worker: WorkerId, stream: Stream) -> String {
        fs::read_to_string(self.config.output.path(worker, stream)).unwrap()
    }

    fn pids_file(&self) -> PathBuf {
        self.temp.path().join("pids")
    }

    /// Waits until that many processes have written their pid to `$PIDS`, and names them.
    fn wait_for_pids(&self, count: usize) -> Vec<Process> {
        let file = self.pids_file();
        let read = || fs::read_to_string(&file).unwrap_or_default();
        eventually("all processes have said their pid", || read().lines().count() == count);
        let name = |pid: &str| procfs::stat(pid.parse().unwrap()).unwrap().unwrap().process;
        read().lines().map(name).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for worker in self.alive.clone() {
            self.signal(worker, Signal::Kill);
        }
        while !self.alive.is_empty() && Instant::now() < deadline {
            if self.try_next().is_none() {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Whether it runs, rather than waits to be reaped by whoever got it.
fn is_alive(process: Process) -> bool {
    let stat = procfs::stat(process.pid).unwrap();
    stat.is_some_and(|stat| stat.process == process && !stat.dead)
}
