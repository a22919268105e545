//! What workers say of a job: matched by the job alone, so that it may fail a run which the worker
//! is not of.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::{
    cluster::{Cluster, quick, within},
    fake_node::OnStart,
};
use crate::{
    controller::{Books, ControllerEvent, JobSpec, JobState},
    ids::{Generation, JobId, WorkerId},
    machine::{Dialect, Mono},
};

fn job(dialect: Dialect) -> JobSpec {
    JobSpec { dialect, ..JobSpec::new("j", 2) }
}

#[tokio::test]
async fn a_message_during_a_start_fails_that_attempt_and_it_is_tried_again() {
    for (dialect, second) in [(Dialect::V0_15, 1), (Dialect::V0_16, 2)] {
        let cluster = Cluster::new(quick()).await;
        let mut node = cluster.node("a", 2).await;
        let (release, released) = oneshot::channel();
        node.on_start(OnStart::Hang(released));
        let mut events = cluster.controller.subscribe();
        cluster.controller.submit(job(dialect)).unwrap();
        let first = node.next_start().await;
        cluster.controller.report_unwell(&"j".into()).unwrap();
        release.send(()).unwrap();

        let again = node.next_start().await;
        assert_eq!(again.request.generation, second);
        let books = cluster.until_state("j", JobState::Running).await;
        // The worker of the failed attempt is left in the books, without slots.
        assert_eq!(books.workers.len(), 2);
        assert_eq!(
            books.nodes[&"a".into()].held.keys().collect::<Vec<_>>(),
            [&WorkerId(again.worker)]
        );
        assert_eq!(node.next_stop().await.worker_id, first.worker);
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            match event {
                ControllerEvent::AttemptFailed { generation, .. } => told.push(generation),
                ControllerEvent::JobChanged { state, .. } => {
                    assert_ne!(state, JobState::Recovering, "it never ran");
                }
                _ => {}
            }
        }
        assert_eq!(told, [Generation(1)]);
    }
}

#[tokio::test]
async fn attempts_that_messages_fail_are_counted() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    let mut releases = Vec::new();
    for _ in 0..11 {
        let (release, released) = oneshot::channel();
        node.on_start(OnStart::Hang(released));
        releases.push(release);
    }
    cluster.controller.submit(job(Dialect::V0_15)).unwrap();
    for release in releases {
        node.next_start().await;
        cluster.controller.report_unwell(&"j".into()).unwrap();
        release.send(()).unwrap();
    }
    let books =
        cluster.until(|books| matches!(books.state(&"j".into()), Some(JobState::Failed(_)))).await;
    let why =
        "given up after 11 attempts: a task of it failed while its workers were being started";
    assert_eq!(books.state(&"j".into()), Some(&JobState::Failed(why.into())));
    assert_eq!(books.free_slots(), 2);
}

#[tokio::test]
async fn a_message_while_the_job_waits_for_slots_fails_the_start_that_follows() {
    let cluster = Cluster::new(quick()).await;
    let mut events = cluster.controller.subscribe();
    cluster.controller.submit(job(Dialect::V0_16)).unwrap();
    while !matches!(within(events.recv()).await, Some(ControllerEvent::NotEnoughSlots { .. })) {}
    cluster.controller.report_unwell(&"j".into()).unwrap();
    let mut node = cluster.node("a", 2).await;
    assert_eq!(node.next_start().await.request.generation, 1);
    assert_eq!(node.next_start().await.request.generation, 2);
    cluster.until_state("j", JobState::Running).await;
}

/// Books with a job that has one worker, of its first scheduling attempt, which is not over.
fn starting(dialect: Dialect) -> (Books, JobId, BTreeSet<WorkerId>) {
    let (mut books, id) = (Books::default(), JobId::from("j"));
    books.register(Mono::default(), "a".into(), 2, "host:1".into());
    let job = books.submit(job(dialect)).unwrap();
    let generation = books.next_generation(&id).unwrap();
    let placed = books.place(&job, generation).unwrap();
    books.started(Mono::default(), &placed[0], WorkerId(5));
    (books, id, [WorkerId(5)].into())
}

#[test]
fn a_message_is_used_up_by_the_attempt_that_it_fails() {
    let (mut books, id, workers) = starting(Dialect::V0_16);
    assert!(!books.fail_if_unwell(&id, &workers), "nothing was said");
    assert_eq!(books.snapshot().free_slots(), 0);
    books.report_unwell(&id).unwrap();
    assert!(books.fail_if_unwell(&id, &workers));
    assert_eq!(books.snapshot().free_slots(), 2);
    assert!(!books.fail_if_unwell(&id, &workers));
}

#[test]
fn what_was_said_before_an_attempt_began_does_not_fail_it() {
    for (dialect, second) in [(Dialect::V0_15, 1), (Dialect::V0_16, 2)] {
        let (mut books, id, workers) = starting(dialect);
        books.report_unwell(&id).unwrap();
        assert_eq!(books.retry(&id), Some(Generation(second)));
        assert!(!books.fail_if_unwell(&id, &workers));
    }
}

#[test]
fn what_is_said_of_a_job_that_runs_disturbs_it() {
    let (mut books, id, workers) = starting(Dialect::V0_16);
    books.scheduled(&id, workers);
    assert!(!books.is_disturbed(&id));
    books.report_unwell(&id).unwrap();
    assert!(books.is_disturbed(&id));
}
