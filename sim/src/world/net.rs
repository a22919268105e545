//! The simulated network, as tonic wants it: incoming connections, and ways out.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use arroyo_node::controller::{ConnectError, Connector, endpoint};
use futures_util::{Stream, future::BoxFuture, stream};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint, server::Connected};
use tower::Service;
use turmoil::net::{TcpListener, TcpStream};

use super::links::Links;

/// Where agents serve.
pub(super) const AGENT_PORT: u16 = 5118;
/// Where the controller serves.
pub(super) const CONTROLLER_PORT: u16 = 5116;

/// An incoming connection.
pub(super) struct Socket(TcpStream);

/// Every connection to this port of the current host.
pub(super) async fn listen(port: u16) -> io::Result<impl Stream<Item = io::Result<Socket>> + Send> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    Ok(stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Socket(stream));
        Some((accepted, listener))
    }))
}

/// Connects to whatever a URL names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial;

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let port = uri.port_u16().unwrap_or_default();
            Ok(TokioIo::new(TcpStream::connect((host, port)).await?))
        })
    }
}

/// How an agent connects to the controller. The simulated network refuses at once what a cut link
/// would swallow: the attempt is left to its deadline instead, as a real one would be.
#[derive(Clone, Debug)]
pub(super) struct AgentDial {
    /// Whose link it is.
    pub(super) agent: usize,
    /// Which of them are cut.
    pub(super) links: Links,
}

impl Service<Uri> for AgentDial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (agent, links, connecting) = (self.agent, self.links.clone(), Dial.call(uri));
        Box::pin(async move {
            match connecting.await {
                Err(_) if links.is_troubled(agent) => std::future::pending().await,
                connected => connected,
            }
        })
    }
}

/// How others than agents connect. The simulated network sends nothing twice: what a kernel notices
/// after minutes of retransmission, keepalive notices here.
pub(super) fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(6))
        .keep_alive_timeout(Duration::from_secs(6))
}

/// The controller's way to its nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToNodes;

impl Connector for ToNodes {
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let address = address.to_owned();
        Box::pin(async move {
            let endpoint = patient(endpoint(&address)?);
            let connected = endpoint.connect_with_connector(Dial).await;
            connected.map_err(|error| ConnectError::new(&address, &error))
        })
    }
}

impl Connected for Socket {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
