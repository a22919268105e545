//! Stock stops a job's workers one after the other, and any status ends the round: not even STOPPED
//! is believed before WorkerFinished has come. After few rounds it gives up. An error alone counts
//! as done. So a forced stop is answered by one, once the report is acknowledged.

use arroyo_node::{
    NodeBuilder,
    controller::{ControllerEvent, JobState, StopAnswer},
    ids::{JobId, WorkerId},
    machine::Dialect,
    rpc::{convert::StopReply, wire::StopWorkerStatus},
};
use tonic::Code;

use super::{
    stop_answers,
    support::{
        agent::Home,
        controller::{Reference, job, runs},
    },
    told,
};

/// The stops of a job with a worker on each of three agents, which is to run anew: its workers, in
/// the order in which it stops them, and the answers. Each is given once the end is reported.
async fn stops_of_a_job(
    setting: impl Fn(NodeBuilder) -> NodeBuilder,
) -> (Vec<WorkerId>, Vec<(WorkerId, StopAnswer)>) {
    let homes = [Home::new(), Home::new(), Home::new()];
    let controller = Reference::start().await;
    let mut agents = Vec::new();
    for home in &homes {
        agents.push(home.start(&controller.url(), |builder| setting(builder.task_slots(2))).await);
    }
    controller.until("all are registered", |books| books.nodes.len() == 3).await;
    let spec = job(&homes[0], "job", 6, Dialect::V0_15);
    controller.controller.submit(spec).expect("a new job");
    let books = controller.until("the job runs", |books| runs(books, "job", 1)).await;
    let old = books.jobs[&JobId::from("job")].workers.clone();
    assert_eq!(old.len(), 3, "one on each node");

    let mut events = controller.controller.subscribe();
    controller.controller.report_unwell(&"job".into()).expect("it is known");
    let events = told(&mut events, "the job runs anew", |event| {
        matches!(event, ControllerEvent::JobChanged { state: JobState::Running, .. })
    })
    .await;

    for worker in &old {
        let reported = events.iter().position(|event| {
            matches!(event, ControllerEvent::WorkerFinished { report, .. } if report.worker == *worker)
        });
        let answered = events.iter().position(
            |event| matches!(event, ControllerEvent::StopTried { worker: id, .. } if id == worker),
        );
        assert!(reported.is_some() && reported < answered, "first the report, then the answer");
    }
    let books = controller.controller.snapshot();
    assert!(runs(&books, "job", 2));
    assert_eq!(books.violations, []);
    (old.into_iter().collect(), stop_answers(&events))
}

#[tokio::test]
async fn all_workers_of_a_job_are_stopped_in_one_round() {
    let (workers, stops) = stops_of_a_job(|builder| builder).await;
    assert_eq!(stops.len(), 3, "{stops:?}");
    for ((stopped, answer), worker) in stops.into_iter().zip(workers) {
        // The error does not end the round: a status would, and come again.
        assert_eq!(stopped, worker);
        let StopAnswer::CallFailed(refusal) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.code, Code::NotFound, "{refusal:?}");
        assert!(refusal.message.contains("has ended"), "{refusal:?}");
    }
}

#[tokio::test]
async fn with_statuses_each_worker_of_a_job_costs_a_round_of_stops() {
    let statuses = |builder: NodeBuilder| builder.stop_reply(StopReply::Status);
    let (workers, stops) = stops_of_a_job(statuses).await;
    let stopped = StopAnswer::Answered(StopWorkerStatus::Stopped);
    let expected: Vec<_> = workers.into_iter().map(|worker| (worker, stopped.clone())).collect();
    assert_eq!(stops, expected, "one round each, and none of them for nothing");
}
