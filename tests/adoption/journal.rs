//! The journal is all there is, or is not there at all.

use std::fs;

use crate::{
    Bench,
    support::{calls::code, program::Program},
};

#[tokio::test]
async fn without_their_shim_workers_are_known_by_the_journal() {
    let mut bench = Bench::new().await;
    bench.kill_agent().await;
    bench.kill_shim().await;
    bench.run().await;
    bench.assert_adopted().await;
    bench.stop_all(code(0)).await;
}

#[tokio::test]
async fn a_shim_that_dies_alone_takes_nobody_along() {
    let bench = Bench::new().await;
    bench.kill_shim().await;
    let late = bench.agent.start(bench.home.request("late", 4, &[])).await;
    bench.home.until_ready(late).await;
    bench.agent.stop_by_force(late).await;
    assert_eq!(bench.agent.until_reported(late).await.exit, code(0));
    assert_eq!(bench.recorder.report_of(late).await.slots, 4);
    bench.stop_all(code(0)).await;
}

/// All that SQLite may have made of it.
fn delete_journal(bench: &Bench) {
    for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = fs::remove_file(bench.home.state_dir().join(name));
    }
    assert!(!bench.home.state_dir().join("journal.sqlite").exists());
}

#[tokio::test]
async fn without_a_journal_workers_are_known_by_the_shim() {
    let mut bench = Bench::new().await;
    bench.kill_agent().await;
    delete_journal(&bench);
    bench.run().await;
    bench.assert_adopted().await;
    let notices = bench.agent.status().await.notices;
    for worker in &bench.workers {
        let id = worker.worker_id.to_string();
        assert!(notices.iter().any(|notice| notice.contains(&id)), "{notices:?}");
    }
    bench.stop_all(code(0)).await;
}

#[tokio::test]
async fn a_journal_of_garbage_is_set_aside_and_workers_are_known_by_the_shim() {
    let mut bench = Bench::new().await;
    bench.kill_agent().await;
    delete_journal(&bench);
    let journal = bench.home.state_dir().join("journal.sqlite");
    let garbage = b"not a database, and longer than the header of one would be".repeat(100);
    fs::write(&journal, &garbage).unwrap();
    bench.run().await;
    bench.assert_adopted().await;

    let address = bench.agent.address.to_string();
    let mut status = Program::run(&bench.home.mark, &["status", "--addr", &address], &[]);
    assert!(status.end().await.success());
    status.line_with("set aside as").await;
    let files = fs::read_dir(bench.home.state_dir()).unwrap();
    let kept = files.map(|file| file.unwrap().path()).any(|path| {
        path != journal && path.is_file() && fs::read(path).is_ok_and(|bytes| bytes == garbage)
    });
    assert!(kept, "what was set aside is kept as it was");
    bench.stop_all(code(0)).await;
}
