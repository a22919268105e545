//! The calls of an operator.

use std::sync::Arc;

use arroyo_node::{
    machine::{Ask, JournalDown, Mode, Reply, Shutdown, View},
    rpc::admin_wire::{
        GetStatusRequest, GetStatusResponse, NodeMode, SetDrainingRequest, ShutdownRequest,
    },
};
use tonic::Code;

use crate::node::{Node, empty_view, soon};

#[tokio::test]
async fn the_status_tells_what_the_view_and_the_agent_know() {
    let node = Node::start().await;
    let mut admin = node.admin().await;
    for (mode, expected) in [
        (Mode::Serving, NodeMode::Serving),
        (Mode::Draining, NodeMode::Draining),
        (Mode::ShuttingDown, NodeMode::ShuttingDown),
    ] {
        node.view.send_replace(Arc::new(View {
            mode,
            free_slots: 3,
            registered: true,
            live_workers: 5,
            abandoned_workers: 4,
            reports_owed: 2,
            journal_error: Some("disk full".into()),
            program_error: Some("/bin/worker: No such file".into()),
            ..empty_view()
        }));
        let status = soon("the status", admin.get_status(GetStatusRequest {})).await;
        let expected = GetStatusResponse {
            machine_id: "node-a".into(),
            version: "1.2.3".into(),
            task_slots: 16,
            free_slots: 3,
            mode: expected.into(),
            registered: true,
            controller: "http://controller:5116".into(),
            live_workers: 5,
            reports_owed: 2,
            journal_error: "disk full".into(),
            started_at: 1_000,
            notices: vec!["the journal was set aside".into()],
            abandoned_workers: 4,
            program_error: "/bin/worker: No such file".into(),
        };
        assert_eq!(status.expect("answered").into_inner(), expected);
    }
}

#[tokio::test]
async fn draining_is_answered_once_the_machine_has() {
    let mut node = Node::start().await;
    for draining in [true, false] {
        let mut admin = node.admin().await;
        let request = SetDrainingRequest { draining };
        let call = tokio::spawn(async move { admin.set_draining(request).await });
        let (request, ask) = node.asked().await;
        assert_eq!(ask, Ask::SetDraining(draining));
        assert!(!call.is_finished());
        node.inbox.answer(request, Reply::Draining(Ok(())));
        soon("the answer", call).await.expect("the call ran").expect("durable");
    }
}

#[tokio::test]
async fn draining_without_a_journal_is_unavailable() {
    let mut node = Node::start().await;
    let mut admin = node.admin().await;
    let request = SetDrainingRequest { draining: true };
    let call = tokio::spawn(async move { admin.set_draining(request).await });
    node.answer(Reply::Draining(Err(JournalDown { reason: "disk full".into() }))).await;
    let status = soon("the answer", call).await.expect("the call ran").expect_err("not durable");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("disk full"), "{}", status.message());
}

#[tokio::test]
async fn a_shutdown_says_what_becomes_of_the_workers() {
    let mut node = Node::start().await;
    for (detach, how) in [(false, Shutdown::StopWorkers), (true, Shutdown::Detach)] {
        let mut admin = node.admin().await;
        let call = tokio::spawn(async move { admin.shutdown(ShutdownRequest { detach }).await });
        let (request, ask) = node.asked().await;
        assert_eq!(ask, Ask::Shutdown(how));
        node.inbox.answer(request, Reply::ShuttingDown);
        soon("the answer", call).await.expect("the call ran").expect("begun");
        assert_eq!(node.inbox.take(), None, "nobody waits to hear that it has left");
    }
}
