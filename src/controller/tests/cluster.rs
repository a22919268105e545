//! One controller on a real socket, with a clock that can be pushed forward.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tonic::transport::Channel;

use super::fake_node::FakeNode;
use crate::{
    controller::{Controller, JobSpec, JobState, Settings, Snapshot, TcpConnector},
    ids::JobId,
    machine::{Mono, Now, Wall},
    rpc::wire::{RegisterNodeReq, controller_grpc_client::ControllerGrpcClient},
    runtime::ports::Clock,
};

/// Waits for something that must happen, for longer than any machine needs.
pub(super) async fn within<T>(wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wanted).await.expect("it happens within 30 s")
}

/// Settings without the long waits.
pub(super) fn quick() -> Settings {
    Settings {
        poll_every: Duration::from_millis(20),
        retry_pause: Duration::from_millis(20),
        notice_after: Duration::ZERO,
        ..Settings::default()
    }
}

pub(super) struct TestClock {
    start: Instant,
    pushed: AtomicU64,
}

impl TestClock {
    pub(super) fn push(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("a short time");
        self.pushed.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let pushed = Duration::from_nanos(self.pushed.load(Ordering::SeqCst));
        Now { mono: Mono::default() + self.start.elapsed() + pushed, wall: Wall(1) }
    }

    fn sleep_until(&self, deadline: Mono) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(deadline.since(self.now().mono)))
    }
}

pub(super) struct Cluster {
    pub(super) controller: Controller,
    pub(super) address: String,
    pub(super) clock: Arc<TestClock>,
    pub(super) serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Cluster {
    pub(super) async fn new(settings: Settings) -> Self {
        Self::on("127.0.0.1:0", settings).await
    }

    pub(super) async fn on(address: &str, settings: Settings) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let clock = Arc::new(TestClock { start: Instant::now(), pushed: AtomicU64::new(0) });
        let controller = Controller::new(settings, clock.clone(), Arc::new(TcpConnector));
        let serving = tokio::spawn(controller.serve_tcp(listener, std::future::pending()));
        Self { controller, address, clock, serving }
    }

    /// A connection of a node's to the controller.
    pub(super) async fn client(&self) -> ControllerGrpcClient<Channel> {
        let connected = ControllerGrpcClient::connect(format!("http://{}", self.address));
        within(connected).await.expect("the controller listens")
    }

    /// A fake node, registered.
    pub(super) async fn node(&self, name: &str, slots: u64) -> FakeNode {
        let node = FakeNode::new(name, self.client().await).await;
        let request = RegisterNodeReq {
            machine_id: name.to_owned(),
            task_slots: slots,
            addr: node.address.clone(),
        };
        node.client().register_node(request).await.expect("a node is let in");
        node
    }

    pub(super) fn submit(&self, job: &str, slots: u64) {
        self.controller.submit(JobSpec::new(job, slots)).expect("the job is taken");
    }

    pub(super) async fn until(&self, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        within(self.controller.until(wanted)).await
    }

    /// Waits until a job is in this state.
    pub(super) async fn until_state(&self, job: &str, state: JobState) -> Snapshot {
        let id = JobId::from(job);
        self.until(|books| books.state(&id) == Some(&state)).await
    }
}
