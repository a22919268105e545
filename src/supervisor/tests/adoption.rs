//! Workers that another supervisor has started.

use std::time::Duration;

use super::{
    super::*,
    driven::{
        Driven, W1, W2, dead, ended, handle, kill, kill_group_of, process, scan_all, stat,
        table_of_all, terminate,
    },
};
use crate::machine::{Exit, Signal};

fn adopt(process: Option<Process>) -> Request {
    Request::Adopt { worker: W1, process }
}

fn open(number: u64, pid: u32) -> Operation {
    Operation::Open { handle: handle(number), process: process(pid) }
}

fn read_environments(scan: u64, pids: &[u32]) -> Operation {
    let processes = pids.iter().map(|&pid| process(pid)).collect();
    Operation::ReadEnvironments { scan, processes }
}

fn adopted(pid: u32) -> Notice {
    Notice::Adopted { worker: W1, process: process(pid) }
}

const DIED: Notice = Notice::StartFailed { worker: W1, failure: StartFailure::SupervisorDied };

#[test]
fn a_worker_that_lives_is_adopted_and_watched() {
    let mut driven = Driven::other();
    driven.request(adopt(Some(process(10)))).asks(&[open(1, 10)]).tells(&[]);
    driven.opened(1, Ok(true)).asks(&[Operation::ReadStatus(handle(1))]).tells(&[adopted(10)]);
    driven.status(1, Status::Alive).is_quiet();
    driven.request(adopt(Some(process(10)))).asks(&[Operation::ReadStatus(handle(1))]);
    driven.tells(&[adopted(10)]);
}

#[test]
fn a_worker_whose_process_is_gone_has_ended_once_nothing_is_left() {
    let mut driven = Driven::other();
    driven.request(adopt(Some(process(10)))).opened(1, Ok(false)).ignore();
    driven.timeout().asks(&[scan_all(1, &[])]);
    driven.processes(1, table_of_all(&[stat(11, 1, 11), stat(12, 1, 10)]), &[]);
    driven.asks(&[read_environments(1, &[11, 12])]);
    driven.environments(1, &[(11, Environment::Names(W1)), (12, Environment::NamesNone)]);
    driven.asks(&[open(2, 11), kill(handle(2))]).tells(&[]);
    driven.ready(2).timeout().ignore().processes(2, table_of_all(&[]), &[]);
    driven.asks(&[]).tells(&[ended(W1, Exit::Unknown)]);
}

#[test]
fn what_cannot_be_opened_for_want_of_descriptors_is_tried_again() {
    let mut driven = Driven::other();
    driven.request(adopt(Some(process(10)))).ignore().opened(1, Err(Errno(24)));
    let text =
        "cannot tell whether it lives: Too many open files (os error 24); trying again".to_owned();
    driven.asks(&[]).tells(&[Notice::Warning { worker: W1, text }]);
    assert_eq!(driven.wait(), Some(1_000));
    driven.after(1_000).asks(&[open(1, 10)]).opened(1, Ok(true)).tells(&[adopted(10)]);
}

#[test]
fn a_worker_of_which_there_is_no_trace_never_ran() {
    let mut driven = Driven::other();
    driven.request(adopt(None)).timeout().asks(&[scan_all(1, &[])]);
    driven.processes(1, table_of_all(&[stat(11, 1, 11)]), &[]).ignore();
    driven.environments(1, &[(11, Environment::Names(W2))]);
    driven.asks(&[]).tells(&[Notice::NeverRan(W1)]);
    assert_eq!(driven.wait(), None);
}

#[test]
fn a_worker_is_found_by_its_environment() {
    let mut driven = Driven::other();
    driven.request(adopt(None)).timeout().ignore();
    driven.processes(1, table_of_all(&[stat(10, 1, 10), stat(11, 10, 10)]), &[]);
    driven.asks(&[read_environments(1, &[10, 11])]);
    driven.environments(1, &[(10, Environment::Names(W1)), (11, Environment::Names(W1))]);
    driven.asks(&[open(1, 10)]).opened(1, Ok(true)).ignore();
    driven.signal(W1, Signal::Terminate).timeout().asks(&[scan_all(2, &[1])]);
}

/// A first process had ended, and a child of it lived on in a session of its own. It was taken for
/// the first process, and its exit status for the worker's.
#[test]
fn how_a_process_ends_that_only_looks_like_the_first_one_says_nothing() {
    let mut driven = Driven::other();
    driven.request(adopt(None)).timeout().ignore();
    driven.processes(1, table_of_all(&[stat(10, 1, 10)]), &[]).ignore();
    driven.environments(1, &[(10, Environment::Names(W1))]).opened(1, Ok(true)).ignore();
    driven.ready(1).ignore().status(1, Status::Reaped(Some(Exit::Code(0)))).timeout().ignore();
    driven.processes(2, table_of_all(&[]), &[]).tells(&[ended(W1, Exit::Unknown)]);
}

#[test]
fn a_start_whose_supervisor_died_is_looked_for_four_times() {
    let mut driven = Driven::other();
    driven.request(Request::FinishStart { worker: W1 });
    for round in 1..=4 {
        driven.timeout().asks(&[scan_all(round, &[])]);
        driven.tells(&[]).processes(round, table_of_all(&[]), &[]);
        if round < 4 {
            assert_eq!(driven.wait(), Some(50));
            driven.now += Duration::from_millis(50);
        }
    }
    driven.asks(&[]).tells(&[DIED]);
    assert_eq!(driven.wait(), None);
}

/// A disk may hang for half a minute, and a program load as long.
#[test]
fn a_start_that_still_loads_when_its_supervisor_died_is_not_told_to_have_failed() {
    let mut driven = Driven::other();
    driven.request(Request::FinishStart { worker: W1 }).timeout().ignore();
    let loading = Stat { loading: Some(W1), ..stat(10, 1, 10) };
    driven.processes(1, table_of_all(&[loading]), &[]).asks(&[open(1, 10)]);
    driven.opened(1, Ok(true));
    driven.tells(&[Notice::Started { worker: W1, process: process(10) }]);
    driven.ignore().ready(1).ignore().status(1, Status::Reaped(Some(Exit::Code(127))));
    driven.timeout().ignore().processes(2, table_of_all(&[]), &[]);
    driven.tells(&[ended(W1, Exit::Code(127))]);
}

/// Two workers were looked for whose shim had died. One process was read in the table before it had
/// a session of its own, and its environment after it ran its program: it was the worker's and led
/// nothing. So its leader was thought to be gone, and a healthy worker was killed.
#[test]
fn a_process_that_has_no_session_yet_is_no_rest_of_a_worker() {
    let mut driven = Driven::other();
    driven.request(Request::FinishStart { worker: W1 }).timeout().ignore();
    driven.processes(1, table_of_all(&[stat(10, 1, 3)]), &[]).ignore();
    driven.environments(1, &[(10, Environment::Names(W1))]).is_quiet();
    driven.after(50).ignore().processes(2, table_of_all(&[stat(10, 1, 10)]), &[]).ignore();
    driven.environments(2, &[(10, Environment::Names(W1))]).asks(&[open(1, 10)]);
}

#[test]
fn the_rest_of_a_worker_whose_leader_is_nowhere_is_killed() {
    for request in [adopt(None), Request::FinishStart { worker: W1 }] {
        let is_start = request != adopt(None);
        let mut driven = Driven::other();
        driven.request(request).timeout().ignore();
        for round in 1..=4 {
            driven.processes(round, table_of_all(&[stat(11, 1, 3)]), &[]).ignore();
            driven.environments(round, &[(11, Environment::Names(W1))]).is_quiet();
            driven.after(50).ignore();
        }
        driven.processes(5, table_of_all(&[stat(11, 1, 3)]), &[]).ignore();
        driven.environments(5, &[(11, Environment::Names(W1))]);
        driven.asks(&[open(1, 11), kill(handle(1))]);
        driven.ready(1).timeout().ignore().processes(6, table_of_all(&[]), &[]);
        driven.tells(&[if is_start { DIED } else { ended(W1, Exit::Unknown) }]);
    }
}

#[test]
fn while_a_process_does_not_say_whose_it_is_a_worker_is_looked_for_again() {
    let mut driven = Driven::other();
    driven.request(adopt(None)).timeout().ignore();
    for round in 1..=4 {
        driven.processes(round, table_of_all(&[stat(11, 1, 11)]), &[]).ignore();
        driven.environments(round, &[(11, Environment::Unreadable)]);
        if round < 4 {
            driven.is_quiet();
            assert_eq!(driven.wait(), Some(50));
            driven.after(50).ignore();
        }
    }
    driven.tells(&[Notice::NeverRan(W1)]);
}

#[test]
fn in_a_table_that_was_cut_short_a_worker_is_looked_for_until_it_is_whole() {
    let mut driven = Driven::other();
    driven.request(adopt(None)).timeout().ignore();
    let cut = ProcessTable { cut_short: true, ..table_of_all(&[]) };
    for round in 1..=9 {
        driven.processes(round, cut.clone(), &[]).is_quiet();
        let wait = driven.wait().unwrap();
        assert_eq!(wait, (100 << (round - 1)).min(5_000));
        driven.after(wait).ignore();
    }
    driven.processes(10, table_of_all(&[]), &[]).tells(&[Notice::NeverRan(W1)]);
}

#[test]
fn a_tracked_worker_is_another_supervisors_to_tell_of() {
    let mut driven = Driven::other();
    driven.request(Request::Track { worker: W1, process: process(10) }).asks(&[open(1, 10)]);
    driven.opened(1, Ok(true)).asks(&[Operation::ReadStatus(handle(1))]).tells(&[]);
    driven.ready(1).ignore().status(1, Status::Unwaitable).timeout().is_quiet();
    assert_eq!(driven.wait(), None);
    driven.request(Request::Untrack { worker: W1 }).asks(&[Operation::Close(handle(1))]);
    driven.tells(&[]).ready(1).is_quiet();
}

#[test]
fn a_tracked_worker_that_is_gone_already_is_no_matter() {
    let mut driven = Driven::other();
    driven.request(Request::Track { worker: W1, process: process(10) }).opened(1, Ok(false));
    driven.ignore().timeout().is_quiet();
    driven.request(Request::TakeOver { worker: W1, process: process(10) }).timeout();
    driven.asks(&[scan_all(1, &[])]).processes(1, table_of_all(&[]), &[]);
    driven.tells(&[ended(W1, Exit::Unknown)]);
}

#[test]
fn a_worker_is_taken_over_from_a_dead_shim() {
    let mut driven = Driven::other();
    driven.request(Request::Track { worker: W1, process: process(10) }).opened(1, Ok(true));
    driven.ignore().request(Request::TakeOver { worker: W1, process: process(10) });
    driven.asks(&[Operation::ReadStatus(handle(1))]).tells(&[]).status(1, Status::Alive);
    driven.request(Request::TakeOver { worker: W1, process: process(10) }).is_quiet();
    driven.request(Request::Untrack { worker: W1 }).is_quiet();
    driven.ready(1).ignore().status(1, Status::Reaped(Some(Exit::Code(1)))).timeout().ignore();
    driven.processes(1, table_of_all(&[]), &[]).tells(&[ended(W1, Exit::Code(1))]);
}

#[test]
fn a_tracked_worker_that_had_ended_is_told_once_it_is_taken_over() {
    let mut driven = Driven::other();
    driven.request(Request::Track { worker: W1, process: process(10) }).opened(1, Ok(true));
    driven.status(1, Status::Reaped(Some(Exit::Code(6)))).timeout().ignore();
    driven.request(Request::TakeOver { worker: W1, process: process(10) }).timeout();
    driven.asks(&[scan_all(1, &[])]).processes(1, table_of_all(&[]), &[]);
    driven.tells(&[ended(W1, Exit::Code(6))]);
}

#[test]
fn a_tracked_worker_is_killed_in_its_shims_place() {
    let mut driven = Driven::other();
    driven.request(Request::Track { worker: W1, process: process(10) }).opened(1, Ok(true));
    driven.ignore().request(Request::BackupKill { worker: W1 }).timeout();
    driven.asks(&[scan_all(1, &[1])]).processes(1, table_of_all(&[stat(10, 9, 10)]), &[1]);
    driven.asks(&[kill_group_of(handle(1)), kill(handle(1))]);
    driven.signalled(1, Err(Errno(1))).is_quiet();
    driven.ready(1).ignore().status(1, Status::Unwaitable).timeout().ignore();
    driven.processes(2, table_of_all(&[dead(stat(10, 9, 10)), stat(11, 1, 10)]), &[1]);
    driven.asks(&[kill_group_of(handle(1)), open(2, 11), kill(handle(2))]);
    driven.ready(2).timeout().ignore();
    driven.processes(3, table_of_all(&[dead(stat(10, 9, 10))]), &[1]).is_quiet();
    driven.after(1_000).ignore().status(1, Status::Reaped(None)).tells(&[]);
}

#[test]
fn only_a_tracked_worker_is_killed_in_its_shims_place() {
    let mut driven = Driven::other();
    driven.running(W1, 10).request(Request::BackupKill { worker: W1 }).timeout().is_quiet();
}

#[test]
fn a_signal_waits_until_its_worker_is_found() {
    let mut driven = Driven::other();
    driven.request(adopt(None)).signal(W1, Signal::Terminate).timeout().ignore();
    let loading = Stat { loading: Some(W1), ..stat(10, 1, 10) };
    driven.processes(1, table_of_all(&[loading]), &[]).asks(&[open(1, 10)]);
    driven.opened(1, Ok(true)).ignore().timeout().asks(&[scan_all(2, &[1])]);
    driven.processes(2, table_of_all(&[stat(10, 1, 10)]), &[1]).asks(&[terminate(handle(1))]);
}

#[test]
fn a_kill_of_a_worker_that_is_gone_is_over_at_once() {
    let mut driven = Driven::other();
    driven.request(adopt(Some(process(10)))).signal(W1, Signal::Kill).opened(1, Ok(false));
    driven.ignore().timeout().ignore().processes(1, table_of_all(&[]), &[]);
    driven.tells(&[ended(W1, Exit::Unknown)]);
}

#[test]
fn a_cgroup_is_asked_for_first() {
    let group = |result| {
        let mut driven = Driven::new(Reaper::Another, true);
        driven.request(adopt(Some(process(10)))).asks(&[Operation::ReadGroup(W1)]);
        driven.signal(W1, Signal::Kill).is_quiet();
        driven.answer(Answer::Group { worker: W1, result }).asks(&[open(1, 10)]);
        driven.opened(1, Ok(true)).tells(&[adopted(10)]);
        driven
    };
    let own = GroupState { populated: true, oom_kills: 0 };
    let read_status = Operation::ReadStatus(handle(1));
    group(Ok(Some(own))).asks(&[read_status.clone(), Operation::KillGroup(W1)]);
    for result in [Ok(None), Err(Errno(5))] {
        let mut driven = group(result);
        driven.asks(std::slice::from_ref(&read_status)).timeout().asks(&[scan_all(1, &[1])]);
    }
}

#[test]
fn a_worker_is_found_in_its_cgroup() {
    let mut driven = Driven::new(Reaper::Another, true);
    driven.request(adopt(None)).ignore().group(W1, true, 0);
    driven.asks(&[Operation::ReadGroup(W1), Operation::ReadMembers(W1)]);
    let older = dead(stat(9, 1, 9));
    let members = vec![stat(12, 11, 12), stat(10, 1, 3), older, stat(11, 1, 11)];
    driven.answer(Answer::Members { worker: W1, result: Ok(members) }).asks(&[open(1, 11)]);
}

#[test]
fn a_worker_that_is_not_in_its_cgroup_is_looked_for_in_the_process_table() {
    let mut driven = Driven::new(Reaper::Another, true);
    driven.request(adopt(None)).ignore().group(W1, false, 0);
    driven.asks(&[Operation::ReadGroup(W1), Operation::ReadMembers(W1)]);
    driven.answer(Answer::Members { worker: W1, result: Ok(Vec::new()) }).is_quiet();
    driven.timeout().asks(&[scan_all(1, &[])]).processes(1, table_of_all(&[]), &[]);
    driven.asks(&[Operation::RemoveGroup(W1)]).tells(&[Notice::NeverRan(W1)]);
}

/// The worker was told never to have run, and lived on.
#[test]
fn a_cgroup_whose_members_are_hidden_is_killed_when_its_leader_cannot_be_found() {
    let mut driven = Driven::new(Reaper::Another, true);
    driven.request(adopt(None)).group(W1, true, 0).ignore();
    for _ in 0..3 {
        driven.answer(Answer::Members { worker: W1, result: Ok(Vec::new()) }).is_quiet();
        driven.after(50).asks(&[Operation::ReadGroup(W1), Operation::ReadMembers(W1)]);
        driven.group(W1, true, 0).is_quiet();
    }
    driven.answer(Answer::Members { worker: W1, result: Ok(Vec::new()) });
    driven.asks(&[Operation::ReadGroup(W1)]).tells(&[]);
    driven.group(W1, true, 0).asks(&[Operation::KillGroup(W1)]).group_killed(W1);
    driven.event(KernelEvent::GroupChanged(W1)).ignore().group(W1, false, 0);
    driven.asks(&[Operation::RemoveGroup(W1)]).tells(&[ended(W1, Exit::Unknown)]);
}
