//! Starting workers.

use super::{
    super::*,
    driven::{Driven, W1, W2, dead, ended, handle, kill, process, scan, stat, table},
};
use crate::machine::Exit;

fn started(worker: WorkerId, pid: u32) -> Notice {
    Notice::Started { worker, process: process(pid) }
}

fn refused(worker: WorkerId, reason: &str) -> Notice {
    Notice::StartFailed { worker, failure: StartFailure::Refused(reason.to_owned()) }
}

fn start(worker: WorkerId, number: u64) -> Operation {
    Operation::Start { worker, handle: handle(number), spec: ExecSpec::default().into() }
}

#[test]
fn a_start_is_told_once_the_program_runs() {
    let mut driven = Driven::reaper();
    driven.start(W1).asks(&[start(W1, 1)]);
    driven.forked(W1, 10).is_quiet();
    driven.executed(W1).asks(&[]).tells(&[started(W1, 10)]);
    driven.executed(W1).is_quiet();
    driven.timeout().is_quiet();
    assert_eq!(driven.wait(), None);
}

#[test]
fn a_fork_that_fails_leaves_nothing() {
    let mut driven = Driven::reaper();
    driven.start(W1).ignore();
    driven.answer(Answer::Forked { worker: W1, result: Err("EAGAIN".to_owned()) });
    driven.asks(&[]).tells(&[refused(W1, "EAGAIN")]);
    driven.start(W1).asks(&[start(W1, 2)]);
}

#[test]
fn a_fork_that_fails_leaves_no_cgroup() {
    let mut driven = Driven::reaper();
    driven.start_with(W1, Some(c"/cgroup".into())).ignore();
    driven.answer(Answer::Forked { worker: W1, result: Err("EAGAIN".to_owned()) });
    driven.asks(&[Operation::RemoveGroup(W1)]).tells(&[refused(W1, "EAGAIN")]);
}

#[test]
fn a_worker_is_started_once() {
    let mut driven = Driven::reaper();
    driven.start(W1).ignore().start(W1);
    let failure = StartFailure::AlreadyStarted;
    driven.asks(&[]).tells(&[Notice::StartFailed { worker: W1, failure }]);
    driven.forked(W1, 10).executed(W1).tells(&[started(W1, 10)]);
    driven.forked(W1, 11).is_quiet();
}

#[test]
fn a_program_that_cannot_be_run_is_told_when_its_process_is_reaped() {
    let mut driven = Driven::reaper();
    driven.start(W1).forked(W1, 10).ignore();
    driven.event(KernelEvent::Executed { worker: W1, result: Err("ENOENT".to_owned()) });
    driven.asks(&[kill(handle(1)), Operation::ReadStatus(handle(1))]).tells(&[]);
    driven.status(1, Status::Alive).is_quiet();
    driven.leader_ends(1, Exit::Code(127));
    driven.asks(&[Operation::Reap(handle(1)), Operation::Close(handle(1))]);
    driven.tells(&[refused(W1, "ENOENT")]);
    driven.timeout().is_quiet();
}

#[test]
fn an_end_is_not_told_before_the_start() {
    let mut driven = Driven::reaper();
    driven.start(W1).forked(W1, 10).ignore();
    driven.leader_ends(1, Exit::Code(3)).is_quiet();
    driven.timeout().asks(&[scan(1, &[], &[1])]);
    driven.processes(1, table(&[dead(stat(10, 2, 10))]), &[1]).is_quiet();
    driven.executed(W1);
    driven.asks(&[Operation::Reap(handle(1)), Operation::Close(handle(1))]);
    driven.tells(&[started(W1, 10), ended(W1, Exit::Code(3))]);
}

#[test]
fn a_program_that_cannot_be_run_may_be_told_after_its_end() {
    let mut driven = Driven::reaper();
    driven.start(W1).forked(W1, 10).ignore();
    driven.leader_ends(1, Exit::Code(127)).timeout().ignore();
    driven.processes(1, table(&[dead(stat(10, 2, 10))]), &[1]).is_quiet();
    driven.event(KernelEvent::Executed { worker: W1, result: Err("ENOENT".to_owned()) });
    driven.tells(&[refused(W1, "ENOENT")]);
}

#[test]
fn what_is_told_of_unknown_workers_is_ignored() {
    let mut driven = Driven::reaper();
    driven.forked(W2, 10).executed(W2).ready(7).status(7, Status::Alive).is_quiet();
    driven.group(W2, true, 0).group_killed(W2).opened(7, Ok(true)).is_quiet();
    driven.event(KernelEvent::GroupChanged(W2)).environments(9, &[]).is_quiet();
    driven.processes(9, table(&[]), &[]).answer(Answer::DeadChild(None)).is_quiet();
    driven.signal(W2, crate::machine::Signal::Kill).timeout().is_quiet();
}
