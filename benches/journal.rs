//! How long a commit takes.

use std::{hint::black_box, sync::Arc};

use arroyo_node::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::{Commit, Dialect, Process, Record, Wall, Worker, WorkerSpec},
    runtime::journal::{BlockingJournal as _, Checkpoints, SqliteJournal},
};
use criterion::{Criterion, criterion_group, criterion_main};

fn worker(number: u64) -> Arc<Worker> {
    Arc::new(Worker {
        id: WorkerId((number % 200).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        spec: Arc::new(WorkerSpec {
            name: "wordcount".to_owned(),
            job: JobId::from("job_4Vyf8Xg2nR"),
            pipeline: Some(PipelineId::from("pl_9sKq0bWm3T")),
            generation: Generation(number),
            slots: 4.try_into().expect("not zero"),
            dialect: Dialect::V0_16,
            key: None,
        }),
        admitted_at: Wall(1_763_974_440_000_000 + number),
        process: Some(Process { pid: 4711, start_time: 123_456 }),
        stop: None,
        abandoned_at: None,
        end: None,
        reported_at: None,
    })
}

fn commits(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory for temporary files");
    let path = dir.path().join("journal.sqlite");
    let (mut journal, ..) = SqliteJournal::open(&path, "boot", Wall(0), Checkpoints::Thread);
    let mut number = 0;
    for records in [1_u64, 16] {
        let name = format!("commit of {records} among 200 workers");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let worker = |offset| Record::Worker(worker(number + offset));
                let commit = Commit { rewrite: false, records: (0..records).map(worker).collect() };
                number += records;
                journal.commit(black_box(&commit)).expect("there is room on the disk");
            });
        });
    }
}

criterion_group!(benches, commits);
criterion_main!(benches);
