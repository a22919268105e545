//! A cluster whose controller is upgraded while its workers run: the agent serves one of dialect
//! 0.15, then at the same address one of 0.16, then one of 0.15 again. Told as a transcript of what
//! each controller could make of the bytes that it got; each knows only the messages of its version,
//! written down apart from this project.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stock;
mod support;

use std::{
    marker::PhantomData,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Buf as _, Bytes};
use h2::server::{SendResponse, handshake};
use http::{HeaderMap, Response};
use prost::Message;
use stock::{HeartbeatNodeReq, RegisterNodeReq, v0_15, v0_16};
use support::{agent::Home, eventually, loopback, port_to_keep, threads::Vanishing};
use tokio::net::TcpListener;

type Transcript = Arc<Mutex<Vec<String>>>;

/// What one version calls a worker in WorkerFinished, and that it reads nothing else.
trait Version: Send + 'static {
    const NAME: &str;
    fn finished(bytes: Bytes) -> Result<String, prost::DecodeError>;
}

struct Old;
impl Version for Old {
    const NAME: &str = "0.15";
    fn finished(bytes: Bytes) -> Result<String, prost::DecodeError> {
        let request = v0_15::WorkerFinishedReq::decode(bytes)?;
        let info = request.worker_info.unwrap();
        Ok(format!("job {} run {} freed {}", info.job_id, info.run_id, request.slots))
    }
}

struct New;
impl Version for New {
    const NAME: &str = "0.16";
    fn finished(bytes: Bytes) -> Result<String, prost::DecodeError> {
        let request = v0_16::WorkerFinishedReq::decode(bytes)?;
        assert!(request.time > 1_600_000_000_000_000, "a time in microseconds: {}", request.time);
        let context = request.worker_context.unwrap();
        let (job, generation) = (context.job_id, context.generation);
        Ok(format!(
            "job {job} generation {generation} pipeline {:?} freed {}",
            context.pipeline_id, request.slots
        ))
    }
}

/// A controller of one version. Dropped, it is gone as if it had been killed.
struct Controller<V> {
    _server: Vanishing<()>,
    _version: PhantomData<V>,
}

impl<V: Version> Controller<V> {
    fn start(address: SocketAddr, transcript: &Transcript) -> Self {
        let transcript = transcript.clone();
        let server = Vanishing::run(move || async move {
            let listener = TcpListener::bind(address).await.unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let transcript = transcript.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = handshake(socket).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let transcript = transcript.clone();
                        tokio::spawn(answer::<V>(request, respond, transcript));
                    }
                });
            }
        });
        Self { _server: server, _version: PhantomData }
    }
}

async fn answer<V: Version>(
    request: http::Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    transcript: Transcript,
) {
    let (head, mut body) = request.into_parts();
    for compression in ["grpc-encoding", "grpc-accept-encoding"] {
        assert_eq!(head.headers.get(compression), None, "stock negotiates no compression");
    }
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    let mut message = Bytes::from(bytes);
    message.advance(5);
    let line = match head.uri.path().rsplit('/').next().unwrap() {
        "RegisterNode" => RegisterNodeReq::decode(message)
            .map(|node| Some(format!("node {} with {}", node.machine_id, node.task_slots))),
        "HeartbeatNode" => HeartbeatNodeReq::decode(message).map(|_| None),
        "WorkerFinished" => V::finished(message).map(Some),
        other => panic!("{other}"),
    };
    let response = Response::builder().header("content-type", "application/grpc");
    let mut trailers = HeaderMap::new();
    let name = V::NAME;
    match line {
        Ok(line) => {
            trailers.insert("grpc-status", "0".parse().unwrap());
            transcript.lock().unwrap().extend(line.map(|line| format!("{name}: {line}")));
        }
        Err(error) => {
            // As tonic says it.
            trailers.insert("grpc-status", "13".parse().unwrap());
            let text = error.to_string().replace(' ', "%20");
            trailers.insert("grpc-message", text.parse().unwrap());
            transcript.lock().unwrap().push(format!("{name}: cannot read it"));
        }
    }
    let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) else { return };
    let _ = stream.send_data(Bytes::from_static(&[0; 5]), false);
    let _ = stream.send_trailers(trailers);
}

/// The registrations, and what else was told. A report that was waiting for a controller and the
/// registration with it may arrive in either order.
fn sorted(transcript: &Transcript) -> (Vec<String>, Vec<String>) {
    let lines = transcript.lock().unwrap().clone();
    let (mut nodes, told): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.contains(": node "));
    // A connection that breaks makes the agent register once more.
    nodes.dedup();
    (nodes, told)
}

async fn until_registered(transcript: &Transcript, times: usize) {
    eventually("it is registered", || sorted(transcript).0.len() == times).await;
}

#[tokio::test]
async fn reports_reach_whichever_version_the_controller_has_by_then() {
    let mut home = Home::new();
    home.machine = "node-a".to_owned();
    let address = loopback(port_to_keep());
    let transcript = Transcript::default();
    let url = format!("http://{address}");
    let start = |job: &str, pipeline: &str, generation, slots| {
        let mut request = home.request(job, slots, &[]);
        request.pipeline_id = pipeline.to_owned();
        request.generation = generation;
        request
    };

    let old = Controller::<Old>::start(address, &transcript);
    let agent = home.run(&url, &["--dialect", "auto"]).await;
    until_registered(&transcript, 1).await;
    let ends_early = agent.start(start("ends-early", "", 1, 1)).await;
    let ends_between = agent.start(start("ends-between", "", 2, 2)).await;
    let ends_late = agent.start(start("ends-late", "", 3, 3)).await;
    agent.stop_by_force(ends_early).await;
    agent.until_reported(ends_early).await;

    drop(old);
    agent.stop_by_force(ends_between).await;
    agent.until_exited(ends_between).await;

    let new = Controller::<New>::start(address, &transcript);
    agent.until_reported(ends_between).await;
    until_registered(&transcript, 2).await;
    let modern = agent.start(start("modern", "pipe", 4, 4)).await;
    let modern_too = agent.start(start("modern-too", "pipe", 5, 1)).await;
    agent.stop_by_force(ends_late).await;
    agent.until_reported(ends_late).await;
    agent.stop_by_force(modern).await;
    agent.until_reported(modern).await;

    drop(new);
    let old = Controller::<Old>::start(address, &transcript);
    agent.stop_by_force(modern_too).await;
    agent.until_reported(modern_too).await;
    until_registered(&transcript, 3).await;
    drop(old);
    drop(agent);

    let (nodes, told) = sorted(&transcript);
    let node = |version: &str| format!("{version}: node node-a with 16");
    assert_eq!(nodes, [node("0.15"), node("0.16"), node("0.15")]);
    let page = std::fs::read_to_string("docs/migrating.md").unwrap();
    assert!(page.contains(&told.join("\n")), "docs/migrating.md tells it otherwise");
    assert_eq!(
        told,
        [
            "0.15: job ends-early run 1 freed 1",
            "0.16: cannot read it",
            "0.16: job ends-between generation 2 pipeline \"\" freed 2",
            "0.16: cannot read it",
            "0.16: job ends-late generation 3 pipeline \"\" freed 3",
            "0.16: job modern generation 4 pipeline \"pipe\" freed 4",
            "0.15: cannot read it",
            "0.15: job modern-too run 5 freed 1",
        ]
    );
}
