//! A node that answers as it is told: a real gRPC server on a real socket, without workers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};

use super::cluster::within;
use crate::rpc::wire::{
    FinishedWorker, GetWorkersReq, GetWorkersResp, HeartbeatNodeReq, StartWorkerReq,
    StartWorkerResp, StopWorkerReq, StopWorkerResp, StopWorkerStatus, WorkerContext,
    WorkerFinishedReq, WorkerInfo,
    controller_grpc_client::ControllerGrpcClient,
    node_grpc_server::{NodeGrpc, NodeGrpcServer},
};

/// How to answer one StartWorker. Without being told a node starts the worker.
pub(super) enum OnStart {
    Refuse(Code),
    /// Start the worker once this is released.
    Hang(oneshot::Receiver<()>),
    /// Name the worker like this.
    Name(u64),
}

/// How to answer one StopWorker. Without being told a node says STOPPED and reports nothing.
pub(super) enum OnStop {
    Say(StopWorkerStatus),
    Fail(Code),
    /// Report the end first, then say STOPPED.
    ReportFirst,
}

/// A worker that a fake node was asked for, with the name that it gave it.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) worker: u64,
    pub(super) request: StartWorkerReq,
}

impl Started {
    /// The report of its end, in the dialect that its start calls for.
    pub(super) fn report(&self) -> WorkerFinishedReq {
        let request = self.request.clone();
        let (worker_id, generation) = (self.worker, request.generation);
        let (job_id, machine_id) = (request.job_id, request.machine_id);
        let worker = if request.pipeline_id.is_empty() {
            FinishedWorker::Info(WorkerInfo { worker_id, job_id, run_id: generation, machine_id })
        } else {
            FinishedWorker::Context(WorkerContext {
                machine_id,
                worker_id,
                job_id,
                generation,
                pipeline_id: request.pipeline_id,
            })
        };
        WorkerFinishedReq { worker: Some(worker), time: 0, slots: request.slots }
    }
}

pub(super) struct FakeNode {
    pub(super) address: String,
    script: Arc<Script>,
    starts: mpsc::UnboundedReceiver<Started>,
    stops: mpsc::UnboundedReceiver<StopWorkerReq>,
    server: AbortHandle,
}

struct Script {
    name: String,
    controller: ControllerGrpcClient<Channel>,
    state: Mutex<State>,
    starts: mpsc::UnboundedSender<Started>,
    stops: mpsc::UnboundedSender<StopWorkerReq>,
}

#[derive(Default)]
struct State {
    named: u64,
    running: Vec<Started>,
    on_start: VecDeque<OnStart>,
    on_stop: VecDeque<OnStop>,
}

impl FakeNode {
    pub(super) async fn new(name: &str, controller: ControllerGrpcClient<Channel>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (starts_sender, starts) = mpsc::unbounded_channel();
        let (stops_sender, stops) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            name: name.to_owned(),
            controller,
            state: Mutex::default(),
            starts: starts_sender,
            stops: stops_sender,
        });
        let server = Server::builder()
            .add_service(NodeGrpcServer::from_arc(script.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(server).abort_handle();
        Self { address, script, starts, stops, server }
    }

    pub(super) fn client(&self) -> ControllerGrpcClient<Channel> {
        self.script.controller.clone()
    }

    pub(super) fn on_start(&self, answer: OnStart) {
        self.script.state.lock().unwrap().on_start.push_back(answer);
    }

    pub(super) fn on_stop(&self, answer: OnStop) {
        self.script.state.lock().unwrap().on_stop.push_back(answer);
    }

    /// The next StartWorker that comes, seen as soon as it comes.
    pub(super) async fn next_start(&mut self) -> Started {
        within(self.starts.recv()).await.expect("the node lives")
    }

    /// The next StopWorker that comes.
    pub(super) async fn next_stop(&mut self) -> StopWorkerReq {
        within(self.stops.recv()).await.expect("the node lives")
    }

    pub(super) async fn heartbeat(&self) -> Result<(), Status> {
        let request = HeartbeatNodeReq { machine_id: self.script.name.clone(), time: 1 };
        self.client().heartbeat_node(request).await.map(|_| ())
    }

    pub(super) async fn report(&self, report: WorkerFinishedReq) -> Result<(), Status> {
        within(self.client().worker_finished(report)).await.map(|_| ())
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tonic::async_trait]
impl NodeGrpc for Script {
    async fn start_worker(
        &self,
        request: Request<StartWorkerReq>,
    ) -> Result<Response<StartWorkerResp>, Status> {
        let (mut worker, answer) = {
            let mut state = self.state.lock().unwrap();
            state.named += 1;
            let own = u64::from_be_bytes(std::array::from_fn(|i| {
                self.name.as_bytes().get(i).copied().unwrap_or(0)
            }));
            (own.wrapping_add(state.named), state.on_start.pop_front())
        };
        if let Some(OnStart::Name(name)) = answer {
            worker = name;
        }
        let started = Started { worker, request: request.into_inner() };
        let _ = self.starts.send(started.clone());
        match answer {
            Some(OnStart::Refuse(code)) => return Err(Status::new(code, "told to refuse")),
            Some(OnStart::Hang(released)) => {
                let _ = released.await;
            }
            Some(OnStart::Name(_)) | None => {}
        }
        self.state.lock().unwrap().running.push(started);
        Ok(Response::new(StartWorkerResp { worker_id: worker }))
    }

    async fn stop_worker(
        &self,
        request: Request<StopWorkerReq>,
    ) -> Result<Response<StopWorkerResp>, Status> {
        let request = request.into_inner();
        let (worker, answer) = {
            let mut state = self.state.lock().unwrap();
            let worker = state.running.iter().find(|started| started.worker == request.worker_id);
            (worker.cloned(), state.on_stop.pop_front())
        };
        let _ = self.stops.send(request);
        let status = match answer {
            None => StopWorkerStatus::Stopped,
            Some(OnStop::Say(status)) => status,
            Some(OnStop::Fail(code)) => return Err(Status::new(code, "told to fail")),
            Some(OnStop::ReportFirst) => {
                let report = worker.expect("a worker that was started here").report();
                self.controller.clone().worker_finished(report).await?;
                StopWorkerStatus::Stopped
            }
        };
        Ok(Response::new(StopWorkerResp { status: status.into() }))
    }

    async fn get_workers(
        &self,
        _: Request<GetWorkersReq>,
    ) -> Result<Response<GetWorkersResp>, Status> {
        Ok(Response::new(GetWorkersResp::default()))
    }

    async fn heartbeat_node(&self, _: Request<HeartbeatNodeReq>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}
