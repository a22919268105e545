//! Every method of an agent, called with the same bytes; and what its answers must be.

use std::fmt::Debug;

use arroyo_node::rpc::{
    admin_wire::{
        GetStatusRequest, GetStatusResponse, SetDrainingRequest, SetDrainingResponse,
        ShutdownRequest, ShutdownResponse,
    },
    convert::{DialectPolicy, parse_start},
    wire::{
        GetWorkersReq, GetWorkersResp, HeartbeatNodeReq, StartWorkerReq, StartWorkerResp,
        StopWorkerReq, StopWorkerResp, StopWorkerStatus, WorkerStatus,
    },
};
use prost::Message;
use tonic::{Code, Status};

use super::{agent::Agent, read};

/// Asks an agent everything that these bytes can ask.
pub(super) fn answers(bytes: &[u8]) {
    let request = StartWorkerReq::decode(bytes).unwrap_or_default();
    let mut agent = Agent::meant_by(&request);
    alive(&mut agent, bytes);
    stop(&mut agent, bytes);
    let first = start(&mut agent, bytes);
    let again = start(&mut agent, bytes);
    if let (Ok(first), false) = (&first, request.request_id.is_empty()) {
        assert_eq!(again.ok().as_ref(), Some(first), "the same attempt, repeated");
    }
    let drained = draining(&mut agent, bytes);
    let after = start(&mut agent, bytes);
    if drained && first.is_err() {
        assert!(after.is_err(), "a worker was started while draining");
    }
    stop(&mut agent, bytes);
    let status: GetStatusResponse =
        good::<GetStatusRequest, _>(&mut agent, "/arroyo_node.v1.NodeAdmin/GetStatus", bytes);
    assert_eq!(status.machine_id, request.machine_id);
    shutdown(&mut agent, bytes);
}

fn alive(agent: &mut Agent, bytes: &[u8]) {
    let answer = call::<HeartbeatNodeReq, ()>(agent, "/arroyo_rpc.NodeGrpc/HeartbeatNode", bytes);
    if let Err(status) = answer {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
}

fn start(agent: &mut Agent, bytes: &[u8]) -> Result<u64, Code> {
    let path = "/arroyo_rpc.NodeGrpc/StartWorker";
    let before = workers(agent);
    let answer = call::<StartWorkerReq, StartWorkerResp>(agent, path, bytes);
    let now = workers(agent);
    let request = StartWorkerReq::decode(bytes).unwrap_or_default();
    let malformed = parse_start(request.clone(), DialectPolicy::PerWorker).is_err();
    match answer {
        Ok(StartWorkerResp { worker_id }) => {
            assert!(!malformed);
            let started = now.iter().find(|worker| worker.worker_id == worker_id);
            let started = started.expect("what is named is listed");
            assert_eq!(
                (&started.name, &started.job_id, &started.pipeline_id),
                (&request.name, &request.job_id, &request.pipeline_id)
            );
            assert_eq!((started.slots, started.generation), (request.slots, request.generation));
            Ok(worker_id)
        }
        Err(status) => {
            let code = status.code();
            assert!(!malformed || code == Code::InvalidArgument, "{status}");
            assert!(now.len() <= before.len(), "a start that was refused left a worker: {status}");
            Err(code)
        }
    }
}

fn stop(agent: &mut Agent, bytes: &[u8]) {
    let path = "/arroyo_rpc.NodeGrpc/StopWorker";
    let answer = call::<StopWorkerReq, StopWorkerResp>(agent, path, bytes);
    let asked = StopWorkerReq::decode(bytes).unwrap_or_default();
    let known = workers(agent).into_iter().find(|worker| worker.worker_id == asked.worker_id);
    let (expected, done) = match known {
        None => (StopWorkerStatus::NotFound, true),
        Some(WorkerStatus { running: true, .. }) => (StopWorkerStatus::Stopping, false),
        Some(WorkerStatus { reported, .. }) => (StopWorkerStatus::Stopped, reported),
    };
    let as_stock = asked.force && !asked.finished && !asked.wants_status;
    match answer {
        Ok(answer) => {
            assert_eq!(answer.status(), expected);
            assert!(!(done && as_stock), "stock would not believe it");
        }
        Err(status) => {
            assert!(done && as_stock, "a stop is never refused: {status}");
            assert_eq!(status.code(), Code::NotFound);
        }
    }
}

/// Whether the agent drains from now on.
fn draining(agent: &mut Agent, bytes: &[u8]) -> bool {
    let path = "/arroyo_node.v1.NodeAdmin/SetDraining";
    let _: SetDrainingResponse = good::<SetDrainingRequest, _>(agent, path, bytes);
    SetDrainingRequest::decode(bytes).is_ok_and(|asked| asked.draining)
}

fn shutdown(agent: &mut Agent, bytes: &[u8]) {
    let path = "/arroyo_node.v1.NodeAdmin/Shutdown";
    let _: ShutdownResponse = good::<ShutdownRequest, _>(agent, path, bytes);
    if let Err(status) = agent.call("/arroyo_rpc.NodeGrpc/StopWorker", &[]) {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
}

fn workers(agent: &mut Agent) -> Vec<WorkerStatus> {
    let path = "/arroyo_rpc.NodeGrpc/GetWorkers";
    let answer: GetWorkersResp = good::<GetWorkersReq, _>(agent, path, &[]);
    answer.statuses
}

/// A call that is answered whatever it asks, if only it can be read.
fn good<Asked: Message + Default, Answered: Message + Default + PartialEq + Debug>(
    agent: &mut Agent,
    path: &'static str,
    bytes: &[u8],
) -> Answered {
    call::<Asked, Answered>(agent, path, bytes).unwrap_or_else(|status| panic!("{path}: {status}"))
}

/// What cannot be read is refused; then the default is asked for instead.
fn call<Asked: Message + Default, Answered: Message + Default + PartialEq + Debug>(
    agent: &mut Agent,
    path: &'static str,
    bytes: &[u8],
) -> Result<Answered, Status> {
    let answer = agent.call(path, bytes);
    if Asked::decode(bytes).is_err() {
        let status = answer.expect_err("no request");
        assert_eq!(status.code(), Code::Internal, "{status}");
        return call::<Asked, Answered>(agent, path, &[]);
    }
    match answer {
        Ok(message) => Ok(read(&message).expect("an answer in its own form")),
        Err(status) => {
            assert!(!status.message().is_empty(), "{path}: {:?} without a reason", status.code());
            Err(status)
        }
    }
}
