//! An agent without a network and without a clock: the real services over the real machine, in a
//! world that answers at once. A caller who waits makes time pass.
//!
//! ```text
//!  bytes ─▶ NodeGrpcServer ─▶ NodeService ─▶ mailbox ─▶ machine ─▶ effects ─▶ this small world
//!  bytes ◀─ or a status    ◀─             ◀─         ◀─
//! ```

use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use arroyo_node::{
    ids::{Generation, JobId, MachineId, WorkerId},
    machine::{
        Config, Dialect, Effect, Effects, End, Event, Exit, Machine, Mono, Now, Process, Recovered,
        Report, Signal, SpawnError, Stop, View, Wall, Worker, WorkerSpec,
    },
    mailbox::{Inbox, mailbox},
    rpc::{
        admin_wire::node_admin_server::NodeAdminServer,
        convert::{DialectPolicy, StopReply, heartbeat, registration, worker_finished},
        service::{About, NodeService},
        wire::{
            FinishedWorker, HeartbeatNodeReq, RegisterNodeReq, StartWorkerReq, WorkerFinishedReq,
            node_grpc_server::NodeGrpcServer,
        },
    },
};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{
    Code, Status,
    codegen::{Service, http},
};

use super::read;

/// How often time may pass until a call is answered: some timers for each of a few workers.
const PATIENCE: usize = 100;

/// What peers take of headers, and of a status in them, is 8 KiB or 16.
const MOST_HEADERS: usize = 8 * 1_024;

pub(super) struct Agent {
    machine: Machine,
    now: Now,
    /// `None` once the machine has finished.
    inbox: Option<Inbox>,
    view: watch::Sender<Arc<View>>,
    node: NodeGrpcServer<NodeService>,
    admin: NodeAdminServer<NodeService>,
}

impl Agent {
    /// The agent that this request is meant for, with a worker in every phase: one of the same job
    /// and the generation before.
    pub(super) fn meant_by(request: &StartWorkerReq) -> Self {
        let now = Now { mono: Mono(3_600_000_000_000), wall: Wall(1_750_000_000_000_000) };
        let config = Config::new(MachineId::new(&request.machine_id));
        let machine = Machine::new(config, [7; 32], recovered(request), now);
        let (mailbox, inbox) = mailbox();
        let (view, latest) = watch::channel(Arc::new(machine.view()));
        let service = NodeService {
            mailbox,
            view: latest,
            dialect: DialectPolicy::PerWorker,
            stop_reply: StopReply::Stock,
            about: Arc::new(About::default()),
        };
        let node = NodeGrpcServer::new(service.clone());
        let admin = NodeAdminServer::new(service);
        let mut agent = Self { machine, now, inbox: Some(inbox), view, node, admin };
        agent.handle(Event::Begin);
        agent
    }

    /// One call of `/package.Service/Method`: the answer's bytes, or why there is none.
    pub(super) fn call(&mut self, path: &'static str, message: &[u8]) -> Result<Vec<u8>, Status> {
        let response = if path.starts_with("/arroyo_rpc.NodeGrpc/") {
            let call = self.node.call(post(path, message));
            self.wait_for(call)
        } else {
            let call = self.admin.call(post(path, message));
            self.wait_for(call)
        };
        let (head, body) = response.expect("a service answers every call").into_parts();
        let bytes: usize =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(bytes < MOST_HEADERS, "{bytes} bytes of headers");
        let body = self.wait_for(body.collect()).expect("an answer that is there can be read");
        let trailers = body.trailers().cloned().unwrap_or(head.headers);
        let status = Status::from_header_map(&trailers).expect("every answer has a status");
        if status.code() != Code::Ok {
            return Err(status);
        }
        let frame = body.to_bytes();
        let (prefix, message) = frame.split_at(5);
        let length = u32::try_from(message.len()).expect("a short answer").to_be_bytes();
        assert_eq!(prefix, [&[0], &length[..]].concat(), "one message, not compressed");
        Ok(message.to_vec())
    }

    fn wait_for<F: Future>(&mut self, call: F) -> F::Output {
        let mut call = pin!(call);
        for _ in 0..PATIENCE {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                return answer;
            }
            self.turn();
        }
        panic!("a call was never answered");
    }

    /// Handles what is ready; if nothing is, time passes until the next deadline.
    fn turn(&mut self) {
        let Some(inbox) = &mut self.inbox else { return };
        if let Some(event) = inbox.take() {
            return self.handle(event);
        }
        if let Some((deadline, _)) = self.machine.next_timeout() {
            self.now.mono = self.now.mono.max(deadline);
            self.handle(Event::Timeout);
        }
    }

    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Effects::default();
            self.machine.handle(self.now, event, &mut effects);
            self.view.send_replace(Arc::new(self.machine.view()));
            for effect in effects.effects {
                events.extend(self.execute(effect));
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Reply { request, reply } => {
                self.inbox.as_mut()?.answer(request, reply);
                None
            }
            Effect::Spawn(launch) => Some(match launch.spec.name.as_str() {
                "" => {
                    let error = SpawnError { program: "worker".into(), reason: "no name".into() };
                    Event::SpawnFailed { worker: launch.worker, error }
                }
                _ => Event::Spawned { worker: launch.worker, process: PROCESS },
            }),
            Effect::Adopt { worker, process: Some(process) } => {
                Some(Event::Adopted { worker, process })
            }
            Effect::Adopt { worker, process: None } => Some(Event::NeverRan(worker)),
            // Every other worker ignores SIGTERM.
            Effect::Signal { worker, signal: Signal::Terminate } if worker.0 % 2 == 0 => None,
            Effect::Signal { worker, signal } => {
                let number = if signal == Signal::Kill { 9 } else { 15 };
                Some(Event::Exited { worker, exit: Exit::Signal(number) })
            }
            Effect::Register(asked) => {
                read::<RegisterNodeReq>(&registration(asked).encode_to_vec());
                Some(Event::Registered(Ok(())))
            }
            Effect::Heartbeat(sent) => {
                let call = heartbeat(&self.machine.view().machine, sent.sent.wall);
                read::<HeartbeatNodeReq>(&call.encode_to_vec());
                Some(Event::HeartbeatAnswered { heartbeat: sent, result: Ok(()) })
            }
            Effect::Report(report) => {
                good_report(&report);
                Some(Event::ReportAnswered { worker: report.worker, result: Ok(()) })
            }
            Effect::Release(_) | Effect::Discard(_) | Effect::Announce(_) => None,
            Effect::Finish => {
                self.inbox = None;
                None
            }
        }
    }
}

const PROCESS: Process = Process { pid: 4_711, start_time: 123_456 };

fn post(path: &'static str, message: &[u8]) -> http::Request<Full<tonic::codegen::Bytes>> {
    let length = u32::try_from(message.len()).expect("a short request").to_be_bytes();
    let frame = [&[0], &length[..], message].concat();
    http::Request::post(path)
        .header("content-type", "application/grpc")
        .body(Full::from(frame))
        .expect("these can be a request")
}

/// Says of the worker what is known of it, in a form that the other end reads as the same.
fn good_report(report: &Report) {
    let request = worker_finished(report);
    let read = read::<WorkerFinishedReq>(&request.encode_to_vec());
    assert_eq!(read.as_ref(), Some(&request));
    assert_eq!(request.slots, report.slots);
    let (worker, job) = match request.worker.expect("it names the worker") {
        FinishedWorker::Info(info) => (info.worker_id, info.job_id),
        FinishedWorker::Context(context) => (context.worker_id, context.job_id),
    };
    assert_eq!((worker, job.as_str()), (report.worker.0, report.job.as_str()));
}

fn recovered(request: &StartWorkerReq) -> Recovered {
    let running = |id, job: &str, generation| Worker {
        id: WorkerId(id),
        spec: Arc::new(WorkerSpec {
            name: "of before".into(),
            job: JobId::new(job),
            pipeline: None,
            generation: Generation(generation),
            slots: 3.try_into().expect("not zero"),
            dialect: Dialect::V0_15,
            key: None,
        }),
        admitted_at: Wall(1),
        process: Some(PROCESS),
        stop: None,
        abandoned_at: None,
        end: None,
        reported_at: None,
    };
    let end = Some(End { exit: Exit::Code(0), at: Wall(2), sequence: 1 });
    let workers = vec![
        Worker { process: None, ..running(1, "starting", 1) },
        running(2, &request.job_id, request.generation.saturating_sub(1)),
        Worker { stop: Some(Stop { kill_at: None }), ..running(3, "stopping", 1) },
        Worker { end, ..running(4, "exited", 1) },
        Worker { end, reported_at: Some(Wall(3)), ..running(5, "reported", 1) },
    ];
    Recovered {
        workers,
        lost: BTreeSet::new(),
        unwritten: BTreeSet::new(),
        draining: false,
        known_at: None,
    }
}
