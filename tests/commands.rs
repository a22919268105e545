//! The commands for people, as real processes, against a small agent that answers what it is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use arroyo_node::rpc::{
    admin_wire::{
        GetStatusRequest, GetStatusResponse, NodeMode, SetDrainingRequest, SetDrainingResponse,
        ShutdownRequest, ShutdownResponse,
        node_admin_server::{NodeAdmin, NodeAdminServer},
    },
    wire::{
        GetWorkersReq, GetWorkersResp, HeartbeatNodeReq, StartWorkerReq, StartWorkerResp,
        StopWorkerReq, StopWorkerResp, StopWorkerStatus, WorkerExit, WorkerState, WorkerStatus,
        node_grpc_server::{NodeGrpc, NodeGrpcServer},
        worker_exit::How,
    },
};
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// What the agent was asked, and what it is to answer.
#[derive(Default)]
struct Script {
    starts: Vec<StartWorkerReq>,
    stops: Vec<StopWorkerReq>,
    draining: Vec<bool>,
    shutdowns: Vec<bool>,
    workers: Vec<WorkerStatus>,
    status: GetStatusResponse,
    refuse: Option<Status>,
    /// Answers to stops, the last one for ever.
    stop_answers: Vec<StopWorkerStatus>,
}

#[derive(Clone)]
struct FakeAgent(Arc<Mutex<Script>>);

impl FakeAgent {
    fn answer<T>(&self, answer: impl FnOnce(&mut Script) -> T) -> Result<Response<T>, Status> {
        let mut script = self.0.lock().unwrap();
        match &script.refuse {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(answer(&mut script))),
        }
    }
}

#[tonic::async_trait]
impl NodeGrpc for FakeAgent {
    async fn start_worker(
        &self,
        request: Request<StartWorkerReq>,
    ) -> Result<Response<StartWorkerResp>, Status> {
        self.answer(|script| {
            script.starts.push(request.into_inner());
            StartWorkerResp { worker_id: u64::MAX }
        })
    }

    async fn stop_worker(
        &self,
        request: Request<StopWorkerReq>,
    ) -> Result<Response<StopWorkerResp>, Status> {
        self.answer(|script| {
            let answers = &script.stop_answers;
            let status = answers[script.stops.len().min(answers.len() - 1)] as i32;
            script.stops.push(request.into_inner());
            StopWorkerResp { status }
        })
    }

    async fn get_workers(
        &self,
        _: Request<GetWorkersReq>,
    ) -> Result<Response<GetWorkersResp>, Status> {
        self.answer(|script| GetWorkersResp { statuses: script.workers.clone() })
    }

    async fn heartbeat_node(&self, _: Request<HeartbeatNodeReq>) -> Result<Response<()>, Status> {
        self.answer(|_| ())
    }
}

#[tonic::async_trait]
impl NodeAdmin for FakeAgent {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        self.answer(|script| script.status.clone())
    }

    async fn set_draining(
        &self,
        request: Request<SetDrainingRequest>,
    ) -> Result<Response<SetDrainingResponse>, Status> {
        self.answer(|script| {
            script.draining.push(request.into_inner().draining);
            SetDrainingResponse {}
        })
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        self.answer(|script| {
            script.shutdowns.push(request.into_inner().detach);
            ShutdownResponse {}
        })
    }
}

/// A running fake agent; it ends with the test.
struct Agent {
    addr: SocketAddr,
    script: Arc<Mutex<Script>>,
    _runtime: tokio::runtime::Runtime,
}

impl Agent {
    fn with(script: Script) -> Self {
        Self::serve(script, true)
    }

    fn serve(script: Script, admin: bool) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let script = Arc::new(Mutex::new(script));
        let agent = FakeAgent(script.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut server = Server::builder().add_service(NodeGrpcServer::new(agent.clone()));
        if admin {
            server = server.add_service(NodeAdminServer::new(agent));
        }
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { addr, script, _runtime: runtime }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run_at(&self.addr.to_string(), arguments)
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn run_at(addr: &str, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_arroyo-node"))
        .args(arguments)
        .env("ARROYO_NODE_ADDR", addr)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// A full disk, as stdout or stderr.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn what_cannot_be_written_is_no_success_and_no_panic() {
    let agent = Agent::with(Script { workers: two_workers(), ..Script::default() });
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arroyo-node"));
        command.arg("ps").env("ARROYO_NODE_ADDR", agent.addr.to_string());
        command
    };
    let Output { status, stderr, .. } = command().stdout(full()).output().unwrap();
    let error = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: cannot write to stdout: "), "{error}");
    let nobody = "127.0.0.1:1";
    let unheard = command().env("ARROYO_NODE_ADDR", nobody).stderr(full()).status().unwrap();
    assert_eq!(unheard.code(), Some(3));
}

fn two_workers() -> Vec<WorkerStatus> {
    let alive = WorkerStatus {
        name: "clicks".to_owned(),
        slots: 3,
        running: true,
        worker_id: u64::MAX,
        job_id: "job_a".to_owned(),
        generation: 7,
        pid: 4242,
        state: WorkerState::Running as i32,
        started_at: 1_700_000_000_000_000,
        ..Default::default()
    };
    let ended = WorkerStatus {
        running: false,
        worker_id: 12,
        job_id: "job_b\u{1b}[31m".to_owned(),
        state: WorkerState::Exited as i32,
        exit: Some(WorkerExit { how: Some(How::Signal(9)) }),
        ..alive.clone()
    };
    vec![ended, alive]
}

#[test]
fn ps_lists_live_workers_and_with_all_the_ended_ones() {
    let agent = Agent::with(Script { workers: two_workers(), ..Script::default() });

    let ran = agent.run(&["ps"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    for expected in [&u64::MAX.to_string(), "job_a", "7", "3", "running", "4242", "clicks"] {
        assert!(lines[1].contains(expected), "{expected}: {ran:?}");
    }

    let ran = agent.run(&["ps", "--all"]);
    assert_eq!(ran.out.lines().count(), 3, "{ran:?}");
    assert!(ran.out.contains("signal 9 (SIGKILL)"), "{ran:?}");
    assert!(!ran.out.contains('\u{1b}'), "a job's name steers the terminal: {ran:?}");
}

#[test]
fn ps_shows_an_unknown_exit_as_unknown() {
    let mut worker = two_workers().remove(0);
    worker.exit = Some(WorkerExit { how: Some(How::Unknown(())) });
    let agent = Agent::with(Script { workers: vec![worker], ..Script::default() });
    assert!(agent.run(&["ps", "-a"]).out.contains("unknown"));
    let json = agent.run(&["ps", "--all", "--json"]).json();
    assert_eq!(json[0]["exit"], json!({ "how": "unknown" }));
}

#[test]
fn ps_in_json_keeps_ids_whole() {
    let agent = Agent::with(Script { workers: two_workers(), ..Script::default() });
    let json = agent.run(&["ps", "--all", "--json"]).json();
    assert_eq!(json[0]["worker_id"], u64::MAX.to_string());
    assert_eq!(json[0]["started_at"], "2023-11-14T22:13:20Z");
    assert_eq!(json[1]["exit"], json!({ "how": "signal", "signal": 9, "name": "SIGKILL" }));
    assert_eq!(json[1]["alive"], false);
}

#[test]
fn start_asks_for_the_machine_and_sends_what_it_was_told() {
    let status = GetStatusResponse { machine_id: "m-1".to_owned(), ..Default::default() };
    let agent = Agent::with(Script { status, ..Script::default() });
    let ran = agent.run(&[
        "start",
        "--job",
        "j",
        "--slots",
        "4",
        "--generation",
        "9",
        "--pipeline",
        "p",
        "--env",
        "A=1",
        "--env",
        "B=x=y",
        "--request-id",
        "once",
    ]);
    assert_eq!(ran.out, format!("worker {} started\n", u64::MAX), "{ran:?}");
    let expected = StartWorkerReq {
        name: "j".to_owned(),
        job_id: "j".to_owned(),
        slots: 4,
        machine_id: "m-1".to_owned(),
        generation: 9,
        env_vars: [("A", "1"), ("B", "x=y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        pipeline_id: "p".to_owned(),
        request_id: "once".to_owned(),
    };
    assert_eq!(agent.script().starts, [expected]);

    let json = agent.run(&["start", "--job", "j", "--json"]).json();
    assert_eq!(json["worker_id"], u64::MAX.to_string());
}

#[test]
fn start_names_a_machine_without_asking() {
    let agent = Agent::serve(Script::default(), false);
    let ran = agent.run(&["start", "--job", "j", "--machine", "m-2", "--name", "n"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let starts = agent.script().starts.clone();
    assert_eq!((starts[0].machine_id.as_str(), starts[0].name.as_str()), ("m-2", "n"));
}

#[test]
fn a_stock_node_is_recognised() {
    let agent = Agent::serve(Script::default(), false);
    let ran = agent.run(&["status"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("stock Arroyo node"), "{ran:?}");
}

#[test]
fn stop_says_where_it_stands_and_how() {
    use StopWorkerStatus::*;
    for (answer, code, text, word) in [
        (Stopped, 0, "has ended", "stopped"),
        (Stopping, 6, "still alive", "stopping"),
        (NotFound, 4, "knows no worker 12", "not_found"),
        (StopFailed, 1, "could not be signalled", "stop_failed"),
    ] {
        let agent = Agent::with(Script { stop_answers: vec![answer], ..Script::default() });
        let ran = agent.run(&["stop", "12"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.out.contains(text) || ran.err.contains(text), "{ran:?}");
        let ran = agent.run(&["stop", "12", "--json"]);
        assert_eq!((ran.code, &ran.json()["status"]), (code, &json!(word)), "{ran:?}");
    }
}

#[test]
fn stop_sends_force_and_questions_as_told() {
    let answers = vec![StopWorkerStatus::Stopped];
    let agent = Agent::with(Script { stop_answers: answers, ..Script::default() });
    agent.run(&["stop", "12"]);
    agent.run(&["stop", "12", "--force"]);
    agent.run(&["stop", "12", "--ask"]);
    let stops = agent.script().stops.clone();
    let flags: Vec<_> =
        stops.iter().map(|stop| (stop.worker_id, stop.force, stop.finished)).collect();
    assert_eq!(flags, [(12, false, false), (12, true, false), (12, false, true)]);
    assert_eq!(agent.run(&["stop", "12", "--ask", "--force"]).code, 2);
}

#[test]
fn stop_waits_by_asking_until_the_worker_has_ended() {
    use StopWorkerStatus::*;
    for last in [Stopped, NotFound] {
        let answers = vec![Stopping, Stopping, last];
        let agent = Agent::with(Script { stop_answers: answers, ..Script::default() });
        let ran = agent.run(&["stop", "12", "--force", "--wait", "30s"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let stops = agent.script().stops.clone();
        let flags: Vec<_> = stops.iter().map(|stop| (stop.force, stop.finished)).collect();
        assert_eq!(flags, [(true, false), (false, true), (false, true)]);
    }
    let agent = Agent::with(Script { stop_answers: vec![Stopping], ..Script::default() });
    assert_eq!(agent.run(&["stop", "12", "--wait", "300ms"]).code, 6);
    assert!(agent.script().stops.len() > 1);
}

#[test]
fn drain_and_undrain_are_sent() {
    let agent = Agent::with(Script::default());
    assert!(agent.run(&["drain"]).out.contains("no new workers"));
    assert_eq!(agent.run(&["undrain", "--json"]).json(), json!({ "draining": false }));
    assert_eq!(agent.script().draining, [true, false]);
}

#[test]
fn shutdown_and_detach_are_sent() {
    let agent = Agent::with(Script::default());
    assert!(agent.run(&["shutdown"]).out.contains("stop its workers"));
    assert!(agent.run(&["shutdown", "--detach"]).out.contains("leaves its workers"));
    let json = agent.run(&["detach", "--json"]).json();
    assert_eq!(json, json!({ "shutting_down": true, "detach": true }));
    assert_eq!(agent.script().shutdowns, [false, true, true]);
}

#[test]
fn status_shows_how_the_agent_stands() {
    let mut status = GetStatusResponse {
        machine_id: "m-1".to_owned(),
        version: "9.8.7".to_owned(),
        task_slots: 16,
        free_slots: 5,
        registered: true,
        controller: "http://c:5116".to_owned(),
        live_workers: 2,
        reports_owed: 1,
        journal_error: "disk full".to_owned(),
        started_at: 1_700_000_000_000_000,
        notices: vec!["a journal was set aside".to_owned()],
        ..Default::default()
    };
    status.set_mode(NodeMode::Draining);
    let agent = Agent::with(Script { status, ..Script::default() });

    let ran = agent.run(&["status"]);
    for expected in [
        "m-1",
        "9.8.7",
        "draining",
        "11 of 16 in use",
        "http://c:5116 (registered)",
        "disk full",
        "a journal was set aside",
    ] {
        assert!(ran.out.contains(expected), "{expected}: {ran:?}");
    }
    let json = agent.run(&["status", "--json"]).json();
    assert_eq!(json["mode"], "draining");
    assert_eq!(json["free_slots"], 5);
    assert_eq!(json["journal_error"], "disk full");
}

#[test]
fn refusals_are_told_with_their_own_exit_code() {
    for (status, code) in [
        (Status::resource_exhausted("not enough slots: asked 4, free 1 of 16"), 5),
        (Status::failed_precondition("generation 1 is stale"), 5),
        (Status::unavailable("this node is draining"), 5),
        (Status::invalid_argument("job_id is empty"), 2),
        (Status::not_found("no such worker"), 4),
        (Status::internal("cannot run worker program"), 1),
    ] {
        let agent = Agent::with(Script { refuse: Some(status.clone()), ..Script::default() });
        let ran = agent.run(&["start", "--job", "j", "--machine", "m"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(status.message()) && ran.out.is_empty(), "{ran:?}");
    }
}

#[test]
fn an_agent_that_is_not_there_is_unreachable() {
    // Bound, then given up: nobody listens there.
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = run_at(&addr, &["ps"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains(&addr) && ran.err.contains("refused"), "{ran:?}");
    assert!(ran.err.contains("is it running?"), "{ran:?}");
}

#[test]
fn an_agent_that_says_nothing_is_unreachable() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let ran = run_at(&addr, &["status", "--timeout", "200ms"]);
    assert_eq!(ran.code, 3, "{ran:?}");
}

#[test]
fn an_agent_that_hangs_up_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    // Ends with the test's process.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let ran = run_at(&addr, &["ps"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains(&addr), "{ran:?}");
}

#[test]
fn what_is_no_address_is_a_usage_error() {
    for addr in ["localhost", "http://a:1/path", "a b:1"] {
        let ran = run_at("127.0.0.1:1", &["ps", "--addr", addr]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("--addr"), "{ran:?}");
    }
}
