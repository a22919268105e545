//! A worker that ends by itself: how, and when the controller hears of it.

use std::time::Duration;

use arroyo_node::rpc::wire::{
    FinishedWorker, StartWorkerReq, WorkerContext, WorkerFinishedReq, WorkerInfo,
    node_grpc_client::NodeGrpcClient,
};
use tonic::transport::Endpoint;

use crate::{
    Bench,
    support::{
        calls::{code, signal},
        eventually,
    },
};

#[tokio::test]
async fn an_exit_code_is_kept() {
    let bench = Bench::new().await;
    for (job, exits, with) in [("zero", "0s", 0), ("three", "0s:3", 3), ("most", "0s:255", 255)] {
        let request = bench.home.request(job, 1, &[("WORKER_EXIT_AFTER", exits)]);
        let id = bench.agent.start(request).await;
        let worker = bench.agent.until_reported(id).await;
        assert_eq!(worker.exit, code(with), "{worker:?}");
        assert!(!worker.running && worker.ended_at >= worker.started_at, "{worker:?}");
    }
}

#[tokio::test]
async fn a_death_by_signal_is_kept() {
    let bench = Bench::new().await;
    for (job, dies, by) in [("segv", "0s:SEGV", 11), ("abrt", "0s:ABRT", 6), ("kill", "0s", 9)] {
        let request = bench.home.request(job, 1, &[("WORKER_DIE_AFTER", dies)]);
        let id = bench.agent.start(request).await;
        assert_eq!(bench.agent.until_reported(id).await.exit, signal(by));
    }
}

#[tokio::test]
async fn an_end_is_reported_in_the_dialect_of_its_start() {
    let bench = Bench::new().await;
    let old = StartWorkerReq { generation: 4, ..bench.home.request("old", 3, &[]) };
    let new = StartWorkerReq {
        generation: 5,
        pipeline_id: "pl_1".to_owned(),
        ..bench.home.request("new", 2, &[])
    };
    let (old, new) = (bench.agent.start(old).await, bench.agent.start(new).await);
    for id in [old, new] {
        bench.agent.stop_by_force(id).await;
    }
    let info = WorkerInfo {
        worker_id: old,
        job_id: "old".to_owned(),
        run_id: 4,
        machine_id: bench.home.machine.clone(),
    };
    let expected =
        WorkerFinishedReq { worker: Some(FinishedWorker::Info(info)), time: 0, slots: 3 };
    assert_eq!(bench.recorder.report_of(old).await, expected);

    let context = WorkerContext {
        machine_id: bench.home.machine.clone(),
        worker_id: new,
        job_id: "new".to_owned(),
        generation: 5,
        pipeline_id: "pl_1".to_owned(),
    };
    let time = bench.agent.worker(new).await.ended_at;
    let expected =
        WorkerFinishedReq { worker: Some(FinishedWorker::Context(context)), time, slots: 2 };
    assert_eq!(bench.recorder.report_of(new).await, expected);
}

#[tokio::test]
async fn what_a_worker_leaves_behind_ends_with_it_and_only_then_is_it_reported() {
    let bench = Bench::new().await;
    let deserter = [
        ("WORKER_EXIT_AFTER", "300ms:4"),
        ("WORKER_CHILDREN", "group,setsid,double-fork,daemon"),
        ("WORKER_CHILDREN_IGNORE_SIGTERM", "1"),
    ];
    let id = bench.agent.start(bench.home.request("job", 2, &deserter)).await;
    bench.recorder.report_of(id).await;
    assert_eq!(bench.home.mark.count_of(id), 0);
    assert!(bench.home.output(id).contains("child setsid pid"), "they were there");
    assert_eq!(bench.agent.until_reported(id).await.exit, code(4));
}

#[tokio::test]
async fn a_worker_that_ends_at_once_was_started_all_the_same() {
    let bench = Bench::new().await;
    let brief = [("WORKER_EXIT_AFTER", "0s:1")];
    let starts = (0..20).map(|n| {
        let request = bench.home.request(&format!("job-{n}"), 1 + n % 2, &brief);
        async { (request.slots, bench.agent.start(request).await) }
    });
    let mut started = Vec::new();
    for start in starts {
        started.push(start.await);
    }
    for (slots, id) in started {
        assert_eq!(bench.recorder.report_of(id).await.slots, slots);
        assert_eq!(bench.agent.until_reported(id).await.exit, code(1));
    }
    assert_eq!(bench.agent.status().await.free_slots, 16);
}

#[tokio::test]
async fn an_end_is_reported_after_the_answer_that_named_the_worker() {
    let bench = Bench::new().await;
    // A caller who takes the headers of an answer and nothing of its body: it cannot leave.
    let endpoint = Endpoint::from_shared(format!("http://{}", bench.home.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(0).connect().await.unwrap();
    let request = bench.home.request("job", 1, &[("WORKER_EXIT_AFTER", "0s")]);
    let call =
        tokio::spawn(async move { NodeGrpcClient::new(channel).start_worker(request).await });

    let view = bench.agent.until_view("the worker has ended", |view| view.reports_owed == 1).await;
    let id = view.workers.iter().next().unwrap().id.0;
    // It would have been reported by now: heartbeats go over the same connection.
    let heartbeats = bench.recorder.record().heartbeats.len();
    bench
        .recorder
        .until("more heartbeats", |record| record.heartbeats.len() > heartbeats + 2)
        .await;
    assert_eq!(bench.recorder.record().reports.len(), 0);
    assert!(!call.is_finished());

    call.abort();
    bench.recorder.report_of(id).await;
}

#[tokio::test]
async fn a_report_that_is_not_acknowledged_is_sent_again_and_heartbeats_go_on() {
    let deadline = Duration::from_millis(300);
    let bench = Bench::with(|builder| {
        builder.calls(arroyo_node::rpc::client::CallSettings { deadline, ..Default::default() })
    })
    .await;
    bench.recorder.hold_reports(true);
    let id = bench.agent.start(bench.home.request("job", 3, &[])).await;
    let stop = tokio::spawn({
        let agent = (*bench.agent).clone();
        async move { agent.stop_by_force(id).await }
    });
    let record = bench.recorder.until("repeats", |record| record.reports_of(id).len() >= 3).await;
    assert!(record.reports.iter().all(|report| report.slots == 3), "{record:?}");
    let heartbeats = record.heartbeats.len();
    bench.recorder.until("heartbeats", |record| record.heartbeats.len() > heartbeats + 2).await;

    bench.recorder.hold_reports(false);
    bench.agent.until_reported(id).await;
    stop.await.unwrap();
    let acknowledged = bench.recorder.record();
    let heartbeats = acknowledged.heartbeats.len();
    bench.recorder.until("heartbeats", |record| record.heartbeats.len() > heartbeats + 2).await;
    assert_eq!(bench.agent.now().reports_owed, 0);
    let again = bench.recorder.record().reports.len();
    // One that was on its way when the acknowledgement came may still have arrived.
    assert!(again <= acknowledged.reports.len() + 1, "{again} {acknowledged:?}");
    eventually("nothing is left", || bench.home.mark.workers().is_empty()).await;
}
