//! Serving an agent's API on any stream of connections: TCP, TLS, or a simulated network.

use std::{error::Error, future::Future, time::Duration};

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Server, server::Connected};
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

/// How long open calls may take after the end of the agent.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Serves NodeGrpc, NodeAdmin, health and reflection until `shutdown` is ready; then finishes the
/// calls that are under way.
///
/// # Errors
/// The stream of connections failed.
pub async fn serve<IO, E>(
    service: NodeService,
    incoming: impl Stream<Item = Result<IO, E>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<NodeGrpcServer<NodeService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are the ones this program was built from");
    let shutdown = async move {
        shutdown.await;
        health_reporter
            .set_service_status(
                node_grpc_server::SERVICE_NAME,
                tonic_health::ServingStatus::NotServing,
            )
            .await;
    };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_PATIENCE))
        .layer(MapResponseLayer::new(hold_receipt))
        .add_service(health)
        .add_service(reflection)
        .add_service(NodeGrpcServer::new(service.clone()))
        .add_service(NodeAdminServer::new(service))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
}
