//! What an agent serves: NodeGrpc, to controllers; NodeAdmin, to operators; both over the mailbox.
//! GetWorkers and GetStatus read the latest view and never wait for the loop.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{
    admin_wire::{self, node_admin_server::NodeAdmin},
    convert::{self, DialectPolicy, StopReply},
    delivery::with_receipt,
    wire::{self, node_grpc_server::NodeGrpc},
};
use crate::{
    ids::MachineId,
    machine::{Ask, Mode, Reply, Shutdown, View},
    mailbox::{Answer, Closed, Mailbox},
};

/// Answers for one agent.
#[derive(Clone, Debug)]
pub struct NodeService {
    /// The way to the machine.
    pub mailbox: Mailbox,
    /// The machine's latest state.
    pub view: watch::Receiver<Arc<View>>,
    /// In which dialect ends are reported.
    pub dialect: DialectPolicy,
    /// How a forced stop that is done is answered.
    pub stop_reply: StopReply,
    /// What the view does not tell.
    pub about: Arc<About>,
}

/// What a person wants to know about an agent and its machine does not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct About {
    /// Of the agent's build.
    pub version: String,
    /// The controller's address.
    pub controller: String,
    /// Other facts, name and value: the address, the state directory, how workers are supervised.
    pub facts: Vec<(String, String)>,
    /// What a person should know about this start (a set-aside journal, say).
    pub notices: Vec<String>,
}

impl NodeService {
    async fn ask(&self, ask: Ask) -> Result<Answer, Status> {
        self.mailbox.ask(ask).await.map_err(|Closed| Status::unavailable(Closed.to_string()))
    }

    fn latest(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}

#[tonic::async_trait]
impl NodeGrpc for NodeService {
    async fn start_worker(
        &self,
        request: Request<wire::StartWorkerReq>,
    ) -> Result<Response<wire::StartWorkerResp>, Status> {
        let start = convert::parse_start(request.into_inner(), self.dialect)
            .map_err(|error| convert::bad_start_status(&error))?;
        match self.ask(Ask::Start(start)).await? {
            (Reply::Started(Ok(id)), receipt) => {
                Ok(with_receipt(wire::StartWorkerResp { worker_id: id.0 }, receipt))
            }
            (Reply::Started(Err(error)), _) => Err(convert::start_status(&error)),
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn stop_worker(
        &self,
        request: Request<wire::StopWorkerReq>,
    ) -> Result<Response<wire::StopWorkerResp>, Status> {
        let request = request.into_inner();
        match self.ask(convert::parse_stop(&request)).await? {
            (Reply::Stopped(status), _) => {
                convert::stop_reply(&request, status, self.stop_reply).map(Response::new)
            }
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn get_workers(
        &self,
        _request: Request<wire::GetWorkersReq>,
    ) -> Result<Response<wire::GetWorkersResp>, Status> {
        let view = self.latest();
        let statuses = view.workers.iter().map(|worker| convert::worker_status(worker)).collect();
        Ok(Response::new(wire::GetWorkersResp { statuses }))
    }

    async fn heartbeat_node(
        &self,
        request: Request<wire::HeartbeatNodeReq>,
    ) -> Result<Response<()>, Status> {
        let asked = MachineId::from(request.into_inner().machine_id);
        match self.ask(Ask::Alive(asked)).await? {
            (Reply::Alive(Ok(())), _) => Ok(Response::new(())),
            (Reply::Alive(Err(error)), _) => Err(convert::wrong_machine_status(&error)),
            (reply, _) => Err(unexpected(&reply)),
        }
    }
}

#[tonic::async_trait]
impl NodeAdmin for NodeService {
    async fn get_status(
        &self,
        _request: Request<admin_wire::GetStatusRequest>,
    ) -> Result<Response<admin_wire::GetStatusResponse>, Status> {
        let view = self.latest();
        let mode = match view.mode {
            Mode::Serving => admin_wire::NodeMode::Serving,
            Mode::Draining => admin_wire::NodeMode::Draining,
            Mode::ShuttingDown => admin_wire::NodeMode::ShuttingDown,
        };
        Ok(Response::new(admin_wire::GetStatusResponse {
            machine_id: view.machine.as_str().into(),
            version: self.about.version.clone(),
            task_slots: view.task_slots,
            free_slots: view.free_slots,
            mode: mode.into(),
            registered: view.registered,
            controller: self.about.controller.clone(),
            live_workers: view.live_workers as u64,
            reports_owed: view.reports_owed as u64,
            journal_error: view.journal_error.as_deref().unwrap_or_default().into(),
            started_at: view.started_at.0,
            notices: self.about.notices.clone(),
            abandoned_workers: view.abandoned_workers as u64,
            program_error: view.program_error.as_deref().unwrap_or_default().into(),
        }))
    }

    async fn set_draining(
        &self,
        request: Request<admin_wire::SetDrainingRequest>,
    ) -> Result<Response<admin_wire::SetDrainingResponse>, Status> {
        match self.ask(Ask::SetDraining(request.into_inner().draining)).await? {
            (Reply::Draining(Ok(())), _) => Ok(Response::new(admin_wire::SetDrainingResponse {})),
            (Reply::Draining(Err(error)), _) => Err(convert::draining_status(&error)),
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn shutdown(
        &self,
        request: Request<admin_wire::ShutdownRequest>,
    ) -> Result<Response<admin_wire::ShutdownResponse>, Status> {
        let how = match request.into_inner().detach {
            true => Shutdown::Detach,
            false => Shutdown::StopWorkers,
        };
        match self.ask(Ask::Shutdown(how)).await? {
            (Reply::ShuttingDown, _) => Ok(Response::new(admin_wire::ShutdownResponse {})),
            (reply, _) => Err(unexpected(&reply)),
        }
    }
}

fn unexpected(reply: &Reply) -> Status {
    Status::internal(format!("the machine answered another question: {reply:?}"))
}
