//! A controller on a real socket that knows HTTP/2 and nothing of this project.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arroyo_node::{
    ids::MachineId,
    machine::{Heartbeat, Mono, Now, Wall},
    rpc::client::{CallSettings, ControllerClient, Notification},
};
use bytes::Bytes;
use h2::server::{SendResponse, handshake};
use http::{HeaderMap, Response};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tonic::transport::Endpoint;

/// How long anything is waited for that must happen: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Deadlines that no working call comes near.
pub(crate) const GENEROUS: CallSettings = CallSettings {
    deadline: Duration::from_secs(1_000),
    connect_deadline: Duration::from_secs(1_000),
    keepalive: (Duration::from_secs(1_000), Duration::from_secs(1_000)),
};

/// Waits for what must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A heartbeat that is sent at this time.
pub(crate) fn heartbeat(wall: Wall) -> Heartbeat {
    Heartbeat { sent: Now { mono: Mono(0), wall }, probe: false }
}

/// A client of the controller at this address, and how many connections it has made.
pub(crate) fn client(
    address: SocketAddr,
    settings: CallSettings,
) -> (ControllerClient, Arc<AtomicUsize>) {
    let (client, made, _) = told_client(address, settings);
    (client, made)
}

/// The same, and what it tells besides.
pub(crate) fn told_client(
    address: SocketAddr,
    settings: CallSettings,
) -> (ControllerClient, Arc<AtomicUsize>, mpsc::UnboundedReceiver<Notification>) {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let connector = tower::service_fn(move |_| {
        let count = count.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(TokioIo::new(socket))
        }
    });
    let (sender, told) = mpsc::unbounded_channel();
    let notify = move |notification| {
        // The test may not listen.
        let _ = sender.send(notification);
    };
    let machine = MachineId::from("node-a");
    (ControllerClient::new(machine, endpoint, settings, connector, notify), made, told)
}

/// Dropping it closes the port and every connection.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    sockets: mpsc::UnboundedReceiver<TcpStream>,
    frozen: watch::Sender<u32>,
    serving: JoinHandle<()>,
}

impl Controller {
    pub(crate) async fn start() -> Self {
        Self::bind("127.0.0.1:0".parse().expect("an address")).await
    }

    pub(crate) async fn bind(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, calls) = mpsc::unbounded_channel();
        let (socket_sender, sockets) = mpsc::unbounded_channel();
        let (frozen, freezes) = watch::channel(0);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                let (socket, second) = duplicate(socket);
                // The test may have seen enough.
                let _ = socket_sender.send(second);
                connections.spawn(serve(socket, sender.clone(), freezes.clone()));
            }
        });
        Self { address, calls, sockets, frozen, serving }
    }

    /// The next call.
    pub(crate) async fn called(&mut self) -> Call {
        soon("a call", self.calls.recv()).await.expect("it is serving")
    }

    /// From now on nothing is read from or written to the connections that there are.
    pub(crate) fn freeze_connections(&self) {
        self.frozen.send_modify(|times| *times += 1);
    }

    /// Waits until the client closes its oldest connection, which must be frozen.
    pub(crate) async fn left(&mut self) {
        let mut socket = soon("a connection", self.sockets.recv()).await.expect("it is serving");
        let mut said = Vec::new();
        soon("its end", socket.read_to_end(&mut said)).await.expect("closed in order");
    }

    /// Closes the port and every connection.
    pub(crate) async fn stop(self) {
        self.serving.abort();
        let serving = self.serving;
        assert!(serving.await.is_err(), "it served until now");
    }
}

/// A second handle on the same socket.
fn duplicate(socket: TcpStream) -> (TcpStream, TcpStream) {
    let first = socket.into_std().expect("a socket");
    let second = first.try_clone().expect("room for a descriptor");
    (TcpStream::from_std(first).expect("a socket"), TcpStream::from_std(second).expect("a socket"))
}

async fn serve(
    socket: TcpStream,
    calls: mpsc::UnboundedSender<Call>,
    mut frozen: watch::Receiver<u32>,
) {
    frozen.mark_unchanged();
    let mut connection = handshake(socket).await.expect("HTTP/2");
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Ok(()) = frozen.changed() => pending().await,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let calls = calls.clone();
        tokio::spawn(async move {
            let method = request.uri().path().to_owned();
            let mut stream = request.into_body();
            let mut body = Vec::new();
            while let Some(Ok(data)) = stream.data().await {
                body.extend(data);
            }
            // The test may have seen enough.
            let _ = calls.send(Call { method, body, respond });
        });
    }
}

/// One call. It hangs until it is answered.
pub(crate) struct Call {
    method: String,
    body: Vec<u8>,
    respond: SendResponse<Bytes>,
}

impl Call {
    pub(crate) fn method(&self) -> &str {
        self.method.strip_prefix("/arroyo_rpc.ControllerGrpc/").expect("a method of ControllerGrpc")
    }

    /// The message's bytes.
    pub(crate) fn message(&self) -> &[u8] {
        let (head, message) = self.body.split_at(5);
        assert_eq!(head[0], 0, "not compressed");
        assert_eq!(u32::from_be_bytes(head[1..].try_into().expect("four")), message.len() as u32);
        message
    }

    /// Waits until the caller cancels it.
    pub(crate) async fn cancelled(mut self) {
        let reset = std::future::poll_fn(|context| self.respond.poll_reset(context));
        soon("a cancellation", reset).await.expect("the connection is there");
    }

    /// Answers with an empty message.
    pub(crate) fn acknowledge(mut self) {
        let mut stream = self.respond.send_response(head(200), false).expect("it waits");
        stream.send_data(Bytes::from_static(&[0; 5]), false).expect("it waits");
        let trailers = [("grpc-status".parse().expect("a name"), "0".parse().expect("a value"))];
        stream.send_trailers(HeaderMap::from_iter(trailers)).expect("it waits");
    }

    /// Answers with a status.
    pub(crate) fn refuse(mut self, code: i32, text: &str) {
        let mut head = head(200);
        let headers = head.headers_mut();
        headers.insert("grpc-status", code.into());
        headers.insert("grpc-message", text.parse().expect("a value"));
        self.respond.send_response(head, true).expect("it waits");
    }

    /// Answers as a server that is no controller.
    pub(crate) fn refuse_as_web_server(mut self, status: u16) {
        self.respond.send_response(head(status), true).expect("it waits");
    }
}

fn head(status: u16) -> Response<()> {
    let head = Response::builder().status(status).header("content-type", "application/grpc");
    head.body(()).expect("a response")
}
