//! Any bytes, as what agent and shim say to each other: a datagram either way, the payload of a
//! spawn, the label of a worker. What can be read can be written again and is the same; and an
//! agent that lost its journal can go on from whatever a shim claims to know.

use arroyo_node::{
    ids::{MachineId, WorkerId},
    machine::{Config, Effects, Event, Exit, Machine, Mono, Now, Process, Recovered, Wall, Worker},
    shim::{
        Known, payload,
        protocol::{
            ExitStatus, Hello, KnownWorker, LOWEST_VERSION, RequestKind, Response, ResponseKind,
            VERSION, decode_request, decode_response, negotiate,
        },
    },
};
use prost::Message;

/// Reads `bytes` as everything that passes between agent and shim.
pub fn shim_protocol(bytes: &[u8]) {
    if let Ok(request) = decode_request(bytes) {
        assert_eq!(decode_request(&request.encode_to_vec()), Ok(request.clone()));
        if let Some(RequestKind::Hello(hello)) = request.kind {
            version(hello);
        }
    }
    if let Ok(response) = decode_response(bytes) {
        assert_eq!(decode_response(&response.encode_to_vec()), Ok(response.clone()));
        told(response);
    }
    spawn(bytes);
    let process = Process { pid: 4_711, start_time: 123_456 };
    let known = KnownWorker { label: bytes.to_vec(), ..KnownWorker::default() };
    let labelled = Known { process, ..Known::from(known) };
    recover(&labelled);
}

/// A version is spoken only if both sides can.
fn version(hello: Hello) {
    if let Some(version) = negotiate(hello) {
        assert!((LOWEST_VERSION..=VERSION).contains(&version));
        assert!((hello.lowest..=hello.version).contains(&version));
    }
}

fn told(response: Response) {
    match response.kind {
        Some(ResponseKind::Known(known)) => {
            known.exit.into_iter().for_each(end);
            recover(&Known::from(known));
        }
        Some(ResponseKind::Exited(exited)) => exited.exit.into_iter().for_each(end),
        _ => {}
    }
}

/// Unknown is never read as success.
fn end(status: ExitStatus) {
    let success = ExitStatus { code: Some(0), signal: None, out_of_memory: false };
    assert_eq!(Exit::from(status) == Exit::Code(0), status == success);
}

/// What is read of a payload is what is read of it again, and no longer than it was.
fn spawn(bytes: &[u8]) {
    let Ok((spec, label)) = payload::read(bytes) else { return };
    let lists = [&spec.candidates, &spec.argv, &spec.envp];
    let output = spec.output.iter().flat_map(|files| [&files.dir, &files.stdout, &files.stderr]);
    let strings = lists.into_iter().flatten().chain(&spec.cwd).chain(&spec.group).chain(output);
    let length: usize = strings.map(|string| string.count_bytes()).sum();
    assert!(length + label.len() <= bytes.len());
    let written = payload::write(&spec, label.clone());
    assert_eq!(payload::read(&written).ok(), Some((spec, label)));
}

/// The machine takes over a worker that only the shim knows.
fn recover(known: &Known) {
    let Some(worker) = known.worker() else { return };
    let process = (!known.loading).then_some(known.process);
    assert_eq!((worker.id, worker.process), (known.worker, process));
    let Worker { id, process, .. } = worker;
    let recovered =
        Recovered { unwritten: [id].into(), workers: vec![worker], ..Recovered::default() };
    let now = Now { mono: Mono(1), wall: Wall(1) };
    let mut machine = Machine::new(Config::new(MachineId::new("node")), [7; 32], recovered, now);
    let mut effects = Effects::default();
    machine.handle(now, Event::Begin, &mut effects);
    assert_eq!(effects.commit.records.len(), 1, "it is written at once");
    let next = match (known.exit, process) {
        (Some(exit), _) => Event::Exited { worker: id, exit },
        (None, Some(process)) => Event::Adopted { worker: id, process },
        (None, None) => Event::NeverRan(id),
    };
    machine.handle(now, next, &mut effects);
    let stranger = WorkerId(id.0.wrapping_add(1));
    machine.handle(now, Event::NeverRan(stranger), &mut effects);
}
