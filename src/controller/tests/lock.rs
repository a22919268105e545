//! Stock's one lock: what waits behind a StartWorker that hangs, and what does not.

use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Code;

use super::{
    cluster::{Cluster, quick, within},
    fake_node::OnStart,
};
use crate::controller::{ControllerEvent, JobState};

#[tokio::test]
async fn a_hung_start_makes_a_heartbeat_wait() {
    let cluster = Cluster::new(quick()).await;
    let mut hung = cluster.node("hung", 2).await;
    let other = cluster.node("other", 1).await;
    let (release, released) = oneshot::channel();
    hung.on_start(OnStart::Hang(released));
    cluster.submit("j", 1);
    hung.next_start().await;

    let heartbeat = other.heartbeat();
    tokio::pin!(heartbeat);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut heartbeat).await;
    assert!(early.is_err(), "the heartbeat was answered while StartWorker hung");
    // The books can be read all the same.
    assert_eq!(cluster.controller.snapshot().nodes.len(), 2);

    let mut events = cluster.controller.subscribe();
    release.send(()).unwrap();
    within(heartbeat).await.unwrap();
    let first = within(events.recv()).await.unwrap();
    assert!(matches!(first, ControllerEvent::WorkerStarted { .. }), "{first:?}");
}

#[tokio::test]
async fn without_the_quirk_a_hung_start_holds_up_nobody_else() {
    let mut settings = quick();
    settings.quirks.hold_lock_during_start = false;
    let cluster = Cluster::new(settings).await;
    let mut hung = cluster.node("hung", 2).await;
    let mut other = cluster.node("other", 1).await;
    let (release, released) = oneshot::channel();
    hung.on_start(OnStart::Hang(released));
    cluster.submit("j", 2);
    hung.next_start().await;

    within(other.heartbeat()).await.unwrap();
    // Slots of a start that is under way are not given out again.
    cluster.submit("k", 1);
    other.next_start().await;
    cluster.until_state("k", JobState::Running).await;
    assert_eq!(cluster.controller.snapshot().free_slots(), 0);

    release.send(()).unwrap();
    cluster.until_state("j", JobState::Running).await;
}

#[tokio::test]
async fn without_the_quirk_a_report_may_overtake_the_answer_to_its_start() {
    let mut settings = quick();
    settings.quirks.hold_lock_during_start = false;
    let cluster = Cluster::new(settings).await;
    let mut node = cluster.node("a", 1).await;
    let (release, released) = oneshot::channel();
    node.on_start(OnStart::Hang(released));
    cluster.submit("j", 1);
    let started = node.next_start().await;
    node.report(started.report()).await.unwrap();
    release.send(()).unwrap();

    // The worker is known to have ended: its slot is free and the job is scheduled anew.
    assert_eq!(node.next_start().await.request.generation, 2);
    let books = cluster.until_state("j", JobState::Running).await;
    assert_eq!((books.workers.len(), books.violations.len()), (1, 0));
}

#[tokio::test]
async fn a_deadline_ends_a_hung_start() {
    let mut settings = quick();
    settings.quirks.call_deadline = Some(Duration::from_millis(200));
    let cluster = Cluster::new(settings).await;
    let mut node = cluster.node("a", 1).await;
    let (_never, released) = oneshot::channel();
    node.on_start(OnStart::Hang(released));
    let mut events = cluster.controller.subscribe();
    cluster.submit("j", 1);
    loop {
        if let ControllerEvent::StartRefused { refusal, .. } = within(events.recv()).await.unwrap()
        {
            assert_eq!(refusal.code, Code::DeadlineExceeded);
            break;
        }
    }
    node.next_start().await;
}
