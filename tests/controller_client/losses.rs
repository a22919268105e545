//! What the client tells besides the answers to its calls: how connections end, and answers that
//! come late. And which calls make a new connection.

use std::{sync::atomic::Ordering, time::Duration};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{CallError, Dialect, Exit, Loss, Registration, Report, Wall},
    rpc::client::{
        CallSettings, ControllerClient,
        Notification::{self, LateAnswer, Lost},
    },
};
use tokio::{net::TcpListener, sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    connections::until_heard,
    controller::{Call, Controller, GENEROUS, heartbeat, soon, told_client},
};

const SHORT: Duration = Duration::from_millis(100);

type Told = UnboundedReceiver<Notification>;

fn registration(reconnect: bool) -> Registration {
    let machine = MachineId::from("node-a");
    Registration { machine, task_slots: 16, address: "10.0.0.7:5118".into(), reconnect }
}

fn report() -> Report {
    Report {
        machine: MachineId::from("node-a"),
        worker: WorkerId(7),
        job: JobId::from("job"),
        pipeline: None,
        generation: Generation(1),
        slots: 1,
        exit: Exit::Code(0),
        ended_at: Wall(1),
        dialect: Dialect::V0_15,
    }
}

/// What is told next.
async fn next(told: &mut Told) -> Notification {
    soon("a notification", told.recv()).await.expect("the client lives")
}

/// A call that is answered, whichever it is.
async fn answered(
    controller: &mut Controller,
    call: impl Future<Output = Result<(), CallError>>,
) -> Result<(), CallError> {
    let (result, ()) = tokio::join!(soon("an answer", call), async {
        controller.called().await.acknowledge();
    });
    result
}

/// A client that has one connection, to a controller that has answered on it.
async fn connected(settings: CallSettings) -> (Controller, ControllerClient, Told) {
    let mut controller = Controller::start().await;
    let (client, _, told) = told_client(controller.address, settings);
    assert_eq!(answered(&mut controller, client.heartbeat(heartbeat(Wall(1)))).await, Ok(()));
    (controller, client, told)
}

#[tokio::test]
async fn a_registration_that_must_not_reconnect_uses_the_connection_that_there_is() {
    let (mut controller, client, mut told) = connected(GENEROUS).await;
    assert_eq!(answered(&mut controller, client.register(registration(false))).await, Ok(()));
    assert!(told.try_recv().is_err(), "nothing has ended");
}

#[tokio::test]
async fn a_registration_that_must_not_reconnect_is_not_sent_once_its_connection_has_ended() {
    let mut controller = Controller::start().await;
    let address = controller.address;
    let (client, connections, mut told) = told_client(address, GENEROUS);
    assert_eq!(answered(&mut controller, client.heartbeat(heartbeat(Wall(1)))).await, Ok(()));
    controller.stop().await;
    assert_eq!(next(&mut told).await, Lost(Loss::Closed));

    // The controller that has taken its place must not hear of it.
    let mut controller = Controller::bind(address).await;
    for _ in 0..3 {
        let result = soon("a refusal", client.register(registration(false))).await;
        assert_eq!(result, Err(CallError::NotConnected));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);

    assert_eq!(answered(&mut controller, client.register(registration(true))).await, Ok(()));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    assert_eq!(answered(&mut controller, client.register(registration(false))).await, Ok(()));
    assert_eq!(connections.load(Ordering::Relaxed), 2, "there is one again");
    assert!(told.try_recv().is_err(), "each end is told once");
}

#[tokio::test]
async fn other_calls_make_a_connection_where_there_is_none() {
    for call in ["heartbeat", "report", "registration"] {
        let (controller, client, mut told) = connected(GENEROUS).await;
        let address = controller.address;
        controller.stop().await;
        assert_eq!(next(&mut told).await, Lost(Loss::Closed));
        let mut controller = Controller::bind(address).await;
        let result = match call {
            "heartbeat" => answered(&mut controller, client.heartbeat(heartbeat(Wall(1)))).await,
            "report" => answered(&mut controller, client.worker_finished(&report())).await,
            _ => answered(&mut controller, client.register(registration(true))).await,
        };
        assert_eq!(result, Ok(()), "{call}");
    }
}

#[tokio::test]
async fn a_controller_that_is_killed_closes_its_connections() {
    let (controller, client, mut told) = connected(GENEROUS).await;
    controller.stop().await;
    assert_eq!(next(&mut told).await, Lost(Loss::Closed), "though no call is under way");

    // Nobody is there to connect to.
    for _ in 0..3 {
        let result = soon("a refusal", client.heartbeat(heartbeat(Wall(1)))).await;
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
        assert_eq!(next(&mut told).await, Lost(Loss::Closed), "it was refused");
    }
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_controller_that_is_killed_during_a_call_closes_its_connection() {
    let (mut controller, client, mut told) = connected(GENEROUS).await;
    let call = tokio::spawn(async move { client.heartbeat(heartbeat(Wall(1))).await });
    let hangs = controller.called().await;
    controller.stop().await;
    drop(hangs);
    assert_eq!(next(&mut told).await, Lost(Loss::Closed));
    let result = soon("a failure", call).await.expect("the call ran");
    assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_broken() {
    let settings = CallSettings { keepalive: (SHORT, SHORT), ..GENEROUS };
    let (controller, client, mut told) = connected(settings).await;
    controller.freeze_connections();
    assert_eq!(next(&mut told).await, Lost(Loss::Broken));
    let result = soon("a refusal", client.register(registration(false))).await;
    assert_eq!(result, Err(CallError::NotConnected));
}

#[tokio::test]
async fn a_connection_that_this_side_gives_up_is_broken() {
    let mut controller = Controller::start().await;
    let settings = CallSettings { deadline: SHORT, ..GENEROUS };
    let (client, connections, mut told) = told_client(controller.address, settings);
    let mut hang = Vec::new();
    for _ in 0..3 {
        let result = client.heartbeat(heartbeat(Wall(1))).await;
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
        hang.push(controller.called().await);
    }
    assert!(told.try_recv().is_err(), "the first one keeps its place, and so the connection");
    until_heard(&client, &mut controller).await;
    assert!(connections.load(Ordering::Relaxed) > 1);
    assert_eq!(next(&mut told).await, Lost(Loss::Broken));
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_tells_nothing_of_the_controller() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    // Whoever accepts and says nothing has not refused.
    let settings = CallSettings { deadline: SHORT, ..GENEROUS };
    let (client, _, mut told) = told_client(address, settings);
    let result = client.heartbeat(heartbeat(Wall(1))).await;
    assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    sleep(SHORT).await;
    assert!(!matches!(told.try_recv(), Ok(Lost(Loss::Closed))));
}

/// A heartbeat that was given up, and its call as the controller has it.
async fn overdue() -> (Controller, ControllerClient, Told, Call) {
    let mut controller = Controller::start().await;
    let settings = CallSettings { deadline: SHORT, ..GENEROUS };
    let (client, _, told) = told_client(controller.address, settings);
    let result = client.heartbeat(heartbeat(Wall(1))).await;
    assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    let call = controller.called().await;
    (controller, client, told, call)
}

#[tokio::test]
async fn an_answer_that_comes_late_is_told() {
    let (_controller, _client, mut told, call) = overdue().await;
    sleep(SHORT).await;
    assert!(told.try_recv().is_err());
    call.acknowledge();
    assert_eq!(next(&mut told).await, LateAnswer);
}

#[tokio::test]
async fn that_it_does_not_know_this_node_is_an_answer_too() {
    let (_controller, _client, mut told, call) = overdue().await;
    call.refuse(5, "node not registered");
    assert_eq!(next(&mut told).await, LateAnswer);
}

#[tokio::test]
async fn a_late_failure_is_no_answer() {
    let (controller, _client, mut told, call) = overdue().await;
    call.refuse(13, "the database is gone");
    sleep(SHORT).await;
    assert!(told.try_recv().is_err());
    controller.stop().await;
    assert_eq!(next(&mut told).await, Lost(Loss::Closed), "and nothing before");
}

#[tokio::test]
async fn a_late_answer_is_not_told_after_another_call_has_succeeded() {
    let (mut controller, client, mut told, call) = overdue().await;
    until_heard(&client, &mut controller).await;
    call.cancelled().await;
    assert!(told.try_recv().is_err());
}
