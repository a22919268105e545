//! What the tests share: a directory, workers to write, and every row a worker can have.

mod checkpoints;
mod crash;
mod damage;
mod disk;
mod round_trip;
mod versions;

use std::{
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use proptest::{option, prelude::*};
use rusqlite::Connection;

use super::{BlockingJournal, Checkpoints, MemoryJournal, SqliteJournal};
use crate::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::{
        Commit, Dialect, End, Exit, Mono, Process, Record, Recovered, StartKey, Stop, Wall, Worker,
        WorkerSpec,
    },
    runtime::Notice,
};

const BOOT: &str = "11111111-2222-4333-8444-555555555555";
const OTHER_BOOT: &str = "99999999-8888-4777-8666-555555555555";
const NOW: Wall = Wall(1_763_974_440_000_000);
/// What [`NOW`] makes of a name.
const ASIDE: &str = "journal.sqlite.20251124T085400Z";

/// A directory that goes when the test ends, in memory where there is such a thing.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self(tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn journal(&self) -> PathBuf {
        self.path("journal.sqlite")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A journal's database, log or both, as they lie there now.
    fn copy_from(&self, journal: &Path) {
        for suffix in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            let _ = fs::remove_file(name(&self.journal()));
            if name(journal).exists() {
                fs::copy(name(journal), name(&self.journal())).unwrap();
            }
        }
    }
}

fn open(path: &Path) -> (SqliteJournal, Recovered, Vec<Notice>) {
    SqliteJournal::open(path, BOOT, NOW, Checkpoints::Manual)
}

/// Opens a journal that must be in order, and reads it.
fn reopen(path: &Path) -> Recovered {
    let (_journal, recovered, notices) = open(path);
    assert_eq!(notices, []);
    recovered
}

/// The file as an operator's `sqlite3` sees it.
fn sqlite(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

fn log_length(journal: &Path) -> u64 {
    fs::metadata(format!("{}-wal", journal.display())).map_or(0, |log| log.len())
}

fn worker(id: u64) -> Worker {
    Worker {
        id: WorkerId(id),
        spec: WorkerSpec {
            name: "wordcount".to_owned(),
            job: JobId::from("job_1"),
            pipeline: Some(PipelineId::from("pl_1")),
            generation: Generation(3),
            slots: NonZeroU64::MIN,
            dialect: Dialect::V0_16,
            key: None,
        }
        .into(),
        admitted_at: NOW,
        process: Some(Process { pid: 4711, start_time: 123_456 }),
        stop: None,
        abandoned_at: None,
        end: None,
        reported_at: None,
    }
}

fn ended(id: u64) -> Worker {
    Worker { end: Some(End { exit: Exit::Code(1), at: NOW, sequence: 5 }), ..worker(id) }
}

fn writes<const N: usize>(workers: [Worker; N]) -> Commit {
    let records = workers.map(|worker| Record::Worker(worker.into())).into();
    Commit { rewrite: false, records }
}

fn rewrites<const N: usize>(workers: [Worker; N]) -> Commit {
    Commit { rewrite: true, ..writes(workers) }
}

fn ids(recovered: &Recovered) -> Vec<u64> {
    recovered.workers.iter().map(|worker| worker.id.0).collect()
}

/// Any text, with what SQL, C and UTF-8 stumble over made likely.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[0-9]{0,25}", Just("a\0b".to_owned()), Just("'\"%ü".to_owned())]
}

/// Any u64, with the edges of what SQLite can hold made likely.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(i64::MAX as u64),
        Just(i64::MAX as u64 + 1),
        Just(u64::MAX)
    ]
}

fn any_exit() -> impl Strategy<Value = Exit> {
    let any_status = || prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX)];
    prop_oneof![
        any_status().prop_map(Exit::Code),
        any_status().prop_map(Exit::Signal),
        Just(Exit::OomKilled),
        Just(Exit::Lost),
        Just(Exit::Unknown),
    ]
}

prop_compose! {
    fn any_spec()(
        name in any_text(),
        job in any_text(),
        pipeline in option::of(any_text()),
        generation in any_number(),
        slots in any_number(),
        dialect in prop_oneof![Just(Dialect::V0_15), Just(Dialect::V0_16)],
        key in option::of(any_text()),
    ) -> WorkerSpec {
        WorkerSpec {
            name,
            job: JobId::from(job),
            pipeline: pipeline.map(PipelineId::from),
            generation: Generation(generation),
            slots: NonZeroU64::new(slots).unwrap_or(NonZeroU64::MIN),
            dialect,
            key: key.map(|key| StartKey(key.into())),
        }
    }
}

prop_compose! {
    /// Few ids, so that rows are written again and forgotten.
    fn any_worker()(
        id in prop_oneof![0_u64..6, Just(u64::MAX)],
        spec in any_spec(),
        admitted_at in any_number(),
        process in option::of((any::<u32>(), any_number())),
        stop in option::of(option::of(any_number())),
        abandoned_at in option::of(any_number()),
        end in option::of((any_exit(), any_number(), any_number())),
        reported_at in option::of(any_number()),
    ) -> Worker {
        Worker {
            id: WorkerId(id),
            spec: spec.into(),
            admitted_at: Wall(admitted_at),
            process: process.map(|(pid, start_time)| Process { pid, start_time }),
            stop: stop.map(|kill_at| Stop { kill_at: kill_at.map(Mono) }),
            abandoned_at: abandoned_at.map(Mono),
            end: end.map(|(exit, at, sequence)| End { exit, at: Wall(at), sequence }),
            // Nobody is reported who has not ended.
            reported_at: end.and(reported_at).map(Wall),
        }
    }
}

prop_compose! {
    fn any_commit()(
        rewrite in prop::bool::weighted(0.1),
        records in prop::collection::vec(
            prop_oneof![
                3 => any_worker().prop_map(|worker| Record::Worker(worker.into())),
                1 => (0_u64..6).prop_map(|id| Record::Forget(WorkerId(id))),
                1 => any::<bool>().prop_map(Record::Draining),
                1 => any_number().prop_map(|at| Record::KnownAt(Mono(at))),
            ],
            0..5,
        ),
    ) -> Commit {
        Commit { rewrite, records }
    }
}

/// The states that a journal goes through, from the empty one on.
fn states(commits: &[Commit]) -> Vec<Recovered> {
    let mut memory = MemoryJournal::default();
    let mut states = vec![memory.recovered()];
    for commit in commits {
        memory.commit(commit).unwrap();
        states.push(memory.recovered());
    }
    states
}
