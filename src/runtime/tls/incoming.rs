//! Accepted connections, with TLS done. Many handshakes go on at once, each with a deadline, so that
//! a caller who dawdles holds up nobody.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::FuturesUnordered};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Sleep,
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::TcpIncoming;

use super::{
    Connection, Reloading,
    explain::{Side, explain},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many handshakes may go on at once; further callers wait to be accepted.
const HANDSHAKES: usize = 256;
/// How long to wait after the system refused to accept: when descriptors are out, say.
const PAUSE: Duration = Duration::from_millis(100);

type Handshake = Pin<Box<dyn Future<Output = Option<Connection>> + Send>>;

/// Accepts connections, and does the handshakes if there is TLS.
pub struct Incoming {
    listener: TcpIncoming,
    /// Not to accept before: it has just failed, and would at once again.
    pause: Option<Pin<Box<Sleep>>>,
    address: SocketAddr,
    tls: Option<Arc<Reloading<ServerConfig>>>,
    handshakes: FuturesUnordered<Handshake>,
}

impl Incoming {
    /// Of this listener; over TLS if there is a configuration for it.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn new(
        listener: TcpListener,
        tls: Option<Arc<Reloading<ServerConfig>>>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let listener = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Self { listener, pause: None, address, tls, handshakes: FuturesUnordered::new() })
    }

    /// Accepts. After an error, which is returned at once, not before a while has passed.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<TcpStream>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let accepted = ready!(self.listener.poll_next_unpin(cx));
        if matches!(accepted, Some(Err(_))) {
            self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        }
        Poll::Ready(accepted)
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(tls) = self.tls.clone() else {
            let accepted = self.poll_accept(cx);
            return accepted.map(|next| next.map(|result| result.map(Connection::Plain)));
        };
        loop {
            while self.handshakes.len() < HANDSHAKES {
                match self.poll_accept(cx) {
                    Poll::Ready(Some(Ok(socket))) => {
                        self.handshakes.push(Box::pin(shake_hands(socket, tls.clone())));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) if self.handshakes.is_empty() => return Poll::Ready(None),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            match self.handshakes.poll_next_unpin(cx) {
                Poll::Ready(Some(Some(connection))) => return Poll::Ready(Some(Ok(connection))),
                // That one came to nothing: there is room for another.
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

async fn shake_hands(socket: TcpStream, tls: Arc<Reloading<ServerConfig>>) -> Option<Connection> {
    let caller = socket.peer_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let handshake = TlsAcceptor::from(tls.get()).accept(socket);
    let error = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => return Some(Connection::secured(stream, Bytes::new())),
        Ok(Err(error)) => explain(Side::Server, error).to_string(),
        Err(_) => format!("no TLS handshake within {HANDSHAKE:?}"),
    };
    tracing::warn!("refused a connection from {caller}: {error}");
    None
}

/// For the admin server.
impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.next().await {
                Some(Ok(connection)) => {
                    let caller = connection.socket().peer_addr().unwrap_or(self.address);
                    return (connection, caller);
                }
                Some(Err(error)) => {
                    tracing::warn!("cannot accept a connection: {error}");
                }
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("address", &self.address).finish_non_exhaustive()
    }
}
