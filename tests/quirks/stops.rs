//! Stock stops a job's workers one after the other, and any answer ends the round: even STOPPED is
//! not believed before WorkerFinished has come. After few rounds it gives up. So STOPPED is
//! answered when the report is acknowledged, and each worker costs one round.

use arroyo_node::{
    controller::{ControllerEvent, JobState, StopAnswer},
    ids::JobId,
    machine::Dialect,
    rpc::wire::StopWorkerStatus,
};

use super::{
    answered_stops,
    support::{
        agent::Home,
        controller::{Reference, job, runs},
    },
    told,
};

#[tokio::test]
async fn each_worker_of_a_job_costs_one_round_of_stops() {
    let homes = [Home::new(), Home::new(), Home::new()];
    let controller = Reference::start().await;
    let mut agents = Vec::new();
    for home in &homes {
        agents.push(home.start(&controller.url(), |builder| builder.task_slots(2)).await);
    }
    controller.until("all are registered", |books| books.nodes.len() == 3).await;
    let spec = job(&homes[0], "job", 6, Dialect::V0_15);
    controller.controller.submit(spec).unwrap();
    let books = controller.until("the job runs", |books| runs(books, "job", 1)).await;
    let old = books.jobs[&JobId::from("job")].workers.clone();
    assert_eq!(old.len(), 3, "one on each node");

    let mut events = controller.controller.subscribe();
    controller.controller.report_unwell(&"job".into()).unwrap();
    let events = told(&mut events, "the job runs anew", |event| {
        matches!(event, ControllerEvent::JobChanged { state: JobState::Running, .. })
    })
    .await;

    let stops = answered_stops(&events);
    let stopped = StopAnswer::Answered(StopWorkerStatus::Stopped);
    let expected: Vec<_> = old.iter().map(|worker| (worker.0, stopped.clone())).collect();
    assert_eq!(stops, expected, "one round each, and none of them for nothing");
    for worker in old {
        let reported = events.iter().position(|event| {
            matches!(event, ControllerEvent::WorkerFinished { report, .. } if report.worker == worker)
        });
        let answered = events.iter().position(
            |event| matches!(event, ControllerEvent::StopTried { worker: id, .. } if *id == worker),
        );
        assert!(reported.unwrap() < answered.unwrap(), "first the report, then the answer");
    }
    let books = controller.controller.snapshot();
    assert!(runs(&books, "job", 2));
    assert_eq!(books.violations, []);
}
