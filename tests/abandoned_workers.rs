//! Workers of a controller that has lost its books: one agent after the other, real workers, and
//! controllers that come back knowing nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use arroyo_node::{
    NodeBuilder,
    controller::ControllerEvent,
    machine::{AbandonedPolicy, Dialect},
    rpc::wire::{StopWorkerStatus, WorkerState},
};
use rusqlite::Connection;
use support::{
    agent::{Agent, Home},
    calls::{code, signal},
    controller::{Recorder, Reference, job, runs},
};
use tonic::Code;

const STUBBORN: [(&str, &str); 3] = [
    ("WORKER_IGNORE_SIGTERM", "1"),
    ("WORKER_CHILDREN", "setsid,daemon"),
    ("WORKER_CHILDREN_IGNORE_SIGTERM", "1"),
];

fn keep(builder: NodeBuilder) -> NodeBuilder {
    builder.machine(|config| config.abandoned = AbandonedPolicy::Keep)
}

#[tokio::test]
async fn a_controller_that_restarts_finds_a_node_without_the_workers_that_it_has_forgotten() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let address = recorder.address;
    let agent = home.start(&recorder.url(), |builder| builder).await;
    let left = agent.start(home.request("left", 16, &STUBBORN)).await;
    home.until_ready(left).await;
    home.until_alive(left, 3).await;
    recorder.until("registered", |record| !record.registrations.is_empty()).await;

    drop(recorder);
    agent.until_view("the controller is missed", |view| !view.registered).await;
    assert_eq!(home.mark.count_of(left), 3, "nothing is certain yet");
    let recorder = Recorder::start_forgetful_at(address).await;
    recorder.until("registered", |record| !record.registrations.is_empty()).await;
    assert_eq!(home.mark.count_of(left), 0, "nothing of it is left by then");
    assert_eq!(agent.until_reported(left).await.exit, signal(9));
    assert_eq!(recorder.report_of(left).await.slots, 16);
    agent.start(home.request("new", 16, &[])).await;
}

#[tokio::test]
async fn a_job_gets_the_slots_of_another_jobs_worker_that_was_left_behind() {
    let home = Home::new();
    let controller = Reference::start().await;
    let agent = home.start(&controller.url(), |builder| builder.task_slots(4)).await;
    controller.controller.submit(job(&home, "left", 4, Dialect::V0_15)).unwrap();
    controller.until("the job runs", |books| runs(books, "left", 1)).await;

    // The next controller never hears of that job: it runs elsewhere, or was given up.
    let address = controller.die().await;
    let controller = Reference::start_at(address).await;
    let mut events = controller.controller.subscribe();
    controller.controller.submit(job(&home, "other", 4, Dialect::V0_15)).unwrap();
    let books = controller.until("the other job runs", |books| runs(books, "other", 1)).await;
    assert_eq!((books.violations, agent.now().live_workers), (vec![], 1));
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, ControllerEvent::StartRefused { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn workers_that_are_kept_are_shown_as_abandoned_until_somebody_names_them() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.start(&recorder.url(), keep).await;
    let [one, two] = [home.request("one", 8, &[]), home.request("two", 8, &[])];
    let (one, two) = (agent.start(one).await, agent.start(two).await);
    home.until_ready(one).await;
    agent.until_view("registered", |view| view.registered).await;
    recorder.forget();
    agent.until_view("abandoned", |view| view.abandoned_workers == 2).await;
    assert_eq!(agent.status().await.abandoned_workers, 2);
    for id in [one, two] {
        let worker = agent.worker(id).await;
        assert!(worker.abandoned && worker.running, "{worker:?}");
    }
    let refusal = agent.refusal(home.request("new", 1, &[])).await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");

    assert_eq!(agent.ask_whether_finished(two).await, StopWorkerStatus::Stopping);
    assert_eq!(agent.stop_by_force(one).await, StopWorkerStatus::Stopped);
    let worker = agent.worker(two).await;
    assert!(!worker.abandoned && worker.state() == WorkerState::Running, "{worker:?}");
    assert_eq!(agent.worker(one).await.exit, code(0));
    assert_eq!(agent.status().await.abandoned_workers, 0);
}

/// An agent that took over a worker with 10 slots and was told at its start, by a controller that
/// knows nothing, that it is not known. It cannot tell whether that one restarted.
async fn uncertain(
    home: &Home,
    change: impl Fn(NodeBuilder) -> NodeBuilder,
) -> (Agent, Recorder, u64) {
    let recorder = Recorder::start().await;
    let agent = home.start(&recorder.url(), &change).await;
    let left = agent.start(home.request("left", 10, &[])).await;
    home.until_ready(left).await;
    agent.until_view("registered", |view| view.registered).await;
    drop(agent);
    // As after a night without a controller.
    let journal = Connection::open(home.state_dir().join("journal.sqlite")).unwrap();
    assert_eq!(journal.execute("DELETE FROM node WHERE name = 'known_at'", ()).unwrap(), 1);
    drop(journal);
    recorder.forget();

    let agent = home.start(&recorder.url(), &change).await;
    recorder.until("registered again", |record| record.registrations.len() == 2).await;
    agent.until_view("abandoned", |view| view.abandoned_workers == 1).await;
    assert_eq!(agent.worker(left).await.state(), WorkerState::Running);
    (agent, recorder, left)
}

#[tokio::test]
async fn where_nothing_is_certain_a_start_takes_the_slots_that_it_lacks_even_of_a_later_agent() {
    let home = Home::new();
    let (agent, recorder, left) = uncertain(&home, |builder| builder).await;
    let fits = agent.start(home.request("fits", 6, &[])).await;
    drop(agent);
    let agent = home.start(&recorder.url(), |builder| builder).await;
    let worker = agent.worker(left).await;
    assert!(worker.abandoned && worker.running, "{worker:?}");

    let new = agent.start(home.request("new", 10, &[])).await;
    assert_eq!(home.mark.count_of(left), 0, "it is gone before the new one runs");
    assert_eq!(agent.until_reported(left).await.exit, signal(9));
    for id in [fits, new] {
        assert!(agent.worker(id).await.running);
    }
}

#[tokio::test]
async fn where_nothing_is_certain_a_worker_stays_for_its_time() {
    let home = Home::new();
    let soon = |builder: NodeBuilder| {
        let time = AbandonedPolicy::StopAfter(Duration::from_secs(2));
        builder.machine(move |config| config.abandoned = time)
    };
    let (agent, recorder, left) = uncertain(&home, soon).await;
    let worker = agent.until_reported(left).await;
    assert_eq!(worker.exit, code(0), "it was asked first");
    assert!(!worker.abandoned);
    assert_eq!(recorder.report_of(left).await.slots, 10);
}
