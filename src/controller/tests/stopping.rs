//! Stopping a job: one worker after the other, and the first answer ends the round.

use tokio::sync::mpsc::UnboundedReceiver;
use tonic::Code;

use super::{
    cluster::{Cluster, quick, within},
    fake_node::{FakeNode, OnStop},
};
use crate::{
    controller::{ControllerEvent, JobSpec, JobState, Refusal, Settings, Stop, StopAnswer},
    ids::WorkerId,
    machine::Dialect,
    rpc::wire::StopWorkerStatus,
};

async fn two_workers(cluster: &Cluster) -> (FakeNode, FakeNode) {
    let (mut a, mut b) = (cluster.node("a", 2).await, cluster.node("b", 1).await);
    cluster.submit("j", 3);
    a.next_start().await;
    b.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    (a, b)
}

#[tokio::test]
async fn the_first_answer_ends_the_round() {
    let cluster = Cluster::new(quick()).await;
    // Workers are gone through by name, and a fake node's names begin with its own.
    let (mut a, mut b) = two_workers(&cluster).await;
    let mut events = cluster.controller.subscribe();
    a.on_stop(OnStop::Say(StopWorkerStatus::StopFailed));
    a.on_stop(OnStop::Say(StopWorkerStatus::Stopping));
    a.on_stop(OnStop::ReportFirst);
    b.on_stop(OnStop::ReportFirst);
    cluster.controller.stop(&"j".into(), Stop::Force).unwrap();
    cluster.until_state("j", JobState::Stopped).await;

    let mut tried = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ControllerEvent::StopTried { worker, answer } = event {
            tried.push((worker, answer));
        }
    }
    let stops =
        [a.next_stop().await, a.next_stop().await, a.next_stop().await, b.next_stop().await];
    let said = [
        StopWorkerStatus::StopFailed,
        StopWorkerStatus::Stopping,
        StopWorkerStatus::Stopped,
        StopWorkerStatus::Stopped,
    ];
    let expected = stops.iter().zip(said).map(|(stop, status)| {
        assert!(stop.force);
        (WorkerId(stop.worker_id), StopAnswer::Answered(status))
    });
    assert_eq!(tried, expected.collect::<Vec<_>>());
    let books = cluster.controller.snapshot();
    assert_eq!((books.workers.len(), books.free_slots()), (0, 3));
}

#[tokio::test]
async fn a_gentle_stop_can_be_made_forceful() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 1).await;
    cluster.submit("j", 1);
    let started = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    for _ in 0..1_000 {
        node.on_stop(OnStop::Say(StopWorkerStatus::Stopping));
    }
    cluster.controller.stop(&"j".into(), Stop::Gentle).unwrap();
    assert!(!node.next_stop().await.force);
    cluster.controller.stop(&"j".into(), Stop::Force).unwrap();
    while !node.next_stop().await.force {}
    node.report(started.report()).await.unwrap();
    cluster.until_state("j", JobState::Stopped).await;
}

#[tokio::test]
async fn a_job_that_waits_for_slots_is_stopped_at_once_and_its_name_is_free_again() {
    let cluster = Cluster::new(quick()).await;
    let mut events = cluster.controller.subscribe();
    cluster.submit("j", 1);
    loop {
        let event = within(events.recv()).await.unwrap();
        if matches!(event, ControllerEvent::NotEnoughSlots { .. }) {
            break;
        }
    }
    cluster.controller.stop(&"j".into(), Stop::Force).unwrap();
    cluster.until_state("j", JobState::Stopped).await;

    let mut node = cluster.node("a", 1).await;
    cluster.submit("j", 1);
    assert_eq!(node.next_start().await.request.generation, 2);
    assert!(cluster.controller.stop(&"k".into(), Stop::Force).is_err());
}

/// What the stops of these events were answered with, in order.
fn answers(events: &mut UnboundedReceiver<ControllerEvent>) -> Vec<StopAnswer> {
    let mut answers = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ControllerEvent::StopTried { answer, .. } = event {
            answers.push(answer);
        }
    }
    answers
}

/// A node tells stock so that a forced stop is done: the only answer on which stock goes on.
#[tokio::test]
async fn workers_whose_stop_is_answered_with_a_grpc_error_are_all_handled_in_one_round() {
    for code in [Code::NotFound, Code::Internal, Code::Unavailable] {
        let cluster = Cluster::new(Settings { stopping_rounds: 1, ..quick() }).await;
        let (mut a, mut b) = two_workers(&cluster).await;
        let mut events = cluster.controller.subscribe();
        a.on_stop(OnStop::Fail(code));
        b.on_stop(OnStop::Fail(code));
        cluster.controller.stop(&"j".into(), Stop::Force).unwrap();
        cluster.until_state("j", JobState::Stopped).await;

        assert!(!a.next_stop().await.wants_status && !b.next_stop().await.wants_status);
        let refusal = Refusal { code, message: "told to fail".into() };
        let failed = StopAnswer::CallFailed(refusal);
        assert_eq!(answers(&mut events), [failed.clone(), failed]);
        // Slots are free only once the ends are reported.
        assert_eq!(cluster.controller.snapshot().free_slots(), 0);
    }
}

#[tokio::test]
async fn no_status_is_believed_by_a_controller_like_stock() {
    use StopWorkerStatus::{NotFound, StopFailed, Stopped, Stopping};
    let cluster = Cluster::new(quick()).await;
    let (a, b) = two_workers(&cluster).await;
    let mut events = cluster.controller.subscribe();
    for status in [Stopped, NotFound, Stopping, StopFailed] {
        a.on_stop(OnStop::Say(status));
    }
    a.on_stop(OnStop::Fail(Code::NotFound));
    b.on_stop(OnStop::Fail(Code::NotFound));
    cluster.controller.stop(&"j".into(), Stop::Force).unwrap();
    cluster.until_state("j", JobState::Stopped).await;
    let refusal = Refusal { code: Code::NotFound, message: "told to fail".into() };
    let failed = StopAnswer::CallFailed(refusal);
    let mut expected = [Stopped, NotFound, Stopping, StopFailed].map(StopAnswer::Answered).to_vec();
    expected.extend([failed.clone(), failed]);
    assert_eq!(answers(&mut events), expected);
}

#[tokio::test]
async fn a_controller_that_wants_statuses_says_so_and_believes_those_of_an_end() {
    use StopWorkerStatus::{NotFound, StopFailed, Stopped, Stopping};
    let cluster = Cluster::new(Settings { wants_status: true, ..quick() }).await;
    let (mut a, mut b) = two_workers(&cluster).await;
    let mut events = cluster.controller.subscribe();
    for status in [Stopping, StopFailed, Stopped] {
        a.on_stop(OnStop::Say(status));
    }
    b.on_stop(OnStop::Say(NotFound));
    cluster.controller.stop(&"j".into(), Stop::Force).unwrap();
    cluster.until_state("j", JobState::Stopped).await;
    assert!(a.next_stop().await.wants_status && b.next_stop().await.wants_status);
    let expected = [Stopping, StopFailed, Stopped, NotFound].map(StopAnswer::Answered);
    assert_eq!(answers(&mut events), expected);
}

/// So many rounds make one attempt, and eleven failed attempts are the end in 0.15.
#[tokio::test]
async fn rounds_are_counted_apart_for_a_stop_and_for_a_recovery() {
    let settings = Settings { stopping_rounds: 3, recovering_rounds: 2, ..quick() };
    for (stops, rounds) in [(true, 3), (false, 2)] {
        let cluster = Cluster::new(settings.clone()).await;
        let mut node = cluster.node("a", 1).await;
        let job = JobSpec { dialect: Dialect::V0_15, ..JobSpec::new("j", 1) };
        cluster.controller.submit(job).unwrap();
        node.next_start().await;
        cluster.until_state("j", JobState::Running).await;
        let mut events = cluster.controller.subscribe();
        match stops {
            true => cluster.controller.stop(&"j".into(), Stop::Force).unwrap(),
            false => cluster.controller.report_unwell(&"j".into()).unwrap(),
        }
        let is_failed = |state: &JobState| matches!(state, JobState::Failed(_));
        cluster.until(|books| books.state(&"j".into()).is_some_and(is_failed)).await;
        assert_eq!(answers(&mut events).len(), 11 * rounds);
    }
}

#[test]
fn as_many_rounds_as_in_stock_are_the_default() {
    let settings = Settings::default();
    assert_eq!((settings.stopping_rounds, settings.recovering_rounds), (20, 10));
    assert!(!settings.wants_status);
}
