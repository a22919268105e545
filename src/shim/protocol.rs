//! What agent and shim send each other: protobuf messages, one per datagram of a Unix seqpacket
//! socket. No descriptors travel.
//!
//! ```text
//!  agent                                             shim
//!  Hello {version, lowest} ─────────────────────────▶
//!                    ◀───────────────────────────────  Welcome {version: the lower one}
//!  List              ─────────────────────────────────▶
//!                    ◀───────────────────────────────  Known … Known, ListEnd
//!  Spawn … Spawn {last} ────────────────────────────▶  (forks, and goes on)
//!                    ◀───────────────────────────────  Spawned | SpawnFailed, when that is known
//!  Signal            ─────────────────────────────────▶
//!                    ◀───────────────────────────────  SignalFailed
//!                    ◀───────────────────────────────  Exited, also unasked
//!  Release           ─────────────────────────────────▶  (forgets the worker)
//! ```
//!
//! Either side may be the older one. A field that is not known is skipped; a request that is not
//! known is answered with `Unsupported`. Nothing may be renumbered; new fields and messages get
//! new numbers, and what they need of the other side raises [`VERSION`].

use prost::{Message, Oneof};
use thiserror::Error;

use crate::machine::Exit;

/// The version that this program speaks.
///
/// | version | new in it |
/// |---|---|
/// | 1, 2 | never released: a spawn brought descriptors of open files |
/// | 3 | a payload travels in its `Spawn`s, and names the files that the output goes to |
pub const VERSION: u32 = 3;

/// The lowest version that this program still speaks.
pub const LOWEST_VERSION: u32 = 3;

/// The longest datagram, in bytes. Larger than any message: what can grow is in the payload.
pub const MAX_DATAGRAM: usize = 128 * 1024;

/// From the agent.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// `None`: a kind that this program does not know.
    #[prost(oneof = "RequestKind", tags = "1, 2, 3, 4, 5")]
    pub kind: Option<RequestKind>,
}

/// The kinds of request.
#[derive(Clone, PartialEq, Oneof)]
pub enum RequestKind {
    /// Must come first.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Run a program. What to run may take several.
    #[prost(message, tag = "2")]
    Spawn(Spawn),
    /// Signal everything of a worker.
    #[prost(message, tag = "3")]
    Signal(SignalWorker),
    /// Forget a worker that has ended.
    #[prost(message, tag = "4")]
    Release(Release),
    /// Tell of every worker that has not been released.
    #[prost(message, tag = "5")]
    List(List),
}

/// From the shim.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// `None`: a kind that this program does not know.
    #[prost(oneof = "ResponseKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub kind: Option<ResponseKind>,
}

/// The kinds of response.
#[derive(Clone, PartialEq, Oneof)]
pub enum ResponseKind {
    /// To `Hello`.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// To `Spawn`: it runs.
    #[prost(message, tag = "2")]
    Spawned(Spawned),
    /// To `Spawn`: it could not be run, and nothing is left of it.
    #[prost(message, tag = "3")]
    SpawnFailed(Failed),
    /// Nothing of the worker is alive. Once for each worker and connection.
    #[prost(message, tag = "4")]
    Exited(Exited),
    /// A signal could not be sent though the worker is alive.
    #[prost(message, tag = "5")]
    SignalFailed(Failed),
    /// One worker of the list.
    #[prost(message, tag = "6")]
    Known(KnownWorker),
    /// The list is complete.
    #[prost(message, tag = "7")]
    ListEnd(ListEnd),
    /// To a request of an unknown kind.
    #[prost(message, tag = "8")]
    Unsupported(Unsupported),
    /// To a `Hello` with which no version is shared, or a request before `Hello`; the shim closes
    /// the connection.
    #[prost(message, tag = "9")]
    Refused(Refused),
}

/// Who connects.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Hello {
    /// The highest version it speaks.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The lowest.
    #[prost(uint32, tag = "2")]
    pub lowest: u32,
    /// What it can do beyond its version: one bit each, none so far.
    #[prost(uint64, tag = "3")]
    pub capabilities: u64,
}

/// The shim takes the connection.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Welcome {
    /// The version to speak from now on.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What the shim can do beyond its version: one bit each, none so far.
    #[prost(uint64, tag = "2")]
    pub capabilities: u64,
    /// The shim's process id.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// Run a program, or one part of what it takes to say which.
#[derive(Clone, PartialEq, Message)]
pub struct Spawn {
    /// For which worker.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
    /// The next part of the payload.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
    /// Whether more parts follow.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// Signal a worker.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SignalWorker {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
    /// SIGKILL until nothing is left; otherwise SIGTERM once.
    #[prost(bool, tag = "2")]
    pub kill: bool,
}

/// A worker's end is durable elsewhere.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Release {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
}

/// Asks for all that the shim knows.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct List {}

/// A worker runs.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Spawned {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
    /// Its first process.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// That process's start time, in clock ticks since boot.
    #[prost(uint64, tag = "3")]
    pub start_time: u64,
}

/// Something could not be done.
#[derive(Clone, PartialEq, Message)]
pub struct Failed {
    /// For which worker.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
    /// Why.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// A worker is gone.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Exited {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
    /// How. Absent: unknown.
    #[prost(message, optional, tag = "2")]
    pub exit: Option<ExitStatus>,
}

/// How a process ended. No field: that is not known.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ExitStatus {
    /// It exited with this.
    #[prost(int32, optional, tag = "1")]
    pub code: Option<i32>,
    /// This signal killed it.
    #[prost(int32, optional, tag = "2")]
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    #[prost(bool, tag = "3")]
    pub out_of_memory: bool,
}

/// A worker that the shim has not been told to forget.
#[derive(Clone, PartialEq, Message)]
pub struct KnownWorker {
    /// Which.
    #[prost(fixed64, tag = "1")]
    pub worker: u64,
    /// Its first process.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// That process's start time, in clock ticks since boot.
    #[prost(uint64, tag = "3")]
    pub start_time: u64,
    /// Present once nothing of it is alive.
    #[prost(message, optional, tag = "4")]
    pub exit: Option<ExitStatus>,
    /// What the agent that started it wrote about it.
    #[prost(bytes = "vec", tag = "5")]
    pub label: Vec<u8>,
    /// Whether its program has yet to run: `Spawned` or `SpawnFailed` follows.
    #[prost(bool, tag = "6")]
    pub loading: bool,
}

/// The list is complete.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ListEnd {}

/// A request was not understood.
#[derive(Clone, PartialEq, Message)]
pub struct Unsupported {
    /// For people.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// The connection is refused.
#[derive(Clone, PartialEq, Message)]
pub struct Refused {
    /// For people.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// A datagram that is no message.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum DecodeError {
    /// It is longer than any message.
    #[error("a datagram of {0} bytes; no message is longer than {MAX_DATAGRAM}")]
    TooLong(usize),
    /// It is not protobuf of the expected form.
    #[error("a datagram that is no message: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Reads what an agent sent. Allocates no more than the datagram's size.
pub fn decode_request(datagram: &[u8]) -> Result<Request, DecodeError> {
    decode(datagram)
}

/// Reads what a shim sent. Allocates no more than the datagram's size.
pub fn decode_response(datagram: &[u8]) -> Result<Response, DecodeError> {
    decode(datagram)
}

fn decode<M: Message + Default>(datagram: &[u8]) -> Result<M, DecodeError> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(DecodeError::TooLong(datagram.len()));
    }
    Ok(M::decode(datagram)?)
}

/// The version to speak with who says this hello; `None`: there is none that both speak.
pub fn negotiate(hello: Hello) -> Option<u32> {
    let version = hello.version.min(VERSION);
    (version >= LOWEST_VERSION.max(hello.lowest)).then_some(version)
}

impl From<Exit> for ExitStatus {
    fn from(exit: Exit) -> Self {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::OomKilled | Exit::Lost | Exit::Unknown => (None, None),
        };
        Self { code, signal, out_of_memory: exit == Exit::OomKilled }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code, status.signal, status.out_of_memory) {
            (Some(code), None, false) => Exit::Code(code),
            (None, Some(signal), false) => Exit::Signal(signal),
            (None, None, true) => Exit::OomKilled,
            _ => Exit::Unknown,
        }
    }
}

impl From<RequestKind> for Request {
    fn from(kind: RequestKind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl From<ResponseKind> for Response {
    fn from(kind: ResponseKind) -> Self {
        Self { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lower_version_is_spoken() {
        let hello = |version, lowest| Hello { version, lowest, capabilities: 0 };
        assert_eq!(negotiate(hello(VERSION, LOWEST_VERSION)), Some(VERSION));
        assert_eq!(negotiate(hello(VERSION + 1, VERSION)), Some(VERSION));
        assert_eq!(negotiate(hello(VERSION + 2, VERSION + 1)), None, "it has dropped ours");
        assert_eq!(negotiate(hello(LOWEST_VERSION - 1, 0)), None, "we have dropped its");
    }

    #[test]
    fn what_is_unknown_is_skipped() {
        let request = Request::from(RequestKind::Release(Release { worker: 7 }));
        let mut later = request.encode_to_vec();
        // Field 100, a varint.
        later.extend([0xa0, 0x06, 0x01]);
        assert_eq!(decode_request(&later).unwrap(), request);
        // Only a field that is not known: a request of a later version.
        assert_eq!(decode_request(&[0xa0, 0x06, 0x01]).unwrap(), Request { kind: None });
    }

    #[test]
    fn no_status_but_zero_is_read_as_zero() {
        let exits =
            [Exit::Code(0), Exit::Code(-1), Exit::Signal(9), Exit::OomKilled, Exit::Unknown];
        for exit in exits {
            assert_eq!(Exit::from(ExitStatus::from(exit)), exit);
        }
        assert_eq!(Exit::from(ExitStatus::default()), Exit::Unknown);
        let both = ExitStatus { code: Some(0), signal: Some(9), out_of_memory: false };
        assert_eq!(Exit::from(both), Exit::Unknown);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_or_refused(datagram: Vec<u8>) {
            let _ = decode_request(&datagram);
            let _ = decode_response(&datagram);
        }
    }

    #[test]
    fn a_length_beyond_the_datagram_is_refused() {
        // A Known whose label claims to be 2 GiB long.
        let claims = [0x32, 0x06, 0x2a, 0xff, 0xff, 0xff, 0xff, 0x07];
        assert!(matches!(decode_response(&claims), Err(DecodeError::Malformed(_))));
        assert!(matches!(
            decode_response(&vec![0; MAX_DATAGRAM + 1]),
            Err(DecodeError::TooLong(_))
        ));
    }
}
