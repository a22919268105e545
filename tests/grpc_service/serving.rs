//! What every gRPC server should offer: health, reflection, and an end that cuts nobody off and
//! that nobody can hold up.

use arroyo_node::{ids::WorkerId, machine::Reply};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::node::{Node, soon, start_request};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn health_is_told_for_the_server_and_for_its_service() {
    let node = Node::start().await;
    let mut client = HealthClient::new(node.channel().await);
    for service in ["", "arroyo_rpc.NodeGrpc"] {
        let health = soon("health", client.check(of(service))).await.expect("known");
        assert_eq!(health.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = soon("health", client.check(of("nobody"))).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_their_messages() {
    let node = Node::start().await;
    let mut client = ServerReflectionClient::new(node.channel().await);
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("arroyo_rpc.StartWorkerReq".into()),
        MessageRequest::FileContainingSymbol("arroyo_node.v1.NodeAdmin".into()),
    ];
    let questions = questions.map(|question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    });
    let answers = client.server_reflection_info(tokio_stream::iter(questions));
    let mut answers = soon("reflection", answers).await.expect("served").into_inner();
    let mut next = async || {
        let answer = soon("an answer", answers.next()).await.expect("as many answers as questions");
        answer.expect("an answer").message_response.expect("a message")
    };

    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["arroyo_rpc.NodeGrpc", "arroyo_node.v1.NodeAdmin", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    for _ in 0..2 {
        let MessageResponse::FileDescriptorResponse(file) = next().await else {
            panic!("no description")
        };
        assert!(!file.file_descriptor_proto.is_empty());
    }
}

#[tokio::test]
async fn the_end_waits_for_calls_under_way() {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let call = tokio::spawn(async move { client.start_worker(start_request()).await });
    let (request, _) = node.asked().await;
    let address = node.address;
    let (mut inbox, serving) = node.shut_down();

    // Serving is ending once the port is closed.
    soon("the port's end", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!serving.is_finished());

    inbox.answer(request, Reply::Started(Ok(WorkerId(7))));
    let response = soon("the answer", call).await.expect("the call ran").expect("not cut off");
    assert_eq!(response.into_inner().worker_id, 7);
    soon("the end", serving).await.expect("no panic").expect("served to the end");
}

/// A watcher of health hears of the end, and is then let go: its call would never end by itself.
#[tokio::test]
async fn the_end_is_told_to_watchers_of_health_and_not_held_up_by_them() {
    let node = Node::start().await;
    let mut client = HealthClient::new(node.channel().await);
    let mut watches = Vec::new();
    for service in ["", "arroyo_rpc.NodeGrpc"] {
        let watch = soon("a watch", client.watch(of(service))).await.expect("known");
        let mut watch = watch.into_inner();
        let first = soon("health", watch.next()).await.expect("a first word").expect("health");
        assert_eq!(first.status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let (_inbox, serving) = node.shut_down();
    for mut watch in watches {
        let last = soon("a last word", watch.next()).await.expect("a last word").expect("health");
        assert_eq!(last.status(), ServingStatus::NotServing);
        assert!(soon("the watch's end", watch.next()).await.is_none());
    }
    soon("the end", serving).await.expect("no panic").expect("served to the end");
}

#[tokio::test]
async fn the_end_is_not_held_up_by_who_never_says_a_word() {
    let node = Node::start().await;
    let _mute = soon("a connection", TcpStream::connect(node.address)).await.expect("reachable");
    let (_inbox, serving) = node.shut_down();
    soon("the end", serving).await.expect("no panic").expect("served to the end");
}

#[tokio::test]
async fn the_end_is_not_held_up_by_an_open_stream() {
    let node = Node::start().await;
    let mut client = ServerReflectionClient::new(node.channel().await);
    let answers = client.server_reflection_info(tokio_stream::pending());
    let _answers = soon("reflection", answers).await.expect("served");
    let (_inbox, serving) = node.shut_down();
    soon("the end", serving).await.expect("no panic").expect("served to the end");
}
