//! One reading of the process table for all.

use super::{
    super::*,
    driven::{
        Driven, W1, W2, dead, ended, handle, kill, kill_group_of, process, scan, scan_all, stat,
        table, table_of_all, terminate,
    },
};
use crate::machine::{Exit, Signal};

const EMFILE: Errno = Errno(24);
const UNREADABLE: &str =
    "cannot read the process table: Too many open files (os error 24); trying again";

fn warning(worker: WorkerId) -> Notice {
    Notice::Warning { worker, text: UNREADABLE.to_owned() }
}

#[test]
fn one_scan_serves_all_that_need_one() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).running(WorkerId(3), 30);
    driven.signal(W1, Signal::Kill).signal(W2, Signal::Terminate).timeout();
    driven.asks(&[scan(1, &[30], &[1, 2])]);
    driven.processes(1, table(&[stat(10, 2, 10), stat(20, 2, 20)]), &[1, 2]);
    driven.asks(&[kill_group_of(handle(1)), kill(handle(1)), terminate(handle(2))]);
}

#[test]
fn what_is_no_reaper_reads_the_whole_table() {
    let mut driven = Driven::other();
    driven.running(W1, 10).signal(W1, Signal::Kill).timeout().asks(&[scan_all(1, &[1])]);
    let older = stat(5, 1, 5);
    let thread = Stat { kernel_thread: true, ..stat(12, 2, 0) };
    let all = [older, stat(10, 2, 10), stat(11, 1, 11), dead(stat(13, 1, 13)), thread];
    driven.processes(1, table_of_all(&all), &[1]);
    let processes = vec![process(11)];
    let asked = Operation::ReadEnvironments { scan: 1, processes };
    driven.asks(&[kill_group_of(handle(1)), kill(handle(1)), asked]);
}

#[test]
fn while_the_table_cannot_be_read_leaders_are_killed() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).signal(W1, Signal::Kill).timeout().ignore();
    driven.answer(Answer::Processes { scan: 1, result: Err(EMFILE) });
    driven.asks(&[kill_group_of(handle(1))]);
    let failed = Notice::SignalFailed { worker: W1, error: UNREADABLE.to_owned() };
    driven.tells(&[failed, warning(W1)]);
    let wait = driven.wait().unwrap();
    driven.after(wait).asks(&[scan(2, &[], &[1])]);
    driven.answer(Answer::Processes { scan: 2, result: Err(EMFILE) }).tells(&[warning(W1)]);
    assert!(driven.wait().unwrap() > wait, "less and less often");
}

#[test]
fn while_the_table_cannot_be_read_leaders_are_sent_sigterm() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).signal(W1, Signal::Terminate).timeout().ignore();
    driven.answer(Answer::Processes { scan: 1, result: Err(EMFILE) });
    driven.asks(&[terminate(handle(1))]);
}

#[test]
fn a_worker_is_looked_for_again_when_the_table_could_not_be_read() {
    let mut driven = Driven::other();
    driven.request(Request::Adopt { worker: W1, process: None }).timeout().ignore();
    driven.answer(Answer::Processes { scan: 1, result: Err(EMFILE) });
    driven.asks(&[]).tells(&[warning(W1)]);
    assert_eq!(driven.wait(), Some(100));
    driven.after(100).asks(&[scan_all(2, &[])]);
}

#[test]
fn environments_are_waited_for_for_a_second() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).leader_ends(1, Exit::Code(0)).timeout().ignore();
    driven.processes(1, table(&[stat(30, 2, 30)]), &[1]).ignore();
    assert_eq!(driven.wait(), Some(1_000));
    driven.after(999).is_quiet();
    driven.after(1).is_quiet();
    assert_eq!(driven.wait(), Some(20), "that was inconclusive");
    driven.environments(1, &[(30, Environment::Names(W1))]).is_quiet();
}

#[test]
fn a_table_that_was_cut_short_settles_nothing() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).leader_ends(1, Exit::Code(0)).timeout().ignore();
    let cut = ProcessTable { cut_short: true, ..table(&[]) };
    for round in 1..=20 {
        driven.processes(round, cut.clone(), &[1]).is_quiet();
        assert_eq!(driven.wait(), Some(20));
        driven.after(20).asks(&[scan(round + 1, &[], &[1])]);
    }
    driven.processes(21, table(&[]), &[1]).tells(&[ended(W1, Exit::Code(0))]);
}

#[test]
fn a_worker_that_has_ended_meanwhile_is_left_out() {
    let mut driven = Driven::other();
    driven.request(Request::Track { worker: W1, process: process(10) }).opened(1, Ok(true));
    driven.request(Request::BackupKill { worker: W1 }).request(Request::Untrack { worker: W1 });
    driven.ignore().timeout().is_quiet();
    assert_eq!(driven.wait(), None);
}
