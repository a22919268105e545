//! A TCP connection, with TLS on it or not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::explain::{Side, explain};

/// A TCP connection, with TLS on it or not.
#[derive(Debug)]
pub enum Connection {
    /// As it is.
    Plain(TcpStream),
    /// After a handshake.
    Tls(Box<Secured>),
}

/// A TCP connection with TLS on it.
#[derive(Debug)]
pub struct Secured {
    stream: TlsStream<TcpStream>,
    /// What was read ahead, and is to be read first.
    ahead: Bytes,
}

impl Connection {
    /// With TLS.
    pub(super) fn secured(stream: impl Into<TlsStream<TcpStream>>, ahead: Bytes) -> Self {
        Self::Tls(Box::new(Secured { stream: stream.into(), ahead }))
    }

    /// The connection without its TLS: for addresses.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(secured) => secured.stream.get_ref().0,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(secured) if !secured.ahead.is_empty() => {
                let length = secured.ahead.len().min(buf.remaining());
                buf.put_slice(&secured.ahead.split_to(length));
                Poll::Ready(Ok(()))
            }
            Self::Tls(secured) => {
                let side = match &secured.stream {
                    TlsStream::Client(_) => Side::Client,
                    TlsStream::Server(_) => Side::Server,
                };
                let read = Pin::new(&mut secured.stream).poll_read(cx, buf);
                read.map_err(|error| explain(side, error))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(secured) => secured.stream.is_write_vectored(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket().connect_info()
    }
}
