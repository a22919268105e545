//! `arroyo-node node`: the agent, as an operator runs it.
//!
//! Signals: SIGTERM and SIGINT end it with its workers, SIGUSR1 ends it without them (for an
//! upgrade), a second one of any of them ends it at once.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use super::{Exit, Failure, Options, logging};
use crate::{
    admin::{self, AdminState},
    ids::MachineId,
    machine::Shutdown,
    runtime::{
        clock::SystemClock,
        node::{BoundNode, DEFAULT_PORT, NodeBuilder, NodeServer, Supervision},
        process::WorkerCommand,
        shutdown::{ShutdownGuard, ShutdownTrigger, shutdown_channel},
    },
};

/// Arroyo's `admin.http-port`.
const DEFAULT_ADMIN_PORT: u16 = 5114;

/// The agent's settings, from the command line or from the variables that stock Arroyo reads.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The agent's stable name; made once and kept in the state directory if not given
    #[arg(long, value_name = "ID", env = "ARROYO__NODE__ID", value_parser = unquoted)]
    id: Option<String>,
    /// Units of capacity to offer
    #[arg(long, value_name = "N", env = "ARROYO__NODE__TASK_SLOTS", default_value_t = 16)]
    task_slots: u64,
    /// The address to serve on
    #[arg(long, value_name = "IP", env = "ARROYO__NODE__BIND_ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// The port to serve on; 0: any free one
    #[arg(long, value_name = "PORT", env = "ARROYO__NODE__RPC_PORT", default_value_t = DEFAULT_PORT)]
    rpc_port: u16,
    /// The host under which the controller reaches this agent
    #[arg(long, value_name = "HOST", env = "ARROYO__HOSTNAME")]
    advertise_host: Option<String>,
    /// The controller's URL
    #[arg(
        long,
        value_name = "URL",
        env = "ARROYO__CONTROLLER_ENDPOINT",
        default_value = "http://localhost:5116"
    )]
    controller: String,
    /// The address of the status page and the metrics
    #[arg(long, value_name = "IP", env = "ARROYO__ADMIN__BIND_ADDRESS", default_value = "0.0.0.0")]
    admin_address: IpAddr,
    /// Their port; if not given, 5114, or any free one if that is taken
    #[arg(long, value_name = "PORT", env = "ARROYO__ADMIN__HTTP_PORT")]
    admin_port: Option<u16>,
    /// Where the agent keeps what must outlive it
    /// [default: /var/lib/arroyo-node for root, else ~/.local/state/arroyo-node]
    #[arg(long, value_name = "DIR", env = "ARROYO_NODE__STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// The worker program [default: `arroyo` if it is on PATH, else this one]
    #[arg(long, value_name = "PROGRAM", env = "ARROYO_NODE__WORKER__COMMAND")]
    worker_command: Option<PathBuf>,
    /// An argument for it, instead of `worker`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    worker_arg: Vec<OsString>,
    /// Stop all workers after this long without a controller
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    fence_after: Option<Duration>,
    /// From a forced stop's SIGTERM to its SIGKILL
    #[arg(
        long, value_name = "DURATION", value_parser = humantime::parse_duration,
        default_value = "5s"
    )]
    kill_after: Duration,
    /// Be the parent of the workers, without a shim: their exit statuses are lost with the agent
    #[arg(long)]
    no_shim: bool,
}

/// A text in quotes, as Arroyo wants numbers that are meant as text, or without.
fn unquoted(text: &str) -> Result<String, std::convert::Infallible> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Ok(inner.unwrap_or(text).to_owned())
}

impl Args {
    pub(super) fn run(self, options: &Options) -> Result<Exit, Failure> {
        let _logging = logging::init(options.log_format.unwrap_or_default())
            .context("cannot start logging")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(self.serve(options))?;
        Ok(Exit::Ok)
    }

    async fn serve(self, options: &Options) -> anyhow::Result<()> {
        let admin = bind_admin(self.admin_address, self.admin_port).await?;
        let node = self.builder(options)?.build().bind().await?;
        info!(admin = %admin.local_addr()?, "status page and metrics");
        let (trigger, guard) = shutdown_channel();
        watch_signals(trigger)?;
        run_with_admin(node, admin, guard).await
    }

    fn builder(&self, options: &Options) -> anyhow::Result<NodeBuilder> {
        let mut builder = NodeServer::builder()
            .task_slots(self.task_slots)
            .bind(SocketAddr::new(self.bind_address, self.rpc_port))
            .controller(&self.controller)
            .worker(self.worker(options)?)
            .machine(|config| {
                config.fence_after = self.fence_after;
                config.kill_after = self.kill_after;
            });
        if let Some(id) = &self.id {
            builder = builder.machine_id(MachineId::new(id));
        }
        if let Some(host) = &self.advertise_host {
            builder = builder.advertise_host(host);
        }
        if let Some(path) = &self.state_dir {
            builder = builder.state_dir(path);
        }
        if !self.no_shim {
            builder = builder.supervision(Supervision::Shim(this_program()?));
        }
        Ok(builder)
    }

    /// `PROGRAM [-c FILE] [--config-dir DIR] worker`, as stock Arroyo runs its workers.
    fn worker(&self, options: &Options) -> anyhow::Result<WorkerCommand> {
        let program = match &self.worker_command {
            Some(program) => program.clone(),
            None => default_worker()?,
        };
        let mut command = WorkerCommand::new(program);
        if !self.worker_arg.is_empty() {
            command.args = self.worker_arg.clone();
            return Ok(command);
        }
        let file = options.config.iter().flat_map(|path| ["-c".into(), path.into()]);
        let dir = options.config_dir.iter().flat_map(|path| ["--config-dir".into(), path.into()]);
        command.args = file.chain(dir).chain(["worker".into()]).collect();
        Ok(command)
    }
}

/// What an operator means who names no program: Arroyo, where it is installed.
fn default_worker() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join("arroyo").is_file()) {
        return Ok("arroyo".into());
    }
    warn!(
        "no `arroyo` on PATH: workers are this program's own, which run no pipelines; \
         --worker-command names the real one"
    );
    this_program()
}

pub(super) fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find out this program's own path")
}

/// The port that was asked for, or else the usual one, or else any.
pub(super) async fn bind_admin(ip: IpAddr, port: Option<u16>) -> anyhow::Result<TcpListener> {
    let bind = |port| async move { TcpListener::bind(SocketAddr::new(ip, port)).await };
    match port {
        Some(port) => bind(port).await.with_context(|| {
            format!(
                "cannot bind {ip}:{port} for the status page; a controller on this machine uses \
                 the same default: choose another with ARROYO__ADMIN__HTTP_PORT or --admin-port"
            )
        }),
        None => match bind(DEFAULT_ADMIN_PORT).await {
            Ok(listener) => Ok(listener),
            Err(_) => bind(0).await.with_context(|| format!("cannot bind a port of {ip}")),
        },
    }
}

/// Runs an agent with its status page.
pub(super) async fn run_with_admin(
    node: BoundNode,
    admin: TcpListener,
    guard: ShutdownGuard,
) -> anyhow::Result<()> {
    let state = AdminState {
        view: node.view(),
        metrics: node.metrics(),
        about: node.about(),
        clock: Arc::new(SystemClock),
    };
    let (ended, stop) = tokio::sync::oneshot::channel::<()>();
    let page = tokio::spawn(admin::serve(admin, state, async move {
        let _ = stop.await;
    }));
    let result = node.run(guard).await;
    drop(ended);
    page.abort();
    result
}

fn watch_signals(trigger: ShutdownTrigger) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut detach = signal(SignalKind::user_defined1()).context("cannot watch SIGUSR1")?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => Shutdown::StopWorkers,
                _ = interrupt.recv() => Shutdown::StopWorkers,
                _ = detach.recv() => Shutdown::Detach,
            }
        };
        trigger.shut_down(next().await);
        next().await;
        warn!("second signal: ending at once, workers are left as they are");
        std::process::exit(Exit::Failed as i32);
    });
    Ok(())
}
