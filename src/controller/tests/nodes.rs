//! Registration, placement, expiry.

use std::time::Duration;

use tonic::Code;

use super::cluster::{Cluster, quick, within};
use crate::{
    controller::{ControllerEvent, JobSpec, JobState},
    ids::{Generation, MachineId, PipelineId},
    machine::Dialect,
    rpc::wire::RegisterNodeReq,
};

#[tokio::test]
async fn registering_again_changes_neither_slots_nor_address() {
    let cluster = Cluster::new(quick()).await;
    let node = cluster.node("a", 4).await;
    let again =
        RegisterNodeReq { machine_id: "a".into(), task_slots: 9, addr: "127.0.0.1:1".into() };
    node.client().register_node(again).await.unwrap();

    let books = cluster.controller.snapshot();
    let entry = &books.nodes[&MachineId::from("a")];
    assert_eq!((entry.slots, &entry.address), (4, &node.address));
    assert_eq!(books.counters.registered, 2);
}

#[tokio::test]
async fn a_heartbeat_of_an_unknown_node_is_answered_not_found() {
    let cluster = Cluster::new(quick()).await;
    let node = cluster.node("a", 4).await;
    node.heartbeat().await.unwrap();
    assert!(cluster.controller.forget_node(&"a".into()));
    assert_eq!(node.heartbeat().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cluster.controller.snapshot().counters.heartbeats, 2);
}

#[tokio::test]
async fn the_node_with_most_free_slots_is_filled_first() {
    let cluster = Cluster::new(quick()).await;
    let mut small = cluster.node("small", 2).await;
    let mut large = cluster.node("large", 5).await;
    let mut middle = cluster.node("middle", 3).await;
    let mut events = cluster.controller.subscribe();
    cluster.submit("j", 7);
    cluster.until_state("j", JobState::Running).await;

    assert_eq!(large.next_start().await.request.slots, 5);
    assert_eq!(middle.next_start().await.request.slots, 2);
    let mut order = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ControllerEvent::WorkerStarted { node, slots, .. } = event {
            order.push((node.to_string(), slots));
        }
    }
    assert_eq!(order, [("large".to_owned(), 5), ("middle".to_owned(), 2)]);

    cluster.submit("k", 3);
    cluster.until_state("k", JobState::Running).await;
    assert_eq!(small.next_start().await.request.slots, 2);
    assert_eq!(middle.next_start().await.request.slots, 1);
    assert_eq!(cluster.controller.snapshot().free_slots(), 0);
}

#[tokio::test]
async fn a_job_waits_until_there_are_enough_slots() {
    let cluster = Cluster::new(quick()).await;
    let mut first = cluster.node("a", 2).await;
    let mut events = cluster.controller.subscribe();
    cluster.submit("j", 4);
    let short = ControllerEvent::NotEnoughSlots { job: "j".into(), wanted: 4, free: 2 };
    for _ in 0..2 {
        while within(events.recv()).await.unwrap() != short {}
    }

    let mut second = cluster.node("b", 2).await;
    cluster.until_state("j", JobState::Running).await;
    // None was started while there were not enough.
    assert_eq!(first.next_start().await.request.generation, 1);
    assert_eq!(second.next_start().await.request.generation, 1);
    assert_eq!(cluster.controller.snapshot().counters.started, 2);
}

#[tokio::test]
async fn a_job_that_finds_no_slots_for_too_long_fails() {
    let mut settings = quick();
    settings.slots_patience = Duration::from_millis(50);
    let cluster = Cluster::new(settings).await;
    cluster.submit("j", 1);
    let is_failed = |state: &JobState| matches!(state, JobState::Failed(_));
    let books = cluster.until(|books| books.state(&"j".into()).is_some_and(is_failed)).await;
    assert_eq!(
        books.state(&"j".into()),
        Some(&JobState::Failed("not enough slots: wanted 1, free on all nodes together 0".into()))
    );
}

#[tokio::test]
async fn silent_nodes_expire_but_only_while_something_is_scheduled() {
    let cluster = Cluster::new(quick()).await;
    let _silent = cluster.node("silent", 4).await;
    let mut heard = cluster.node("heard", 1).await;
    cluster.clock.push(Duration::from_secs(31));
    heard.heartbeat().await.unwrap();
    assert_eq!(cluster.controller.snapshot().nodes.len(), 2);

    cluster.submit("j", 1);
    let books = cluster.until_state("j", JobState::Running).await;
    assert_eq!(heard.next_start().await.request.slots, 1);
    assert_eq!(books.nodes.keys().collect::<Vec<_>>(), [&MachineId::from("heard")]);
    assert_eq!(books.counters.expired, 1);
}

#[tokio::test]
async fn each_dialect_is_spoken_as_stock_speaks_it() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 8).await;
    for (id, dialect) in [("new", Dialect::V0_16), ("old", Dialect::V0_15)] {
        let mut job = JobSpec::new(id, 2);
        job.name = "impulse".into();
        job.pipeline = Some(PipelineId::from("pl_1"));
        job.dialect = dialect;
        job.last_generation = Generation(6);
        job.env.insert("A".into(), "b".into());
        cluster.controller.submit(job).unwrap();
        let started = node.next_start().await;
        cluster.until_state(id, JobState::Running).await;

        let request = &started.request;
        let pipeline = if dialect == Dialect::V0_16 { "pl_1" } else { "" };
        assert_eq!(request.pipeline_id, pipeline);
        assert_eq!((request.name.as_str(), request.job_id.as_str()), ("impulse", id));
        assert_eq!((request.machine_id.as_str(), request.generation), ("a", 7));
        assert_eq!(request.env_vars.get("A").map(String::as_str), Some("b"));
        assert_eq!(request.request_id, "");

        node.report(started.report()).await.unwrap();
        node.next_start().await;
    }
    assert_eq!(cluster.controller.snapshot().violations, []);
}
