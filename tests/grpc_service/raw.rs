//! A caller who speaks HTTP/2 and knows nothing of this project: golden bytes in, headers, bytes and
//! trailers out.

use std::{net::SocketAddr, pin::Pin, task::Poll};

use arroyo_node::{
    ids::WorkerId,
    machine::{Ask, Reply, StartError},
};
use bytes::Bytes;
use h2::{
    RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use tokio::{net::TcpStream, sync::mpsc};

use crate::node::{Node, soon};

const START: &str = "0a07696d70756c7365120e6a6f625f626e5a62636b7933375730023a2430663362396331652d3\
                     76135352d346331642d396435632d3266346630613866316531314007522a0a164152524f594f5\
                     f5f434845434b504f494e545f55524c121066696c653a2f2f2f7372762f636b707452130a0a434\
                     c55535445525f49441205636c755f315a07706c5f39586b51";
const STARTED: &str = "08c5ffffffffffffffff01";

/// One HTTP/2 connection.
pub(crate) struct RawClient {
    requests: SendRequest<Bytes>,
    windows: mpsc::UnboundedSender<u32>,
    connection: tokio::task::JoinHandle<()>,
}

impl RawClient {
    /// Connects; the peer may send this many bytes of a response's body.
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Self {
        let socket = soon("a connection", TcpStream::connect(address)).await.expect("reachable");
        let mut builder = Builder::new();
        builder.initial_window_size(window);
        let (requests, mut connection) =
            soon("a handshake", builder.handshake(socket)).await.expect("HTTP/2");
        let (windows, mut sizes) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            let driven = std::future::poll_fn(|cx| {
                while let Poll::Ready(Some(size)) = sizes.poll_recv(cx) {
                    connection.set_initial_window_size(size).expect("acknowledged before");
                }
                Pin::new(&mut connection).poll(cx)
            });
            // How a connection ends is the server's business.
            let _ = driven.await;
        });
        Self { requests, windows, connection }
    }

    /// Lets the peer send this many bytes of each response's body.
    pub(crate) fn open_window(&self, size: u32) {
        self.windows.send(size).expect("the connection is driven");
    }

    /// Closes the socket without a word.
    pub(crate) async fn vanish(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }

    /// Calls a method of NodeGrpc with this body.
    pub(crate) async fn post(
        &self,
        method: &str,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> ResponseFuture {
        let mut request = Request::post(format!("http://node/arroyo_rpc.NodeGrpc/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        request.headers_mut().extend(headers.clone());
        let mut requests =
            soon("room for a stream", self.requests.clone().ready()).await.expect("connected");
        let (response, mut stream) = requests.send_request(request, false).expect("sent");
        stream.send_data(body.into(), true).expect("sent");
        response
    }

    /// Calls StartWorker with the golden bytes.
    pub(crate) async fn start_worker(&self) -> ResponseFuture {
        self.post("StartWorker", &HeaderMap::new(), framed(&from_hex(START))).await
    }
}

/// A gRPC message: not compressed, its length, its bytes.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &length[..], message].concat()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// What came back: body and trailers (of a response without a body: its headers).
struct Told {
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Told {
    async fn read(response: ResponseFuture) -> Self {
        let (head, body) = soon("headers", response).await.expect("a response").into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-type"], "application/grpc");
        assert_eq!(head.headers.get("grpc-encoding"), None, "nothing is compressed");
        let (body, trailers) = soon("the body", read_body(body)).await;
        Self { body, trailers: trailers.unwrap_or(head.headers) }
    }

    fn status(&self) -> &str {
        self.trailers["grpc-status"].to_str().expect("a number")
    }
}

pub(crate) async fn read_body(mut stream: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.expect("a whole body");
        stream.flow_control().release_capacity(data.len()).expect("what was taken");
        body.extend(data);
    }
    (body, stream.trailers().await.expect("a whole response"))
}

#[tokio::test]
async fn golden_bytes_start_a_worker() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 65_535).await;
    let response = client.start_worker().await;
    let ask = node.answer(Reply::Started(Ok(WorkerId(18_446_744_073_709_551_557)))).await;
    let Ask::Start(start) = ask else { panic!("not a start: {ask:?}") };
    assert_eq!(start.job.as_str(), "job_bnZbcky37W");
    assert_eq!(start.env["ARROYO__CHECKPOINT_URL"], "file:///srv/ckpt");

    let told = Told::read(response).await;
    assert_eq!((told.body.as_slice(), told.status()), (&*framed(&from_hex(STARTED)), "0"));
}

#[tokio::test]
async fn a_refusal_is_a_status_without_a_body() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 65_535).await;
    let response = client.start_worker().await;
    node.answer(Reply::Started(Err(StartError::Draining))).await;
    let told = Told::read(response).await;
    assert_eq!((told.body.as_slice(), told.status()), (&[][..], "14"));
    let text = told.trailers["grpc-message"].to_str().expect("text");
    assert!(text.contains("draining"), "{text}");
}

#[tokio::test]
async fn what_is_no_request_gets_a_status_and_never_reaches_the_machine() {
    let mut node = Node::start().await;
    let client = RawClient::connect(node.address, 65_535).await;
    let (garbage, compressed) = (framed(&[0xff; 9]), [&[1], &framed(&[])[1..]].concat());
    let oversize = framed(&vec![0; 4 * 1_024 * 1_024 + 1])[..5].to_vec();
    for (method, body, status) in [
        ("StartWorker", garbage, "13"),
        ("StartWorker", compressed, "13"),
        ("StartWorker", framed(&[])[..3].to_vec(), "13"),
        ("StartWorker", oversize, "11"),
        ("MakeCoffee", framed(&[]), "12"),
    ] {
        let told = Told::read(client.post(method, &HeaderMap::new(), body).await).await;
        assert_eq!(told.status(), status, "{method}: {:?}", told.trailers);
    }
    assert_eq!(node.inbox.take(), None);
}
