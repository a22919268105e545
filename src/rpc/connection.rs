//! One connection to the controller: made once, watched, and never made again by itself.
//!
//! ```text
//!  unused ── first call ──▶ connecting ──▶ up ──▶ ended: calls on it fail from now on
//!                               └── refused, or too slow ──▲
//! ```
//!
//! tonic's channels connect again whenever a call needs it. Whether this node is still known is
//! asked on each new connection first, so when to make one is the caller's decision.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::machine::Loss;

/// What is told of each connection that ends, or is refused.
pub(super) type OnLoss = Arc<dyn Fn(Loss) + Send + Sync>;

/// How many bytes are read at once: answers of the controller are small.
const READ_SIZE: usize = 4_096;

const UNUSED: u8 = 0;
const UP: u8 = 1;
const ENDED: u8 = 2;

/// How far a connection has come. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Life(Arc<AtomicU8>);

impl Life {
    /// Whether no call can use the connection any more.
    pub(super) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire) == ENDED
    }

    /// Takes the one attempt to connect that there is.
    ///
    /// # Errors
    /// It has been taken before.
    pub(super) fn begin(&self, on_loss: OnLoss) -> Result<Guard, io::Error> {
        let taken = self.0.compare_exchange(UNUSED, UP, Ordering::AcqRel, Ordering::Acquire);
        match taken {
            Ok(_) => Ok(Guard { life: self.clone(), on_loss, loss: None }),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, Ended)),
        }
    }
}

/// Why a call did not go out: its connection has ended.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the controller has ended")]
pub(super) struct Ended;

impl Ended {
    /// Whether this is the reason behind an error.
    pub(super) fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if inner.is_some_and(|inner| inner.is::<Ended>()) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Ends the connection's life when it is dropped, and tells how that came about.
pub(super) struct Guard {
    life: Life,
    on_loss: OnLoss,
    /// What is told; `None`: there was no connection, and nobody refused one.
    loss: Option<Loss>,
}

impl Guard {
    /// The connection stands.
    pub(super) fn watch<IO>(mut self, io: IO) -> Watched<IO> {
        self.loss = Some(Loss::Broken);
        Watched { io, guard: self }
    }

    /// It could not be made.
    pub(super) fn failed(mut self, error: &(dyn Error + 'static)) {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(is_closed) {
                self.loss = Some(Loss::Closed);
            }
            cause = error.source();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.life.0.store(ENDED, Ordering::Release);
        if let Some(loss) = self.loss {
            (self.on_loss)(loss);
        }
    }
}

/// Whether the other side's computer said so: there is no process any more that would answer.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | ConnectionAborted
            | BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

/// A connection whose end is told.
pub(super) struct Watched<IO> {
    io: IO,
    guard: Guard,
}

impl<IO> Watched<IO> {
    fn note<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && is_closed(error)
        {
            self.guard.loss = Some(Loss::Closed);
        }
        result
    }
}

impl<IO: Read + Unpin> Read for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Read here first: of a cursor that was handed on, nobody can tell whether it moved.
        let mut space = [0; READ_SIZE];
        let room = buf.remaining().min(READ_SIZE);
        let mut read = ReadBuf::new(&mut space[..room]);
        let result = Pin::new(&mut self.io).poll_read(cx, read.unfilled());
        buf.put_slice(read.filled());
        if matches!(result, Poll::Ready(Ok(()))) && room > 0 && read.filled().is_empty() {
            self.guard.loss = Some(Loss::Closed);
        }
        self.note(result)
    }
}

impl<IO: Write + Unpin> Write for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(result)
    }
}
