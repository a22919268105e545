//! WorkerFinished: both dialects, repeats, and reports that are wrong.

use prost::Message as _;
use tonic::Code;

use super::cluster::{Cluster, quick};
use crate::{
    controller::{
        ControllerEvent, FinishOutcome, FinishedReport, JobSpec, JobState, NoIdentity, Violation,
    },
    ids::{Generation, WorkerId},
    machine::{Dialect, Wall},
    rpc::wire::{FinishedWorker, WorkerContext, WorkerFinishedReq},
};

/// As a stock 0.15 node sends it; encoded independently of this project.
const FINISHED_0_15: &str = "0a2508c5ffffffffffffffff01120e6a6f625f626e5a62636b7933375718072206\
                             6e6f64652d611802";

/// As a stock 0.16 node sends it; encoded independently of this project.
const FINISHED_0_16: &str = "0a2e0a066e6f64652d6110c5ffffffffffffffff011a0e6a6f625f626e5a62636b\
                             7933375720072a07706c5f39586b5110c0b4ceddf69f98031802";

fn read(hex: &str) -> FinishedReport {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    let request = WorkerFinishedReq::decode(bytes.as_slice()).unwrap();
    FinishedReport::try_from(request).unwrap()
}

#[test]
fn the_identity_is_read_from_either_dialect() {
    let old = FinishedReport {
        worker: WorkerId(18_446_744_073_709_551_557),
        node: "node-a".into(),
        job: "job_bnZbcky37W".into(),
        generation: Generation(7),
        pipeline: None,
        slots: 2,
        ended_at: None,
        dialect: Dialect::V0_15,
    };
    assert_eq!(read(FINISHED_0_15), old);

    let new = FinishedReport {
        pipeline: Some("pl_9XkQ".into()),
        ended_at: Some(Wall(1_795_500_000_123_456)),
        dialect: Dialect::V0_16,
        ..old
    };
    assert_eq!(read(FINISHED_0_16), new);
}

#[test]
fn a_report_without_an_identity_is_refused() {
    let report = WorkerFinishedReq { worker: None, time: 1, slots: 2 };
    assert_eq!(FinishedReport::try_from(report), Err(NoIdentity));
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_and_frees_nothing_twice() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    cluster.submit("j", 2);
    let first = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    let mut events = cluster.controller.subscribe();
    node.report(first.report()).await.unwrap();
    let second = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    node.report(first.report()).await.unwrap();

    let books = cluster.controller.snapshot();
    assert_eq!((books.counters.finished, books.counters.duplicates), (2, 1));
    assert_eq!(books.free_slots(), 0);
    assert!(books.workers.contains_key(&WorkerId(second.worker)));
    let mut outcomes = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ControllerEvent::WorkerFinished { outcome, .. } = event {
            outcomes.push(outcome);
        }
    }
    assert_eq!(outcomes, [FinishOutcome::Freed, FinishOutcome::Duplicate]);
}

#[tokio::test]
async fn a_report_of_an_unknown_worker_is_acknowledged() {
    let cluster = Cluster::new(quick()).await;
    let node = cluster.node("a", 2).await;
    let worker = FinishedWorker::Context(WorkerContext { worker_id: 5, ..Default::default() });
    let report = WorkerFinishedReq { worker: Some(worker), time: 1, slots: 2 };
    node.report(report).await.unwrap();
    let books = cluster.controller.snapshot();
    assert_eq!((books.counters.unknown, books.counters.duplicates), (1, 0));
    assert_eq!(books.free_slots(), 2);
}

#[tokio::test]
async fn other_slots_than_were_started_are_a_violation() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    cluster.submit("j", 2);
    let started = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    let mut report = started.report();
    report.slots = 3;
    node.report(report).await.unwrap();

    let books = cluster.controller.snapshot();
    let worker = WorkerId(started.worker);
    assert_eq!(books.violations, [Violation::WrongSlots { worker, started: 2, reported: 3 }]);
    assert_eq!(books.counters.violations, 1);
    assert!(!books.workers.contains_key(&worker));
}

#[tokio::test]
async fn another_identity_than_was_started_is_a_violation() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    cluster.submit("j", 2);
    let started = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    let mut report = started.report();
    let Some(FinishedWorker::Context(context)) = &mut report.worker else { unreachable!() };
    context.generation = 9;
    node.report(report).await.unwrap();

    let violation = Violation::WrongIdentity {
        worker: WorkerId(started.worker),
        field: "generation",
        started: "1".into(),
        reported: "9".into(),
    };
    assert_eq!(cluster.controller.snapshot().violations, [violation]);
}

#[tokio::test]
async fn the_wrong_dialect_is_refused_and_frees_nothing() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    let mut job = JobSpec::new("j", 2);
    job.dialect = Dialect::V0_15;
    cluster.controller.submit(job).unwrap();
    let mut started = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    started.request.pipeline_id = "pl".into();
    assert_eq!(node.report(started.report()).await.unwrap_err().code(), Code::Internal);

    let books = cluster.controller.snapshot();
    let worker = WorkerId(started.worker);
    let (old, new) = (Dialect::V0_15, Dialect::V0_16);
    assert_eq!(books.violations, [Violation::WrongDialect { worker, started: old, reported: new }]);
    assert_eq!(books.free_slots(), 0);
    assert!(books.workers.contains_key(&worker));
}
