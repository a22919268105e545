//! The calls of a controller: what the machine is asked, what the caller is told.

use std::sync::Arc;

use arroyo_node::{
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{
        Ask, Dialect, JournalDown, Mono, Reply, SpawnError, StartError, View, Wall, Worker,
        WorkerSpec, Workers, WrongMachine,
    },
    rpc::wire::{GetWorkersReq, HeartbeatNodeReq, StartWorkerReq, WorkerState},
};
use tonic::{Code, Status};

use crate::node::{Node, empty_view, soon, start_request};

/// Calls StartWorker, and answers it so.
async fn start(reply: Result<WorkerId, StartError>) -> Result<u64, Status> {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let call = tokio::spawn(async move { client.start_worker(start_request()).await });
    node.answer(Reply::Started(reply)).await;
    let response = soon("the answer", call).await.expect("the call ran");
    response.map(|response| response.into_inner().worker_id)
}

#[tokio::test]
async fn a_started_worker_is_named() {
    let name = start(Ok(WorkerId(u64::MAX))).await;
    assert_eq!(name.expect("started"), u64::MAX);
}

#[tokio::test]
async fn a_refused_start_tells_code_and_reason() {
    let wrong = WrongMachine { asked: "node-b".into(), this: "node-a".into() };
    let (job, asked, alive) = (JobId::from("job"), Generation(6), Generation(7));
    for (error, code) in [
        (wrong.into(), Code::FailedPrecondition),
        (StartError::StaleGeneration { job, asked, alive }, Code::FailedPrecondition),
        (StartError::NotEnoughSlots { asked: 4, free: 3, total: 16 }, Code::ResourceExhausted),
        (StartError::Draining, Code::Unavailable),
        (JournalDown { reason: "disk full".into() }.into(), Code::Unavailable),
        (
            SpawnError { program: "/bin/worker".into(), reason: "No such file".into() }.into(),
            Code::Internal,
        ),
    ] {
        let status = start(Err(error.clone())).await.expect_err("refused");
        assert_eq!((status.code(), status.message()), (code, &*error.to_string()));
    }
}

#[tokio::test]
async fn a_malformed_start_never_reaches_the_machine() {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let bad = StartWorkerReq { job_id: String::new(), ..start_request() };
    let status = soon("the refusal", client.start_worker(bad)).await.expect_err("no job");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("job_id"), "{}", status.message());
    assert_eq!(node.inbox.take(), None);
}

/// The reason must fit into the headers that a caller's HTTP/2 stack takes.
#[tokio::test]
async fn a_refusal_arrives_however_long_the_name_that_it_is_about() {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let name = "=".repeat(100_000);

    let env_vars = [(name.clone(), String::new())].into();
    let bad = StartWorkerReq { env_vars, ..start_request() };
    let status = soon("the refusal", client.start_worker(bad)).await.expect_err("no name");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

    let request = HeartbeatNodeReq { machine_id: name.clone(), time: 0 };
    let call = tokio::spawn(async move { client.heartbeat_node(request).await });
    let wrong = WrongMachine { asked: name, this: "node-a".into() };
    node.answer(Reply::Alive(Err(wrong))).await;
    let status = soon("the refusal", call).await.expect("the call ran").expect_err("not it");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test]
async fn a_start_asks_the_machine_for_what_was_sent() {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let request = StartWorkerReq {
        pipeline_id: "pl".into(),
        env_vars: [("A".into(), "1".into())].into(),
        ..start_request()
    };
    let call = tokio::spawn(async move { client.start_worker(request).await });
    let Ask::Start(start) = node.answer(Reply::Started(Ok(WorkerId(1)))).await else {
        panic!("not a start");
    };
    assert_eq!((start.machine.as_str(), start.job.as_str()), ("node-a", "job"));
    assert_eq!((start.generation, start.slots.get()), (Generation(7), 2));
    assert_eq!(start.dialect, Dialect::V0_16);
    assert_eq!(start.env["A"], "1");
    soon("the answer", call).await.expect("the call ran").expect("started");
}

#[tokio::test]
async fn a_heartbeat_is_for_this_machine_or_refused() {
    let mut node = Node::start().await;
    let wrong = WrongMachine { asked: "node-b".into(), this: "node-a".into() };
    for answer in [Ok(()), Err(wrong)] {
        let mut client = node.client().await;
        let request = HeartbeatNodeReq { machine_id: "node-b".into(), time: 1 };
        let call = tokio::spawn(async move { client.heartbeat_node(request).await });
        let ask = node.answer(Reply::Alive(answer.clone())).await;
        assert_eq!(ask, Ask::Alive(MachineId::from("node-b")));
        let told = soon("the answer", call).await.expect("the call ran");
        let told = told.map(|_| ()).map_err(|status| (status.code(), status.message().to_owned()));
        assert_eq!(told, answer.map_err(|e| (Code::FailedPrecondition, e.to_string())));
    }
}

fn worker() -> Worker {
    Worker {
        id: WorkerId(9),
        spec: Arc::new(WorkerSpec {
            name: "impulse".into(),
            job: JobId::from("job"),
            pipeline: None,
            generation: Generation(7),
            slots: 2.try_into().expect("not zero"),
            dialect: Dialect::V0_15,
            key: None,
        }),
        admitted_at: Wall(10),
        process: None,
        stop: None,
        abandoned_at: Some(Mono(5)),
        end: None,
        reported_at: None,
    }
}

#[tokio::test]
async fn workers_are_listed_from_the_latest_view() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let list = soon("an empty list", client.get_workers(GetWorkersReq {})).await.expect("a list");
    assert_eq!(list.into_inner().statuses, []);

    node.view.send_replace(Arc::new(View {
        workers: Workers::from_iter([Arc::new(worker())]),
        ..empty_view()
    }));
    let list = soon("the new list", client.get_workers(GetWorkersReq {})).await.expect("a list");
    let [status] = &list.into_inner().statuses[..] else { panic!("not one worker") };
    assert_eq!((status.worker_id, status.slots, status.running), (9, 2, true));
    assert_eq!((status.state(), status.abandoned), (WorkerState::Starting, true));
}

/// The driver takes nothing in and its mailbox is full: who only looks is served all the same.
#[tokio::test]
async fn workers_are_listed_while_the_driver_is_stuck() {
    let node = Node::start().await;
    for _ in 0..2_000 {
        let mailbox = node.mailbox.clone();
        tokio::spawn(async move { mailbox.ask(Ask::SetDraining(true)).await.map(drop) });
    }
    let mut client = node.client().await;
    let mut stuck = client.clone();
    let start = tokio::spawn(async move { stuck.start_worker(start_request()).await });
    let list = soon("a list", client.get_workers(GetWorkersReq {})).await;
    assert_eq!(list.expect("a list").into_inner().statuses, []);
    assert!(!start.is_finished());
}

#[tokio::test]
async fn callers_of_an_agent_that_has_ended_are_told_so() {
    let mut node = Node::start().await;
    let (mut early, mut late) = (node.client().await, node.client().await);
    let call = tokio::spawn(async move { early.start_worker(start_request()).await });
    node.asked().await;
    drop(node.inbox);
    let early = soon("the answer", call).await.expect("the call ran").expect_err("ended");
    let late = soon("the answer", late.start_worker(start_request())).await.expect_err("ended");
    for status in [early, late] {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("shut down"), "{}", status.message());
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_an_internal_error() {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let call = tokio::spawn(async move { client.start_worker(start_request()).await });
    node.answer(Reply::ShuttingDown).await;
    let status = soon("the answer", call).await.expect("the call ran").expect_err("nonsense");
    assert_eq!(status.code(), Code::Internal);
}
