//! Workers that have a cgroup.

use super::{
    super::*,
    driven::{
        Driven, W1, ended, handle, kill, kill_group_of, process, scan, stat, table, terminate,
        terminate_process,
    },
};
use crate::machine::{Exit, Signal};

const EIO: Errno = Errno(5);
const EBUSY: Errno = Errno(16);

fn running() -> Driven {
    let mut driven = Driven::new(Reaper::This, true);
    driven.running_in_group(W1, 10);
    driven
}

fn warning(text: &str) -> Notice {
    Notice::Warning { worker: W1, text: text.to_owned() }
}

fn finished() -> [Operation; 3] {
    [Operation::Reap(handle(1)), Operation::Close(handle(1)), Operation::RemoveGroup(W1)]
}

#[test]
fn a_kill_goes_to_the_whole_cgroup() {
    let mut driven = running();
    driven.signal(W1, Signal::Kill).asks(&[Operation::KillGroup(W1)]);
    driven.group_killed(W1).is_quiet();
    assert_eq!(driven.wait(), Some(100));
    driven.event(KernelEvent::GroupChanged(W1)).asks(&[Operation::ReadGroup(W1)]);
    driven.group(W1, false, 0).asks(&[Operation::ReadStatus(handle(1))]);
    driven.status(1, Status::Ended(Exit::Signal(9))).asks(&[Operation::ReadGroup(W1)]);
    driven.group(W1, false, 0).asks(&finished()).tells(&[ended(W1, Exit::Signal(9))]);
    assert_eq!(driven.wait(), None);
}

#[test]
fn the_leader_may_be_seen_to_end_before_its_cgroup_is_empty() {
    let mut driven = running();
    driven.signal(W1, Signal::Kill).group_killed(W1).ignore();
    driven.leader_ends(1, Exit::Signal(9)).asks(&[Operation::ReadGroup(W1)]);
    driven.group(W1, true, 0).asks(&[Operation::KillGroup(W1)]).group_killed(W1).is_quiet();
    driven.event(KernelEvent::GroupChanged(W1)).ignore();
    driven.group(W1, false, 0).asks(&finished()).tells(&[ended(W1, Exit::Signal(9))]);
}

#[test]
fn a_cgroup_that_does_not_become_empty_is_killed_again() {
    let mut driven = running();
    driven.signal(W1, Signal::Kill).group_killed(W1).ignore();
    driven.after(100).asks(&[Operation::ReadMembers(W1), Operation::ReadGroup(W1)]);
    driven.answer(Answer::Members { worker: W1, result: Ok(vec![stat(11, 10, 11)]) });
    let (process, signal) = (process(11), Signal::Kill);
    driven.asks(&[Operation::SignalProcess { worker: W1, process, signal }]);
    driven.group(W1, true, 0).asks(&[Operation::KillGroup(W1)]).group_killed(W1);
    assert_eq!(driven.wait(), Some(200));
}

#[test]
fn what_a_leader_leaves_in_its_cgroup_is_killed() {
    let mut driven = running();
    driven.leader_ends(1, Exit::Code(0)).asks(&[Operation::ReadGroup(W1)]);
    driven.group(W1, true, 0).asks(&[Operation::KillGroup(W1)]).tells(&[]);
}

#[test]
fn a_change_that_nobody_asked_about_changes_nothing() {
    let mut driven = running();
    driven.event(KernelEvent::GroupChanged(W1)).asks(&[Operation::ReadGroup(W1)]);
    driven.group(W1, true, 0).is_quiet();
    driven.group(W1, false, 0).is_quiet();
}

#[test]
fn sigterm_goes_to_the_members_of_the_cgroup() {
    let mut driven = running();
    driven.signal(W1, Signal::Terminate).asks(&[Operation::ReadMembers(W1)]);
    let members = vec![stat(10, 2, 10), stat(40, 1, 40)];
    driven.answer(Answer::Members { worker: W1, result: Ok(members.clone()) });
    driven.asks(&[terminate(handle(1)), terminate_process(W1, 40)]);
    driven.answer(Answer::Members { worker: W1, result: Ok(members) }).is_quiet();
}

#[test]
fn out_of_memory_is_told_where_nobody_else_has_killed_it() {
    let told = |kill: bool, exit: Exit, oom_kills: u64| {
        let mut driven = running();
        if kill {
            driven.signal(W1, Signal::Kill);
        }
        driven.ignore().leader_ends(1, exit).ignore().group(W1, false, oom_kills).asks(&finished());
        driven
    };
    told(false, Exit::Signal(9), 1).tells(&[ended(W1, Exit::OomKilled)]);
    told(false, Exit::Signal(9), 0).tells(&[ended(W1, Exit::Signal(9))]);
    told(true, Exit::Signal(9), 1).tells(&[ended(W1, Exit::Signal(9))]);
    told(false, Exit::Code(1), 1).tells(&[ended(W1, Exit::Code(1))]);
    told(false, Exit::Signal(6), 2).tells(&[ended(W1, Exit::Signal(6))]);
}

#[test]
fn a_cgroup_that_cannot_be_read_is_left_for_the_process_table() {
    let text =
        "its cgroup cannot be used: Input/output error (os error 5); looking in /proc instead";
    let answers = [
        Answer::Group { worker: W1, result: Err(EIO) },
        Answer::GroupKilled { worker: W1, result: Err(EIO) },
    ];
    for answer in answers {
        let mut driven = running();
        driven.signal(W1, Signal::Kill).ignore().answer(answer).asks(&[]).tells(&[warning(text)]);
        driven.timeout().asks(&[scan(1, &[], &[1])]);
        driven.processes(1, table(&[stat(10, 2, 10)]), &[1]);
        driven.asks(&[kill_group_of(handle(1)), kill(handle(1))]);
        driven.event(KernelEvent::GroupChanged(W1)).is_quiet();
        driven.leader_ends(1, Exit::Signal(9)).timeout().ignore();
        driven.processes(2, table(&[]), &[1]).asks(&finished());
    }
    let mut driven = running();
    driven.signal(W1, Signal::Terminate).ignore();
    driven.answer(Answer::Members { worker: W1, result: Err(EIO) }).tells(&[warning(text)]);
    driven.timeout().asks(&[scan(1, &[], &[1])]);
    driven.processes(1, table(&[stat(10, 2, 10)]), &[1]).asks(&[terminate(handle(1))]);
}

#[test]
fn a_cgroup_that_somebody_has_removed_is_left_for_the_process_table() {
    let mut driven = running();
    driven.leader_ends(1, Exit::Code(0)).ignore();
    driven.answer(Answer::Group { worker: W1, result: Ok(None) });
    driven.tells(&[warning("its cgroup cannot be used: it is gone; looking in /proc instead")]);
    driven.timeout().asks(&[scan(1, &[], &[1])]);
}

/// A process leaves its cgroup a moment before it can be waited for. Read between the two, the
/// cgroup was taken for one that the process had been moved out of.
#[test]
fn a_leader_that_is_not_in_its_cgroup_is_given_a_moment_to_end() {
    let mut driven = running();
    driven.signal(W1, Signal::Kill).group_killed(W1).ignore();
    driven.event(KernelEvent::GroupChanged(W1)).ignore();
    for _ in 0..2 {
        driven.group(W1, false, 0).asks(&[Operation::ReadStatus(handle(1))]);
        driven.status(1, Status::Alive).is_quiet();
        assert_eq!(driven.wait(), Some(10));
        driven.after(10).asks(&[Operation::ReadMembers(W1), Operation::ReadGroup(W1)]);
    }
    driven.group(W1, false, 0).ignore().status(1, Status::Alive);
    let reason = "its first process is not in it";
    let text = format!("its cgroup cannot be used: {reason}; looking in /proc instead");
    driven.asks(&[]).tells(&[warning(&text)]);
    driven.timeout().asks(&[scan(1, &[], &[1])]);
    driven.processes(1, table(&[stat(10, 2, 10)]), &[1]);
    driven.asks(&[kill_group_of(handle(1)), kill(handle(1))]);
}

#[test]
fn a_leader_that_is_alive_in_an_empty_cgroup_is_nothing_while_nobody_kills() {
    let mut driven = running();
    driven.group(W1, false, 0).ignore();
    driven.ready(1).ignore().status(1, Status::Alive).is_quiet();
    assert_eq!(driven.wait(), None);
}

#[test]
fn the_removal_of_a_cgroup_is_tried_five_times() {
    let mut driven = running();
    driven.leader_ends(1, Exit::Code(0)).group(W1, false, 0).ignore();
    for _ in 0..4 {
        driven.answer(Answer::GroupRemoved { worker: W1, result: Err(EBUSY) }).is_quiet();
        assert_eq!(driven.wait(), Some(1_000));
        driven.after(999).is_quiet();
        driven.after(1).asks(&[Operation::RemoveGroup(W1)]);
    }
    driven.answer(Answer::GroupRemoved { worker: W1, result: Err(EBUSY) });
    let text = "its cgroup stays behind: Device or resource busy (os error 16)";
    driven.asks(&[]).tells(&[warning(text)]);
    assert_eq!(driven.wait(), None);
}

#[test]
fn a_cgroup_that_is_removed_in_the_end_is_forgotten() {
    let mut driven = running();
    driven.leader_ends(1, Exit::Code(0)).group(W1, false, 0).ignore();
    driven.answer(Answer::GroupRemoved { worker: W1, result: Err(EBUSY) }).after(1_000).ignore();
    driven.answer(Answer::GroupRemoved { worker: W1, result: Ok(()) }).is_quiet();
    assert_eq!(driven.wait(), None);
}

/// The agent kept a descriptor for each worker that it had killed in its shim's place.
#[test]
fn a_cgroup_that_was_killed_in_a_shims_place_is_let_go_of() {
    for kill in [false, true] {
        let mut driven = Driven::new(Reaper::Another, true);
        driven.request(Request::Track { worker: W1, process: process(10) }).group(W1, true, 0);
        driven.opened(1, Ok(true)).ignore();
        if kill {
            driven.request(Request::BackupKill { worker: W1 }).asks(&[Operation::KillGroup(W1)]);
            driven.group_killed(W1);
        }
        let mut expected = vec![Operation::Close(handle(1))];
        expected.extend(kill.then_some(Operation::RemoveGroup(W1)));
        driven.request(Request::Untrack { worker: W1 }).asks(&expected).tells(&[]);
    }
}

#[test]
fn what_leaves_its_session_is_still_in_its_cgroup_and_not_scanned_for() {
    let mut driven = running();
    driven.signal(W1, Signal::Kill).group_killed(W1).ignore().timeout().is_quiet();
}
