//! A controller that goes away: at once, with everything, and its port is free again.

use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::oneshot};
use tonic::Code;

use super::{
    cluster::{Cluster, quick, within},
    fake_node::OnStart,
};
use crate::{
    controller::{JobSpec, SubmitError},
    ids::Generation,
};

#[tokio::test]
async fn dropping_it_cuts_connections_and_a_new_one_takes_the_port() {
    let cluster = Cluster::new(quick()).await;
    let mut node = cluster.node("a", 2).await;
    let (_never, released) = oneshot::channel();
    node.on_start(OnStart::Hang(released));
    cluster.submit("j", 1);
    node.next_start().await;
    // This call waits behind the hung StartWorker when the end comes.
    let client = node.client();
    let waiting = tokio::spawn(async move {
        let request = crate::rpc::wire::HeartbeatNodeReq { machine_id: "a".into(), time: 1 };
        client.clone().heartbeat_node(request).await
    });

    let Cluster { controller, address, serving, .. } = cluster;
    let mut events = controller.subscribe();
    drop(controller);
    within(serving).await.unwrap().unwrap();
    assert!(within(waiting).await.unwrap().is_err());
    // All that belonged to it is gone, its task for the job included.
    while within(events.recv()).await.is_some() {}

    let cluster = Cluster::on(&address, quick()).await;
    let error = loop {
        // The node's old connection breaks first.
        let error = within(node.heartbeat()).await.unwrap_err();
        if error.code() != Code::Unavailable && error.code() != Code::Unknown {
            break error;
        }
    };
    assert_eq!(error.code(), Code::NotFound);
    let mut job = JobSpec::new("j", 1);
    job.last_generation = Generation(1);
    cluster.controller.submit(job).unwrap();
    let mut node = cluster.node("a", 2).await;
    assert_eq!(node.next_start().await.request.generation, 2);
}

#[tokio::test]
async fn a_peer_that_says_nothing_does_not_hold_up_the_end() {
    let cluster = Cluster::new(quick()).await;
    let mut mute = TcpStream::connect(&cluster.address).await.unwrap();
    // Connections are taken in order: once this node is registered, the mute one has been taken.
    let _node = cluster.node("a", 1).await;
    drop(cluster.controller);
    within(cluster.serving).await.unwrap().unwrap();
    let mut rest = Vec::new();
    // An orderly end or a reset, as the peer's system has it.
    let _ = within(mute.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_closed_controller_takes_no_job() {
    let cluster = Cluster::new(quick()).await;
    cluster.controller.close();
    within(cluster.serving).await.unwrap().unwrap();
    assert_eq!(cluster.controller.submit(JobSpec::new("j", 1)), Err(SubmitError::Closed));
}

#[tokio::test]
async fn the_end_of_shutdown_closes_it() {
    let (stop, stopped) = oneshot::channel::<()>();
    let cluster = Cluster::new(quick()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = tokio::spawn(cluster.controller.serve_tcp(listener, async {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    within(serving).await.unwrap().unwrap();
    within(cluster.serving).await.unwrap().unwrap();
    assert_eq!(cluster.controller.submit(JobSpec::new("j", 1)), Err(SubmitError::Closed));
}
