//! From settings to the parts that they are for.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use tracing::warn;

use crate::{
    cli::Options,
    config::{
        Loaded,
        stock::{Stock, Tls},
    },
    ids::MachineId,
    rpc::client::CallSettings,
    runtime::{
        node::{NodeBuilder, NodeServer, Supervision, default_state_dir},
        process::{WorkerCommand, shim::ShimConfig},
        tls::{ClientTls, Identity, ServerTls},
    },
};

/// The agent, to be bound to this address.
pub(super) fn builder(
    settings: &Loaded,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<NodeBuilder> {
    let Loaded { stock, own, .. } = settings;
    let worker = worker_command(settings, options)?;
    if own.worker.command.set().is_none() && worker.program.is_absolute() {
        warn!(
            "no `arroyo` on PATH: workers are this program's own, which run no pipelines; \
             --worker-command or worker.command names the real one"
        );
    }
    let mut builder = NodeServer::builder()
        .task_slots(stock.node.task_slots.into())
        .bind(address)
        .controller(stock.controller_url())
        .state_dir(state_dir(settings))
        .worker(worker)
        .dialect(own.dialect.0)
        .calls(CallSettings {
            deadline: own.calls.deadline.0,
            connect_deadline: own.calls.connect_deadline.0,
            keepalive: (own.calls.keepalive_every.0, own.calls.keepalive_patience.0),
        })
        .machine(|config| own.apply_to(config));
    if let Some(id) = &stock.node.id {
        builder = builder.machine_id(MachineId::new(id));
    }
    if let Some(address) = own.advertise_address.set().or(stock.hostname.as_ref()) {
        builder = builder.advertise(address);
    }
    if let Some(tls) = stock.node_tls() {
        let section = if stock.node.tls.is_some() { "node.tls" } else { "tls" };
        let identity = identity(tls, section)?;
        builder = builder.server_tls(ServerTls { identity, client_ca: tls.mtls_ca_file.clone() });
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

/// `PROGRAM [-c FILE] [--config-dir DIR] worker`, as stock Arroyo runs its workers.
pub(in crate::cli) fn worker_command(
    settings: &Loaded,
    options: &Options,
) -> anyhow::Result<WorkerCommand> {
    let worker = &settings.own.worker;
    let mut command = WorkerCommand::new(match worker.command.set() {
        Some(program) => program.clone(),
        None if arroyo_is_on_path() => "arroyo".into(),
        None => this_program()?,
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
    Ok(command)
}

/// What an operator means who names no program.
fn arroyo_is_on_path() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("arroyo").is_file())
}

pub(in crate::cli) fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find out this program's own path")
}

/// A certificate and its key, both of which a server needs.
pub(super) fn identity(tls: &Tls, section: &str) -> anyhow::Result<Identity> {
    let file = |name: &str, path: &Option<PathBuf>| {
        path.clone().with_context(|| {
            format!("{section}.enabled is true, and {section}.{name} names no file")
        })
    };
    Ok(Identity {
        cert_file: file("cert-file", &tls.cert_file)?,
        key_file: file("key-file", &tls.key_file)?,
    })
}

/// How to call the controller, according to this side's copy of the controller's settings.
fn controller_tls(stock: &Stock) -> anyhow::Result<Option<ClientTls>> {
    let Some(target) = stock.controller_tls() else {
        // Stock cannot do this; there is only one thing that it can mean.
        let by_url = stock.controller_url().starts_with("https://");
        return Ok(by_url.then(ClientTls::default));
    };
    let mut client = ClientTls { ca: target.mtls_ca_file.clone(), identity: None };
    if target.mtls_ca_file.is_some() {
        let (tls, section) = match &stock.node.tls {
            Some(tls) => (tls, "node.tls"),
            None => (&stock.tls, "tls"),
        };
        anyhow::ensure!(
            tls.enabled,
            "the controller demands certificates (mtls-ca-file is set in its settings), and \
             {section}.enabled is false: enable it and set {section}.cert-file and {section}.key-file"
        );
        client.identity = Some(identity(tls, section)?);
    }
    Ok(Some(client))
}
