//! From settings to the parts that they are for.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use tracing::{info, warn};

use crate::{
    cli::{
        Options,
        tls::{self, Service},
    },
    config::{Loaded, Source, stock::Stock},
    ids::MachineId,
    rpc::client::CallSettings,
    runtime::{
        node::{NodeBuilder, NodeServer, Supervision, default_state_dir},
        process::{WorkerCommand, program, shim::ShimConfig},
        tls::ClientTls,
    },
};

/// The name of the worker program that is this one.
const BUILT_IN: &str = "builtin";

/// Where Arroyo's processes look for the controller's address, over any file.
const CONTROLLER_VARIABLE: &str = "ARROYO__CONTROLLER_ENDPOINT";

/// The agent, to be bound to this address.
pub(super) fn builder(
    settings: &Loaded,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<NodeBuilder> {
    let Loaded { stock, own, .. } = settings;
    let worker = worker_command(settings, options)?;
    if own.worker.command.set().is_some_and(|program| program == Path::new(BUILT_IN)) {
        warn!("workers are this program's own, which run no pipelines (worker.command is builtin)");
    }
    info!("workers are run as {}", command_line(&worker));
    let mut builder = NodeServer::builder()
        .task_slots(stock.node.task_slots.into())
        .bind(address)
        .controller(stock.controller_url())
        .state_dir(state_dir(settings))
        .worker(worker)
        .dialect(own.dialect.0)
        .output_limit(own.output.limit.0)
        .calls(CallSettings {
            deadline: own.calls.deadline.0,
            connect_deadline: own.calls.connect_deadline.0,
            keepalive: (own.calls.keepalive_every.0, own.calls.keepalive_patience.0),
        })
        .stop_reply(own.stop_reply.into())
        .cgroup(own.cgroup.into())
        .machine(|config| own.apply_to(config, stock.workers_outlive_controller()));
    if let Some(id) = &stock.node.id {
        builder = builder.machine_id(MachineId::new(id));
    }
    if let Some(address) = own.advertise_address.set().or(stock.hostname.as_ref()) {
        builder = builder.advertise(address);
    }
    if let Some(tls) = tls::server(stock, Service::Node)? {
        builder = builder.server_tls(tls);
    }
    if let Some(tls) = controller_tls(stock)? {
        builder = builder.controller_tls(tls);
    }
    if own.shim {
        builder = builder.supervision(Supervision::Shim(ShimConfig::THIS_PROGRAM.into()));
    }
    Ok(builder)
}

/// Where the agent keeps what must outlive it.
pub(in crate::cli) fn state_dir(settings: &Loaded) -> PathBuf {
    settings.own.state_dir.set().cloned().unwrap_or_else(default_state_dir)
}

/// `PROGRAM [-c FILE] [--config-dir DIR] worker`, as stock Arroyo runs its workers, and the controller's
/// address if they could not find it where the agent did.
pub(in crate::cli) fn worker_command(
    settings: &Loaded,
    options: &Options,
) -> anyhow::Result<WorkerCommand> {
    let worker = &settings.own.worker;
    let mut command = WorkerCommand::new(match worker.command.set() {
        Some(program) if program == Path::new(BUILT_IN) => this_program()?,
        Some(program) => program.clone(),
        None => default_program()?,
    });
    command.args = match worker.args.set() {
        Some(args) => args.iter().map(Into::into).collect(),
        None => {
            let file = options.config.iter().flat_map(|path| ["-c".into(), path.into()]);
            let dir =
                options.config_dir.iter().flat_map(|path| ["--config-dir".into(), path.into()]);
            file.chain(dir).chain(["worker".into()]).collect()
        }
    };
    // Workers read the same files and variables as this agent, but not its flags, and they look for the
    // controller themselves.
    if let Source::Flag(_) = settings.source("controller-endpoint") {
        command.env = vec![(CONTROLLER_VARIABLE.into(), settings.stock.controller_url().into())];
    }
    Ok(command)
}

/// Program and arguments, for people.
pub(in crate::cli) fn command_line(command: &WorkerCommand) -> String {
    let words = [command.program.as_os_str()].into_iter();
    let words = words.chain(command.args.iter().map(AsRef::as_ref));
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What an operator means who names no program.
///
/// # Errors
/// There is none.
fn default_program() -> anyhow::Result<PathBuf> {
    let arroyo = PathBuf::from("arroyo");
    program::check(&arroyo).map_err(|_| {
        anyhow!(
            "there is no worker program: no `arroyo` is on PATH, and none is configured; \
             --worker-command, or worker.command in arroyo-node.toml, names one \
             (\"{BUILT_IN}\": arroyo-node's own, which runs no pipelines, for trying things out)"
        )
    })?;
    Ok(arroyo)
}

pub(in crate::cli) fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find out this program's own path")
}

/// How to call the controller, according to this side's copy of the controller's settings.
fn controller_tls(stock: &Stock) -> anyhow::Result<Option<ClientTls>> {
    let by_settings = tls::client(stock, Service::Node, Service::Controller)?;
    // Stock cannot do this; there is only one thing that it can mean.
    let by_url = || stock.controller_url().starts_with("https://").then(ClientTls::default);
    Ok(by_settings.or_else(by_url))
}
