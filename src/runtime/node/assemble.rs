//! Putting an agent together, in the order in which a start can fail.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, anyhow, ensure};
use rand::{TryRng as _, rngs::SysRng};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::transport::Endpoint;
use tracing::{info, warn};

use super::{BoundNode, JournalKind, NodeBuilder, Supervision};
use crate::{
    ids::{MachineId, WorkerId},
    machine::{self, Machine, Recovered, Report, Seed},
    mailbox::{Events, mailbox},
    rpc::{
        client::{ControllerClient, Notification},
        convert::worker_finished,
        service::{About, NodeService},
        wire::WorkerFinishedReq,
    },
    runtime::{
        Notice,
        address::{advertised, can_be_called},
        cgroup::{self, Discovery, Group, Role},
        clock::SystemClock,
        controller::GrpcController,
        driver::{Driver, Parts},
        essential::{Essential, essential},
        journal::{BlockingJournal, Checkpoints, JournalThread, MemoryJournal, SqliteJournal},
        metrics::Metrics,
        observer::Observers,
        output::OutputDir,
        output_limit::OutputLimit,
        ports::{Clock as _, Processes},
        process::{
            InProcess, ProcessesConfig,
            program::ProgramWatch,
            raise_descriptor_limit,
            shim::{ShimConfig, ShimProcesses},
        },
        state_dir::{StateDir, boot_id, check_machine_id},
        tls::{ClientTls, H2, Incoming, Reloading, ServerTls, connector},
    },
    shim::Known,
};

pub(super) async fn assemble(settings: NodeBuilder) -> anyhow::Result<BoundNode> {
    let now = SystemClock.now();
    let (essential, panics) = essential();
    raise_descriptor_limit().context("cannot raise the limit of open files")?;
    let mut state = StateDir::open(&settings.state_dir)?;
    let mut notices = Vec::new();
    let (journal, mut recovered) = open_journal(&settings, &state, &mut notices)?;
    let (mailbox, inbox) = mailbox();
    let output = OutputDir::create(state.output())
        .with_context(|| format!("cannot make {}", state.output().display()))?;
    // Before anything is started: children stay in the cgroup that they were started in.
    let (groups, cgroup) = find_groups(&settings, &state)?;
    let config =
        ProcessesConfig { command: settings.worker.clone(), output: output.clone(), groups };
    let (processes, known) =
        supervise(&settings, &state, config, mailbox.events(), &essential).await?;
    recover_from_shim(&mut recovered, &known, &mut notices);
    let machine_id = identify(settings.machine_id.as_ref(), &mut state, &recovered)?;
    notices.extend_from_slice(state.notices());

    let server_tls = server_tls(&settings)?;
    let listener = bind(settings.bind).await?;
    let address = listener.local_addr()?;

    let mut config = settings.machine.clone();
    config.machine = machine_id;
    config.address = address_to_call(settings.advertise.as_deref(), address)?;
    log_bound(&settings, &state, &config, address, &cgroup);
    for notice in &notices {
        warn!("{notice}");
    }

    let program = ProgramWatch::start(settings.worker.program.clone(), mailbox.events())
        .context("cannot start a thread that looks for the worker program")?;
    let client = controller_client(&settings, &config.machine, mailbox.events())?;
    let controller = GrpcController::new(client, mailbox.events(), essential.clone());
    let machine = Machine::new(config, seed()?, recovered, now);
    let (view_sender, view) = watch::channel(Arc::new(machine.view()));
    let metrics = Arc::new(Metrics::new());
    let service = NodeService {
        mailbox,
        view,
        dialect: settings.dialect,
        stop_reply: settings.stop_reply,
        about: Arc::new(about(&settings, &state, address, cgroup, &notices)),
    };
    let journal = JournalThread::start(state.keep_name_before(journal), &essential)
        .context("cannot start a thread for the journal")?;
    let driver = Driver::new(Parts {
        machine,
        inbox,
        processes,
        journal: Box::new(journal),
        controller: Box::new(controller),
        clock: Arc::new(SystemClock),
        observer: Box::new(Observers::new(metrics.clone())),
        view: view_sender,
        announce: announcer(settings.worker_finished, &essential),
    });
    let output_limit = limit_output(settings.output_limit, output, &service, &essential)?;
    Ok(BoundNode {
        driver,
        service,
        incoming: Incoming::new(listener, server_tls)?,
        address,
        metrics,
        output_limit,
        program,
        state,
        essential,
        panics,
    })
}

fn log_bound(
    settings: &NodeBuilder,
    state: &StateDir,
    config: &machine::Config,
    address: SocketAddr,
    cgroup: &str,
) {
    info!(
        machine_id = %config.machine, %address, advertised = config.address,
        controller = settings.controller, state_dir = %state.path().display(),
        task_slots = config.task_slots, worker = %settings.worker.program.display(), cgroup,
        "bound"
    );
}

/// What a person wants to know of this agent besides its view.
fn about(
    settings: &NodeBuilder,
    state: &StateDir,
    address: SocketAddr,
    cgroup: String,
    notices: &[Notice],
) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").into(),
        controller: settings.controller.clone(),
        facts: vec![
            ("address".into(), address.to_string()),
            ("state directory".into(), state.path().display().to_string()),
            ("worker".into(), settings.worker.program.display().to_string()),
            ("cgroups".into(), cgroup),
            ("gRPC API".into(), describe_tls(settings).into()),
        ],
        notices: notices.iter().map(ToString::to_string).collect(),
    }
}

fn limit_output(
    limit: Option<u64>,
    output: OutputDir,
    service: &NodeService,
    essential: &Essential,
) -> anyhow::Result<Option<OutputLimit>> {
    let start = |limit| OutputLimit::start(output, limit, service.view.clone(), essential);
    limit.map(start).transpose().context("cannot start a thread that bounds the output of workers")
}

fn server_tls(settings: &NodeBuilder) -> anyhow::Result<Option<Arc<Reloading<ServerConfig>>>> {
    let tls = settings.server_tls.clone().map(|tls| tls.load(&[H2])).transpose();
    Ok(tls.context("cannot serve the gRPC API over TLS")?.map(Arc::new))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| explain_bind(address))
}

/// Where the controller is told to call.
fn address_to_call(set: Option<&str>, bound: SocketAddr) -> anyhow::Result<String> {
    let address = advertised(set, bound);
    ensure!(
        can_be_called(&address),
        "no controller can call this agent at {address:?}: --advertise-address or advertise-address, or \
         else hostname, must be HOST or HOST:PORT"
    );
    Ok(address)
}

/// The name that the operator set, or the one that is kept. The controller knows workers by the name
/// of their machine, so it does not change while any of them is alive or unreported.
fn identify(
    configured: Option<&MachineId>,
    state: &mut StateDir,
    recovered: &Recovered,
) -> anyhow::Result<MachineId> {
    let kept = state.machine_id().clone();
    let Some(configured) = configured.filter(|id| **id != kept) else { return Ok(kept) };
    check_machine_id(configured.as_str()).map_err(|reason| {
        anyhow!(
            "{:?} cannot be the name of this machine ({reason}): --id or node.id gives another; \
             without one, a name is made and kept",
            configured.as_str()
        )
    })?;
    let bound = recovered.workers.iter().filter(|worker| worker.reported_at.is_none()).count();
    ensure!(
        bound == 0,
        "this machine's id is \"{kept}\" and {bound} of its workers are alive or not reported yet, so \
         it cannot become \"{configured}\" now: start once more as \"{kept}\" and stop the workers, or \
         keep that id"
    );
    state.keep_machine_id(configured);
    Ok(configured.clone())
}

fn open_journal(
    settings: &NodeBuilder,
    state: &StateDir,
    notices: &mut Vec<Notice>,
) -> anyhow::Result<(Box<dyn BlockingJournal>, Recovered)> {
    match settings.journal {
        JournalKind::Memory => Ok((Box::new(MemoryJournal::default()), Recovered::default())),
        JournalKind::Durable => {
            let boot = boot_id().context("cannot read this boot's id from /proc")?;
            let now = SystemClock.now().wall;
            let (journal, recovered, more) =
                SqliteJournal::open(&state.journal(), &boot, now, Checkpoints::Thread);
            notices.extend(more);
            Ok((Box::new(journal), recovered))
        }
    }
}

/// The cgroup below which each worker has its own, if they have; and what to say of it.
fn find_groups(
    settings: &NodeBuilder,
    state: &StateDir,
) -> anyhow::Result<(Option<PathBuf>, String)> {
    // The name that this agent is going to have: the next one looks for its workers under it.
    let name = settings.machine_id.as_ref().unwrap_or(state.machine_id()).as_str();
    let found = cgroup::discover(&cgroup::Host::default(), settings.cgroup, name, Role::Agent);
    let found = found.context("workers cannot have cgroups; --cgroup auto goes on without")?;
    Ok(match found {
        Discovery::Ready(subtree) => {
            let workers = subtree.workers().to_owned();
            remove_stale_groups(&subtree);
            let mut text = format!("one per worker in {}", workers.display());
            for note in subtree.notes() {
                text.push_str("; ");
                text.push_str(note);
            }
            (Some(workers), text)
        }
        Discovery::Without(reason) => (None, format!("none: {reason}")),
    })
}

/// A supervisor that was killed leaves the cgroups of workers that ended meanwhile.
fn remove_stale_groups(subtree: &cgroup::Subtree) {
    for worker in subtree.list().unwrap_or_default() {
        // What holds a process cannot be removed.
        if let Ok(Some(group)) = Group::open(subtree.workers(), &worker) {
            let _ = group.remove();
        }
    }
}

/// The parent of the workers, and what it knows of workers that are alive or have ended.
async fn supervise(
    settings: &NodeBuilder,
    state: &StateDir,
    config: ProcessesConfig,
    events: Events,
    essential: &Essential,
) -> anyhow::Result<(Box<dyn Processes>, Vec<Known>)> {
    match &settings.supervision {
        Supervision::InProcess => {
            let processes = InProcess::start(&config, events, essential)
                .context("cannot start supervising workers")?;
            Ok((Box::new(processes), Vec::new()))
        }
        Supervision::Shim(program) => {
            let mut shim = ShimConfig::new(state.path());
            shim.program.clone_from(program);
            let (processes, known) = ShimProcesses::start(config, shim, events, essential)
                .await
                .context("cannot reach a shim to run workers")?;
            Ok((Box::new(processes), known))
        }
    }
}

/// Adds the workers that only the shim knows: the journal was lost, or is older than they are.
fn recover_from_shim(recovered: &mut Recovered, known: &[Known], notices: &mut Vec<Notice>) {
    let journaled: BTreeSet<WorkerId> = recovered.workers.iter().map(|worker| worker.id).collect();
    let strangers = known.iter().filter(|known| !journaled.contains(&known.worker));
    for stranger in strangers {
        let id = stranger.worker;
        match stranger.worker() {
            Some(worker) => {
                notices.push(Notice::new(format!(
                    "Worker {id} is not in the journal, but the shim knows it: it is taken over."
                )));
                recovered.unwritten.insert(id);
                recovered.workers.push(worker);
            }
            None => notices.push(Notice::new(format!(
                "Worker {id} (pid {}) is not in the journal, and what the shim says of it cannot be \
                 read: it is left alone. End it by hand if it is still alive.",
                stranger.process.pid
            ))),
        }
    }
}

fn controller_client(
    settings: &NodeBuilder,
    machine: &MachineId,
    events: Events,
) -> anyhow::Result<ControllerClient> {
    let endpoint = Endpoint::from_shared(settings.controller.clone())
        .ok()
        .filter(|endpoint| endpoint.uri().host().is_some())
        .with_context(|| {
            format!(
                "the controller's address {:?} is no URL; it looks like http://HOST:5116",
                settings.controller
            )
        })?;
    let tls = settings.controller_tls.clone().map(ClientTls::load).transpose();
    let tls = tls.context("cannot call the controller over TLS")?.map(Arc::new);
    let notify = move |notification: Notification| events.send(notification.into());
    Ok(ControllerClient::new(machine.clone(), endpoint, settings.calls, connector(tls), notify))
}

fn describe_tls(settings: &NodeBuilder) -> &'static str {
    match &settings.server_tls {
        None => "without TLS",
        Some(ServerTls { client_ca: None, .. }) => "over TLS",
        Some(ServerTls { client_ca: Some(_), .. }) => "over TLS, with certificates of the callers",
    }
}

fn explain_bind(address: SocketAddr) -> String {
    format!(
        "cannot bind {address} for the gRPC API: is another agent running here? \
         --bind-address and --rpc-port, or ARROYO__NODE__RPC_PORT, choose another address"
    )
}

/// Fresh entropy, so that no worker id of an earlier agent comes up again.
fn seed() -> anyhow::Result<Seed> {
    let mut seed = Seed::default();
    SysRng.try_fill_bytes(&mut seed).context("the system gives no entropy")?;
    Ok(seed)
}

/// Hands ends to the embedding program without ever waiting for it.
fn announcer(
    listener: Option<mpsc::Sender<WorkerFinishedReq>>,
    essential: &Essential,
) -> Box<dyn FnMut(Report) + Send> {
    let Some(listener) = listener else { return Box::new(drop) };
    let (sender, mut queue) = mpsc::unbounded_channel();
    essential.task("announcer", async move {
        while let Some(end) = queue.recv().await {
            if listener.send(end).await.is_err() {
                break;
            }
        }
    });
    Box::new(move |report| {
        // A listener that is gone is no concern of the agent.
        let _ = sender.send(worker_finished(&report));
    })
}
