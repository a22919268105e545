//! A newer generation of a job takes the place of the older ones.

use arroyo_node::rpc::wire::StartWorkerReq;

use crate::{Bench, support::calls::signal};

#[tokio::test]
async fn a_newer_generation_takes_the_slots_of_the_older_at_once() {
    let bench = Bench::with(|builder| builder.task_slots(4)).await;
    let stubborn = [
        ("WORKER_IGNORE_SIGTERM", "1"),
        ("WORKER_CHILDREN", "setsid"),
        ("WORKER_CHILDREN_IGNORE_SIGTERM", "1"),
    ];
    let older = [
        bench.agent.start(bench.home.request("job", 3, &stubborn)).await,
        bench.agent.start(bench.home.request("job", 1, &stubborn)).await,
    ];
    for id in older {
        bench.home.until_ready(id).await;
    }
    assert_eq!(bench.agent.status().await.free_slots, 0);

    let newer = StartWorkerReq { generation: 2, ..bench.home.request("job", 4, &[]) };
    let newer = bench.agent.start(newer).await;
    assert!(!older.contains(&newer));
    for (id, slots) in older.into_iter().zip([3, 1]) {
        assert_eq!(bench.home.mark.count_of(id), 0, "it is gone before the newer one runs");
        assert_eq!(bench.agent.until_reported(id).await.exit, signal(9));
        assert_eq!(bench.recorder.report_of(id).await.slots, slots);
    }
    assert!(bench.agent.worker(newer).await.running);
    assert_eq!(bench.agent.status().await.free_slots, 0);
}

#[tokio::test]
async fn a_newer_generation_leaves_other_jobs_alone() {
    let bench = Bench::with(|builder| builder.task_slots(4)).await;
    let other = bench.agent.start(bench.home.request("other", 2, &[])).await;
    let older = bench.agent.start(bench.home.request("job", 2, &[])).await;
    let newer = StartWorkerReq { generation: 2, ..bench.home.request("job", 3, &[]) };
    let status = bench.agent.refusal(newer.clone()).await;
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(status.message().contains("free 2 of 4"), "{status}");
    assert!(bench.agent.worker(older).await.running, "what is refused ends nothing");

    bench.agent.start(StartWorkerReq { slots: 2, ..newer }).await;
    assert!(bench.agent.worker(other).await.running);
    assert!(!bench.agent.worker(older).await.running);
}

#[tokio::test]
async fn workers_of_one_generation_live_side_by_side() {
    let bench = Bench::new().await;
    let request = StartWorkerReq { generation: 5, ..bench.home.request("job", 2, &[]) };
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.agent.start(request.clone()).await);
    }
    for id in &ids {
        bench.home.until_ready(*id).await;
        assert!(bench.agent.worker(*id).await.running);
        assert_eq!(bench.home.mark.count_of(*id), 1);
    }
    assert_eq!(bench.agent.status().await.free_slots, 10);
}

#[tokio::test]
async fn a_start_that_is_asked_for_again_takes_the_slots_of_the_first_one() {
    let bench = Bench::with(|builder| builder.task_slots(4)).await;
    let first = bench.agent.start(bench.home.request("job", 4, &[])).await;
    bench.home.until_ready(first).await;
    // Whoever names the attempt would get the first one's answer; another name is another attempt.
    let named =
        StartWorkerReq { request_id: "another".into(), ..bench.home.request("job", 4, &[]) };
    assert_eq!(bench.agent.refusal(named).await.code(), tonic::Code::ResourceExhausted);

    let again = bench.agent.start(bench.home.request("job", 4, &[])).await;
    assert_eq!(bench.home.mark.count_of(first), 0, "it is gone before the other one runs");
    assert_eq!(bench.agent.until_reported(first).await.exit, signal(9));
    assert!(bench.agent.worker(again).await.running);
}
