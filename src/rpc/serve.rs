//! Serving an agent's API on any stream of connections: TCP, TLS, or a simulated network.

use std::{
    error::Error,
    future::{self, Future},
    time::Duration,
};

use futures_util::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use tonic::transport::{Server, server::Connected};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;

use super::{
    DESCRIPTORS,
    admin_wire::node_admin_server::NodeAdminServer,
    delivery::hold_receipt,
    service::NodeService,
    wire::node_grpc_server::{self, NodeGrpcServer},
};

/// How often an idle connection is asked whether its other end is still there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to that may take.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long calls under way are waited for at the end. Once the machine has finished they are
/// answered at once; only a caller who keeps a stream open, or takes no answer, is not done by then.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Serves NodeGrpc, NodeAdmin, health and reflection until `shutdown` is ready; then takes no new
/// calls, and finishes those that are under way if that does not take long.
///
/// # Errors
/// None today: a connection that fails ends alone, and so does the stream of connections.
pub async fn serve<IO, E>(
    service: NodeService,
    incoming: impl Stream<Item = Result<IO, E>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<NodeGrpcServer<NodeService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are the ones this program was built from");
    let (end_begun, end) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        tell_watchers_of_the_end(reporter).await;
        let _ = end_begun.send(());
    };
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_PATIENCE))
        .layer(MapResponseLayer::new(hold_receipt))
        .add_service(health)
        .add_service(reflection)
        .add_service(NodeGrpcServer::new(service.clone()))
        .add_service(NodeAdminServer::new(service))
        .serve_with_incoming_shutdown(incoming, shutdown);
    let patience = async {
        match end.await {
            Ok(()) => tokio::time::sleep(END_PATIENCE).await,
            // No more connections come, without a shutdown: serving ends by itself.
            Err(_) => future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = serving => result,
        () = patience => Ok(()),
    }
}

/// Their calls end with that: they would go on for ever.
async fn tell_watchers_of_the_end(mut reporter: HealthReporter) {
    for service in ["", node_grpc_server::SERVICE_NAME] {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
        reporter.clear_service_status(service).await;
    }
}
