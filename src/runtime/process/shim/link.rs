//! A connection that takes messages whether or not the other side is reading just now.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use prost::Message;

use super::{
    protocol::DecodeError,
    socket::{self, Connection},
};

/// See the module's words.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    /// Not taken by the kernel yet, in order.
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// Whether sending has failed for good.
    broken: bool,
    /// Why, if it was not that the other side has gone; to be told once.
    failure: Option<io::Error>,
    buffer: Vec<u8>,
    /// What has been agreed on; `None`: nothing yet.
    pub(super) version: Option<u32>,
}

/// What there was to receive.
#[derive(Debug)]
pub(super) enum Incoming<M> {
    /// A message, and what came with it.
    Message(M, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more: the other side is gone.
    End,
}

impl Link {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            unsent: VecDeque::new(),
            broken: false,
            failure: None,
            buffer: socket::buffer(),
            version: None,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether messages wait for the other side to read.
    pub(super) fn is_clogged(&self) -> bool {
        !self.unsent.is_empty() && !self.broken
    }

    /// Sends at once if possible, otherwise at the next [`flush`](Self::flush).
    pub(super) fn send(&mut self, message: impl Message, descriptors: Vec<OwnedFd>) {
        self.unsent.push_back((message.encode_to_vec(), descriptors));
        // What is wrong is told by the next `flush` or `receive`.
        self.failure = self.flush().err();
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        while !self.broken
            && let Some((datagram, descriptors)) = self.unsent.front()
        {
            let borrowed: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
            match self.connection.send(datagram, &borrowed) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.broken = true;
                    return match error.raw_os_error() {
                        // What it sent before it went is still to be received, and then its end.
                        Some(libc::EPIPE | libc::ECONNRESET) => Ok(()),
                        _ => Err(error),
                    };
                }
            }
        }
        Ok(())
    }

    /// Receives one message, without waiting for it.
    pub(super) fn receive<M>(
        &mut self,
        decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    ) -> io::Result<Incoming<M>> {
        match self.connection.receive(&mut self.buffer) {
            Ok(received) => match decode(received.datagram) {
                Ok(message) => Ok(Incoming::Message(message, received.descriptors)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Incoming::Nothing),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Incoming::End),
            Err(error) => Err(error),
        }
    }
}
