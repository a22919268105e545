//! A connection that takes messages whether or not the other side is reading just now.

use std::{collections::VecDeque, io};

use prost::Message;

use super::socket::{self, Connection};
use crate::shim::protocol::DecodeError;

/// A connection with what it could not send yet.
#[derive(Debug)]
pub(super) struct Channel {
    connection: Connection,
    /// Not taken by the kernel yet, in order.
    unsent: VecDeque<Vec<u8>>,
    /// Whether sending has failed for good.
    broken: bool,
    buffer: Vec<u8>,
}

/// What there was to receive.
#[derive(Debug)]
pub(super) enum Incoming<M> {
    /// A message, or why a datagram is none.
    Message(Result<M, String>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more: the other side is gone, or the connection has failed.
    End(String),
}

impl Channel {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, unsent: VecDeque::new(), broken: false, buffer: socket::buffer() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether messages wait for the other side to read.
    pub(super) fn is_backpressured(&self) -> bool {
        !self.unsent.is_empty() && !self.broken
    }

    /// Sends at once if possible, otherwise at a later [`flush`](Self::flush).
    pub(super) fn send(&mut self, message: &impl Message) {
        if !self.broken {
            self.unsent.push_back(message.encode_to_vec());
            self.flush();
        }
    }

    /// Sends what can be sent. Should that fail for good, `receive` tells: what the other side sent
    /// before it went is still to be had.
    pub(super) fn flush(&mut self) {
        while !self.broken
            && let Some(datagram) = self.unsent.front()
        {
            match self.connection.send(datagram) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.broken = true,
            }
        }
    }

    /// Receives one message, without waiting for it.
    pub(super) fn receive<M>(
        &mut self,
        decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    ) -> Incoming<M> {
        match self.connection.receive(&mut self.buffer) {
            Ok(datagram) => Incoming::Message(decode(datagram).map_err(|error| error.to_string())),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock if self.broken => {
                    Incoming::End("it can no longer be sent to".to_owned())
                }
                io::ErrorKind::WouldBlock => Incoming::Nothing,
                io::ErrorKind::InvalidData => Incoming::Message(Err(error.to_string())),
                io::ErrorKind::UnexpectedEof => {
                    Incoming::End("it closed the connection".to_owned())
                }
                _ => Incoming::End(error.to_string()),
            },
        }
    }
}
