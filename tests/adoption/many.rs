//! Many workers at once. `ADOPTION_WORKERS=1000` sets how many.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use arroyo_node::rpc::wire::WorkerState;
use futures_util::future::join_all;
use nix::sys::signal::Signal;

use crate::support::{agent::Home, calls::Calls, controller::Recorder, eventually};

const SLOTS: u64 = 10_000;

fn how_many() -> u64 {
    std::env::var("ADOPTION_WORKERS").map_or(300, |many| many.parse().expect("a number"))
}

/// The pids of those that run.
async fn running(calls: &Calls) -> BTreeMap<u64, u32> {
    let listed = calls.workers().await.into_iter();
    let running = listed.filter(|worker| worker.state() == WorkerState::Running);
    running.map(|worker| (worker.worker_id, worker.pid)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_workers_outlive_the_kill_of_their_agent() {
    let many = how_many();
    let home = Home::new();
    let recorder = Recorder::start().await;
    let slots = SLOTS.to_string();
    let more = ["--task-slots", slots.as_str(), "--shutdown-kill-after", "5s"];
    let mut agent = home.run(&recorder.url(), &more).await;
    // A hundred at a time: each start is to be answered in time on a slow machine, too.
    let mut ids = Vec::new();
    for batch in (0..many).collect::<Vec<_>>().chunks(100) {
        let starts = batch.iter().map(|n| {
            let talk = [("WORKER_PRINT_EVERY", "500ms")];
            agent.start(home.request(&format!("job-{n}"), 1 + n % 3, &talk))
        });
        ids.extend(join_all(starts).await);
    }
    for id in &ids {
        home.until_ready(*id).await;
    }
    let before = running(&agent).await;
    assert_eq!(before.len() as u64, many);

    agent.program.kill().await;
    let restarted = Instant::now();
    agent = home.run(&recorder.url(), &more).await;
    let adopted = async {
        while running(&agent).await != before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    crate::support::soon("all are adopted", adopted).await;
    println!("{many} workers adopted {:?} after the start of the agent", restarted.elapsed());

    let length = |id: &u64| fs::metadata(home.output_file(*id)).map_or(0, |file| file.len());
    let written: Vec<u64> = ids.iter().map(length).collect();
    for (id, written) in ids.iter().zip(written) {
        eventually("it goes on writing", || length(id) > written).await;
    }
    let held: u64 = (0..many).map(|n| 1 + n % 3).sum();
    assert_eq!(agent.status().await.free_slots, SLOTS - held);
    assert_eq!(recorder.record().reports, []);

    agent.program.signal(Signal::SIGTERM);
    assert_eq!(agent.program.end().await.code(), Some(0));
    assert_eq!(home.mark.workers(), []);
    let reports = recorder.record().reports;
    assert_eq!(reports.len() as u64, many);
    assert_eq!(reports.iter().map(|report| report.slots).sum::<u64>(), held);
}
