//! What the journal remembers is gone, and its pids are others' now.
//!
//! Rows carry a checksum, so they are not altered with SQL but written anew by the library.

use std::{
    fs,
    process::{Child, Command},
    sync::Arc,
};

use arroyo_node::{
    machine::{Commit, Exit, Process, Record, Wall, Worker},
    rpc::wire::{StopWorkerStatus, WorkerExit, worker_exit::How},
    runtime::{
        journal::{BlockingJournal as _, Checkpoints, SqliteJournal},
        process::send_signal,
        state_dir::boot_id,
    },
};
use nix::libc::SIGKILL;

use crate::{
    Bench,
    support::{
        calls::unknown,
        eventually,
        processes::{identify, is_alive},
    },
};

/// A process that has nothing to do with any worker.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn process(&self) -> Process {
        identify(self.0.id()).unwrap()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes the journal anew, as if it had been written under this boot and with these changes.
fn rewrite(bench: &Bench, boot: &str, change: impl Fn(&mut Worker)) {
    let path = bench.home.state_dir().join("journal.sqlite");
    let (journal, recovered, notices) =
        SqliteJournal::open(&path, &boot_id().unwrap(), Wall(1), Checkpoints::Manual);
    assert_eq!(notices, []);
    assert_eq!(recovered.workers.len(), 3);
    drop(journal);
    for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = fs::remove_file(path.with_file_name(name));
    }
    let (mut journal, _, _) = SqliteJournal::open(&path, boot, Wall(1), Checkpoints::Manual);
    let records = recovered.workers.into_iter().map(|mut worker| {
        change(&mut worker);
        Record::Worker(Arc::new(worker))
    });
    journal.commit(&Commit { rewrite: true, records: records.collect() }).unwrap();
}

#[tokio::test]
async fn a_stranger_with_the_pid_of_a_worker_survives_its_forced_stop() {
    let mut bench = Bench::new().await;
    bench.kill_agent().await;
    bench.kill_shim().await;
    let worker = bench.workers[1].clone();
    let process = identify(worker.pid).unwrap();
    assert!(send_signal(process, SIGKILL).unwrap());
    eventually("the worker is dead", || !is_alive(process)).await;
    let mut stranger = Stranger::start();
    let Process { pid, start_time } = stranger.process();
    rewrite(&bench, &boot_id().unwrap(), |row| {
        if row.id.0 == worker.worker_id {
            row.process = Some(Process { pid, start_time: start_time - 1 });
        }
    });

    bench.run().await;
    let id = worker.worker_id;
    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.recorder.report_of(id).await.slots, worker.slots);
    assert_eq!(bench.agent.until_reported(id).await.exit, unknown());
    assert!(stranger.lives());
    for other in [&bench.workers[0], &bench.workers[2]] {
        assert_eq!(bench.agent.worker(other.worker_id).await, *other);
        bench.agent.stop_by_force(other.worker_id).await;
        assert_eq!(bench.recorder.report_of(other.worker_id).await.slots, other.slots);
    }
    assert!(stranger.lives());
}

#[tokio::test]
async fn after_a_reboot_every_worker_is_lost_and_its_pid_is_a_strangers() {
    let mut bench = Bench::new().await;
    bench.kill_agent().await;
    bench.kill_shim().await;
    // The processes run on, as those would to whom the pids have been given since.
    let strangers: Vec<_> =
        bench.workers.iter().map(|worker| identify(worker.pid).unwrap()).collect();
    rewrite(&bench, "00000000-0000-4000-8000-000000000000", |_| {});

    bench.run().await;
    let lost = Some(WorkerExit { how: Some(How::Lost(())) });
    for worker in &bench.workers {
        let id = worker.worker_id;
        assert_eq!(bench.recorder.report_of(id).await.slots, worker.slots);
        assert_eq!(bench.agent.until_reported(id).await.exit, lost, "{}", Exit::Lost);
        assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    }
    assert_eq!(bench.agent.status().await.free_slots, 16);
    assert!(strangers.iter().all(|stranger| is_alive(*stranger)));
}
