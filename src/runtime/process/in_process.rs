//! The port for programs that embed the agent: workers are children of this process.
//!
//! ```text
//!  driver ─▶ InProcess ─▶ LocalSupervisor ── events ──▶ driver
//! ```

use std::{env, io, path::PathBuf, sync::Arc};

use super::{discard::Discard, local::LocalSupervisor};
use crate::{
    ids::WorkerId,
    machine::{Event, Launch, Process, Signal},
    runtime::{
        essential::Essential,
        output::OutputDir,
        ports::{Events, Processes},
    },
    supervisor::{CommandTemplate, Inherited, Places, Request, WorkerCommand},
};

/// How workers are run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessesConfig {
    /// What to run.
    pub command: WorkerCommand,
    /// Where their output goes.
    pub output: OutputDir,
    /// The cgroup below which each worker has its own; `None`: they have none.
    pub groups: Option<PathBuf>,
}

impl ProcessesConfig {
    /// How a worker's program is run by a process that has this one's environment and directory.
    pub(super) fn template(&self) -> CommandTemplate {
        let inherited = Inherited { env: env::vars_os().collect(), cwd: env::current_dir().ok() };
        let output = Some(self.output.dir().to_owned());
        let places = Places { output, groups: self.groups.clone() };
        CommandTemplate::new(&self.command, &inherited, places)
    }
}

/// Supervises workers from within this process. When it is dropped, the workers run on.
#[derive(Debug)]
pub struct InProcess {
    supervisor: LocalSupervisor,
    template: Arc<CommandTemplate>,
    events: Events,
    discard: Discard,
}

impl InProcess {
    /// Starts the thread. Workers inherit the environment and the working directory that this
    /// process has now.
    ///
    /// # Errors
    /// There is no thread or no descriptor to be had.
    pub fn start(
        config: &ProcessesConfig,
        events: Events,
        essential: &Essential,
    ) -> io::Result<Self> {
        let template = Arc::new(config.template());
        let tell = {
            let (events, template) = (events.clone(), Arc::clone(&template));
            move |notice: crate::supervisor::Notice| {
                if let Some(event) = notice.into_event(|reason| template.spawn_error(reason)) {
                    events.send(event);
                }
            }
        };
        let supervisor = LocalSupervisor::start(config.groups.clone(), essential, tell)?;
        let discard = Discard::new(config.output.clone());
        Ok(Self { supervisor, template, events, discard })
    }
}

impl Processes for InProcess {
    fn spawn(&mut self, launch: Launch) {
        let worker = launch.worker;
        match self.template.spec(&launch) {
            Ok(spec) => self.supervisor.ask(Request::Start { worker, spec: Arc::new(spec) }),
            Err(error) => self.events.send(Event::SpawnFailed { worker, error }),
        }
    }

    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) {
        self.supervisor.ask(Request::Adopt { worker, process });
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        self.supervisor.ask(Request::Signal { worker, signal });
    }

    /// Nothing to do: `Exited` was the only copy.
    fn release(&mut self, _worker: WorkerId) {}

    fn discard(&mut self, worker: WorkerId) {
        self.discard.discard(worker);
    }
}
