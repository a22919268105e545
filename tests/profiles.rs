//! `/debug/pprof/` of the binary, asked over real sockets; what comes back is read by definitions
//! of this file's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use nix::libc::SIGPROF;
use prost::Message;
use support::{
    Parent,
    agent::Home,
    loopback, port_to_keep,
    program::{AgentProgram, Program},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A debug build is hundreds of megabytes in which names are looked for.
const PATIENCE: Duration = Duration::from_secs(300);

/// `perftools.profiles.Profile`, as far as it is looked at.
#[derive(Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn text(&self, index: i64) -> &str {
        &self.string_table[usize::try_from(index).unwrap()]
    }

    /// The names of the functions on a sample's stack, innermost first.
    fn stack(&self, sample: &Sample) -> Vec<&str> {
        let location = |id| self.location.iter().find(|location| location.id == id).unwrap();
        let lines = sample.location_id.iter().flat_map(|id| &location(*id).line);
        let function = |id| self.function.iter().find(|function| function.id == id).unwrap();
        lines.map(|line| self.text(function(line.function_id).name)).collect()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn profile(&self) -> Profile {
        assert_eq!(self.status, 200, "{}", self.text());
        let mut bytes = Vec::new();
        GzDecoder::new(self.body.as_slice()).read_to_end(&mut bytes).unwrap();
        Profile::decode(bytes.as_slice()).unwrap()
    }
}

async fn request(admin: SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

async fn get(admin: SocketAddr, path: &str) -> Answer {
    let mut answer = Vec::new();
    let read = async { request(admin, path).await.read_to_end(&mut answer).await };
    timeout(PATIENCE, read).await.unwrap().unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&answer[..end]).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// The profiler's temporary file goes with the home.
async fn agent(home: &Home) -> AgentProgram {
    let arguments = home.arguments(&format!("http://{}", loopback(port_to_keep())));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let scratch = home.scratch();
    let env = [("TMPDIR", scratch.to_str().unwrap())];
    AgentProgram::serving(Program::run(&home.mark, &arguments, &env)).await
}

#[tokio::test]
async fn a_profile_shows_what_the_agent_does() {
    let home = Home::new();
    let agent = agent(&home).await;
    let admin = agent.admin;
    let work = tokio::spawn(async move {
        loop {
            get(admin, "/metrics").await;
        }
    });
    let began = Instant::now();
    let profile = loop {
        let answer = get(admin, "/debug/pprof/profile?frequency=1000&duration=1").await;
        assert!(answer.head.contains("content-type: application/octet-stream"), "{}", answer.head);
        assert!(answer.head.contains("filename=\"profile.pb.gz\""), "{}", answer.head);
        let profile = answer.profile();
        // On a busy machine the agent may not have had its share of a second.
        let ours =
            |sample| profile.stack(sample).iter().any(|name| name.starts_with("arroyo_node"));
        if profile.sample.iter().any(ours) {
            break profile;
        }
        assert!(began.elapsed() < PATIENCE, "no sample is of the agent's: {profile:?}");
    };
    work.abort();
    let kinds: Vec<_> = profile.sample_type.iter().map(|kind| profile.text(kind.kind)).collect();
    assert_eq!(kinds, ["samples", "cpu"]);
    let units: Vec<_> = profile.sample_type.iter().map(|kind| profile.text(kind.unit)).collect();
    assert_eq!(units, ["count", "nanoseconds"]);
    assert_eq!(profile.period, 1_000_000);
    assert!(profile.duration_nanos >= 1_000_000_000, "{}", profile.duration_nanos);
    assert!(profile.sample.iter().all(|sample| sample.value[0] > 0 && sample.value.len() == 2));

    // Afterwards all is as it was: workers start, and end when they are told to.
    let worker = agent.start(home.request("job", 1, &[])).await;
    agent.stop_by_force(worker).await;
    agent.until_exited(worker).await;
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_told() {
    let home = Home::new();
    let agent = agent(&home).await;
    for (query, words) in [
        ("frequency=0", "frequency is \"0\"; it must be a whole number from 1 to 10000\n"),
        ("frequency=fast", "frequency is \"fast\"; it must be a whole number from 1 to 10000\n"),
        ("duration=0", "duration is \"0\"; it must be a whole number from 1 to 600\n"),
        ("duration=1.5", "duration is \"1.5\"; it must be a whole number from 1 to 600\n"),
        ("duration=", "duration is \"\"; it must be a whole number from 1 to 600\n"),
        ("seconds=3600", "seconds is \"3600\"; it must be a whole number from 1 to 600\n"),
        ("duration=1&seconds=1", "duration and seconds are the same; give one of them\n"),
    ] {
        let answer = get(agent.admin, &format!("/debug/pprof/profile?{query}")).await;
        assert_eq!((answer.status, answer.text()), (400, words));
    }
}

#[tokio::test]
async fn a_second_profile_is_refused_until_the_first_one_ends() {
    let home = Home::new();
    let agent = agent(&home).await;
    let first = request(agent.admin, "/debug/pprof/profile?duration=600").await;
    agent.program.line_with("taking a CPU profile").await;
    let second = get(agent.admin, "/debug/pprof/profile?seconds=1").await;
    assert_eq!(second.status, 409);
    assert_eq!(second.text(), "another profile is being taken; try again when it has ended\n");

    // Whoever hangs up wants none.
    drop(first);
    timeout(PATIENCE, async {
        while get(agent.admin, "/debug/pprof/profile?seconds=1").await.status == 409 {}
    })
    .await
    .unwrap();
}

/// The profiler leaves its signal ignored, and what is ignored stays so across `execve`.
#[tokio::test]
async fn a_profile_is_not_handed_down_to_workers() {
    let home = Home::with_workers_of(Parent::Agent);
    let agent = agent(&home).await;
    get(agent.admin, "/debug/pprof/profile?duration=1").await.profile();
    let worker = agent.start(home.request("job", 1, &[])).await;
    home.until_ready(worker).await;
    let ignores = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let signals = u64::from_str_radix(line.trim(), 16).unwrap();
        signals >> (SIGPROF - 1) & 1 == 1
    };
    assert!(ignores(agent.program.pid()), "nothing to hand down");
    let worker = agent.worker(worker).await;
    assert!(!ignores(worker.pid));
}

#[tokio::test]
async fn a_heap_profile_is_refused_as_by_a_stock_node_that_takes_none() {
    let home = Home::new();
    let agent = agent(&home).await;
    let answer = get(agent.admin, "/debug/pprof/heap").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().starts_with("heap profiling not activated"), "{}", answer.text());
    assert!(agent.metric("process_resident_memory_bytes").await.unwrap() > 0.0);
}
