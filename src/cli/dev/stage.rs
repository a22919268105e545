//! Everything that `dev` runs: the controller, the agent, its status page, the jobs.

use std::{ffi::OsString, net::Ipv4Addr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
};

use crate::{
    cli::node::{AdminServer, bind_admin, run_with_admin, this_program},
    controller::{Controller, ControllerEvent, JobSpec, Settings, Stop, TcpConnector},
    ids::{Generation, JobId, WorkerId},
    machine::{Dialect, Phase, Shutdown, View},
    runtime::{
        clock::SystemClock,
        node::{
            BoundNode, DEFAULT_CONTROLLER_PORT, DEFAULT_PORT, NodeBuilder, NodeServer, Supervision,
        },
        process::{WorkerCommand, program, send_signal, shim::ShimConfig},
        shutdown::{ShutdownTrigger, shutdown_channel},
    },
};

/// The agent's capacity.
pub(super) const SLOTS: u64 = 8;
/// The job whose worker crashes.
const FRAGILE: &str = "orders";

/// The running parts.
pub(super) struct Stage {
    pub(super) controller: Controller,
    pub(super) controller_address: String,
    pub(super) agent_address: String,
    pub(super) admin_address: String,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) state_dir: PathBuf,
    pub(super) worker: WorkerCommand,
    agent: Mutex<Option<JoinHandle<anyhow::Result<()>>>>,
    trigger: ShutdownTrigger,
    /// Removes the state directory, unless the operator named one.
    _temporary: Option<tempfile::TempDir>,
}

impl Stage {
    /// Also returns what happens at the controller, from before the agent can be heard of there.
    pub(super) async fn build(
        state_dir: Option<PathBuf>,
        program: Vec<OsString>,
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<ControllerEvent>)> {
        let worker = worker_command(program)?;
        let controller_listener = bind_near(DEFAULT_CONTROLLER_PORT).await?;
        let controller_address = controller_listener.local_addr()?.to_string();
        let connector = Arc::new(TcpConnector);
        let controller = Controller::new(Settings::default(), Arc::new(SystemClock), connector);
        let events = controller.subscribe();
        tokio::spawn(controller.serve_tcp(controller_listener, std::future::pending()));

        let temporary = match state_dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("arroyo-node-dev-").tempdir()?),
        };
        let state_dir = state_dir
            .or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()))
            .context("no state directory")?;

        let admin = bind_admin(Ipv4Addr::LOCALHOST.into(), None).await?;
        let admin_address = admin.local_addr()?.to_string();
        let builder = NodeServer::builder()
            .machine_id("dev".into())
            .task_slots(SLOTS)
            .controller(format!("http://{controller_address}"))
            .state_dir(&state_dir)
            .worker(worker.clone())
            .supervision(Supervision::Shim(ShimConfig::THIS_PROGRAM.into()));
        let node = bind_node_near(builder, DEFAULT_PORT).await?;
        let (agent_address, view) = (node.address().to_string(), node.view());
        let (trigger, guard) = shutdown_channel();
        let admin = AdminServer::plain(admin)?;
        let agent = tokio::spawn(run_with_admin(node, admin, guard, Handle::current()));
        let stage = Self {
            controller,
            controller_address,
            agent_address,
            admin_address,
            view,
            state_dir,
            worker,
            agent: Mutex::new(Some(agent)),
            trigger,
            _temporary: temporary,
        };
        Ok((stage, events))
    }

    /// One job in each dialect, once there is a node for them.
    pub(super) async fn submit_jobs(&self) -> anyhow::Result<()> {
        self.controller.until(|books| !books.nodes.is_empty()).await;
        self.controller.submit(self.job("clicks", 2, Dialect::V0_16))?;
        self.controller.submit(self.job(FRAGILE, 3, Dialect::V0_15))?;
        Ok(())
    }

    /// Its generations follow on from those of an earlier run in the same state directory, as they
    /// do with a stock controller, which keeps them in its database. So the workers that the
    /// earlier run left alive make way for the new ones.
    fn job(&self, id: &str, slots: u64, dialect: Dialect) -> JobSpec {
        let job = JobId::from(id);
        let view = self.view.borrow().clone();
        let earlier = view.workers.iter().filter(|worker| worker.spec.job == job);
        let last = earlier.map(|worker| worker.spec.generation).max();
        JobSpec {
            dialect,
            env: [("WORKER_PRINT_EVERY".to_owned(), "1s".to_owned())].into(),
            last_generation: last.unwrap_or(Generation(0)),
            ..JobSpec::new(job, slots)
        }
    }

    /// What a bug in a pipeline does to its worker. Returns whose turn it was.
    pub(super) fn crash_a_worker(&self) -> Option<WorkerId> {
        let view = self.view.borrow().clone();
        let victim = view.workers.iter().find(|worker| {
            worker.spec.job == JobId::from(FRAGILE) && worker.phase() == Phase::Running
        });
        let victim = victim?;
        // SIGKILL, since a Rust program survives a SIGSEGV that is sent to it. A worker that has
        // just ended by itself has crashed early enough.
        let _ = send_signal(victim.process?, nix::libc::SIGKILL);
        Some(victim.id)
    }

    /// Stops the jobs as a controller does, then the agent.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        let jobs: Vec<JobId> = self.controller.snapshot().jobs.into_keys().collect();
        for job in &jobs {
            self.controller.stop(job, Stop::Force)?;
        }
        self.controller.until(|books| books.jobs.values().all(|job| job.state.is_final())).await;
        self.trigger.shut_down(Shutdown::StopWorkers);
        match self.agent.lock().await.take() {
            Some(agent) => agent.await.context("the agent panicked")?,
            None => Ok(()),
        }
    }
}

/// The program that the operator named, with exactly the arguments that were named; or this one.
///
/// # Errors
/// The named program cannot be run.
fn worker_command(program: Vec<OsString>) -> anyhow::Result<WorkerCommand> {
    let mut words = program.into_iter();
    let Some(program) = words.next() else { return Ok(WorkerCommand::new(this_program()?)) };
    program::check(program.as_ref())?;
    let mut command = WorkerCommand::new(program);
    command.args = words.collect();
    Ok(command)
}

/// The usual port, or any if that is taken.
async fn bind_near(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot bind any port of 127.0.0.1"),
    }
}

/// An agent on the usual port, or on any if that is taken.
async fn bind_node_near(builder: NodeBuilder, port: u16) -> anyhow::Result<BoundNode> {
    let on = |port| builder.clone().bind((Ipv4Addr::LOCALHOST, port).into()).build().bind();
    match on(port).await {
        Ok(node) => Ok(node),
        Err(_) => on(0).await,
    }
}
