//! Stock holds one lock over connect and StartWorker, without a deadline, and the calls of all nodes
//! wait behind it. So a node must not wait for a call to the controller before it answers, and
//! must outlast calls that do not come back.

use std::{net::TcpListener, time::Duration};

use arroyo_node::{
    controller::{JobSpec, Snapshot, Stop},
    ids::MachineId,
    machine::Dialect,
    rpc::{
        client::CallSettings,
        wire::{RegisterNodeReq, controller_grpc_client::ControllerGrpcClient},
    },
};

use super::support::{
    agent::Home,
    controller::{Reference, job, only_worker_of, runs},
    processes::crash,
    soon,
};

/// A node whose connections the kernel takes, and nobody answers.
struct Hole {
    listener: TcpListener,
    name: MachineId,
}

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
impl Hole {
    /// Returns once the controller waits for it, and so does who waits for the controller's lock.
    async fn hold_lock(controller: &Reference) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = MachineId::from("hole");
        let registration = RegisterNodeReq {
            machine_id: name.to_string(),
            task_slots: 1_000,
            addr: listener.local_addr().unwrap().to_string(),
        };
        let mut client = ControllerGrpcClient::connect(controller.url()).await.unwrap();
        soon("RegisterNode", client.register_node(registration)).await.unwrap();
        let large = JobSpec::new("large", 500);
        controller.controller.submit(large).unwrap();
        let hangs = |books: &Snapshot| !books.nodes[&name].reserved.is_empty();
        controller.until("a start that hangs", hangs).await;
        Self { listener, name }
    }

    /// The start fails, and the lock is free. Nobody is to be sent there again.
    fn let_go(self, controller: &Reference) {
        controller.controller.forget_node(&self.name);
        drop(self.listener);
        controller.controller.stop(&"large".into(), Stop::Force).unwrap();
    }
}

#[tokio::test]
async fn while_the_controller_waits_for_another_node_this_one_carries_on() {
    let home = Home::new();
    let controller = Reference::start_patient().await;
    let short = Duration::from_secs(1);
    let calls =
        CallSettings { deadline: short, connect_deadline: short, keepalive: (short, short) };
    let agent = home.start(&controller.url(), |builder| builder.calls(calls)).await;
    controller.controller.submit(job(&home, "first", 2, Dialect::V0_15)).unwrap();
    let books = controller.until("the job runs", |books| runs(books, "first", 1)).await;
    let first = only_worker_of(&books, "first");

    let hole = Hole::hold_lock(&controller).await;

    agent.until_view("no call comes back", |view| !view.registered).await;
    crash(&agent.worker(first).await);
    agent.until_exited(first).await;
    let meanwhile = agent.start(home.request("meanwhile", 1, &[])).await;
    let before = agent.worker(meanwhile).await;
    assert!(before.running);
    let books = controller.controller.snapshot();
    assert_eq!(books.counters.finished, 0, "the report waits behind the lock");
    assert!(!agent.now().registered);

    hole.let_go(&controller);
    let books = controller.until("the report", |books| books.counters.finished > 0).await;
    assert_eq!(books.violations, []);
    agent.until_view("registered, nothing owed", |v| v.registered && v.reports_owed == 0).await;
    assert_eq!(agent.worker(meanwhile).await, before, "untouched");
    controller.until("the job runs anew", |books| runs(books, "first", 2)).await;
}

/// A job that has waited for the lock forgets, once it has it, the nodes that have not been heard for long.
/// This one called again and again, and would always be behind that job.
#[tokio::test]
async fn a_node_that_called_in_time_is_not_forgotten_by_the_next_job() {
    const EXPIRY: Duration = Duration::from_secs(2);
    let home = Home::new();
    let controller = Reference::start_forgetful(EXPIRY).await;
    let short = Duration::from_millis(500);
    let calls =
        CallSettings { deadline: short, connect_deadline: short, keepalive: (short, short) };
    let agent = home.start(&controller.url(), |builder| builder.calls(calls)).await;
    agent.until_view("registered", |view| view.registered).await;

    let hole = Hole::hold_lock(&controller).await;
    agent.until_view("a call was given up", |view| !view.registered).await;
    tokio::time::sleep(EXPIRY).await;
    controller.controller.submit(job(&home, "next", 1, Dialect::V0_15)).unwrap();
    // Until that waits, too.
    tokio::time::sleep(short).await;
    hole.let_go(&controller);
    let books = controller.until("the job runs", |books| runs(books, "next", 1)).await;
    assert_eq!(books.counters.expired, 0);
}
