//! The agent is killed, or the machine loses power: what is left opens, as it was after a commit.

use super::*;

/// A journal with pages of 512 bytes, so that cutting it at every byte is soon done.
fn with_small_pages(dir: &Dir) -> SqliteJournal {
    sqlite(&dir.journal())
        .execute_batch("PRAGMA page_size = 512; PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
        .unwrap();
    let (journal, _, notices) = open(&dir.journal());
    assert_eq!(notices, []);
    let page: i64 =
        sqlite(&dir.journal()).query_row("PRAGMA page_size", (), |row| row.get(0)).unwrap();
    assert_eq!(page, 512);
    journal
}

fn history() -> Vec<Commit> {
    vec![
        writes([worker(1), worker(2)]),
        Commit { rewrite: false, records: vec![Record::Draining(true)] },
        writes([ended(1), worker(3), worker(4)]),
        Commit { rewrite: false, records: vec![Record::Forget(WorkerId(1))] },
        rewrites([ended(2), worker(5), ended(6), worker(7)]),
        writes([worker(8)]),
    ]
}

#[test]
fn a_killed_agent_loses_no_commit() {
    let dir = Dir::new();
    let after = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    let states = states(&history());
    for (commit, state) in history().iter().zip(&states[1..]) {
        journal.commit(commit).unwrap();
        after.copy_from(&dir.journal());
        assert_eq!(reopen(&after.journal()), *state);
    }
    // And so on for an agent that is killed over and over.
    after.copy_from(&dir.journal());
    let (mut next, ..) = open(&after.journal());
    next.commit(&writes([worker(9)])).unwrap();
    let last = Dir::new();
    last.copy_from(&after.journal());
    assert_eq!(ids(&reopen(&last.journal())), [2, 5, 6, 7, 8, 9]);
}

#[test]
fn a_log_cut_anywhere_ends_after_a_commit() {
    let dir = Dir::new();
    let mut journal = with_small_pages(&dir);
    journal.commit(&history()[0]).unwrap();
    journal.checkpoint().unwrap();
    assert_eq!(log_length(&dir.journal()), 0);
    for commit in &history()[1..] {
        journal.commit(commit).unwrap();
    }
    let states = states(&history());
    let after = Dir::new();
    let mut seen = Vec::new();
    for length in 0..=log_length(&dir.journal()) {
        after.copy_from(&dir.journal());
        let log = fs::File::options().write(true).open(after.path("journal.sqlite-wal")).unwrap();
        log.set_len(length).unwrap();
        let recovered = reopen(&after.journal());
        let state = states.iter().position(|state| *state == recovered);
        seen.push(state.unwrap_or_else(|| panic!("cut at {length}: {recovered:?}")));
    }
    // The longer the log, the later the state; and each of them occurs.
    assert!(seen.is_sorted());
    seen.dedup();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn an_agent_killed_while_it_makes_its_journal_makes_it_next_time() {
    // The log begins with the journal's own making here.
    let dir = Dir::new();
    let maker = sqlite(&dir.journal());
    maker
        .execute_batch(
            "PRAGMA page_size = 512; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
             PRAGMA wal_autocheckpoint = 0; BEGIN",
        )
        .unwrap();
    maker.execute_batch(include_str!("../schema_v1.sql")).unwrap();
    maker
        .execute_batch("PRAGMA application_id = 1634889327; PRAGMA user_version = 1; COMMIT")
        .unwrap();
    let after = Dir::new();
    for length in 0..=log_length(&dir.journal()) {
        after.copy_from(&dir.journal());
        let log = fs::File::options().write(true).open(after.path("journal.sqlite-wal")).unwrap();
        log.set_len(length).unwrap();
        let (mut journal, recovered, notices) = open(&after.journal());
        assert_eq!((recovered, notices), Default::default());
        if length % 64 == 0 {
            journal.commit(&writes([worker(1)])).unwrap();
            drop(journal);
            assert_eq!(ids(&reopen(&after.journal())), [1]);
        }
    }
}
