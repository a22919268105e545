//! Ends, exit statuses and orphans.

use super::{
    super::*,
    driven::{
        Driven, W1, W2, dead, ended, handle, kill, kill_group_of, process, scan, scan_all, stat,
        table, table_of_all,
    },
};
use crate::machine::Exit;

/// A worker of which another process is the parent.
fn taken_over() -> Driven {
    let mut driven = Driven::other();
    driven.request(Request::TakeOver { worker: W1, process: process(10) });
    driven.asks(&[Operation::Open { handle: handle(1), process: process(10) }]);
    driven.opened(1, Ok(true)).asks(&[Operation::ReadStatus(handle(1))]);
    driven.status(1, Status::Alive).is_quiet();
    driven
}

/// The same, ended; nothing of it is left.
fn taken_over_and_unwaitable() -> Driven {
    let mut driven = taken_over();
    driven.ready(1).ignore().status(1, Status::Unwaitable).timeout().asks(&[scan_all(1, &[1])]);
    driven.processes(1, table_of_all(&[dead(stat(10, 1, 10))]), &[1]).is_quiet();
    driven
}

#[test]
fn a_leader_is_not_reaped_before_its_tree_is_gone() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).leader_ends(1, Exit::Code(0)).is_quiet();
    assert_eq!(driven.wait(), Some(0));
    driven.timeout().asks(&[scan(1, &[], &[1])]);
    driven.processes(1, table(&[dead(stat(10, 2, 10)), stat(11, 2, 10)]), &[1]);
    let open = Operation::Open { handle: handle(2), process: process(11) };
    driven.asks(&[kill_group_of(handle(1)), open, kill(handle(2))]).tells(&[]);
    driven.opened(2, Ok(true)).signalled(2, Ok(true)).is_quiet();
    driven.ready(2).asks(&[Operation::Close(handle(2))]);
    driven.timeout().asks(&[scan(2, &[], &[1])]);
    driven.processes(2, table(&[dead(stat(10, 2, 10))]), &[1]);
    driven.asks(&[Operation::Reap(handle(1)), Operation::Close(handle(1))]);
    driven.tells(&[ended(W1, Exit::Code(0))]);
    assert_eq!(driven.wait(), None);
}

#[test]
fn a_leader_that_nobody_reaps_is_given_a_second() {
    let mut driven = taken_over_and_unwaitable();
    assert_eq!(driven.wait(), Some(1_000));
    driven.ready(1).asks(&[Operation::ReadStatus(handle(1))]);
    driven.status(1, Status::Unwaitable).is_quiet();
    driven.after(1_000).asks(&[Operation::ReadStatus(handle(1))]);
    driven.status(1, Status::Unwaitable).asks(&[Operation::Close(handle(1))]);
    driven.tells(&[ended(W1, Exit::Unknown)]);
    assert_eq!(driven.wait(), None);
}

#[test]
fn a_leader_that_is_reaped_in_time_tells_how_it_ended() {
    for (told, exit) in [(Some(Exit::Code(4)), Exit::Code(4)), (None, Exit::Unknown)] {
        let mut driven = taken_over_and_unwaitable();
        driven.ready(1).ignore().status(1, Status::Reaped(told));
        driven.asks(&[Operation::Close(handle(1))]).tells(&[ended(W1, exit)]);
    }
}

#[test]
fn a_traced_child_is_reaped_when_its_tracer_lets_go() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).ready(1).ignore().status(1, Status::Unwaitable).timeout().ignore();
    driven.processes(1, table(&[dead(stat(10, 2, 10))]), &[1]).is_quiet();
    driven.ready(1).ignore().status(1, Status::Ended(Exit::Code(2)));
    driven.asks(&[Operation::Reap(handle(1)), Operation::Close(handle(1))]);
    driven.tells(&[ended(W1, Exit::Code(2))]);
}

#[test]
fn a_status_that_is_settled_is_not_read_again() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).leader_ends(1, Exit::Code(0)).ignore();
    driven.ready(1).ignore().status(1, Status::Reaped(None)).is_quiet();
    driven.timeout().ignore().processes(1, table(&[]), &[]);
    driven.tells(&[ended(W1, Exit::Code(0))]);
}

#[test]
fn a_leader_that_somebody_else_has_reaped_is_not_reaped_again() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).ready(1).ignore().status(1, Status::Reaped(Some(Exit::Code(5))));
    driven.asks(&[Operation::Close(handle(1))]).tells(&[]);
    driven.timeout().asks(&[scan(1, &[], &[])]);
    // Its pid, and so its session's number, may be anybody's by now.
    driven.start(W2).forked(W2, 20).executed(W2).ignore();
    driven.processes(1, table(&[stat(11, 2, 10)]), &[]);
    let processes = vec![process(11)];
    driven.asks(&[Operation::ReadEnvironments { scan: 1, processes }]);
    driven.environments(1, &[(11, Environment::NamesNone)]).asks(&[]);
    driven.tells(&[ended(W1, Exit::Code(5))]);
}

#[test]
fn orphans_are_reaped_and_leaders_are_not() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).timeout().is_quiet();
    driven.event(KernelEvent::ChildEnded).is_quiet();
    driven.timeout().asks(&[Operation::FindDeadChild]);
    driven.timeout().is_quiet();
    driven.answer(Answer::DeadChild(Some(11)));
    driven.asks(&[Operation::ReapChild(11), Operation::FindDeadChild]);
    driven.answer(Answer::DeadChild(Some(10))).is_quiet();
    assert_eq!(driven.wait(), None);
    driven.timeout().asks(&[Operation::FindDeadChild]);
    driven.answer(Answer::DeadChild(None)).timeout().is_quiet();
}

#[test]
fn the_next_worker_with_a_reaped_leaders_pid_is_another() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).leader_ends(1, Exit::Code(0)).timeout().ignore();
    driven.processes(1, table(&[]), &[1]).ignore();
    driven.event(KernelEvent::ChildEnded).timeout().ignore();
    driven.answer(Answer::DeadChild(Some(10)));
    driven.asks(&[Operation::ReapChild(10), Operation::FindDeadChild]);
}

#[test]
fn the_pid_of_a_leader_that_somebody_else_has_reaped_may_be_an_orphans() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).ready(1).ignore().status(1, Status::Reaped(None));
    driven.event(KernelEvent::ChildEnded).timeout().ignore().answer(Answer::DeadChild(Some(10)));
    driven.asks(&[Operation::ReapChild(10), Operation::FindDeadChild]);
}

#[test]
fn a_flood_of_orphans_leaves_others_their_turn() {
    let mut driven = Driven::reaper();
    for round in 0..2 {
        driven.event(KernelEvent::ChildEnded).timeout().asks(&[Operation::FindDeadChild]);
        for pid in 0..255 {
            driven.answer(Answer::DeadChild(Some(100 + pid)));
            driven.asks(&[Operation::ReapChild(100 + pid), Operation::FindDeadChild]);
        }
        assert_eq!(driven.wait(), None, "round {round}");
        driven.answer(Answer::DeadChild(Some(99))).asks(&[Operation::ReapChild(99)]);
        assert_eq!(driven.wait(), Some(0), "the rest comes with the next turn");
    }
}

#[test]
fn what_is_no_reaper_looks_for_no_orphans() {
    let mut driven = Driven::other();
    driven.event(KernelEvent::ChildEnded).timeout().is_quiet();
}

/// The zombie stayed for as long as the agent lived.
#[test]
fn a_traced_child_that_was_given_up_is_reaped_when_its_tracer_lets_go() {
    let mut driven = Driven::other();
    driven.running(W1, 10).ready(1).ignore().status(1, Status::Unwaitable).timeout().ignore();
    driven.processes(1, table_of_all(&[]), &[1]).after(1_000).ignore();
    driven.status(1, Status::Unwaitable).asks(&[]).tells(&[ended(W1, Exit::Unknown)]);
    for event in [KernelEvent::ChildEnded, KernelEvent::Ready(handle(1))] {
        driven.event(event).asks(&[Operation::ReadStatus(handle(1))]);
        driven.status(1, Status::Unwaitable).is_quiet();
    }
    driven.ready(1).ignore().status(1, Status::Ended(Exit::Code(0)));
    driven.asks(&[Operation::Reap(handle(1)), Operation::Close(handle(1))]).tells(&[]);
    driven.event(KernelEvent::ChildEnded).is_quiet();
}
