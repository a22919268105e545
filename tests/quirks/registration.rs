//! Stock takes nothing over from a node that it knows, and has lost a node that it does not: then its
//! heartbeats are answered NOT_FOUND. Either way it may ask for slots that are not there. It is told
//! so, unless they are held by workers that it has forgotten: those are ended.

use arroyo_node::{
    NodeBuilder,
    controller::{ControllerEvent, Stop},
    ids::MachineId,
    machine::{AbandonedPolicy, Dialect},
};
use tonic::Code;

use super::{
    support::{
        agent::Home,
        calls::signal,
        controller::{Reference, job, only_worker_of, runs},
    },
    told,
};

fn is_exhausted(event: &ControllerEvent, name: &str) -> bool {
    matches!(event, ControllerEvent::StartRefused { job, refusal, .. }
        if job.as_str() == name && refusal.code == Code::ResourceExhausted)
}

#[tokio::test]
async fn an_agent_that_comes_back_smaller_says_so_to_a_controller_that_does_not_know() {
    let home = Home::new();
    let controller = Reference::start_patient().await;
    let agent = home.start(&controller.url(), |builder| builder.task_slots(4)).await;
    controller.controller.submit(job(&home, "job", 1, Dialect::V0_16)).unwrap();
    let books = controller.until("the job runs", |books| runs(books, "job", 1)).await;
    let worker = only_worker_of(&books, "job");
    home.until_ready(worker).await;
    let before = agent.worker(worker).await;

    drop(agent);
    let mut events = controller.controller.subscribe();
    let agent = home.start(&controller.url(), |builder| builder.task_slots(2)).await;
    told(&mut events, "it registers as one that is known", |event| {
        matches!(event, ControllerEvent::NodeRegistered { repeat: true, slots: 2, .. })
    })
    .await;
    let node = MachineId::from(home.machine.as_str());
    let books = controller.controller.snapshot();
    let known = &books.nodes[&node];
    assert_eq!((known.slots, known.free()), (4, 3), "nothing was taken over");
    // That was no sign of life; heartbeats are, and come all the same.
    let heard = known.last_heard;
    controller.until("heartbeats", |books| books.nodes[&node].last_heard > heard).await;

    controller.controller.submit(job(&home, "large", 3, Dialect::V0_16)).unwrap();
    let mut events = told(&mut events, "the refusal", |event| is_exhausted(event, "large")).await;
    let refusal = events.pop();
    let said = format!("{refusal:?}");
    assert!(said.contains("asked 3, free 1 of 2"), "{said}");
    controller.controller.stop(&"large".into(), Stop::Force).unwrap();
    controller.controller.submit(job(&home, "small", 1, Dialect::V0_16)).unwrap();
    controller.until("what fits runs", |books| runs(books, "small", 1)).await;
    assert_eq!(agent.worker(worker).await, before, "untouched");
    assert_eq!(agent.workers().await.len(), 2);
}

#[tokio::test]
async fn a_node_that_was_forgotten_gives_what_the_controller_calls_free() {
    let home = Home::new();
    let controller = Reference::start_patient().await;
    let agent = home.start(&controller.url(), |builder| builder.task_slots(4)).await;
    controller.until("registered", |books| books.nodes.len() == 1).await;
    // Of a controller that was there before.
    let worker = agent.start(home.request("left behind", 3, &[])).await;

    let node = MachineId::from(home.machine.as_str());
    let mut events = controller.controller.subscribe();
    assert!(controller.controller.forget_node(&node));
    controller.controller.submit(job(&home, "other", 2, Dialect::V0_15)).unwrap();
    let seen = told(&mut events, "the other job runs", |event| {
        matches!(event, ControllerEvent::WorkerStarted { job, .. } if job.as_str() == "other")
    })
    .await;
    let refused = seen.iter().any(|event| matches!(event, ControllerEvent::StartRefused { .. }));
    assert!(!refused, "{seen:?}");
    assert_eq!(agent.until_reported(worker).await.exit, signal(9));
    assert_eq!(controller.controller.snapshot().violations, []);
}

#[tokio::test]
async fn a_node_that_keeps_what_was_forgotten_refuses_the_slots_that_are_taken() {
    let home = Home::new();
    let controller = Reference::start_patient().await;
    let keep = |builder: NodeBuilder| {
        builder.task_slots(4).machine(|config| config.abandoned = AbandonedPolicy::Keep)
    };
    let agent = home.start(&controller.url(), keep).await;
    controller.controller.submit(job(&home, "job", 3, Dialect::V0_15)).unwrap();
    let books = controller.until("the job runs", |books| runs(books, "job", 1)).await;
    let worker = only_worker_of(&books, "job");

    let node = MachineId::from(home.machine.as_str());
    let mut events = controller.controller.subscribe();
    assert!(controller.controller.forget_node(&node));
    told(&mut events, "a heartbeat is answered NOT_FOUND", |event| {
        matches!(event, ControllerEvent::Heartbeat { known: false, .. })
    })
    .await;
    told(&mut events, "it registers as new", |event| {
        matches!(event, ControllerEvent::NodeRegistered { repeat: false, slots: 4, .. })
    })
    .await;
    let kept = agent.worker(worker).await;
    assert!(kept.running && kept.abandoned, "{kept:?}");

    controller.controller.submit(job(&home, "other", 2, Dialect::V0_15)).unwrap();
    told(&mut events, "the refusal", |event| is_exhausted(event, "other")).await;
    assert_eq!(agent.workers().await.len(), 1, "nothing was spawned for it");
    controller.controller.stop(&"job".into(), Stop::Force).unwrap();
    let books = controller.until("the other runs", |books| runs(books, "other", 1)).await;
    assert_eq!(books.violations, []);
}
