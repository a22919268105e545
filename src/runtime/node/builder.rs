//! The settings of an agent.

use std::{net::SocketAddr, path::PathBuf};

use nix::unistd::Uid;
use tokio::sync::mpsc;

use super::NodeServer;
use crate::{
    ids::MachineId,
    machine,
    rpc::{
        client::CallSettings,
        convert::{DialectPolicy, StopReply},
        wire::WorkerFinishedReq,
    },
    runtime::{
        cgroup,
        process::WorkerCommand,
        tls::{ClientTls, ServerTls},
    },
};

/// Collects an agent's settings. Every one has a default.
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    pub(super) machine_id: Option<MachineId>,
    pub(super) worker_finished: Option<mpsc::Sender<WorkerFinishedReq>>,
    pub(super) bind: SocketAddr,
    pub(super) server_tls: Option<ServerTls>,
    pub(super) advertise: Option<String>,
    pub(super) controller: String,
    pub(super) controller_tls: Option<ClientTls>,
    pub(super) state_dir: PathBuf,
    pub(super) worker: WorkerCommand,
    pub(super) supervision: Supervision,
    pub(super) cgroup: cgroup::Mode,
    pub(super) journal: JournalKind,
    pub(super) output_limit: Option<u64>,
    pub(super) dialect: DialectPolicy,
    pub(super) stop_reply: StopReply,
    pub(super) calls: CallSettings,
    pub(super) machine: machine::Config,
}

/// Who the parent of the workers is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Supervision {
    /// The process of the agent. The workers outlive it, their exit statuses do not.
    InProcess,
    /// A shim, which outlives the agent: this program, called as `PROGRAM shim --state-dir DIR`.
    /// The next agent takes it over with everything it knows.
    Shim(PathBuf),
}

/// Where records are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalKind {
    /// In the state directory.
    Durable,
    /// In memory: nothing survives the agent. For measuring what durability costs.
    Memory,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            machine_id: None,
            worker_finished: None,
            bind: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            server_tls: None,
            advertise: None,
            controller: format!("http://localhost:{DEFAULT_CONTROLLER_PORT}"),
            controller_tls: None,
            state_dir: default_state_dir(),
            worker: WorkerCommand::new("arroyo"),
            supervision: Supervision::InProcess,
            cgroup: cgroup::Mode::Off,
            journal: JournalKind::Durable,
            output_limit: Some(DEFAULT_OUTPUT_LIMIT),
            dialect: DialectPolicy::default(),
            stop_reply: StopReply::default(),
            calls: CallSettings::default(),
            machine: machine::Config::new(MachineId::new("")),
        }
    }
}

/// Arroyo's `node.rpc-port`.
pub const DEFAULT_PORT: u16 = 5118;
/// Arroyo's `controller.rpc-port`.
pub const DEFAULT_CONTROLLER_PORT: u16 = 5116;

/// How many bytes are kept of what a worker writes to one of its streams.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 64 << 20;
/// The least that makes sense: several blocks of any file system.
pub const SMALLEST_OUTPUT_LIMIT: u64 = 256 << 10;

/// `/var/lib/arroyo-node` for root, else `$XDG_STATE_HOME/arroyo-node` or
/// `~/.local/state/arroyo-node`.
pub fn default_state_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    match state {
        Some(state) if !Uid::effective().is_root() => state.join("arroyo-node"),
        _ => PathBuf::from("/var/lib/arroyo-node"),
    }
}

impl NodeBuilder {
    /// The agent's stable name. Default: made once, and kept in the state directory.
    pub fn machine_id(mut self, id: MachineId) -> Self {
        self.machine_id = Some(id);
        self
    }

    /// Who in this process hears of each worker's end, besides the controller.
    pub fn worker_finished(mut self, sender: mpsc::Sender<WorkerFinishedReq>) -> Self {
        self.worker_finished = Some(sender);
        self
    }

    /// Where to serve; port 0 takes any free one. Default: `0.0.0.0:5118`.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = address;
        self
    }

    /// Serve over TLS. Default: without.
    pub fn server_tls(mut self, tls: ServerTls) -> Self {
        self.server_tls = Some(tls);
        self
    }

    /// `HOST` or `HOST:PORT` under which the controller reaches this agent. Default: the bound
    /// address, or an address of this machine that others can call.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Call the controller over TLS, whatever its URL's scheme. Default: without.
    pub fn controller_tls(mut self, tls: ClientTls) -> Self {
        self.controller_tls = Some(tls);
        self
    }

    /// The controller's URL. Default: `http://localhost:5116`.
    pub fn controller(mut self, url: impl Into<String>) -> Self {
        self.controller = url.into();
        self
    }

    /// Where the agent keeps what must outlive it. Default: `/var/lib/arroyo-node` for root, else
    /// `$XDG_STATE_HOME/arroyo-node` or `~/.local/state/arroyo-node`.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = path.into();
        self
    }

    /// What to run as a worker. Default: `arroyo worker`, found on `PATH`.
    pub fn worker(mut self, command: WorkerCommand) -> Self {
        self.worker = command;
        self
    }

    /// Who the parent of the workers is. Default: this process.
    pub fn supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    /// Whether each worker has a cgroup of its own. The agent may move itself to another cgroup for
    /// that. Default: off.
    pub fn cgroup(mut self, mode: cgroup::Mode) -> Self {
        self.cgroup = mode;
        self
    }

    /// Where records are kept. Default: in the state directory.
    pub fn journal(mut self, kind: JournalKind) -> Self {
        self.journal = kind;
        self
    }

    /// How many bytes to keep of each worker's stdout, and of its stderr; the oldest go first.
    /// `None`: all. Default: [`DEFAULT_OUTPUT_LIMIT`]; at least [`SMALLEST_OUTPUT_LIMIT`].
    pub fn output_limit(mut self, bytes: Option<u64>) -> Self {
        self.output_limit = bytes.map(|bytes| bytes.max(SMALLEST_OUTPUT_LIMIT));
        self
    }

    /// In which dialect ends are reported. Default: each in that of its StartWorker.
    pub fn dialect(mut self, policy: DialectPolicy) -> Self {
        self.dialect = policy;
        self
    }

    /// How a forced stop that is done is answered to a caller that does not say that it understands
    /// a status. Default: as a stock controller needs it, with the error NOT_FOUND.
    pub fn stop_reply(mut self, reply: StopReply) -> Self {
        self.stop_reply = reply;
        self
    }

    /// How the controller is called.
    pub fn calls(mut self, settings: CallSettings) -> Self {
        self.calls = settings;
        self
    }

    /// Units of capacity to offer. Default: 16.
    pub fn task_slots(mut self, slots: u64) -> Self {
        self.machine.task_slots = slots;
        self
    }

    /// Changes the machine's settings: times, bounds. Its name and address are set by the others.
    pub fn machine(mut self, change: impl FnOnce(&mut machine::Config)) -> Self {
        change(&mut self.machine);
        self
    }

    /// The agent.
    pub fn build(self) -> NodeServer {
        NodeServer { settings: self }
    }
}
