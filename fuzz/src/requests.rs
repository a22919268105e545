//! Any bytes, as each message that a node or a controller is sent: reading them never panics, what
//! is taken is what it claims to be, and every call is answered, in a form that the caller can read.

mod agent;
mod answers;

use std::fmt::Debug;

use arroyo_node::{
    controller::{Books, FinishOutcome, FinishedReport},
    ids::MachineId,
    machine::{Ask, Dialect, Mono, Start},
    rpc::{
        admin_wire,
        convert::{DialectPolicy, bad_start_status, parse_start, parse_stop},
        wire::{
            FinishedWorker, GetWorkersReq, HeartbeatNodeReq, RegisterNodeReq, StartWorkerReq,
            StopWorkerReq, WorkerContext, WorkerFinishedReq, WorkerInfo,
        },
    },
};
use prost::Message;
use tonic::Code;

/// Reads `bytes` as each request, and sends them to an agent and to a controller.
pub fn requests(bytes: &[u8]) {
    if let Some(request) = read::<StartWorkerReq>(bytes) {
        start(&request);
    }
    if let Some(request) = read::<StopWorkerReq>(bytes) {
        stop(&request);
    }
    if let Some(request) = read::<WorkerFinishedReq>(bytes) {
        finished(&request);
    }
    read::<GetWorkersReq>(bytes);
    read::<HeartbeatNodeReq>(bytes);
    read::<RegisterNodeReq>(bytes);
    read::<admin_wire::GetStatusRequest>(bytes);
    read::<admin_wire::SetDrainingRequest>(bytes);
    read::<admin_wire::ShutdownRequest>(bytes);
    answers::answers(bytes);
    controller(bytes);
}

/// A message, if the bytes are one: then it is read as the same from what it is written as.
fn read<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len(), "{message:?}");
    let again = M::decode(&*written).expect("it wrote this itself");
    assert!(again == message, "{message:?} became {again:?}");
    Some(message)
}

/// A controller's books take what any node may say.
fn controller(bytes: &[u8]) {
    let mut books = Books::default();
    if let Ok(RegisterNodeReq { machine_id, task_slots, addr }) = RegisterNodeReq::decode(bytes) {
        let node = MachineId::from(machine_id);
        assert!(!books.heartbeat(Mono(1), node.clone()), "it is to register first");
        assert!(books.register(Mono(2), node.clone(), task_slots, addr));
        assert!(books.heartbeat(Mono(3), node));
    }
    let finished = WorkerFinishedReq::decode(bytes).ok().map(FinishedReport::try_from);
    if let Some(Ok(report)) = finished {
        assert_eq!(books.finished(report.clone()), Ok(FinishOutcome::Unknown));
        assert_eq!(books.finished(report), Ok(FinishOutcome::Duplicate));
    }
}

fn start(request: &StartWorkerReq) {
    let own = if request.pipeline_id.is_empty() { Dialect::V0_15 } else { Dialect::V0_16 };
    for (policy, dialect) in [
        (DialectPolicy::PerWorker, own),
        (DialectPolicy::Always(Dialect::V0_15), Dialect::V0_15),
        (DialectPolicy::Always(Dialect::V0_16), Dialect::V0_16),
    ] {
        match parse_start(request.clone(), policy) {
            Ok(start) => {
                assert_eq!(start.dialect, dialect);
                good_start(&start, request);
            }
            Err(error) => {
                let status = bad_start_status(&error);
                assert_eq!(status.code(), Code::InvalidArgument);
                // Peers refuse a response with more headers than this, and with it the reason.
                let mut headers = tonic::codegen::http::HeaderMap::new();
                status.add_header(&mut headers).expect("any text can be a header");
                let bytes: usize = headers.values().map(|value| value.len()).sum();
                assert!(bytes < 8 * 1_024, "{bytes} bytes of headers");
            }
        }
    }
}

/// Everything that the kernel and the journal take for granted.
fn good_start(start: &Start, request: &StartWorkerReq) {
    assert_eq!(start.job.as_str(), request.job_id);
    assert_eq!(start.machine.as_str(), request.machine_id);
    assert_eq!(start.slots.get(), request.slots);
    assert_eq!(start.generation.0, request.generation);
    assert_eq!(start.env, request.env_vars);
    assert!(!start.job.as_str().is_empty());
    let pipeline = start.pipeline.as_ref().map_or("", |id| id.as_str());
    let key = start.key.as_ref().map_or("", |key| &key.0);
    assert_eq!((pipeline, key), (&*request.pipeline_id, &*request.request_id));
    assert!(key.len() <= 128);
    for text in [start.job.as_str(), &start.name, pipeline, key] {
        assert!(text.len() <= 1_024 && !text.contains('\0'));
    }
    let mut total = 0;
    for (name, value) in &start.env {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
        let length = name.len() + 1 + value.len() + 1;
        assert!(length <= 128 * 1_024, "MAX_ARG_STRLEN");
        total += length;
    }
    assert!(total <= 1_024 * 1_024);
}

fn stop(request: &StopWorkerReq) {
    let Ask::Stop { worker, .. } = parse_stop(request) else { panic!("not a stop") };
    assert_eq!(worker.0, request.worker_id);
}

/// Whoever is named is named in one dialect, and a peer of the other one cannot read it.
fn finished(request: &WorkerFinishedReq) {
    match &request.worker {
        None => {}
        Some(FinishedWorker::Info(info)) => {
            assert!(*info != WorkerInfo::default(), "names nobody");
            assert!(WorkerContext::decode(&*info.encode_to_vec()).is_err());
        }
        Some(FinishedWorker::Context(context)) => {
            assert!(*context != WorkerContext::default(), "names nobody");
            // To a peer of 0.15 the pipeline is an unknown field.
            let pipeline_id = context.pipeline_id.clone();
            let pipeline_alone = WorkerContext { pipeline_id, ..WorkerContext::default() };
            let other = WorkerInfo::decode(&*context.encode_to_vec());
            assert!(*context == pipeline_alone || other.is_err());
        }
    }
}
