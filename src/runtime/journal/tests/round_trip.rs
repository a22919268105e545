//! What is committed is what is read.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_file_holds_what_memory_would(commits in prop::collection::vec(any_commit(), 0..12)) {
        let dir = Dir::new();
        let mut memory = MemoryJournal::default();
        let (mut journal, recovered, notices) = open(&dir.journal());
        prop_assert_eq!(recovered, Recovered::default());
        prop_assert_eq!(notices, []);
        for (number, commit) in commits.iter().enumerate() {
            journal.commit(commit).unwrap();
            memory.commit(commit).unwrap();
            if number == commits.len() / 2 {
                journal.checkpoint().unwrap();
            }
        }
        drop(journal);

        let (_journal, mut recovered, notices) = open(&dir.journal());
        // Everything in here is of this boot.
        prop_assert_eq!(std::mem::take(&mut recovered.lost), [].into());
        prop_assert_eq!(recovered, memory.recovered());
        prop_assert_eq!(notices, []);
    }

    #[test]
    fn people_see_the_phase_that_the_machine_sees(worker in any_worker()) {
        // The view tells the phase from the end; so does the machine, which reports only ends.
        let reported_at = worker.end.and(worker.reported_at);
        let worker = Worker { reported_at, ..worker };
        let dir = Dir::new();
        let (mut journal, ..) = open(&dir.journal());
        journal.commit(&writes([worker.clone()])).unwrap();

        let query = "SELECT worker_id, state, exit, abandoned FROM worker_status";
        let (id, state, exit, abandoned): (String, String, Option<String>, bool) =
            sqlite(&dir.journal())
                .query_row(query, (), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .unwrap();
        prop_assert_eq!(id, worker.id.to_string());
        prop_assert_eq!(state, worker.phase().to_string());
        prop_assert_eq!(exit, worker.end.map(|end| end.exit.to_string()));
        prop_assert_eq!(abandoned, worker.is_abandoned());

        let owed: bool = sqlite(&dir.journal())
            .query_row("SELECT count(*) FROM owed_report", (), |row| row.get(0))
            .unwrap();
        prop_assert_eq!(owed, worker.is_owed());
    }
}

#[test]
fn an_operator_reads_ids_and_times() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([ended(u64::MAX)])).unwrap();
    let line: String = sqlite(&dir.journal())
        .query_row(
            "SELECT concat_ws('|', worker_id, job, state, exit, admitted, ended, reported)
             FROM worker_status WHERE worker_id = '18446744073709551615'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(
        line,
        "18446744073709551615|job_1|exited|code 1|2025-11-24T08:54:00.000Z|2025-11-24T08:54:00.000Z"
    );
}

#[test]
fn a_commit_is_all_or_nothing() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1)])).unwrap();
    // Refuses one of two rows, as a disk does that fills up between them.
    let admin = sqlite(&dir.journal());
    admin
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON worker WHEN new.worker_id = '3'
             BEGIN SELECT raise(ABORT, 'no room for 3'); END",
        )
        .unwrap();
    let error = journal.commit(&rewrites([worker(2), worker(3)])).unwrap_err();
    assert!(error.0.contains("no room for 3"), "{error}");
    assert_eq!(ids(&reopen(&dir.journal())), [1]);

    admin.execute_batch("DROP TRIGGER refuse").unwrap();
    journal.commit(&rewrites([worker(2), worker(3)])).unwrap();
    drop(journal);
    assert_eq!(ids(&reopen(&dir.journal())), [2, 3]);
}

#[test]
fn workers_that_a_reboot_ended_are_lost() {
    let dir = Dir::new();
    let stop = Some(Stop { kill_at: Some(Mono(7)) });
    let stopping = Worker { stop, abandoned_at: Some(Mono(6)), ..worker(2) };
    let (mut journal, ..) = open(&dir.journal());
    journal.commit(&writes([worker(1), stopping.clone(), ended(3)])).unwrap();
    drop(journal);

    let (mut journal, recovered, notices) =
        SqliteJournal::open(&dir.journal(), OTHER_BOOT, NOW, Checkpoints::Manual);
    assert_eq!(notices, []);
    assert_eq!(recovered.lost, [WorkerId(1), WorkerId(2)].into());
    // Those readings of the clock were the other boot's.
    let stop = Some(Stop { kill_at: None });
    let stopping = Worker { stop, abandoned_at: None, ..stopping };
    assert_eq!(recovered.workers, [worker(1), stopping.clone(), ended(3)]);

    // Until its end is written, a lost worker stays lost, whatever else is written of it.
    journal.commit(&rewrites([worker(1), ended(2), ended(3), worker(4)])).unwrap();
    drop(journal);
    let (_, recovered, _) =
        SqliteJournal::open(&dir.journal(), OTHER_BOOT, NOW, Checkpoints::Manual);
    assert_eq!(recovered.lost, [WorkerId(1)].into());
}

#[test]
fn an_empty_commit_needs_no_disk() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.path("missing/journal.sqlite"));
    journal.commit(&Commit::default()).unwrap();
    journal.commit(&writes([worker(1)])).unwrap_err();
}
