//! Two hundred workers at a time.

use std::collections::BTreeSet;

use arroyo_node::rpc::wire::{StopWorkerStatus, WorkerState};
use futures_util::future::join_all;

use crate::{Bench, support::calls::code};

const MANY: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_starts_at_once_and_two_hundred_stops() {
    let bench = Bench::with(|builder| builder.task_slots(MANY * 2)).await;
    let requests = (0..MANY).map(|n| bench.home.request(&format!("job-{n}"), 1 + n % 3, &[]));
    let slots: u64 = (0..MANY).map(|n| 1 + n % 3).sum();
    let ids = join_all(requests.map(|request| bench.agent.start(request))).await;
    let distinct: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), ids.len(), "every worker has an id of its own");

    for id in &ids {
        bench.home.until_ready(*id).await;
    }
    let listed = bench.agent.workers().await;
    assert!(listed.iter().all(|worker| worker.state() == WorkerState::Running), "{listed:?}");
    assert_eq!(listed.iter().map(|worker| worker.worker_id).collect::<BTreeSet<_>>(), distinct);
    let pids: BTreeSet<_> = listed.iter().map(|worker| (worker.pid, worker.worker_id)).collect();
    let alive = bench.home.mark.workers();
    let really: BTreeSet<_> =
        alive.iter().map(|one| (one.process.pid, one.worker.unwrap())).collect();
    assert_eq!(pids, really);
    assert_eq!(bench.agent.status().await.free_slots, MANY * 2 - slots);

    let answers = join_all(ids.iter().map(|id| bench.agent.stop_gently(*id))).await;
    assert!(answers.iter().all(|answer| *answer == StopWorkerStatus::Stopped), "{answers:?}");
    let listed = bench.agent.workers().await;
    assert!(listed.iter().all(|worker| worker.reported && worker.exit == code(0)), "{listed:?}");
    assert_eq!(bench.home.mark.workers(), []);

    let record = bench.recorder.record();
    assert_eq!(record.reports.len(), ids.len(), "one report each");
    assert_eq!(record.reports.iter().map(|report| report.slots).sum::<u64>(), slots);
    let status = bench.agent.status().await;
    assert_eq!((status.free_slots, status.live_workers, status.reports_owed), (MANY * 2, 0, 0));
}
