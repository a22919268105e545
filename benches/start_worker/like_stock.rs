//! An agent that does what stock's does for a call, and nothing more: no journal, no shim, no check of
//! slots. For comparison only.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arroyo_node::rpc::wire::{
    GetWorkersReq, GetWorkersResp, HeartbeatNodeReq, StartWorkerReq, StartWorkerResp,
    StopWorkerReq, StopWorkerResp, StopWorkerStatus, WorkerStatus,
    node_grpc_server::{NodeGrpc, NodeGrpcServer},
};
use futures_util::StreamExt as _;
use tokio::{
    net::TcpListener,
    process::Command,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// With this argument the benchmark is such an agent.
pub(crate) const ARGUMENT: &str = "like-stock";

#[derive(Clone, Default)]
struct LikeStock {
    workers: Arc<Mutex<BTreeMap<u64, Worker>>>,
    next: Arc<AtomicU64>,
}

struct Worker {
    name: String,
    slots: u64,
    pid: i32,
}

/// Serves on a free port of loopback, which it prints, until SIGTERM; then it kills its workers.
#[tokio::main]
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let stock = LikeStock::default();
    let server = Server::builder()
        .add_service(NodeGrpcServer::new(stock.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener).map(|connection| {
            connection.inspect(|connection| {
                // As stock's server has it.
                let _ = connection.set_nodelay(true);
            })
        }));
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        served = server => served?,
        _ = terminated.recv() => stock.workers().values().for_each(Worker::kill),
    }
    Ok(())
}

impl LikeStock {
    fn workers(&self) -> MutexGuard<'_, BTreeMap<u64, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    fn kill(&self) {
        // SAFETY: integers only. That the pid may be another's by now is stock's way.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

#[tonic::async_trait]
impl NodeGrpc for LikeStock {
    async fn start_worker(
        &self,
        request: Request<StartWorkerReq>,
    ) -> Result<Response<StartWorkerResp>, Status> {
        let request = request.into_inner();
        let worker_id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut child = Command::new("sleep")
            .arg("300")
            .envs(request.env_vars)
            .env("ARROYO__WORKER__ID", worker_id.to_string())
            .env("ARROYO__WORKER__MACHINE_ID", request.machine_id)
            .env("ARROYO__WORKER__TASK_SLOTS", request.slots.to_string())
            .env("JOB_ID", request.job_id)
            .env("RUN_ID", request.generation.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        let pid = child.id().unwrap_or_default().cast_signed();
        let worker = Worker { name: request.name, slots: request.slots, pid };
        self.workers().insert(worker_id, worker);
        let this = self.clone();
        tokio::spawn(async move {
            let _ = child.wait().await;
            this.workers().remove(&worker_id);
        });
        Ok(Response::new(StartWorkerResp { worker_id }))
    }

    async fn stop_worker(
        &self,
        request: Request<StopWorkerReq>,
    ) -> Result<Response<StopWorkerResp>, Status> {
        let status = match self.workers().get(&request.get_ref().worker_id) {
            Some(worker) => {
                worker.kill();
                StopWorkerStatus::Stopped
            }
            None => StopWorkerStatus::NotFound,
        };
        Ok(Response::new(StopWorkerResp { status: status.into() }))
    }

    async fn get_workers(
        &self,
        _request: Request<GetWorkersReq>,
    ) -> Result<Response<GetWorkersResp>, Status> {
        let status = |worker: &Worker| WorkerStatus {
            name: worker.name.clone(),
            slots: worker.slots,
            running: true,
            ..Default::default()
        };
        Ok(Response::new(GetWorkersResp {
            statuses: self.workers().values().map(status).collect(),
        }))
    }

    async fn heartbeat_node(
        &self,
        _request: Request<HeartbeatNodeReq>,
    ) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}
