//! Files that earlier versions of the agent left, and what this one keeps beyond them.

use std::os::unix::fs::PermissionsExt;

use rusqlite::{params_from_iter, types::Value};

use super::*;

const FILE_OF_V1: &str = "PRAGMA journal_mode = WAL; PRAGMA application_id = 1634889327; \
                          PRAGMA user_version = 1";

const WRITE_V1: &str = "INSERT INTO worker VALUES \
                        (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

/// The columns of a row of version 1, without the checksum, as its agents wrote them.
type RowV1 = [Value; 18];

/// The workers that [`rows_v1`] says.
fn workers_v1() -> Vec<Worker> {
    let ended = |exit, at| Some(End { exit, at: Wall(at), sequence: 0 });
    let bare = WorkerSpec {
        name: String::new(),
        job: JobId::from("j"),
        pipeline: None,
        generation: Generation(u64::MAX),
        slots: NonZeroU64::new(2).expect("two"),
        dialect: Dialect::V0_15,
        key: Some(StartKey("attempt".into())),
    };
    let bare = Worker { spec: bare.into(), process: None, ..worker(2) };
    let stop = Some(Stop { kill_at: Some(Mono(7_000)) });
    let owed = ended(Exit::Signal(9), 8);
    vec![
        worker(1),
        bare,
        Worker { stop, ..worker(3) },
        Worker { stop: Some(Stop { kill_at: None }), end: owed, ..worker(4) },
        Worker {
            end: ended(Exit::Code(-1), u64::MAX),
            reported_at: Some(Wall(9)),
            ..worker(u64::MAX)
        },
    ]
}

fn rows_v1(boot: &str) -> Vec<RowV1> {
    use Value::{Integer, Null};
    let row = |id: u64, rest: [Value; 6]| -> RowV1 {
        let [stopping, kill_at, exit, exit_value, ended_at, reported_at] = rest;
        [
            text(id),
            text("wordcount"),
            text("job_1"),
            text("pl_1"),
            Integer(3),
            Integer(1),
            text("0.16"),
            Null,
            Integer(1_763_974_440_000_000),
            Integer(4_711),
            Integer(123_456),
            text(boot),
            stopping,
            kill_at,
            exit,
            exit_value,
            ended_at,
            reported_at,
        ]
    };
    let mut bare = row(2, [Integer(0), Null, Null, Null, Null, Null]);
    (bare[1], bare[2], bare[3]) = (text(""), text("j"), Null);
    (bare[4], bare[5]) = (text(u64::MAX), Integer(2));
    (bare[6], bare[7]) = (text("0.15"), text("attempt"));
    (bare[9], bare[10]) = (Null, Null);
    vec![
        row(1, [Integer(0), Null, Null, Null, Null, Null]),
        bare,
        row(3, [Integer(1), Integer(7_000), Null, Null, Null, Null]),
        row(4, [Integer(1), Null, text("signal"), Integer(9), Integer(8), Null]),
        row(u64::MAX, [Integer(0), Null, text("code"), Integer(-1), text(u64::MAX), Integer(9)]),
    ]
}

/// The checksum of version 1: FNV-1a over the values with their types and lengths.
fn checksum_v1(values: &RowV1) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for value in values {
        match value {
            Value::Null => add(b"n"),
            Value::Integer(integer) => {
                add(b"i");
                add(&integer.to_le_bytes());
            }
            Value::Text(text) => {
                add(b"t");
                add(&(text.len() as u64).to_le_bytes());
                add(text.as_bytes());
            }
            Value::Real(_) | Value::Blob(_) => panic!("version 1 never wrote {value:?}"),
        }
    }
    hash.cast_signed()
}

/// A journal as an agent of version 1 left it: draining, with these rows.
fn write_v1(path: &Path, rows: &[RowV1]) {
    let file = sqlite(path);
    file.execute_batch(FILE_OF_V1).unwrap();
    file.execute_batch(include_str!("../schema_v1.sql")).unwrap();
    file.execute("INSERT INTO node VALUES ('draining', 'yes')", ()).unwrap();
    for row in rows {
        let values = row.iter().cloned().chain([Value::Integer(checksum_v1(row))]);
        file.execute(WRITE_V1, params_from_iter(values)).unwrap();
    }
}

fn version(path: &Path) -> i64 {
    sqlite(path).query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap()
}

#[test]
fn the_checksum_of_version_1_is_that_of_its_agents() {
    // What the agent of version 1 wrote of the first worker.
    assert_eq!(checksum_v1(&rows_v1(BOOT)[0]), 1_559_831_331_183_340_906);
}

#[test]
fn a_file_of_version_1_is_brought_to_this_one_with_all_its_rows() {
    let dir = Dir::new();
    write_v1(&dir.journal(), &rows_v1(BOOT));
    let recovered = reopen(&dir.journal());
    assert_eq!(recovered.workers, workers_v1());
    assert!(recovered.draining);
    assert_eq!((recovered.known_at, recovered.lost), (None, [].into()));
    assert_eq!(version(&dir.journal()), 2);
    assert_eq!(reopen(&dir.journal()).workers, workers_v1(), "and stays readable");

    // What is written from now on has all there is.
    let (mut journal, ..) = open(&dir.journal());
    let abandoned = Worker { abandoned_at: Some(Mono(5)), ..worker(1) };
    journal.commit(&writes([abandoned.clone()])).unwrap();
    drop(journal);
    let recovered = reopen(&dir.journal());
    assert_eq!(recovered.workers[0], abandoned);
    assert_eq!(recovered.workers[1..], workers_v1()[1..]);
}

#[test]
fn workers_of_a_file_of_version_1_and_of_another_boot_are_lost() {
    let dir = Dir::new();
    write_v1(&dir.journal(), &rows_v1(OTHER_BOOT));
    let recovered = reopen(&dir.journal());
    assert_eq!(recovered.lost, [1, 2, 3].map(WorkerId).into());
    assert_eq!(recovered.workers.len(), 5);
}

#[test]
fn a_damaged_row_of_version_1_is_rejected_with_all_its_columns() {
    let dir = Dir::new();
    write_v1(&dir.journal(), &rows_v1(BOOT));
    sqlite(&dir.journal())
        .execute_batch("UPDATE worker SET slots = 4 WHERE worker_id = '3'")
        .unwrap();
    let (_journal, recovered, notices) = open(&dir.journal());
    assert_eq!((ids(&recovered), notices.len()), (vec![1, 2, 4, u64::MAX], 1));
    let kept: (i64, i64) = sqlite(&dir.journal())
        .query_row("SELECT slots, abandoned_at IS NULL FROM rejected", (), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(kept, (4, 1));
}

#[test]
fn a_file_of_version_1_that_cannot_be_written_to_is_read_all_the_same() {
    let dir = Dir::new();
    write_v1(&dir.journal(), &rows_v1(BOOT));
    let read_only = sqlite(&dir.journal());
    read_only.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    drop(read_only);
    let mut notices = Vec::new();
    fs::set_permissions(dir.journal(), PermissionsExt::from_mode(0o400)).unwrap();
    let before = fs::read(dir.journal()).unwrap();
    let rows = super::super::read::salvage(&dir.journal(), BOOT, &mut notices).expect("readable");
    assert_eq!(notices, []);
    assert_eq!(rows.recovered.workers, workers_v1());
    assert!(rows.recovered.draining);
    assert_eq!(fs::read(dir.journal()).unwrap(), before, "and stays as it is");
    assert_eq!(version(&dir.journal()), 1);
}

#[test]
fn when_a_worker_was_abandoned_and_in_which_order_workers_ended_is_kept() {
    let dir = Dir::new();
    let end = |sequence| Some(End { exit: Exit::Code(0), at: NOW, sequence });
    let workers = [
        Worker { abandoned_at: Some(Mono(0)), ..worker(1) },
        Worker { abandoned_at: Some(Mono(u64::MAX)), ..worker(2) },
        Worker { abandoned_at: Some(Mono(8)), end: end(2), ..worker(3) },
        Worker { end: end(1), ..worker(4) },
        Worker { end: end(0), ..worker(5) },
        Worker { end: end(u64::MAX), ..worker(6) },
    ];
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes(workers.clone())).unwrap();
    drop(journal);
    assert_eq!(reopen(&dir.journal()).workers, workers);
}

#[test]
fn a_value_that_moved_to_another_of_the_new_columns_is_not_believed() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1), ended(2)])).unwrap();
    drop(journal);
    sqlite(&dir.journal())
        .execute_batch(
            "UPDATE worker SET abandoned_at = end_sequence, end_sequence = NULL
             WHERE worker_id = '2'",
        )
        .unwrap();
    let (_journal, recovered, notices) = open(&dir.journal());
    assert_eq!((ids(&recovered), notices.len()), (vec![1], 1));
}

#[test]
fn an_operator_sees_who_is_abandoned_and_owed_reports_in_order() {
    let dir = Dir::new();
    let end = |sequence| Some(End { exit: Exit::Code(0), at: NOW, sequence });
    let (mut journal, ..) = open(&dir.journal());
    journal
        .commit(&writes([
            Worker { abandoned_at: Some(Mono(7)), ..worker(1) },
            worker(2),
            // Who has ended is abandoned no more.
            Worker { abandoned_at: Some(Mono(7)), end: end(3), ..worker(3) },
            Worker { end: end(1), ..worker(4) },
            Worker { end: end(0), ..worker(5) },
            Worker { end: end(2), reported_at: Some(NOW), ..worker(6) },
        ]))
        .unwrap();
    let column = |query: &str| -> Vec<String> {
        let file = sqlite(&dir.journal());
        let mut statement = file.prepare(query).unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(column("SELECT worker_id FROM worker_status WHERE abandoned"), ["1"]);
    assert_eq!(column("SELECT worker_id FROM owed_report"), ["5", "4", "3"]);
}

#[test]
fn when_the_controller_last_knew_this_node_is_kept_for_this_boot() {
    let known_at = |at| Commit { rewrite: false, records: vec![Record::KnownAt(Mono(at))] };
    for at in [0, 7, u64::MAX] {
        let dir = Dir::new();
        let (mut journal, ..) = open(&dir.journal());
        journal.commit(&known_at(3)).unwrap();
        journal.commit(&known_at(at)).unwrap();
        drop(journal);
        assert_eq!(reopen(&dir.journal()).known_at, Some(Mono(at)));

        let other = SqliteJournal::open(&dir.journal(), OTHER_BOOT, NOW, Checkpoints::Manual);
        assert_eq!((other.1.known_at, other.2), (None, vec![]), "that clock began anew");
    }
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&known_at(3)).unwrap();
    journal.commit(&rewrites([])).unwrap();
    drop(journal);
    assert_eq!(reopen(&dir.journal()).known_at, None, "a rewrite says it all");
}

#[test]
fn a_time_that_makes_no_sense_is_not_believed() {
    for value in ["'soon'", "'7'", "7", "NULL", "'-1 boot'", "'18446744073709551616 boot'", "''"] {
        let dir = Dir::new();
        let (mut journal, ..) = open(&dir.journal());
        journal.commit(&writes([worker(1)])).unwrap();
        drop(journal);
        sqlite(&dir.journal())
            .execute_batch(&format!("INSERT INTO node VALUES ('known_at', {value})"))
            .unwrap();
        let (_journal, recovered, notices) = open(&dir.journal());
        assert_eq!((recovered.known_at, ids(&recovered)), (None, vec![1]), "{value}");
        let [Notice(text)] = &notices[..] else { panic!("{value}: {notices:?}") };
        assert!(text.contains("known_at"), "{text}");
    }
}
