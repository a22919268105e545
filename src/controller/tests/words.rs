//! Events in words: nothing of Rust's own notation reaches people.

use tonic::Code;

use crate::{
    controller::{
        ControllerEvent, FinishOutcome, FinishedReport, JobState, Refusal, StopAnswer, Violation,
    },
    ids::{Generation, WorkerId},
    machine::Dialect,
    rpc::wire::StopWorkerStatus,
};

fn every_kind() -> Vec<ControllerEvent> {
    let (node, job, worker, generation) = ("n".into(), "j".into(), WorkerId(5), Generation(3));
    let refusal = Refusal { code: Code::Internal, message: "no such file".into() };
    let report = FinishedReport {
        worker,
        node: "n".into(),
        job: "j".into(),
        generation,
        pipeline: None,
        slots: 2,
        ended_at: None,
        dialect: Dialect::V0_15,
    };
    let changed = |state| ControllerEvent::JobChanged { job: "j".into(), generation, state };
    let tried = |answer| ControllerEvent::StopTried { worker, answer };
    let finished = |outcome| ControllerEvent::WorkerFinished { report: report.clone(), outcome };
    let registered = |repeat| ControllerEvent::NodeRegistered {
        node: "n".into(),
        slots: 2,
        address: "host:1".into(),
        repeat,
    };
    let heartbeat = |known| ControllerEvent::Heartbeat { node: "n".into(), known };
    vec![
        registered(false),
        registered(true),
        heartbeat(true),
        heartbeat(false),
        ControllerEvent::NodeExpired { node: "n".into() },
        ControllerEvent::NodeForgotten { node: "n".into() },
        changed(JobState::Scheduling),
        changed(JobState::Running),
        changed(JobState::Recovering),
        changed(JobState::Stopping),
        changed(JobState::Stopped),
        changed(JobState::Failed("reasons".into())),
        ControllerEvent::NotEnoughSlots { job: "j".into(), wanted: 4, free: 2 },
        ControllerEvent::WorkerStarted {
            node: "n".into(),
            worker,
            job: "j".into(),
            generation,
            slots: 2,
        },
        ControllerEvent::StartRefused { node, job, generation, slots: 2, refusal: refusal.clone() },
        ControllerEvent::AttemptFailed { job: "j".into(), generation },
        tried(StopAnswer::Answered(StopWorkerStatus::NotFound)),
        tried(StopAnswer::Gone),
        tried(StopAnswer::NodeUnknown),
        tried(StopAnswer::CallFailed(refusal)),
        finished(FinishOutcome::Freed),
        finished(FinishOutcome::NotHeld),
        finished(FinishOutcome::Duplicate),
        finished(FinishOutcome::Unknown),
        ControllerEvent::Violation(Violation::WorkerIdReused { worker, node: "n".into() }),
    ]
}

#[test]
fn no_event_is_shown_in_rusts_notation() {
    for event in every_kind() {
        let words = event.to_string();
        let debug = format!("{event:?}");
        let variant = debug.split([' ', '(', '{']).next().unwrap();
        assert!(!words.contains(variant), "{words}");
        assert!(!words.contains(['{', '}', '\n']), "{words}");
        assert!(words.contains(' '), "{words}");
    }
}

#[test]
fn an_event_names_what_it_is_about() {
    let all: Vec<String> = every_kind().iter().map(ToString::to_string).collect();
    for words in [
        "node n registered: 2 slots at host:1",
        "job j: generation 3 runs",
        "job j: failed: reasons",
        "job j waits for slots: it takes 4, and 2 are free",
        "job j: node n started no worker of generation 3: Internal: no such file",
        "stop of worker 5: answered NOT_FOUND",
        "worker 5 of job j has ended: 2 slots are free again",
    ] {
        assert!(all.iter().any(|said| said == words), "{words:?} is not among {all:#?}");
    }
}
