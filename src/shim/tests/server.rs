//! What a shim answers, keeps and forgets.

use std::{collections::VecDeque, time::Duration};

use super::super::{
    LinkId, Place, Server, ServerAction, ServerInput, payload,
    protocol::{self, Request, RequestKind, Response, ResponseKind},
};
use crate::{
    ids::WorkerId,
    machine::{Exit, Mono, Process},
    supervisor::{
        Answer, Config, ExecSpec, Handle, KernelEvent, Operation, Reaper, SignalScope, Status,
    },
};

const LINGER: Duration = Duration::from_secs(10);
const AGENT: LinkId = LinkId(1);

struct Served {
    server: Server,
    now: Mono,
    actions: VecDeque<ServerAction>,
}

impl Served {
    fn new() -> Self {
        let config = Config { reaper: Reaper::This, groups: false };
        let now = Mono(1_000_000_000);
        let server = Server::new(config, 77, LINGER, now);
        Self { server, now, actions: VecDeque::new() }
    }

    /// With an agent that has said hello.
    fn greeted() -> Self {
        let mut served = Self::new();
        served.input(ServerInput::Connected(AGENT)).request(hello(3, 3)).ignore();
        served
    }

    /// With a worker that runs as this process.
    fn with_worker(worker: u64, pid: u32) -> Self {
        let mut served = Self::greeted();
        served.spawn(worker).forked(worker, pid).executed(worker).ignore();
        served
    }

    fn input(&mut self, input: ServerInput) -> &mut Self {
        self.server.handle(self.now, input, &mut self.actions);
        self
    }

    fn request(&mut self, kind: RequestKind) -> &mut Self {
        self.input(ServerInput::Received(AGENT, Ok(Request::from(kind))))
    }

    fn spawn(&mut self, worker: u64) -> &mut Self {
        let payload = payload::write(&ExecSpec::default(), b"label".to_vec());
        self.part(worker, payload, false)
    }

    fn part(&mut self, worker: u64, payload: Vec<u8>, more: bool) -> &mut Self {
        self.request(RequestKind::Spawn(protocol::Spawn { worker, payload, more }))
    }

    fn forked(&mut self, worker: u64, pid: u32) -> &mut Self {
        let result = Ok(Process { pid, start_time: 5 });
        let worker = WorkerId(worker);
        self.input(ServerInput::Answer(Answer::Forked { worker, result }))
    }

    fn executed(&mut self, worker: u64) -> &mut Self {
        let event = KernelEvent::Executed { worker: WorkerId(worker), result: Ok(()) };
        self.input(ServerInput::Event(event))
    }

    /// Its first process ends, and nothing is left.
    fn ends(&mut self, handle: u64, scan: u64, exit: Exit) -> &mut Self {
        let (handle, status) = (Handle(handle), Status::Ended(exit));
        self.input(ServerInput::Event(KernelEvent::Ready(handle)));
        self.input(ServerInput::Answer(Answer::Status { handle, status }));
        self.input(ServerInput::Timeout);
        let result = Ok(Default::default());
        self.input(ServerInput::Answer(Answer::Processes { scan, result }))
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self.input(ServerInput::Timeout)
    }

    fn ignore(&mut self) -> &mut Self {
        self.actions.clear();
        self
    }

    #[track_caller]
    fn does(&mut self, expected: &[ServerAction]) -> &mut Self {
        let actions: Vec<_> = self.actions.drain(..).collect();
        assert_eq!(actions, expected);
        self
    }

    /// What was sent since the last look.
    #[track_caller]
    fn sends(&mut self, expected: &[ResponseKind]) -> &mut Self {
        let sent = self.actions.drain(..).filter_map(|action| match action {
            ServerAction::Send(link, response) => {
                assert_eq!(link, AGENT);
                response.kind
            }
            _ => None,
        });
        assert_eq!(sent.collect::<Vec<_>>(), expected);
        self
    }

    fn wait(&self) -> Option<u64> {
        let at = self.server.next_timeout()?;
        Some(u64::try_from(at.since(self.now).as_millis()).unwrap())
    }
}

fn hello(version: u32, lowest: u32) -> RequestKind {
    RequestKind::Hello(protocol::Hello { version, lowest, capabilities: 0 })
}

fn list() -> RequestKind {
    RequestKind::List(protocol::List {})
}

fn known(worker: u64, pid: u32, loading: bool, exit: Option<Exit>) -> ResponseKind {
    let start_time = if pid == 0 { 0 } else { 5 };
    let (exit, label) = (exit.map(Into::into), b"label".to_vec());
    ResponseKind::Known(protocol::KnownWorker { worker, pid, start_time, exit, label, loading })
}

fn list_end() -> ResponseKind {
    ResponseKind::ListEnd(protocol::ListEnd {})
}

fn send(kind: ResponseKind) -> ServerAction {
    ServerAction::Send(AGENT, Response::from(kind))
}

fn refused(reason: &str) -> ResponseKind {
    ResponseKind::Refused(protocol::Refused { reason: reason.to_owned() })
}

fn spawn_failed(worker: u64, reason: &str) -> ResponseKind {
    ResponseKind::SpawnFailed(protocol::Failed { worker, reason: reason.to_owned() })
}

fn exited(worker: u64, exit: Exit) -> ResponseKind {
    ResponseKind::Exited(protocol::Exited { worker, exit: Some(exit.into()) })
}

fn release(worker: u64) -> RequestKind {
    RequestKind::Release(protocol::Release { worker })
}

#[test]
fn a_hello_is_answered_by_a_welcome_whenever_it_comes() {
    let mut served = Served::new();
    let welcome = protocol::Welcome { version: 3, capabilities: 0, pid: 77 };
    served.input(ServerInput::Connected(AGENT)).does(&[]);
    for version in [3, 4] {
        served.request(hello(version, 3)).does(&[send(ResponseKind::Welcome(welcome))]);
    }
}

#[test]
fn an_agent_that_shares_no_version_is_refused() {
    let mut served = Served::new();
    served.input(ServerInput::Connected(AGENT)).request(hello(5, 4));
    let refusal = refused("this shim speaks versions 3 to 3");
    served.does(&[send(refusal), ServerAction::Close(AGENT)]);
    served.request(hello(3, 3)).does(&[]);
}

#[test]
fn an_agent_that_says_no_hello_is_refused() {
    let mut served = Served::new();
    served.input(ServerInput::Connected(AGENT)).request(list());
    let refusal = refused("the first request must be a hello");
    served.does(&[send(refusal), ServerAction::Close(AGENT)]);
}

#[test]
fn a_request_of_a_later_version_is_not_understood_and_does_no_harm() {
    let mut served = Served::greeted();
    served.input(ServerInput::Received(AGENT, Ok(Request { kind: None })));
    let reason = "this shim speaks version 3 at most".to_owned();
    served.sends(&[ResponseKind::Unsupported(protocol::Unsupported { reason })]);
    served.request(list()).sends(&[list_end()]);
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let mut served = Served::greeted();
    served.input(ServerInput::Received(AGENT, Err("garbled".to_owned())));
    let log = ServerAction::Log("the connection is closed: garbled".to_owned());
    served.does(&[log, ServerAction::Close(AGENT)]);
    served.request(list()).does(&[]);
}

#[test]
fn a_new_agent_replaces_the_one_before() {
    let mut served = Served::with_worker(1, 10);
    served.part(2, b"half".to_vec(), true);
    served.input(ServerInput::Connected(LinkId(2))).does(&[ServerAction::Close(AGENT)]);
    served.input(ServerInput::Closed(AGENT)).request(list()).does(&[]);
    let from_new = |kind: RequestKind| ServerInput::Received(LinkId(2), Ok(Request::from(kind)));
    served.input(from_new(hello(3, 3))).ignore();
    let payload = payload::write(&ExecSpec::default(), Vec::new());
    let whole = protocol::Spawn { worker: 2, payload, more: false };
    served.input(from_new(RequestKind::Spawn(whole)));
    assert!(
        matches!(served.actions[0], ServerAction::Operation(Operation::Start { .. })),
        "the half that the other has sent is forgotten"
    );
}

#[test]
fn a_start_is_answered_once_its_program_runs() {
    let mut served = Served::greeted();
    served.spawn(1);
    let (worker, handle) = (WorkerId(1), Handle(1));
    let spec = ExecSpec::default().into();
    served.does(&[ServerAction::Operation(Operation::Start { worker, handle, spec })]);
    served.request(list()).sends(&[known(1, 0, true, None), list_end()]);
    served.forked(1, 10).does(&[]).executed(1);
    let spawned = protocol::Spawned { worker: 1, pid: 10, start_time: 5 };
    served.sends(&[ResponseKind::Spawned(spawned)]);
    served.request(list()).sends(&[known(1, 10, false, None), list_end()]);
}

#[test]
fn a_start_that_fails_is_told_and_forgotten() {
    let mut served = Served::greeted();
    served.spawn(1).ignore();
    let result = Err("no memory".to_owned());
    served.input(ServerInput::Answer(Answer::Forked { worker: WorkerId(1), result }));
    served.sends(&[spawn_failed(1, "no memory")]);
    served.request(list()).sends(&[list_end()]);
}

#[test]
fn a_payload_may_come_in_parts_and_beside_others() {
    let mut served = Served::greeted();
    let payload = payload::write(&ExecSpec::default(), b"label".to_vec());
    let (first, second) = payload.split_at(3);
    served.part(1, first.to_vec(), true).part(2, first.to_vec(), true).does(&[]);
    served.part(1, second.to_vec(), false);
    assert!(matches!(served.actions[0], ServerAction::Operation(Operation::Start { .. })));
    served.ignore().part(2, second.to_vec(), false);
    assert!(matches!(served.actions[0], ServerAction::Operation(Operation::Start { .. })));
}

#[test]
fn parts_that_are_never_completed_take_no_more_memory_than_so_much() {
    let mut served = Served::greeted();
    let most = payload::MAX_PAYLOAD / 2 * 3;
    served.part(1, vec![0; most - 10], true).part(2, vec![0; 10], true).does(&[]);
    let reason = "what is to be run takes too many bytes";
    served.part(2, vec![0; 1], true).sends(&[spawn_failed(2, reason)]);
    served.part(3, vec![0; 10], true).does(&[]);
}

#[test]
fn what_is_no_payload_is_told() {
    let mut served = Served::greeted();
    served.part(1, vec![0xff], false);
    let Some(ServerAction::Send(_, response)) = served.actions.pop_front() else { panic!() };
    assert!(matches!(response.kind, Some(ResponseKind::SpawnFailed(failed)) if failed.worker == 1));
    served.request(list()).sends(&[list_end()]);
}

#[test]
fn a_worker_is_started_once() {
    let mut served = Served::with_worker(1, 10);
    served.spawn(1).sends(&[spawn_failed(1, "worker 1 has been started already")]);
    served.request(list()).sends(&[known(1, 10, false, None), list_end()]);
}

#[test]
fn an_end_is_told_and_kept_until_it_is_released() {
    let mut served = Served::with_worker(1, 10);
    served.request(release(1));
    served.request(list()).sends(&[known(1, 10, false, None), list_end()]);
    served.ends(1, 1, Exit::Code(3)).sends(&[exited(1, Exit::Code(3))]);
    served.request(list()).sends(&[known(1, 10, false, Some(Exit::Code(3))), list_end()]);
    served.request(release(1)).request(list()).sends(&[list_end()]);
}

#[test]
fn signals_are_passed_on_and_their_failures_back() {
    let mut served = Served::with_worker(1, 10);
    for (kill, signal) in
        [(false, crate::machine::Signal::Terminate), (true, crate::machine::Signal::Kill)]
    {
        served.request(RequestKind::Signal(protocol::SignalWorker { worker: 1, kill }));
        served.input(ServerInput::Timeout).ignore();
        let (scan, result) = (if kill { 2 } else { 1 }, Ok(Default::default()));
        served.input(ServerInput::Answer(Answer::Processes { scan, result }));
        let scope = SignalScope::Process;
        let (handle, error) = (Handle(1), Err(crate::supervisor::Errno(1)));
        let expected = ServerAction::Operation(Operation::Signal { handle, signal, scope });
        assert!(served.actions.contains(&expected), "{:?}", served.actions);
        served.ignore();
        served.input(ServerInput::Answer(Answer::Signalled { handle, scope, result: error }));
        let reason = "pid 10: Operation not permitted (os error 1)".to_owned();
        served.sends(&[ResponseKind::SignalFailed(protocol::Failed { worker: 1, reason })]);
    }
}

#[test]
fn warnings_go_to_the_log() {
    let mut served = Served::with_worker(1, 10);
    served.request(RequestKind::Signal(protocol::SignalWorker { worker: 1, kill: true }));
    served.input(ServerInput::Timeout).ignore();
    let result = Err(crate::supervisor::Errno(24));
    served.input(ServerInput::Answer(Answer::Processes { scan: 1, result }));
    let logs = served.actions.iter().filter_map(|action| match action {
        ServerAction::Log(text) => Some(text.as_str()),
        _ => None,
    });
    let logs: Vec<_> = logs.collect();
    assert!(matches!(logs[..], [log] if log.starts_with("worker 1: cannot read")), "{logs:?}");
}

#[test]
fn without_an_agent_nothing_is_sent() {
    let mut served = Served::with_worker(1, 10);
    served.input(ServerInput::Closed(AGENT)).ends(1, 1, Exit::Code(0)).sends(&[]);
}

#[test]
fn a_shim_to_which_no_agent_comes_ends() {
    let mut served = Served::new();
    assert_eq!(served.wait(), Some(10_000));
    served.after(9_999).does(&[]);
    served.after(1).does(&[ServerAction::End]);
    served.after(1).does(&[]);
    assert_eq!(served.wait(), None);
}

#[test]
fn a_shim_that_nothing_needs_any_more_ends_at_once() {
    let mut served = Served::with_worker(1, 10);
    assert_eq!(served.wait(), None);
    served.ends(1, 1, Exit::Code(0)).request(release(1)).after(60_000).ignore();
    served.input(ServerInput::Closed(AGENT));
    assert_eq!(served.wait(), Some(0));
    served.after(0).does(&[ServerAction::End]);
}

#[test]
fn a_shim_with_workers_waits_for_an_agent_and_sees_that_it_can_be_found() {
    let mut served = Served::with_worker(1, 10);
    served.after(60_000).does(&[]).input(ServerInput::Closed(AGENT));
    assert_eq!(served.wait(), Some(0));
    served.after(0).does(&[ServerAction::CheckPlace]);
    served.input(ServerInput::Place(Place { lock: true, socket: true })).does(&[]);
    assert_eq!(served.wait(), Some(5_000));
    served.after(4_999).does(&[]).after(1).does(&[ServerAction::CheckPlace]);
    served.input(ServerInput::Place(Place { lock: true, socket: false }));
    served.does(&[ServerAction::Listen]).after(3_600_000).ignore();
    served.input(ServerInput::Place(Place { lock: false, socket: false })).does(&[]);
}

#[test]
fn a_shim_whose_directory_is_gone_ends_with_its_last_worker() {
    let mut served = Served::with_worker(1, 10);
    served.input(ServerInput::Closed(AGENT)).after(0).ignore();
    served.input(ServerInput::Place(Place { lock: false, socket: false })).after(0).does(&[]);
    served.ends(1, 1, Exit::Code(0)).ignore().after(0).does(&[ServerAction::End]);
}

#[test]
fn an_end_that_no_agent_has_heard_of_is_kept() {
    let mut served = Served::with_worker(1, 10);
    served.input(ServerInput::Closed(AGENT)).ends(1, 1, Exit::Code(2)).after(600_000).ignore();
    served.input(ServerInput::Connected(AGENT)).request(hello(3, 3)).ignore();
    served.request(list()).sends(&[known(1, 10, false, Some(Exit::Code(2))), list_end()]);
}
