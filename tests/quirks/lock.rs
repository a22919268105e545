//! Stock holds one lock over connect and StartWorker, without a deadline, and the calls of all nodes
//! wait behind it. So a node must not wait for a call to the controller before it answers, and
//! must outlast calls that do not come back.

use std::{net::TcpListener, time::Duration};

use arroyo_node::{
    controller::Stop,
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

    // The kernel takes this node's connections, and nobody answers: the lock is held.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = MachineId::from("hole");
    let registration = RegisterNodeReq {
        machine_id: name.to_string(),
        task_slots: 1_000,
        addr: hole.local_addr().unwrap().to_string(),
    };
    let mut client = ControllerGrpcClient::connect(controller.url()).await.unwrap();
    soon("RegisterNode", client.register_node(registration)).await.unwrap();
    controller.controller.submit(job(&home, "large", 500, Dialect::V0_15)).unwrap();
    controller.until("a start that hangs", |books| !books.nodes[&name].reserved.is_empty()).await;

    agent.until_view("no call comes back", |view| !view.registered).await;
    crash(&agent.worker(first).await);
    agent.until_exited(first).await;
    let meanwhile = agent.start(home.request("meanwhile", 1, &[])).await;
    let before = agent.worker(meanwhile).await;
    assert!(before.running);
    let books = controller.controller.snapshot();
    assert_eq!(books.counters.finished, 0, "the report waits behind the lock");
    assert!(!agent.now().registered);

    // The start fails, and the lock is free. Nobody is to be sent there again.
    controller.controller.forget_node(&name);
    drop(hole);
    controller.controller.stop(&"large".into(), Stop::Force).unwrap();
    let books = controller.until("the report", |books| books.counters.finished > 0).await;
    assert_eq!(books.violations, []);
    agent.until_view("registered, nothing owed", |v| v.registered && v.reports_owed == 0).await;
    assert_eq!(agent.worker(meanwhile).await, before, "untouched");
    controller.until("the job runs anew", |books| runs(books, "first", 2)).await;
}
