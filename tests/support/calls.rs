//! Calling an agent as controllers and operators do.

use std::{net::SocketAddr, sync::Arc, time::Duration, time::Instant};

use arroyo_node::{
    rpc::{
        admin_wire::{
            GetStatusRequest, GetStatusResponse, SetDrainingRequest, ShutdownRequest,
            node_admin_client::NodeAdminClient,
        },
        wire::{
            GetWorkersReq, HeartbeatNodeReq, StartWorkerReq, StopWorkerReq, StopWorkerStatus,
            WorkerExit, WorkerState, WorkerStatus, node_grpc_client::NodeGrpcClient,
            worker_exit::How,
        },
    },
    runtime::tls::{ClientTls, connector},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{PATIENCE, soon};

/// A client of one agent. Connects when it is first used.
#[derive(Clone)]
pub struct Calls {
    pub node: NodeGrpcClient<Channel>,
    pub admin: NodeAdminClient<Channel>,
}

impl Calls {
    pub fn to(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        Self::through(endpoint.connect_lazy())
    }

    pub fn over_tls(address: SocketAddr, tls: ClientTls) -> Self {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
        let tls = Arc::new(tls.load().expect("good certificates"));
        Self::through(endpoint.connect_with_connector_lazy(connector(Some(tls))))
    }

    fn through(channel: Channel) -> Self {
        Self { node: NodeGrpcClient::new(channel.clone()), admin: NodeAdminClient::new(channel) }
    }

    pub async fn try_start(&self, request: StartWorkerReq) -> Result<u64, Status> {
        let answer = soon("StartWorker", self.node.clone().start_worker(request)).await;
        answer.map(|answer| answer.into_inner().worker_id)
    }

    pub async fn start(&self, request: StartWorkerReq) -> u64 {
        self.try_start(request).await.expect("the worker is started")
    }

    pub async fn refusal(&self, request: StartWorkerReq) -> Status {
        self.try_start(request).await.expect_err("the start is refused")
    }

    pub async fn stop_with(&self, request: StopWorkerReq) -> StopWorkerStatus {
        let answer = soon("StopWorker", self.node.clone().stop_worker(request)).await;
        answer.expect("StopWorker is answered").into_inner().status()
    }

    /// SIGTERM.
    pub async fn stop_gently(&self, worker_id: u64) -> StopWorkerStatus {
        self.stop_with(StopWorkerReq { worker_id, ..StopWorkerReq::default() }).await
    }

    /// SIGTERM, then SIGKILL.
    pub async fn stop_by_force(&self, worker_id: u64) -> StopWorkerStatus {
        let request = StopWorkerReq {
            worker_id,
            force: true,
            wants_status: true,
            ..StopWorkerReq::default()
        };
        self.stop_with(request).await
    }

    /// The same, as a stock controller asks: what it takes for done is an error.
    pub async fn stop_as_stock(&self, worker_id: u64) -> Result<StopWorkerStatus, Status> {
        let request = StopWorkerReq { worker_id, force: true, ..StopWorkerReq::default() };
        let answer = soon("StopWorker", self.node.clone().stop_worker(request)).await;
        answer.map(|answer| answer.into_inner().status())
    }

    /// Only asks.
    pub async fn ask_whether_finished(&self, worker_id: u64) -> StopWorkerStatus {
        let request = StopWorkerReq { worker_id, finished: true, ..StopWorkerReq::default() };
        self.stop_with(request).await
    }

    pub async fn workers(&self) -> Vec<WorkerStatus> {
        let answer = soon("GetWorkers", self.node.clone().get_workers(GetWorkersReq {})).await;
        answer.expect("GetWorkers is answered").into_inner().statuses
    }

    pub async fn worker(&self, id: u64) -> WorkerStatus {
        let mut workers = self.workers().await.into_iter();
        workers.find(|worker| worker.worker_id == id).expect("the worker is listed")
    }

    /// Waits until the agent says so of this worker.
    pub async fn until(
        &self,
        id: u64,
        what: &str,
        wanted: impl Fn(&WorkerStatus) -> bool,
    ) -> WorkerStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let worker = self.worker(id).await;
            if wanted(&worker) {
                return worker;
            }
            assert!(Instant::now() < deadline, "still not {what}: {worker:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_exited(&self, id: u64) -> WorkerStatus {
        self.until(id, "exited", |worker| worker.state() == WorkerState::Exited).await
    }

    pub async fn until_reported(&self, id: u64) -> WorkerStatus {
        self.until(id, "reported", |worker| worker.reported).await
    }

    pub async fn heartbeat(&self, machine: &str) -> Result<(), Status> {
        let request = HeartbeatNodeReq { machine_id: machine.to_owned(), time: 1 };
        let answer = soon("HeartbeatNode", self.node.clone().heartbeat_node(request)).await;
        answer.map(|answer| answer.into_inner())
    }

    pub async fn status(&self) -> GetStatusResponse {
        let answer = soon("GetStatus", self.admin.clone().get_status(GetStatusRequest {})).await;
        answer.expect("GetStatus is answered").into_inner()
    }

    /// Waits until the agent says so of itself.
    pub async fn until_status(
        &self,
        what: &str,
        wanted: impl Fn(&GetStatusResponse) -> bool,
    ) -> GetStatusResponse {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "still not {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn set_draining(&self, draining: bool) {
        let request = SetDrainingRequest { draining };
        let answer = soon("SetDraining", self.admin.clone().set_draining(request)).await;
        answer.expect("SetDraining is answered");
    }

    pub async fn shut_down(&self, detach: bool) {
        let request = ShutdownRequest { detach };
        let answer = soon("Shutdown", self.admin.clone().shutdown(request)).await;
        answer.expect("Shutdown is answered");
    }
}

/// An exit with this status.
pub fn code(code: i32) -> Option<WorkerExit> {
    Some(WorkerExit { how: Some(How::Code(code)) })
}

/// A death by this signal.
pub fn signal(signal: i32) -> Option<WorkerExit> {
    Some(WorkerExit { how: Some(How::Signal(signal)) })
}

/// An exit of which nobody can tell.
pub fn unknown() -> Option<WorkerExit> {
    Some(WorkerExit { how: Some(How::Unknown(())) })
}
