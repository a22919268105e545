//! Calls to the controller, and what their answers mean to the machine.

use tonic::{Code, Status};

use crate::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{CallError, Dialect, Exit, Registration, Report, Wall},
    rpc::{
        convert::{call_error, heartbeat, registration, worker_finished},
        wire::{
            FinishedWorker, HeartbeatNodeReq, RegisterNodeReq, WorkerContext, WorkerFinishedReq,
            WorkerInfo,
        },
    },
};

fn report(dialect: Dialect, pipeline: Option<&str>) -> Report {
    Report {
        machine: MachineId::from("node-a"),
        worker: WorkerId(u64::MAX),
        job: JobId::from("job"),
        pipeline: pipeline.map(PipelineId::from),
        generation: Generation(7),
        slots: 2,
        exit: Exit::Code(0),
        ended_at: Wall(1_795_500_000_123_456),
        dialect,
    }
}

#[test]
fn a_registration_offers_all_slots_at_the_address() {
    let request = registration(Registration {
        machine: MachineId::from("node-a"),
        task_slots: 16,
        address: "[fd00::7]:5118".into(),
        reconnect: false,
    });
    let (machine_id, addr) = ("node-a".into(), "[fd00::7]:5118".into());
    assert_eq!(request, RegisterNodeReq { machine_id, task_slots: 16, addr });
}

#[test]
fn a_heartbeat_carries_milliseconds() {
    let request = heartbeat(&MachineId::from("node-a"), Wall(1_795_500_000_123_999));
    let expected = HeartbeatNodeReq { machine_id: "node-a".into(), time: 1_795_500_000_123 };
    assert_eq!(request, expected);
}

/// 0.15 has neither a time nor a pipeline, whatever the report knows.
#[test]
fn a_report_in_0_15() {
    for pipeline in [None, Some("pl")] {
        let info = WorkerInfo {
            worker_id: u64::MAX,
            job_id: "job".into(),
            run_id: 7,
            machine_id: "node-a".into(),
        };
        let worker = Some(FinishedWorker::Info(info));
        let request = worker_finished(&report(Dialect::V0_15, pipeline));
        assert_eq!(request, WorkerFinishedReq { worker, time: 0, slots: 2 });
    }
}

#[test]
fn a_report_in_0_16() {
    for pipeline in [None, Some("pl")] {
        let context = WorkerContext {
            machine_id: "node-a".into(),
            worker_id: u64::MAX,
            job_id: "job".into(),
            generation: 7,
            pipeline_id: pipeline.unwrap_or_default().into(),
        };
        let worker = Some(FinishedWorker::Context(context));
        let request = worker_finished(&report(Dialect::V0_16, pipeline));
        assert_eq!(request, WorkerFinishedReq { worker, time: 1_795_500_000_123_456, slots: 2 });
    }
}

#[test]
fn only_not_found_means_that_the_controller_does_not_know_the_node() {
    assert_eq!(call_error(&Status::not_found("who?")), CallError::NotFound);
    for code in (1..=16).map(Code::from_i32).filter(|code| *code != Code::NotFound) {
        let CallError::Failed(text) = call_error(&Status::new(code, "the reason")) else {
            panic!("{code:?} is not NOT_FOUND");
        };
        assert!(text.contains(&format!("{code:?}")) && text.contains("the reason"), "{text}");
    }
}
