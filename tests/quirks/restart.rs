//! An agent that is back under its name before its node has expired: stock still counts its workers'
//! slots, each until it is reported ended, or for ever.

use arroyo_node::{controller::ControllerEvent, machine::Dialect};

use super::{
    support::{
        agent::Home,
        calls::signal,
        controller::{Reference, job, only_worker_of, runs},
        processes::crash,
    },
    told,
};

#[tokio::test]
async fn what_ended_while_the_agent_was_down_is_reported_and_its_slots_are_free_again() {
    let home = Home::new();
    let controller = Reference::start_patient().await;
    let agent = home.start(&controller.url(), |builder| builder.task_slots(4)).await;
    for (name, slots) in [("ends", 1), ("stays", 3)] {
        controller.controller.submit(job(&home, name, slots, Dialect::V0_16)).unwrap();
    }
    let both = |books: &_| runs(books, "ends", 1) && runs(books, "stays", 1);
    let books = controller.until("both jobs run", both).await;
    let (ends, stays) = (only_worker_of(&books, "ends"), only_worker_of(&books, "stays"));
    home.until_ready(ends).await;
    home.until_ready(stays).await;
    let (doomed, before) = (agent.worker(ends).await, agent.worker(stays).await);

    drop(agent);
    crash(&doomed);
    home.until_alive(ends, 0).await;
    let mut events = controller.controller.subscribe();
    controller.controller.submit(job(&home, "waits", 1, Dialect::V0_16)).unwrap();
    told(&mut events, "its slots count as taken", |event| {
        matches!(event, ControllerEvent::NotEnoughSlots { wanted: 1, free: 0, .. })
    })
    .await;

    let agent = home.start(&controller.url(), |builder| builder.task_slots(4)).await;
    let seen = told(&mut events, "somebody gets the slot", |event| {
        matches!(event, ControllerEvent::WorkerStarted { slots: 1, .. })
    })
    .await;
    let reports: Vec<_> = seen
        .iter()
        .filter_map(|event| match event {
            ControllerEvent::WorkerFinished { report, .. } => Some((report.worker.0, report.slots)),
            _ => None,
        })
        .collect();
    assert_eq!(reports, [(ends, 1)]);
    assert_eq!(agent.until_reported(ends).await.exit, signal(9), "kept while nobody was there");
    assert_eq!(agent.worker(stays).await, before, "taken over, untouched");
    let books = controller.controller.snapshot();
    assert_eq!((books.counters.expired, books.violations), (0, vec![]));
}
