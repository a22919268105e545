//! No report of a worker's end may overtake the answer to its StartWorker: the machine holds it back
//! until it hears that the answer has left, or that nobody waits for it any more.

use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Reply},
};
use http::HeaderMap;

use crate::{
    node::{Node, soon, start_request},
    raw::{RawClient, read_body},
};

const STARTED: Reply = Reply::Started(Ok(WorkerId(7)));

/// Nothing is heard of the answer while the connection cannot take it, and is once it can.
#[tokio::test]
async fn an_answer_counts_as_delivered_once_the_connection_has_taken_it() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 0).await;
    let response = client.start_worker().await;
    let (request, _) = node.asked().await;
    node.inbox.answer(request, STARTED);
    let response = soon("headers", response).await.expect("a response");

    // Another call, there and back, on the same connection: the first answer had its chance.
    let other = client.post("MakeCoffee", &HeaderMap::new(), Vec::new()).await;
    soon("another answer", other).await.expect("a response");
    assert_eq!(node.inbox.take(), None, "it has not left yet");

    client.open_window(65_535);
    let (body, trailers) = soon("the body", read_body(response.into_body())).await;
    assert_eq!((body.as_slice(), trailers.is_some()), (&[0, 0, 0, 0, 2, 8, 7][..], true));
    node.delivered(request).await;
}

#[tokio::test]
async fn a_caller_who_cancels_before_the_answer_is_not_waited_for() {
    let mut node = Node::start().await;
    let mut client = node.client().await;
    let call = tokio::spawn(async move { client.start_worker(start_request()).await });
    let (request, _) = node.asked().await;
    call.abort();
    assert!(soon("the call's end", call).await.is_err());
    node.inbox.answer(request, STARTED);
    node.delivered(request).await;
}

#[tokio::test]
async fn a_caller_whose_deadline_passes_is_not_waited_for() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 65_535).await;
    let headers = [("grpc-timeout", "50m")]
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    let body = vec![0, 0, 0, 0, 6, 0x12, 2, b'j', b'b', 0x30, 1];
    let response = client.post("StartWorker", &headers.into_iter().collect(), body).await;
    let (request, _) = node.asked().await;
    let response = soon("the deadline", response).await.expect("a response");
    assert_ne!(response.headers()["grpc-status"], "0");
    node.inbox.answer(request, STARTED);
    node.delivered(request).await;
}

#[tokio::test]
async fn a_caller_who_vanishes_before_the_answer_is_not_waited_for() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 65_535).await;
    let _response = client.start_worker().await;
    let (request, _) = node.asked().await;
    client.vanish().await;
    node.inbox.answer(request, STARTED);
    node.delivered(request).await;
}

/// The answer is on its way and cannot be taken.
#[tokio::test]
async fn a_caller_who_vanishes_after_the_answer_is_not_waited_for() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 0).await;
    let response = client.start_worker().await;
    let (request, _) = node.asked().await;
    node.inbox.answer(request, STARTED);
    let _response = soon("headers", response).await.expect("a response");
    assert_eq!(node.inbox.take(), None, "it cannot have left");
    client.vanish().await;
    node.delivered(request).await;
}

#[tokio::test]
async fn a_caller_who_cancels_after_the_answer_is_not_waited_for() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 0).await;
    let response = client.start_worker().await;
    let (request, _) = node.asked().await;
    node.inbox.answer(request, STARTED);
    let response = soon("headers", response).await.expect("a response");
    assert_eq!(node.inbox.take(), None, "it cannot have left");
    drop(response);
    node.delivered(request).await;
}

/// As a controller and its scheduler would see it, many times over: by the time that the caller has
/// the answer, or soon after, the machine knows.
#[tokio::test]
async fn every_answer_is_receipted_once() {
    let mut node = Node::start().await;
    let client = node.client().await;
    for _ in 0..100 {
        let mut client = client.clone();
        let call = tokio::spawn(async move { client.start_worker(start_request()).await });
        let (request, _) = node.asked().await;
        node.inbox.answer(request, STARTED);
        soon("the answer", call).await.expect("the call ran").expect("started");
        assert_eq!(soon("the receipt", node.inbox.next()).await, Event::Delivered(request));
        assert_eq!(node.inbox.take(), None);
    }
}
