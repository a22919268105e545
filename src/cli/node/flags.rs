//! The flags of `node`: a layer of settings above all files and variables.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use figment::value::Value;

use crate::config::{Flag, Whose, values::Time};

/// The most needed settings. All others are in files and variables: see `arroyo-node config`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// The agent's stable name; made once and kept in the state directory if not given
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Units of capacity to offer [default: 16]
    #[arg(long, value_name = "N")]
    task_slots: Option<u32>,
    /// The address or host name to serve on [default: 0.0.0.0]
    #[arg(long, value_name = "HOST")]
    bind_address: Option<String>,
    /// The port to serve on; 0: any free one [default: 5118]
    #[arg(long, value_name = "PORT")]
    rpc_port: Option<u16>,
    /// HOST or HOST:PORT under which the controller reaches this agent
    #[arg(long, value_name = "ADDRESS", alias = "advertise-host")]
    advertise_address: Option<String>,
    /// The controller's URL [default: http://localhost:5116]
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// The address or host name of the status page and the metrics [default: 0.0.0.0]
    #[arg(long, value_name = "HOST")]
    admin_address: Option<String>,
    /// Their port; if not given, 5114, or any free one if that is taken
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Where the agent keeps what must outlive it
    /// [default: /var/lib/arroyo-node for root, else ~/.local/state/arroyo-node]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The worker program; `builtin`: this one's own, which runs no pipelines
    /// [default: `arroyo` on PATH]
    #[arg(long, value_name = "PROGRAM")]
    worker_command: Option<PathBuf>,
    /// An argument for it, instead of `worker`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    worker_arg: Vec<OsString>,
    /// In which dialect ends are reported: auto, 0.15 or 0.16 [default: auto]
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<String>,
    /// Stop all workers after this long without a controller
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    fence_after: Option<Duration>,
    /// From a forced stop's SIGTERM to its SIGKILL [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    kill_after: Option<Duration>,
    /// The same when the agent ends with its workers [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    shutdown_kill_after: Option<Duration>,
    /// Be the parent of the workers, without a shim: their exit statuses are lost with the agent
    #[arg(long)]
    no_shim: bool,
    /// Give each worker a cgroup of its own: auto, required or off [default: auto]
    #[arg(long, value_name = "MODE")]
    cgroup: Option<String>,
}

impl Args {
    /// Those that were given.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let path = |value: &Option<PathBuf>| {
            value.as_ref().map(|path| Value::from(path.to_string_lossy().into_owned()))
        };
        let time = |value: &Option<Duration>| value.map(|time| Value::from(Time(time).to_string()));
        let stock = [
            ("--id", "node.id", text(&self.id)),
            ("--task-slots", "node.task-slots", self.task_slots.map(Value::from)),
            ("--bind-address", "node.bind-address", text(&self.bind_address)),
            ("--rpc-port", "node.rpc-port", self.rpc_port.map(Value::from)),
            ("--controller", "controller-endpoint", text(&self.controller)),
            ("--admin-address", "admin.bind-address", text(&self.admin_address)),
            ("--admin-port", "admin.http-port", self.admin_port.map(Value::from)),
        ];
        let own = [
            ("--advertise-address", "advertise-address", text(&self.advertise_address)),
            ("--state-dir", "state-dir", path(&self.state_dir)),
            ("--worker-command", "worker.command", path(&self.worker_command)),
            ("--worker-arg", "worker.args", self.worker_args()),
            ("--dialect", "dialect", text(&self.dialect)),
            ("--fence-after", "fence-after", time(&self.fence_after)),
            ("--kill-after", "kill-after", time(&self.kill_after)),
            ("--shutdown-kill-after", "shutdown.kill-after", time(&self.shutdown_kill_after)),
            ("--no-shim", "shim", self.no_shim.then(|| Value::from(false))),
            ("--cgroup", "cgroup", text(&self.cgroup)),
        ];
        let stock = stock.into_iter().map(|flag| (Whose::Stock, flag));
        let all = stock.chain(own.into_iter().map(|flag| (Whose::Own, flag)));
        all.filter_map(|(of, (name, key, value))| Some(Flag { name, key, of, value: value? }))
            .collect()
    }

    fn worker_args(&self) -> Option<Value> {
        let args =
            self.worker_arg.iter().map(|arg| Value::from(arg.to_string_lossy().into_owned()));
        (!self.worker_arg.is_empty()).then(|| Value::from(args.collect::<Vec<_>>()))
    }
}
