//! Agents of other versions, and what is no agent at all.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use arroyo_node::{
    machine::{Event, Exit, Signal},
    runtime::ports::Processes as _,
    shim::protocol::{self, Hello, Request, RequestKind, Response, ResponseKind},
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, sendmsg, setsockopt,
    socket, sockopt::ReceiveTimeout,
};
use prost::Message as _;

use super::bench::*;

/// A connection that says what it is told to.
struct Raw(OwnedFd);

impl Raw {
    fn connect(state_dir: &Path) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let raw = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        setsockopt(&raw, ReceiveTimeout, &nix::sys::time::TimeVal::new(20, 0)).unwrap();
        connect(raw.as_raw_fd(), &UnixAddr::new(&state_dir.join("shim.sock")).unwrap()).unwrap();
        Self(raw)
    }

    fn say(&self, datagram: &[u8]) {
        let bytes = [IoSlice::new(datagram)];
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &bytes, &[], MsgFlags::empty(), None).unwrap();
    }

    /// `None`: the shim has closed the connection.
    fn hear(&self) -> Option<ResponseKind> {
        let mut buffer = vec![0; protocol::MAX_DATAGRAM];
        let mut bytes = [IoSliceMut::new(&mut buffer)];
        let fd = self.0.as_raw_fd();
        let length = match recvmsg::<UnixAddr>(fd, &mut bytes, None, MsgFlags::empty()) {
            Ok(message) => message.bytes,
            Err(nix::Error::ECONNRESET) => 0,
            Err(error) => panic!("{error}"),
        };
        let answer: Option<Response> =
            (length > 0).then(|| protocol::decode_response(&buffer[..length]).unwrap());
        answer.and_then(|answer| answer.kind)
    }
}

fn encode(kind: RequestKind) -> Vec<u8> {
    Request::from(kind).encode_to_vec()
}

/// Field 1000, a varint: nothing that this version knows.
const UNKNOWN_FIELD: [u8; 3] = [0xc0, 0x3e, 0x01];

#[test]
fn an_agent_of_the_next_version_takes_over() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    // Its port would connect anew, and so take over from the next version in turn.
    bench.disconnect();
    let next = Raw::connect(bench.temp.path());
    let hello =
        Hello { version: protocol::VERSION + 1, lowest: protocol::VERSION, capabilities: 1 };
    let mut hello = encode(RequestKind::Hello(hello));
    hello.extend(UNKNOWN_FIELD);
    next.say(&hello);
    match next.hear() {
        Some(ResponseKind::Welcome(welcome)) => {
            assert_eq!(welcome.version, protocol::VERSION);
            assert_eq!(Some(welcome.pid), parent(process.pid));
        }
        other => panic!("{other:?} instead of a welcome"),
    }
    // A kind of request that this version does not have.
    next.say(&UNKNOWN_FIELD);
    assert!(matches!(next.hear(), Some(ResponseKind::Unsupported(_))));
    next.say(&encode(RequestKind::List(protocol::List {})));
    match next.hear() {
        Some(ResponseKind::Known(known)) => {
            assert_eq!((known.worker, known.pid), (worker.0, process.pid));
        }
        other => panic!("{other:?} instead of the worker"),
    }
    next.say(&encode(RequestKind::Signal(protocol::SignalWorker { worker: worker.0, kill: true })));
    assert!(matches!(next.hear(), Some(ResponseKind::ListEnd(_))));
    match next.hear() {
        Some(ResponseKind::Exited(exited)) => assert_eq!(exited.exit.unwrap().signal, Some(9)),
        other => panic!("{other:?} instead of the end"),
    }
    drop(next);
    bench.connect();
    let exited = Event::Exited { worker, exit: Exit::Signal(9) };
    assert_eq!(bench.adopt(worker, Some(process)), exited);
}

#[test]
fn an_agent_from_whom_the_shim_was_taken_gets_it_back() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    let other = Raw::connect(bench.temp.path());
    assert_eq!(other.hear(), None, "the port has connected anew");
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(9));
    assert!(!is_alive(process));
}

#[test]
fn no_common_version_is_refused_with_words() {
    let mut bench = Bench::new();
    // Without a worker the shim would end with its last agent.
    bench.start("exec sleep 600");
    bench.disconnect();
    let later = Raw::connect(bench.temp.path());
    let version = protocol::VERSION + 2;
    later.say(&encode(RequestKind::Hello(Hello { version, lowest: version, capabilities: 0 })));
    match later.hear() {
        Some(ResponseKind::Refused(refused)) => {
            assert!(refused.reason.contains("version"), "{refused:?}")
        }
        other => panic!("{other:?} instead of a refusal"),
    }
    assert_eq!(later.hear(), None);
}

#[test]
fn nothing_is_done_before_a_hello_and_nonsense_ends_the_connection() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    bench.disconnect();
    let rude = Raw::connect(bench.temp.path());
    rude.say(&encode(RequestKind::Signal(protocol::SignalWorker { worker: worker.0, kill: true })));
    assert!(matches!(rude.hear(), Some(ResponseKind::Refused(_))));
    assert_eq!(rude.hear(), None);

    let nonsense = Raw::connect(bench.temp.path());
    nonsense.say(&[0xff; 100]);
    assert_eq!(nonsense.hear(), None);
    let huge = Raw::connect(bench.temp.path());
    huge.say(&vec![0; protocol::MAX_DATAGRAM + 1]);
    assert_eq!(huge.hear(), None);

    bench.connect();
    assert!(is_alive(process));
    assert_eq!(bench.adopt(worker, None), Event::Adopted { worker, process });
}

#[test]
fn a_spawn_that_names_no_program_fails() {
    let mut bench = Bench::new();
    // Without a worker the shim would end with its last agent.
    bench.start("exec sleep 600");
    bench.disconnect();
    let raw = Raw::connect(bench.temp.path());
    let hello = Hello { version: protocol::VERSION, lowest: 1, capabilities: 0 };
    raw.say(&encode(RequestKind::Hello(hello)));
    assert!(matches!(raw.hear(), Some(ResponseKind::Welcome(_))));
    for payload in [Vec::new(), vec![0xff; 10]] {
        let spawn = protocol::Spawn { worker: 1, payload, more: false };
        raw.say(&encode(RequestKind::Spawn(spawn)));
        match raw.hear() {
            Some(ResponseKind::SpawnFailed(failed)) => assert_eq!(failed.worker, 1),
            other => panic!("{other:?} instead of a failure"),
        }
    }
    drop(raw);
    bench.connect();
    bench.port().discard(arroyo_node::ids::WorkerId(1));
}
