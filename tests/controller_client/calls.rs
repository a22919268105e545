//! The three calls: what is on the wire, what the machine hears, and that none waits for another.

use std::{sync::atomic::Ordering, time::Duration};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{CallError, Dialect, Event, Exit, Registration, Report, Wall},
    rpc::client::{CallSettings, ControllerClient},
    runtime::{
        controller::GrpcController,
        essential::essential,
        ports::{Controller as _, Events},
    },
};
use prost::Message;
use tokio::sync::mpsc;

use crate::{
    controller::{Call, Controller, GENEROUS, client, heartbeat, soon},
    stock::{self, v0_15, v0_16},
};

const AT: Wall = Wall(1_795_500_000_123_456);

fn registration() -> Registration {
    Registration {
        machine: MachineId::from("node-a"),
        task_slots: 16,
        address: "[fd00::7]:5118".into(),
        reconnect: true,
    }
}

fn report(worker: u64, dialect: Dialect) -> Report {
    Report {
        machine: MachineId::from("node-a"),
        worker: WorkerId(worker),
        job: JobId::from("job"),
        pipeline: (dialect == Dialect::V0_16).then(|| PipelineId::from("pl")),
        generation: Generation(7),
        slots: 2,
        exit: Exit::Code(0),
        ended_at: AT,
        dialect,
    }
}

/// A controller, a port that calls it, and where the port answers.
async fn port(
    settings: CallSettings,
) -> (Controller, GrpcController, mpsc::UnboundedReceiver<Event>) {
    let controller = Controller::start().await;
    let (client, _) = client(controller.address, settings);
    let (events, answers) = Events::channel();
    (controller, GrpcController::new(client, events, essential().0), answers)
}

fn read<M: Message + Default>(call: &Call) -> M {
    M::decode(call.message()).expect("a stock controller can read it")
}

#[tokio::test]
async fn a_registration_is_read_by_stock() {
    let (mut controller, mut port, mut answers) = port(GENEROUS).await;
    port.register(registration());
    let call = controller.called().await;
    assert_eq!(call.method(), "RegisterNode");
    let (machine_id, addr) = ("node-a".into(), "[fd00::7]:5118".into());
    assert_eq!(
        read::<stock::RegisterNodeReq>(&call),
        stock::RegisterNodeReq { machine_id, task_slots: 16, addr }
    );
    call.acknowledge();
    assert_eq!(soon("an answer", answers.recv()).await, Some(Event::Registered(Ok(()))));
}

#[tokio::test]
async fn a_heartbeat_is_read_by_stock() {
    let (mut controller, mut port, mut answers) = port(GENEROUS).await;
    port.heartbeat(heartbeat(AT));
    let call = controller.called().await;
    assert_eq!(call.method(), "HeartbeatNode");
    let (machine_id, time) = ("node-a".into(), 1_795_500_000_123);
    assert_eq!(
        read::<stock::HeartbeatNodeReq>(&call),
        stock::HeartbeatNodeReq { machine_id, time }
    );
    call.acknowledge();
    let answer = soon("an answer", answers.recv()).await;
    assert_eq!(answer, Some(Event::HeartbeatAnswered { heartbeat: heartbeat(AT), result: Ok(()) }));
}

#[tokio::test]
async fn a_report_is_read_by_the_stock_controller_of_its_dialect() {
    let (mut controller, mut port, mut answers) = port(GENEROUS).await;
    for dialect in [Dialect::V0_15, Dialect::V0_16] {
        port.report(report(u64::MAX, dialect));
        let call = controller.called().await;
        assert_eq!(call.method(), "WorkerFinished");
        match dialect {
            Dialect::V0_15 => {
                let info = v0_15::WorkerInfo {
                    worker_id: u64::MAX,
                    job_id: "job".into(),
                    run_id: 7,
                    machine_id: "node-a".into(),
                };
                let expected = v0_15::WorkerFinishedReq { worker_info: Some(info), slots: 2 };
                assert_eq!(read::<v0_15::WorkerFinishedReq>(&call), expected);
                assert!(v0_16::WorkerFinishedReq::decode(call.message()).is_err());
            }
            Dialect::V0_16 => {
                let context = v0_16::WorkerContext {
                    machine_id: "node-a".into(),
                    worker_id: u64::MAX,
                    job_id: "job".into(),
                    generation: 7,
                    pipeline_id: "pl".into(),
                };
                let expected = v0_16::WorkerFinishedReq {
                    worker_context: Some(context),
                    time: AT.0,
                    slots: 2,
                };
                assert_eq!(read::<v0_16::WorkerFinishedReq>(&call), expected);
                assert!(v0_15::WorkerFinishedReq::decode(call.message()).is_err());
            }
        }
        call.acknowledge();
        let worker = WorkerId(u64::MAX);
        let expected = Event::ReportAnswered { worker, result: Ok(()) };
        assert_eq!(soon("an answer", answers.recv()).await, Some(expected));
    }
}

#[tokio::test]
async fn reports_that_hang_delay_no_heartbeat() {
    let (mut controller, mut port, mut answers) = port(GENEROUS).await;
    let mut hung = Vec::new();
    for worker in 0..100 {
        port.report(report(worker, Dialect::V0_16));
        hung.push(controller.called().await);
    }
    port.heartbeat(heartbeat(AT));
    let call = controller.called().await;
    assert_eq!(call.method(), "HeartbeatNode");
    call.acknowledge();
    let answer = soon("an answer", answers.recv()).await;
    assert_eq!(answer, Some(Event::HeartbeatAnswered { heartbeat: heartbeat(AT), result: Ok(()) }));

    for call in hung {
        call.acknowledge();
    }
    let mut left: Vec<u64> = (0..100).collect();
    while !left.is_empty() {
        let answer = soon("an answer", answers.recv()).await.expect("the port holds a sender");
        let Event::ReportAnswered { worker, result: Ok(()) } = answer else {
            panic!("{answer:?}");
        };
        let at = left.iter().position(|id| *id == worker.0).expect("each is answered once");
        left.swap_remove(at);
    }
}

async fn call_each(client: &ControllerClient) -> [Result<(), CallError>; 3] {
    let report = report(7, Dialect::V0_16);
    tokio::join!(
        client.register(registration()),
        client.heartbeat(heartbeat(AT)),
        client.worker_finished(&report)
    )
    .into()
}

#[tokio::test]
async fn a_call_that_hangs_fails_at_its_deadline() {
    let mut controller = Controller::start().await;
    let settings = CallSettings { deadline: Duration::from_secs(1), ..GENEROUS };
    let (client, connections) = client(controller.address, settings);
    for result in soon("the deadlines", call_each(&client)).await {
        let Err(CallError::Failed(text)) = result else { panic!("{result:?}") };
        assert!(text.contains("1s"), "{text}");
    }
    // The calls did arrive, and the connection is as good as before.
    let mut hung = Vec::new();
    for _ in 0..3 {
        hung.push(controller.called().await);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// A controller with one queue for all calls must not be made to put this node at its end again and again.
#[tokio::test]
async fn one_heartbeat_that_hangs_keeps_its_place_and_others_do_not() {
    let mut controller = Controller::start().await;
    let settings = CallSettings { deadline: Duration::from_millis(300), ..GENEROUS };
    let (client, _) = client(controller.address, settings);
    let overdue = async |controller: &mut Controller| {
        assert!(matches!(client.heartbeat(heartbeat(AT)).await, Err(CallError::Failed(_))));
        controller.called().await
    };
    for _ in 0..2 {
        let first = overdue(&mut controller).await;
        overdue(&mut controller).await.cancelled().await;
        first.acknowledge();
        // It takes its answer, and leaves its place to another.
        let registered = client.register(registration());
        let (registered, call) = tokio::join!(registered, controller.called());
        drop((registered, call));
    }
    let last = overdue(&mut controller).await;
    drop(client);
    last.cancelled().await;
}

/// Refuses each call in this way, and returns what the client makes of it.
async fn refused(refuse: impl Fn(Call)) -> [Result<(), CallError>; 3] {
    let mut controller = Controller::start().await;
    let (client, _) = client(controller.address, GENEROUS);
    let calls = tokio::spawn(async move { call_each(&client).await });
    for _ in 0..3 {
        refuse(controller.called().await);
    }
    soon("the answers", calls).await.expect("the calls ran")
}

#[tokio::test]
async fn not_found_means_unknown_to_the_controller() {
    let results = refused(|call| call.refuse(5, "node not registered")).await;
    assert_eq!(results, [const { Err(CallError::NotFound) }; 3]);
}

#[tokio::test]
async fn another_status_is_a_failure_that_says_what_the_controller_said() {
    for result in refused(|call| call.refuse(13, "the database is gone")).await {
        let Err(CallError::Failed(text)) = result else { panic!("{result:?}") };
        assert_eq!(&*text, "Internal: the database is gone");
    }
}

/// A wrong address must not look like a controller that forgot the node.
#[tokio::test]
async fn a_server_that_is_no_controller_is_a_failure() {
    for result in refused(|call| call.refuse_as_web_server(404)).await {
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    }
    for result in refused(|call| call.refuse(12, "unknown service")).await {
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    }
}
