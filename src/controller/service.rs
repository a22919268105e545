//! ControllerGrpc over the books. Every call waits at the gate, as in stock.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{event::Violation, report::FinishedReport, shared::Shared};
use crate::{
    ids::MachineId,
    rpc::wire::{
        HeartbeatNodeReq, HeartbeatNodeResp, RegisterNodeReq, RegisterNodeResp, WorkerFinishedReq,
        WorkerFinishedResp, controller_grpc_server::ControllerGrpc,
    },
};

/// A controller's gRPC service.
#[derive(Clone)]
pub struct ControllerService {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl ControllerGrpc for ControllerService {
    async fn register_node(
        &self,
        request: Request<RegisterNodeReq>,
    ) -> Result<Response<RegisterNodeResp>, Status> {
        let RegisterNodeReq { machine_id, task_slots, addr } = request.into_inner();
        let _gate = self.shared.gate().await?;
        let now = self.shared.clock.now().mono;
        self.shared.books(|books| books.register(now, machine_id.into(), task_slots, addr));
        Ok(Response::new(RegisterNodeResp {}))
    }

    async fn heartbeat_node(
        &self,
        request: Request<HeartbeatNodeReq>,
    ) -> Result<Response<HeartbeatNodeResp>, Status> {
        let node = MachineId::from(request.into_inner().machine_id);
        let _gate = self.shared.gate().await?;
        let now = self.shared.clock.now().mono;
        if self.shared.books(|books| books.heartbeat(now, node.clone())) {
            Ok(Response::new(HeartbeatNodeResp {}))
        } else {
            let node = node.as_str();
            Err(Status::not_found(format!("node {node:?} is not known here: register it")))
        }
    }

    async fn worker_finished(
        &self,
        request: Request<WorkerFinishedReq>,
    ) -> Result<Response<WorkerFinishedResp>, Status> {
        let report = FinishedReport::try_from(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let _gate = self.shared.gate().await?;
        // What stock cannot read it answers with INTERNAL.
        self.shared
            .books(|books| books.finished(report))
            .map_err(|violation: Violation| Status::internal(violation.to_string()))?;
        Ok(Response::new(WorkerFinishedResp {}))
    }
}
