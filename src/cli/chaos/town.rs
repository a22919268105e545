//! Everything that has a part in a run and can be reached by all of it: directory, addresses,
//! controller, ledger. When it is dropped, nothing of it is left alive.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::libc::SIGKILL;
use tonic::transport::{Channel, Endpoint};

use super::{control::Control, ledger::Ledger, port::port_to_keep};
use crate::{
    admin::row::Row,
    ids::MachineId,
    rpc::{
        admin_wire::{GetStatusRequest, GetStatusResponse, node_admin_client::NodeAdminClient},
        wire::{GetWorkersReq, StopWorkerReq, node_grpc_client::NodeGrpcClient},
    },
    runtime::process::{Marked, alive_with, send_signal},
};

/// See the module's words.
pub(super) struct Town {
    pub(super) dir: PathBuf,
    pub(super) machine: MachineId,
    pub(super) controller_address: SocketAddr,
    pub(super) agent_address: SocketAddr,
    /// The agent's capacity: enough for all jobs, not for all that is left behind besides.
    pub(super) slots: u64,
    /// How many jobs are to be kept going.
    pub(super) jobs: u64,
    pub(super) control: Control,
    mark: String,
    ledger: Mutex<Ledger>,
    agent: Channel,
    /// Removes the directory, unless the operator named one.
    _temporary: Option<tempfile::TempDir>,
}

impl Town {
    pub(super) fn build(dir: Option<PathBuf>, jobs: u64) -> anyhow::Result<Self> {
        let (dir, temporary) = match dir {
            Some(dir) => {
                std::fs::create_dir_all(&dir)
                    .with_context(|| format!("cannot make {}", dir.display()))?;
                (std::path::absolute(dir)?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("arroyo-node-chaos-").tempdir();
                let temporary = temporary.context("cannot make a temporary directory")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let agent_address = port_to_keep()?;
        let name = uuid::Uuid::new_v4();
        Ok(Self {
            dir,
            machine: MachineId::from(format!("chaos-{name}")),
            controller_address: port_to_keep()?,
            agent_address,
            slots: jobs.saturating_mul(3),
            jobs,
            control: Control::default(),
            mark: name.to_string(),
            ledger: Mutex::default(),
            agent: Endpoint::from_shared(format!("http://{agent_address}"))?
                .timeout(Duration::from_secs(10))
                .connect_lazy(),
            _temporary: temporary,
        })
    }

    /// The books that nobody kills. Not to be held while anything is waited for.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent's state directory.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What all agents of this run write.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// The variable that everything of this run carries. A shim is given none that begin with ARROYO.
    pub(super) fn mark(&self) -> (&'static str, &str) {
        ("CHAOS_RUN", &self.mark)
    }

    /// Everything of this run that is alive.
    pub(super) fn alive(&self) -> std::io::Result<Vec<Marked>> {
        let (name, value) = self.mark();
        alive_with(&format!("{name}={value}"))
    }

    /// All workers that the agent lists.
    pub(super) async fn list(&self) -> Result<Vec<Row>, tonic::Status> {
        // As many as it keeps, each with long names.
        let mut client = NodeGrpcClient::new(self.agent.clone()).max_decoding_message_size(1 << 26);
        let answer = client.get_workers(GetWorkersReq {}).await?.into_inner();
        Ok(answer.statuses.iter().map(Row::from).collect())
    }

    /// How the agent stands.
    pub(super) async fn status(&self) -> Result<GetStatusResponse, tonic::Status> {
        let mut client = NodeAdminClient::new(self.agent.clone());
        Ok(client.get_status(GetStatusRequest {}).await?.into_inner())
    }

    /// Has the agent stop a worker by force, as an operator does.
    pub(super) async fn stop_worker(&self, row: &Row) -> Result<(), tonic::Status> {
        let Some(worker) = super::ledger::id_of(row) else { return Ok(()) };
        {
            let mut ledger = self.ledger();
            // It may not have been heard of before: then it would seem that nobody asked for this.
            ledger.listed(row);
            ledger.workers.entry(worker).and_modify(|worker| worker.stopped = true);
        }
        let request = StopWorkerReq {
            worker_id: worker.0,
            force: true,
            wants_status: true,
            ..StopWorkerReq::default()
        };
        NodeGrpcClient::new(self.agent.clone()).stop_worker(request).await.map(drop)
    }

    /// The last lines that agents have logged.
    pub(super) fn last_words(&self, log: &Path) -> String {
        const LINES: usize = 5;
        let text = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Ok(left) = self.alive()
            && !left.is_empty()
            && Instant::now() < deadline
        {
            for marked in left {
                let _ = send_signal(marked.process, SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
