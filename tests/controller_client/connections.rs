//! Connections that are refused, die, or only seem to live: each is noticed, and made anew.

use std::{
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use arroyo_node::{
    ids::MachineId,
    machine::{CallError, Wall},
    rpc::client::{CallSettings, ControllerClient},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tonic::transport::Endpoint;

use crate::controller::{Controller, GENEROUS, client, heartbeat, soon};

const SHORT: Duration = Duration::from_millis(100);

fn count(connections: &Arc<AtomicUsize>) -> usize {
    connections.load(Ordering::Relaxed)
}

/// Answers heartbeats until the client hears one.
pub(crate) async fn until_heard(client: &ControllerClient, controller: &mut Controller) {
    let heard = async {
        while client.heartbeat(heartbeat(Wall(1))).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let answering = async {
        loop {
            controller.called().await.acknowledge();
        }
    };
    let heard = async {
        tokio::select! { () = heard => {}, () = answering => {} }
    };
    soon("a heartbeat that is answered", heard).await;
}

#[tokio::test]
async fn calls_share_one_connection() {
    let mut controller = Controller::start().await;
    let (client, connections) = client(controller.address, GENEROUS);
    assert_eq!(count(&connections), 0, "connected before there was a call");
    for _ in 0..10 {
        until_heard(&client, &mut controller).await;
    }
    assert_eq!(count(&connections), 1);
}

#[tokio::test]
async fn a_controller_that_comes_back_is_connected_to_once() {
    let mut controller = Controller::start().await;
    let address = controller.address;
    let (client, connections) = client(address, GENEROUS);
    until_heard(&client, &mut controller).await;
    controller.stop().await;

    // The first call may find the connection broken, the second finds nobody to connect to.
    for _ in 0..5 {
        let result = soon("a refusal", client.heartbeat(heartbeat(Wall(1)))).await;
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    }
    assert_eq!(count(&connections), 1, "who refuses is not connected to");

    let mut controller = Controller::bind(address).await;
    until_heard(&client, &mut controller).await;
    until_heard(&client, &mut controller).await;
    assert_eq!(count(&connections), 2);
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_a_failure_that_says_so() {
    let controller = Controller::start().await;
    let (client, _) = client(controller.address, GENEROUS);
    controller.stop().await;
    let result = soon("a refusal", client.heartbeat(heartbeat(Wall(1)))).await;
    let Err(CallError::Failed(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn connecting_has_a_deadline() {
    let endpoint = Endpoint::from_static("http://controller:5116");
    let connector = tower::service_fn(|_| async {
        std::future::pending::<()>().await;
        TcpStream::connect("127.0.0.1:1").await.map(TokioIo::new)
    });
    let machine = MachineId::from("node-a");
    for settings in [
        CallSettings { connect_deadline: SHORT, ..GENEROUS },
        CallSettings { deadline: SHORT, ..GENEROUS },
    ] {
        let (machine, endpoint) = (machine.clone(), endpoint.clone());
        let client = ControllerClient::new(machine, endpoint, settings, connector, drop);
        let result = soon("the deadline", client.heartbeat(heartbeat(Wall(1)))).await;
        let Err(CallError::Failed(text)) = result else { panic!("{result:?}") };
        let which =
            if settings.deadline == SHORT { "no answer" } else { "connecting took too long" };
        assert!(text.contains(which), "{text}");
    }
}

#[tokio::test]
async fn who_accepts_and_never_answers_is_a_failure_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (client, _) = client(address, CallSettings { deadline: SHORT, ..GENEROUS });
    for _ in 0..3 {
        let result = soon("the deadline", client.heartbeat(heartbeat(Wall(1)))).await;
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    }
}

/// As after the other machine lost power: nothing is refused, and nothing comes.
#[tokio::test]
async fn a_connection_that_died_silently_is_replaced() {
    let mut controller = Controller::start().await;
    let settings = CallSettings { deadline: SHORT, keepalive: (SHORT, SHORT), ..GENEROUS };
    let (client, connections) = client(controller.address, settings);
    until_heard(&client, &mut controller).await;
    let before = count(&connections);
    controller.freeze_connections();
    until_heard(&client, &mut controller).await;
    assert!(count(&connections) > before);
}

/// Though no call is under way: the next one finds a good connection.
#[tokio::test]
async fn an_idle_connection_that_died_silently_is_left() {
    let mut controller = Controller::start().await;
    let settings = CallSettings { keepalive: (SHORT, SHORT), ..GENEROUS };
    let (client, _) = client(controller.address, settings);
    until_heard(&client, &mut controller).await;
    controller.freeze_connections();
    controller.left().await;
    until_heard(&client, &mut controller).await;
}

/// A controller that hangs still answers pings, and so does a proxy in front of one that is gone. Who
/// took its place is found by connecting anew.
#[tokio::test]
async fn a_connection_that_lives_without_answering_calls_is_left() {
    let mut controller = Controller::start().await;
    let settings = CallSettings { deadline: SHORT, ..GENEROUS };
    let (client, connections) = client(controller.address, settings);
    let mut unanswered = Vec::new();
    while count(&connections) < 2 {
        assert!(unanswered.len() < 10, "it stays with a connection that answers nothing");
        let result = soon("the deadline", client.heartbeat(heartbeat(Wall(1)))).await;
        assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
        unanswered.push(controller.called().await);
    }
    assert!(unanswered.len() > 2, "who is late once is not left");
    until_heard(&client, &mut controller).await;
    assert_eq!(count(&connections), 2, "who answers is stayed with");
}

/// As a proxy whose controller is gone may do.
#[tokio::test]
async fn a_connection_that_never_answered_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let settings = CallSettings { deadline: SHORT, keepalive: (SHORT, SHORT), ..GENEROUS };
    let (client, _) = client(address, settings);
    let result = soon("the deadline", client.heartbeat(heartbeat(Wall(1)))).await;
    assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");

    let (mut socket, _) = soon("a connection", listener.accept()).await.expect("a connection");
    let mut said = Vec::new();
    soon("the connection's end", socket.read_to_end(&mut said)).await.expect("closed in order");
}
