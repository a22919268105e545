//! The log and the file stay small.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::runtime::journal::checkpoint::{TRUNCATE_AT, tidy};

/// One page of the log with its header.
const FRAME: u64 = 4_096 + 24;

/// A row of one worker that differs from the row before: SQLite writes no page that stays the same.
fn change(number: u64) -> Commit {
    writes([Worker { admitted_at: Wall(number), ..worker(number % 50) }])
}

#[test]
fn the_log_stays_bounded_under_constant_writes() {
    let dir = Dir::new();
    let (mut journal, ..) = SqliteJournal::open(&dir.journal(), BOOT, NOW, Checkpoints::Thread);
    for number in 0..20_000 {
        journal.commit(&change(number)).unwrap();
    }
    // That was more than 80 MB. However slow the disk, the log is short again soon, and the commits
    // need not pause for it.
    let bound = (TRUNCATE_AT as u64 + 1_000) * FRAME;
    let deadline = Instant::now() + Duration::from_secs(30);
    for number in 20_000.. {
        if log_length(&dir.journal()) <= bound {
            break;
        }
        assert!(Instant::now() < deadline, "{} bytes of log", log_length(&dir.journal()));
        journal.commit(&change(number)).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    drop(journal);
    assert_eq!(reopen(&dir.journal()).workers.len(), 50);
}

#[test]
fn without_a_thread_the_log_grows_until_it_is_told_not_to() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    for number in 0..3_000 {
        journal.commit(&change(number)).unwrap();
    }
    assert!(log_length(&dir.journal()) >= 3_000 * FRAME);
    journal.checkpoint().unwrap();
    assert_eq!(log_length(&dir.journal()), 0);
}

#[test]
fn a_log_that_outran_its_checkpoints_is_emptied() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    let thread = sqlite(&dir.journal());
    // A log of ordinary length is left for the next commits to write over.
    (0..1_000).for_each(|number| journal.commit(&change(number)).unwrap());
    tidy(&thread).unwrap();
    assert!(log_length(&dir.journal()) > 1_000 * FRAME);

    (0..5_000).for_each(|number| journal.commit(&change(number)).unwrap());
    tidy(&thread).unwrap();
    assert_eq!(log_length(&dir.journal()), 0);
}

#[test]
fn pages_of_forgotten_workers_are_given_back() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    let many = (0..30_000).map(|id| Record::Worker(worker(id).into())).collect();
    journal.commit(&Commit { rewrite: false, records: many }).unwrap();
    journal.checkpoint().unwrap();
    let full = fs::metadata(dir.journal()).unwrap().len();

    journal.commit(&rewrites([worker(1)])).unwrap();
    for _ in 0..30 {
        journal.checkpoint().unwrap();
    }
    let left = fs::metadata(dir.journal()).unwrap().len();
    assert!(left < full / 2, "{full} bytes became {left}");
}

#[test]
fn a_person_who_reads_does_not_hold_up_commits() {
    let dir = Dir::new();
    let (mut journal, ..) = SqliteJournal::open(&dir.journal(), BOOT, NOW, Checkpoints::Thread);
    journal.commit(&writes([worker(1)])).unwrap();
    let person = sqlite(&dir.journal());
    person.execute_batch("BEGIN; SELECT * FROM worker").unwrap();
    for number in 0..2_000 {
        journal.commit(&change(number)).unwrap();
    }
    let seen: i64 = person.query_row("SELECT count(*) FROM worker", (), |row| row.get(0)).unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn a_person_who_writes_fails_commits_only_meanwhile() {
    let dir = Dir::new();
    let (mut journal, ..) = open(&dir.journal());
    let person = sqlite(&dir.journal());
    person.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = journal.commit(&writes([worker(1)])).unwrap_err();
    assert!(error.0.contains("locked"), "{error}");
    person.execute_batch("COMMIT").unwrap();
    journal.commit(&writes([worker(1)])).unwrap();
}
