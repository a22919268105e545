//! A start that fails: what it leaves behind, and under which generation it is tried again.

use tonic::Code;

use super::{
    cluster::{Cluster, quick, within},
    fake_node::{OnStart, OnStop},
};
use crate::{
    controller::{ControllerEvent, JobSpec, JobState},
    ids::{Generation, JobId, WorkerId},
    machine::Dialect,
    rpc::wire::StopWorkerStatus,
};

fn job(slots: u64, dialect: Dialect) -> JobSpec {
    JobSpec { dialect, ..JobSpec::new("j", slots) }
}

#[tokio::test]
async fn a_start_that_failed_is_tried_again_as_the_same_run_in_0_15_and_as_a_newer_one_in_0_16() {
    for (dialect, second) in [(Dialect::V0_15, 1), (Dialect::V0_16, 2)] {
        let cluster = Cluster::new(quick()).await;
        let mut large = cluster.node("large", 3).await;
        let mut small = cluster.node("small", 1).await;
        small.on_start(OnStart::Refuse(Code::ResourceExhausted));
        let mut events = cluster.controller.subscribe();
        cluster.controller.submit(job(4, dialect)).unwrap();

        let started = large.next_start().await;
        small.next_start().await;
        let code = loop {
            let event = within(events.recv()).await.unwrap();
            if let ControllerEvent::StartRefused { refusal, .. } = event {
                break refusal.code;
            }
        };
        assert_eq!(code, Code::ResourceExhausted);

        // Before it tries again it stops what the failed attempt had started.
        assert_eq!(large.next_stop().await.worker_id, started.worker);
        let books = cluster.until_state("j", JobState::Running).await;
        assert_eq!(books.jobs[&JobId::from("j")].generation, Generation(second));
        assert_eq!(large.next_start().await.request.generation, second);
        assert_eq!(small.next_start().await.request.generation, second);

        // As in stock the left-over worker holds no slots in the books; its report frees none.
        assert_eq!(books.workers.len(), 3);
        large.report(started.report()).await.unwrap();
        let books = cluster.controller.snapshot();
        assert_eq!((books.free_slots(), books.workers.len()), (0, 2));
        assert_eq!(books.state(&"j".into()), Some(&JobState::Running));
    }
}

/// One round, which ends at the first worker that is not known to be gone: the other two are left.
#[tokio::test]
async fn the_round_of_stops_before_a_start_leaves_what_it_leaves() {
    let cluster = Cluster::new(quick()).await;
    let mut nodes =
        [cluster.node("a", 3).await, cluster.node("b", 2).await, cluster.node("c", 2).await];
    let refuses = cluster.node("d", 1).await;
    refuses.on_start(OnStart::Refuse(Code::Internal));
    nodes[0].on_stop(OnStop::Fail(Code::Internal));
    nodes[1].on_stop(OnStop::Say(StopWorkerStatus::Stopped));
    let mut events = cluster.controller.subscribe();
    cluster.submit("j", 8);
    cluster.until_state("j", JobState::Running).await;

    let mut old = Vec::new();
    for node in &mut nodes {
        old.push(WorkerId(node.next_start().await.worker));
        assert_eq!(node.next_start().await.request.generation, 2);
    }
    let mut tried = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ControllerEvent::StopTried { worker, .. } = event {
            tried.push(worker);
        }
    }
    assert_eq!(tried, old[..2]);
    let workers = cluster.controller.snapshot().workers;
    let running: Vec<_> = old.iter().map(|worker| workers[worker].running).collect();
    assert_eq!(running, [false, true, true]);
}

#[tokio::test]
async fn waiting_for_slots_uses_up_no_generation() {
    for dialect in [Dialect::V0_15, Dialect::V0_16] {
        let cluster = Cluster::new(quick()).await;
        let mut events = cluster.controller.subscribe();
        cluster.controller.submit(job(1, dialect)).unwrap();
        let short = ControllerEvent::NotEnoughSlots { job: "j".into(), wanted: 1, free: 0 };
        for _ in 0..3 {
            while within(events.recv()).await.unwrap() != short {}
        }
        let mut node = cluster.node("a", 1).await;
        assert_eq!(node.next_start().await.request.generation, 1);
    }
}

#[tokio::test]
async fn a_refused_start_frees_the_slots_of_those_that_were_to_follow() {
    let cluster = Cluster::new(quick()).await;
    let mut large = cluster.node("large", 3).await;
    let mut small = cluster.node("small", 1).await;
    large.on_start(OnStart::Refuse(Code::Internal));
    cluster.submit("j", 4);
    large.next_start().await;
    // All four slots are needed again, those of the node that was never asked too.
    large.next_start().await;
    small.next_start().await;
    let books = cluster.until_state("j", JobState::Running).await;
    assert_eq!((books.counters.refused, books.counters.started), (1, 2));
}

#[tokio::test]
async fn a_job_that_no_node_will_start_fails_after_as_many_attempts_as_in_stock() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 1).await;
    for _ in 0..11 {
        node.on_start(OnStart::Refuse(Code::Internal));
    }
    cluster.controller.submit(job(1, Dialect::V0_15)).unwrap();
    let is_failed = |state: &JobState| matches!(state, JobState::Failed(_));
    let books = cluster.until(|books| books.state(&"j".into()).is_some_and(is_failed)).await;
    assert_eq!(books.counters.refused, 11);
    assert_eq!(books.free_slots(), 1);
    node.next_start().await;
}
