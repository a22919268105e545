//! Stopping a job: one worker after the other, and the first answer ends the round.

use super::{
    cluster::{Cluster, quick, within},
    fake_node::{FakeNode, OnStop},
};
use crate::{
    controller::{ControllerEvent, JobState, Stop, StopAnswer},
    ids::WorkerId,
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
