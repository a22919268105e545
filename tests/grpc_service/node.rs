//! The served API and the driver's end of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arroyo_node::{
    ids::{MachineId, RequestId},
    machine::{Ask, Event, Mode, Reply, View, Wall, Workers},
    mailbox::{Inbox, Mailbox, mailbox},
    rpc::{
        admin_wire::node_admin_client::NodeAdminClient,
        convert::{DialectPolicy, StopReply},
        serve,
        service::{About, NodeService},
        wire::{StartWorkerReq, node_grpc_client::NodeGrpcClient},
    },
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint};

/// How long anything is waited for that must happen: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A served API. The rest of the agent is the test.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) mailbox: Mailbox,
    pub(crate) inbox: Inbox,
    pub(crate) view: watch::Sender<Arc<View>>,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::replying(StopReply::default()).await
    }

    /// With this setting of how forced stops that are done are answered.
    pub(crate) async fn replying(stop_reply: StopReply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (mailbox, inbox) = mailbox();
        let (view, latest) = watch::channel(Arc::new(empty_view()));
        let about = About {
            version: "1.2.3".into(),
            controller: "http://controller:5116".into(),
            facts: Vec::new(),
            notices: vec!["the journal was set aside".into()],
        };
        let service = NodeService {
            mailbox: mailbox.clone(),
            view: latest,
            dialect: DialectPolicy::PerWorker,
            stop_reply,
            about: Arc::new(about),
        };
        let (shutdown, ending) = oneshot::channel::<()>();
        let ending = async { ending.await.unwrap_or_default() };
        let serving = tokio::spawn(serve(service, TcpListenerStream::new(listener), ending));
        Self { address, mailbox, inbox, view, shutdown, serving }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("a URI");
        soon("a connection", endpoint.connect()).await.expect("a connection")
    }

    pub(crate) async fn client(&self) -> NodeGrpcClient<Channel> {
        NodeGrpcClient::new(self.channel().await)
    }

    pub(crate) async fn admin(&self) -> NodeAdminClient<Channel> {
        NodeAdminClient::new(self.channel().await)
    }

    /// The next question. Receipts of answers to earlier ones are passed over.
    pub(crate) async fn asked(&mut self) -> (RequestId, Ask) {
        soon("a question", async {
            loop {
                match self.inbox.next().await {
                    Event::Request { request, ask } => return (request, ask),
                    Event::Delivered(_) => {}
                    other => panic!("unexpected: {other:?}"),
                }
            }
        })
        .await
    }

    /// Answers the next question, and says what it was.
    pub(crate) async fn answer(&mut self, reply: Reply) -> Ask {
        let (request, ask) = self.asked().await;
        self.inbox.answer(request, reply);
        ask
    }

    /// Waits until the machine hears that the answer to this request has left.
    pub(crate) async fn delivered(&mut self, request: RequestId) {
        assert_eq!(
            soon("the receipt", self.inbox.next()).await,
            Event::Delivered(request),
            "the next event"
        );
    }

    /// Begins the end of serving; the returned task is over when serving is.
    pub(crate) fn shut_down(self) -> (Inbox, JoinHandle<Result<(), tonic::transport::Error>>) {
        self.shutdown.send(()).expect("it is serving");
        (self.inbox, self.serving)
    }
}

pub(crate) fn empty_view() -> View {
    View {
        machine: MachineId::from("node-a"),
        task_slots: 16,
        free_slots: 16,
        mode: Mode::Serving,
        registered: false,
        last_contact: None,
        workers: Workers::default(),
        live_workers: 0,
        abandoned_workers: 0,
        reports_owed: 0,
        journal_error: None,
        program_error: None,
        started_at: Wall(1_000),
    }
}

pub(crate) fn start_request() -> StartWorkerReq {
    StartWorkerReq {
        name: "impulse".into(),
        job_id: "job".into(),
        slots: 2,
        machine_id: "node-a".into(),
        generation: 7,
        ..StartWorkerReq::default()
    }
}
