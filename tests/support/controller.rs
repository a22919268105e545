//! Controllers for agents to talk to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arroyo_node::{
    controller::{Controller, JobSpec, JobState, Settings, Snapshot, TcpConnector},
    ids::{Generation, JobId},
    machine::Dialect,
    rpc::wire::{
        FinishedWorker, HeartbeatNodeReq, HeartbeatNodeResp, RegisterNodeReq, RegisterNodeResp,
        WorkerFinishedReq, WorkerFinishedResp,
        controller_grpc_server::{ControllerGrpc, ControllerGrpcServer},
    },
    runtime::{
        clock::SystemClock,
        tls::{H2, Incoming, ServerTls},
    },
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tonic::{Request, Response, Status, transport::Server};

use super::{
    agent::Home,
    loopback, port_to_keep,
    processes::{MARK, Mark},
    soon,
    threads::Vanishing,
};

/// What a [`Recorder`] was told, in order.
#[derive(Clone, Default, Debug)]
pub struct Record {
    pub registrations: Vec<RegisterNodeReq>,
    pub heartbeats: Vec<HeartbeatNodeReq>,
    /// Every WorkerFinished that came in, acknowledged or not.
    pub reports: Vec<WorkerFinishedReq>,
}

impl Record {
    /// The reports of this worker's end.
    pub fn reports_of(&self, worker: u64) -> Vec<&WorkerFinishedReq> {
        self.reports.iter().filter(|report| worker_of(report) == worker).collect()
    }
}

/// Whose end it is.
pub fn worker_of(report: &WorkerFinishedReq) -> u64 {
    match report.worker.as_ref().expect("a report names its worker") {
        FinishedWorker::Info(info) => info.worker_id,
        FinishedWorker::Context(context) => context.worker_id,
    }
}

#[derive(Clone)]
struct Desk {
    record: Arc<watch::Sender<Record>>,
    /// While this is so, reports are taken in and not answered.
    holding: watch::Receiver<bool>,
    /// Whether it knows the node: until then heartbeats are answered NOT_FOUND.
    knows: Arc<AtomicBool>,
}

/// A controller that writes down what it is told. Dropped, it is gone as if it had been killed.
pub struct Recorder {
    pub address: SocketAddr,
    record: watch::Receiver<Record>,
    hold: watch::Sender<bool>,
    knows: Arc<AtomicBool>,
    _server: Vanishing<()>,
}

impl Recorder {
    /// On a port that is nobody else's once it is gone: its agent goes on calling there.
    pub async fn start() -> Self {
        Self::start_at(loopback(port_to_keep())).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        Self::start_over(address, None).await
    }

    /// Over TLS, or not.
    pub async fn start_over(address: SocketAddr, tls: Option<ServerTls>) -> Self {
        Self::start_knowing(true, address, tls).await
    }

    /// One that knows no node until it registers, like one that has just been started.
    pub async fn start_forgetful_at(address: SocketAddr) -> Self {
        Self::start_knowing(false, address, None).await
    }

    async fn start_knowing(knows: bool, address: SocketAddr, tls: Option<ServerTls>) -> Self {
        let (sender, record) = watch::channel(Record::default());
        let (hold, holding) = watch::channel(false);
        let knows = Arc::new(AtomicBool::new(knows));
        let desk = Desk { record: Arc::new(sender), holding, knows: knows.clone() };
        let (bound, told) = oneshot::channel();
        let server = Vanishing::run(move || async move {
            let listener = TcpListener::bind(address).await.expect("the port is free");
            let _ = bound.send(listener.local_addr().expect("an address"));
            let server = Server::builder().add_service(ControllerGrpcServer::new(desk));
            let tls = tls.map(|tls| Arc::new(tls.load(&[H2]).expect("good certificates")));
            let incoming = Incoming::new(listener, tls).expect("an address");
            server.serve_with_incoming(incoming).await.expect("it serves");
        });
        let address = soon("the recorder's start", told).await.expect("the recorder starts");
        Self { address, record, hold, knows, _server: server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has been told by now.
    pub fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Waits until it has been told as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Record) -> bool) -> Record {
        let mut record = self.record.clone();
        let seen = soon(what, record.wait_for(|record| wanted(record))).await;
        seen.expect("the recorder goes on").clone()
    }

    /// Waits for the one report of this worker's end.
    pub async fn report_of(&self, worker: u64) -> WorkerFinishedReq {
        let record = self.until("a report", |record| !record.reports_of(worker).is_empty()).await;
        let reports = record.reports_of(worker);
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports[0].clone()
    }

    /// Forgets the node, until it registers again. No connection is closed for that.
    pub fn forget(&self) {
        self.knows.store(false, Ordering::SeqCst);
    }

    /// From now on, whether reports are taken in without an answer.
    pub fn hold_reports(&self, hold: bool) {
        self.hold.send_replace(hold);
    }
}

#[tonic::async_trait]
impl ControllerGrpc for Desk {
    async fn register_node(
        &self,
        request: Request<RegisterNodeReq>,
    ) -> Result<Response<RegisterNodeResp>, Status> {
        self.knows.store(true, Ordering::SeqCst);
        self.record.send_modify(|record| record.registrations.push(request.into_inner()));
        Ok(Response::new(RegisterNodeResp {}))
    }

    async fn heartbeat_node(
        &self,
        request: Request<HeartbeatNodeReq>,
    ) -> Result<Response<HeartbeatNodeResp>, Status> {
        self.record.send_modify(|record| record.heartbeats.push(request.into_inner()));
        match self.knows.load(Ordering::SeqCst) {
            true => Ok(Response::new(HeartbeatNodeResp {})),
            false => Err(Status::not_found("this node has not registered")),
        }
    }

    async fn worker_finished(
        &self,
        request: Request<WorkerFinishedReq>,
    ) -> Result<Response<WorkerFinishedResp>, Status> {
        self.record.send_modify(|record| record.reports.push(request.into_inner()));
        let mut holding = self.holding.clone();
        let released = holding.wait_for(|holding| !holding).await;
        released.map_err(|_| Status::unavailable("the recorder is going"))?;
        Ok(Response::new(WorkerFinishedResp {}))
    }
}

/// The reference controller, quick to notice. Its jobs live on the current runtime.
pub struct Reference {
    pub address: SocketAddr,
    pub controller: Controller,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Reference {
    /// On a port that it can come back to.
    pub async fn start() -> Self {
        Self::start_at(loopback(port_to_keep())).await
    }

    /// One that remembers nothing.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, |_| ()).await
    }

    /// One that never loses patience: no node expires, no job is given up, however slow the test.
    pub async fn start_patient() -> Self {
        Self::start_forgetful(Duration::from_secs(3_600)).await
    }

    /// One for which nodes expire after so long, and that gives up no job.
    pub async fn start_forgetful(expire_after: Duration) -> Self {
        let change = |settings: &mut Settings| {
            settings.expire_after = expire_after;
            settings.quirks.give_up = false;
        };
        Self::start_with(loopback(port_to_keep()), change).await
    }

    async fn start_with(address: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            poll_every: Duration::from_millis(50),
            retry_pause: Duration::from_millis(50),
            notice_after: Duration::from_millis(50),
            ..Settings::default()
        };
        change(&mut settings);
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("an address");
        let controller = Controller::new(settings, Arc::new(SystemClock), Arc::new(TcpConnector));
        let server = tokio::spawn(controller.serve_tcp(listener, std::future::pending()));
        Self { address, controller, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Is killed. Afterwards its port is free.
    pub async fn die(self) -> SocketAddr {
        drop(self.controller);
        let _ = soon("the controller's end", self.server).await;
        self.address
    }

    /// Waits until the books are as wanted.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl FnMut(&arroyo_node::controller::Snapshot) -> bool,
    ) -> arroyo_node::controller::Snapshot {
        soon(what, self.controller.until(wanted)).await
    }
}

/// A job for a [`Reference`], whose workers have this mark.
pub fn job(home: &Home, name: &str, slots: u64, dialect: Dialect) -> JobSpec {
    marked_job(&home.mark, name, slots, dialect)
}

fn marked_job(mark: &Mark, name: &str, slots: u64, dialect: Dialect) -> JobSpec {
    let mut spec = JobSpec::new(name, slots);
    spec.dialect = dialect;
    let env = [(MARK, mark.value()), ("WORKER_PRINT_EVERY", "never")];
    spec.env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    spec
}

/// Whether the job runs in this generation.
pub fn runs(books: &Snapshot, name: &str, generation: u64) -> bool {
    let job = books.jobs.get(&JobId::from(name));
    job.is_some_and(|job| {
        job.state == JobState::Running && job.generation == Generation(generation)
    })
}

/// The job's only worker.
pub fn only_worker_of(books: &Snapshot, name: &str) -> u64 {
    let workers = &books.jobs[&JobId::from(name)].workers;
    assert_eq!(workers.len(), 1);
    workers.first().expect("one").0
}
