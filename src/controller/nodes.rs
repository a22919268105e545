//! The way to the nodes: NodeGrpc through whatever connects.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use thiserror::Error;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::shared::Deadline;
use crate::{
    ids::WorkerId,
    rpc::wire::{
        StartWorkerReq, StopWorkerReq, StopWorkerStatus, node_grpc_client::NodeGrpcClient,
    },
    runtime::tls::{Reloading, connector},
};

/// Connects to nodes.
pub trait Connector: Send + Sync {
    /// Connects to the node at `host:port`. Takes as long as it takes: deadlines are the caller's.
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>>;
}

/// A node could not be connected to.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("cannot connect to the node at {address:?}: {reason}")]
pub struct ConnectError {
    /// Where it says it is.
    pub address: String,
    /// What went wrong.
    pub reason: String,
}

impl ConnectError {
    /// From the error of a transport, with everything that caused it.
    pub fn new(address: &str, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        Self { address: address.to_owned(), reason }
    }
}

/// Connects through the operating system's sockets, without TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let address = address.to_owned();
        Box::pin(async move {
            let connected = endpoint(&address)?.connect().await;
            connected.map_err(|error| ConnectError::new(&address, &error))
        })
    }
}

/// Connects through the operating system's sockets, over TLS.
#[derive(Clone, Debug)]
pub struct TlsConnector(Arc<Reloading<ClientConfig>>);

impl TlsConnector {
    /// With these certificates, which are read again when they change.
    pub fn new(tls: Reloading<ClientConfig>) -> Self {
        Self(Arc::new(tls))
    }
}

impl Connector for TlsConnector {
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let (address, tls) = (address.to_owned(), self.0.clone());
        Box::pin(async move {
            let endpoint = endpoint(&address)?;
            let connected = endpoint.connect_with_connector(connector(Some(tls))).await;
            connected.map_err(|error| ConnectError::new(&address, &error))
        })
    }
}

/// The endpoint of the node at `host:port`, for connectors to start from.
pub fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| ConnectError::new(address, &error))
}

/// Why a call to a node failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{code:?}: {message}")]
pub struct Refusal {
    /// The call's status; `Unavailable` where there was no connection, `DeadlineExceeded` where
    /// this controller's patience ended.
    pub code: Code,
    /// What was said.
    pub message: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        Self { code: Code::Unavailable, message: error.to_string() }
    }
}

/// Calls nodes, as stock does: over a new connection each time.
pub(super) struct NodeCalls {
    pub(super) connector: Arc<dyn Connector>,
    pub(super) deadline: Deadline,
}

impl NodeCalls {
    /// Starts a worker on the node at this address.
    pub(super) async fn start(
        &self,
        address: &str,
        request: StartWorkerReq,
    ) -> Result<WorkerId, Refusal> {
        let call = async {
            let channel = self.connector.connect(address).await?;
            let response = NodeGrpcClient::new(channel).start_worker(request).await?;
            Ok(WorkerId(response.into_inner().worker_id))
        };
        self.deadline.of(call).await
    }

    /// Stops a worker on the node at this address.
    pub(super) async fn stop(
        &self,
        address: &str,
        request: StopWorkerReq,
    ) -> Result<StopWorkerStatus, Refusal> {
        let call = async {
            let channel = self.connector.connect(address).await?;
            let response = NodeGrpcClient::new(channel).stop_worker(request).await?;
            Ok(response.into_inner().status())
        };
        self.deadline.of(call).await
    }
}
