//! Agents as processes of their own, and calls to them.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arroyo_node::rpc::wire::{
    GetWorkersReq, HeartbeatNodeReq, StartWorkerReq, StopWorkerReq,
    node_grpc_client::NodeGrpcClient,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::like_stock;

/// More slots than workers are started.
const SLOTS: &str = "1000000";
const MACHINE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running agent; ended, with its workers, when it is dropped.
pub(crate) struct Agent {
    name: &'static str,
    process: Child,
    state: TempDir,
    client: NodeGrpcClient<Channel>,
    workers: Vec<u64>,
}

impl Agent {
    pub(crate) async fn like_stock() -> anyhow::Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .arg(like_stock::ARGUMENT)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let said = process.stdout.take().context("its stdout was piped")?;
        BufReader::new(said).read_line(&mut address)?;
        let client = connect(address.trim()).await?;
        let (state, workers) = (tempfile::tempdir()?, Vec::new());
        Ok(Self { name: "an agent like stock's", process, state, client, workers })
    }

    pub(crate) async fn ours(
        name: &'static str,
        program: &str,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let log = state.path().join("log");
        let process = Command::new(program)
            .args(["node", "--id", MACHINE, "--task-slots", SLOTS])
            .args(["--bind-address", "127.0.0.1", "--rpc-port", "0"])
            .args(["--admin-address", "127.0.0.1", "--admin-port", "0"])
            // Nobody listens on port 1.
            .args(["--controller", "http://127.0.0.1:1", "--kill-after", "0s"])
            .args(["--worker-command", "sleep", "--worker-arg", "300"])
            .arg("--state-dir")
            .arg(state.path().join("state"))
            .args(flags)
            .env("ARROYO_NODE__REPLY_WAIT", "0s")
            .env("ARROYO_NODE__SHUTDOWN__KILL_AFTER", "0s")
            .env("ARROYO_NODE__SHUTDOWN__PATIENCE", "2s")
            .stderr(File::create(&log)?)
            .spawn()?;
        let client = connect(&bound_address(&log)?).await?;
        Ok(Self { name, process, state, client, workers: Vec::new() })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How many it has been asked to start.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What agent and shim have had of a processor.
    pub(crate) fn cpu(&self) -> Duration {
        let shim = fs::read_to_string(self.state.path().join("state/shim.lock"));
        let shim = shim.ok().and_then(|pid| pid.trim().parse().ok());
        [Some(self.process.id()), shim].into_iter().flatten().map(cpu_of).sum()
    }

    /// A start, to be awaited whenever.
    pub(crate) fn one_more(&self) -> impl Future<Output = anyhow::Result<u64>> + use<> {
        let mut client = self.client.clone();
        let request = StartWorkerReq {
            name: "bench".into(),
            job_id: "bench".into(),
            slots: 1,
            machine_id: MACHINE.into(),
            generation: 1,
            ..Default::default()
        };
        async move { Ok(client.start_worker(request).await?.into_inner().worker_id) }
    }

    pub(crate) fn add(&mut self, worker: u64) {
        self.workers.push(worker);
    }

    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let worker = self.one_more().await?;
        self.add(worker);
        Ok(())
    }

    /// Stops one of those it has started.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let worker_id = self.workers.pop().context("more stops than starts")?;
        let request = StopWorkerReq { worker_id, force: true, ..Default::default() };
        self.client.stop_worker(request).await?;
        Ok(())
    }

    pub(crate) async fn list(&mut self) -> anyhow::Result<()> {
        self.client.get_workers(GetWorkersReq {}).await?;
        Ok(())
    }

    pub(crate) async fn heartbeat(&mut self) -> anyhow::Result<()> {
        let request = HeartbeatNodeReq { machine_id: MACHINE.into(), time: 0 };
        self.client.heartbeat_node(request).await?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

async fn connect(address: &str) -> anyhow::Result<NodeGrpcClient<Channel>> {
    Ok(NodeGrpcClient::connect(format!("http://{address}")).await?)
}

/// As the agent says in its log.
fn bound_address(log: &Path) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = fs::read_to_string(log)?;
        let address = said.lines().filter(|line| line.contains(" bound ")).find_map(|line| {
            line.split_whitespace().find_map(|field| field.strip_prefix("address="))
        });
        if let Some(address) = address {
            return Ok(address.to_owned());
        }
        anyhow::ensure!(Instant::now() < deadline, "the agent does not say its address:\n{said}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Of all threads of a process, to the nanosecond.
fn cpu_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(PathBuf::from(format!("/proc/{pid}/task")));
    let of_task = |task: fs::DirEntry| -> Option<Duration> {
        let figures = fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some(Duration::from_nanos(figures.split_whitespace().next()?.parse().ok()?))
    };
    tasks.into_iter().flatten().flatten().filter_map(of_task).sum()
}
