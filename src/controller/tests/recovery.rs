//! A job whose worker ended is brought about anew, with a higher generation.

use tonic::Code;

use super::{
    cluster::{Cluster, quick},
    fake_node::{OnStart, OnStop},
};
use crate::{
    controller::{JobSpec, JobState, SubmitError, Violation},
    ids::{Generation, JobId, WorkerId},
    rpc::wire::StopWorkerStatus,
};

#[tokio::test]
async fn each_end_of_a_worker_raises_the_generation() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    cluster.submit("j", 2);
    for generation in 1..=3 {
        let started = node.next_start().await;
        assert_eq!(started.request.generation, generation);
        cluster.until_state("j", JobState::Running).await;
        node.report(started.report()).await.unwrap();
    }
    assert_eq!(node.next_start().await.request.generation, 4);
}

#[tokio::test]
async fn the_other_workers_of_the_generation_are_stopped_first() {
    let cluster = Cluster::new(quick()).await;
    let mut one = cluster.node("one", 3).await;
    let mut two = cluster.node("two", 2).await;
    cluster.submit("j", 5);
    let ended = one.next_start().await;
    let left = two.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    two.on_stop(OnStop::ReportFirst);
    one.report(ended.report()).await.unwrap();

    let stop = two.next_stop().await;
    assert_eq!((stop.worker_id, stop.force, stop.job_id.as_str()), (left.worker, true, "j"));
    assert_eq!(one.next_start().await.request.generation, 2);
    assert_eq!(two.next_start().await.request.generation, 2);
    let books = cluster.until_state("j", JobState::Running).await;
    assert_eq!((books.free_slots(), books.workers.len()), (0, 2));
}

#[tokio::test]
async fn stopped_and_not_found_are_not_believed_until_the_report_comes() {
    let cluster = Cluster::new(quick()).await;
    let mut one = cluster.node("one", 3).await;
    let mut two = cluster.node("two", 2).await;
    cluster.submit("j", 5);
    let ended = one.next_start().await;
    let left = two.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    two.on_stop(OnStop::Say(StopWorkerStatus::Stopping));
    two.on_stop(OnStop::Say(StopWorkerStatus::NotFound));
    two.on_stop(OnStop::Say(StopWorkerStatus::Stopped));
    one.report(ended.report()).await.unwrap();
    for _ in 0..4 {
        two.next_stop().await;
    }
    assert_eq!(cluster.controller.snapshot().state(&"j".into()), Some(&JobState::Recovering));
    assert_eq!(cluster.controller.snapshot().counters.started, 2);

    two.report(left.report()).await.unwrap();
    assert_eq!(one.next_start().await.request.generation, 2);
}

#[tokio::test]
async fn a_node_that_cannot_be_called_counts_as_stopped() {
    let cluster = Cluster::new(quick()).await;
    let mut one = cluster.node("one", 5).await;
    let mut two = cluster.node("two", 4).await;
    cluster.submit("j", 8);
    let ended = one.next_start().await;
    let left = two.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    two.on_stop(OnStop::Fail(Code::Internal));
    one.report(ended.report()).await.unwrap();
    two.next_stop().await;

    // It is not asked again, but its slots stay taken until its end is reported.
    let books = cluster
        .until(|books| {
            books.workers.values().any(|worker| !worker.running)
                && books.state(&"j".into()) == Some(&JobState::Scheduling)
        })
        .await;
    assert!(books.workers.contains_key(&WorkerId(left.worker)));
    assert_eq!(books.free_slots(), 6);
    two.report(left.report()).await.unwrap();
    assert_eq!(two.next_start().await.request.generation, 2);
    assert_eq!(cluster.controller.snapshot().counters.finished, 2);
}

#[tokio::test]
async fn a_job_said_to_be_unwell_is_scheduled_anew() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 1).await;
    node.on_stop(OnStop::ReportFirst);
    cluster.submit("j", 1);
    node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    cluster.controller.report_unwell(&"j".into()).unwrap();
    node.next_stop().await;
    assert_eq!(node.next_start().await.request.generation, 2);
    assert!(cluster.controller.report_unwell(&"k".into()).is_err());
}

#[tokio::test]
async fn a_job_told_to_run_after_a_restart_goes_on_counting() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 1).await;
    let mut job = JobSpec::new("j", 1);
    job.last_generation = Generation(41);
    cluster.controller.submit(job.clone()).unwrap();
    assert_eq!(node.next_start().await.request.generation, 42);
    let exists = SubmitError::Exists(JobId::from("j"));
    assert_eq!(cluster.controller.submit(job), Err(exists));
}

#[tokio::test]
async fn a_name_given_out_twice_is_a_violation() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 1).await;
    node.on_start(OnStart::Name(77));
    node.on_start(OnStart::Name(77));
    cluster.submit("j", 1);
    let first = node.next_start().await;
    cluster.until_state("j", JobState::Running).await;
    node.report(first.report()).await.unwrap();
    node.next_start().await;
    let books = cluster.until(|books| books.counters.started == 2).await;
    let violation = Violation::WorkerIdReused { worker: WorkerId(77), node: "a".into() };
    assert_eq!(books.violations, [violation]);
}
