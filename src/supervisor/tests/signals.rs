//! SIGTERM once to each process, SIGKILL until nothing is left.

use super::{
    super::*,
    driven::{
        Driven, W1, W2, dead, ended, handle, kill, kill_group_of, process, scan, stat, table,
        terminate, terminate_process,
    },
};
use crate::machine::{Exit, Signal};

const EPERM: Errno = Errno(1);

fn killed() -> Driven {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).signal(W1, Signal::Kill).timeout().asks(&[scan(1, &[], &[1])]);
    driven
}

fn open(number: u64, pid: u32) -> Operation {
    Operation::Open { handle: handle(number), process: process(pid) }
}

fn failed(error: &str) -> Notice {
    Notice::SignalFailed { worker: W1, error: error.to_owned() }
}

#[test]
fn sigterm_goes_once_to_each_process() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).signal(W1, Signal::Terminate).is_quiet();
    driven.timeout().asks(&[scan(1, &[], &[1])]);
    let processes = [stat(10, 2, 10), stat(11, 10, 10), stat(12, 11, 12)];
    driven.processes(1, table(&processes), &[1]);
    driven.asks(&[terminate(handle(1)), terminate_process(W1, 11), terminate_process(W1, 12)]);
    driven.tells(&[]).timeout().is_quiet();
    assert_eq!(driven.wait(), None);
    driven.signal(W1, Signal::Terminate).timeout().asks(&[scan(2, &[], &[1])]);
    driven.processes(2, table(&processes[..1]), &[1]).asks(&[terminate(handle(1))]);
}

#[test]
fn what_only_its_environment_gives_away_gets_sigterm_later() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).signal(W1, Signal::Terminate).timeout();
    driven.asks(&[scan(1, &[20], &[1])]);
    driven.processes(1, table(&[stat(10, 2, 10), stat(30, 2, 30), stat(31, 30, 30)]), &[1]);
    let processes = vec![process(30), process(31)];
    driven.asks(&[terminate(handle(1)), Operation::ReadEnvironments { scan: 1, processes }]);
    driven.environments(1, &[(30, Environment::Names(W1)), (31, Environment::Unreadable)]);
    driven.asks(&[terminate_process(W1, 30), terminate_process(W1, 31)]).tells(&[]);
    assert_eq!(driven.wait(), None);
}

#[test]
fn a_second_sigterm_between_two_passes_reaches_everything_again() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).signal(W1, Signal::Terminate).timeout().ignore();
    driven.processes(1, table(&[stat(10, 2, 10), stat(30, 2, 30)]), &[1]).ignore();
    driven.signal(W1, Signal::Terminate).is_quiet();
    driven.environments(1, &[(30, Environment::Names(W1))]).asks(&[terminate_process(W1, 30)]);
    driven.timeout().asks(&[scan(2, &[20], &[1])]);
    driven.processes(2, table(&[stat(10, 2, 10), stat(30, 2, 30)]), &[1]);
    driven.asks(&[terminate(handle(1)), terminate_process(W1, 30)]);
}

#[test]
fn a_kill_between_two_passes_kills_what_the_second_finds() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).signal(W1, Signal::Terminate).timeout().ignore();
    driven.processes(1, table(&[stat(10, 2, 10), stat(30, 2, 30)]), &[1]).ignore();
    driven.signal(W1, Signal::Kill).is_quiet();
    driven.environments(1, &[(30, Environment::Names(W1))]);
    driven.asks(&[kill_group_of(handle(1)), open(3, 30), kill(handle(3))]);
    driven.timeout().asks(&[scan(2, &[20], &[1])]);
}

#[test]
fn a_signal_before_the_fork_is_carried_out_after_it() {
    let mut driven = Driven::reaper();
    driven.start(W1).ignore().signal(W1, Signal::Terminate).timeout().is_quiet();
    driven.forked(W1, 10).timeout().asks(&[scan(1, &[], &[1])]);
    driven.processes(1, table(&[stat(10, 2, 10)]), &[1]).asks(&[terminate(handle(1))]);
}

#[test]
fn what_is_being_killed_is_not_sent_sigterm() {
    let mut driven = killed();
    driven.signal(W1, Signal::Terminate).is_quiet();
    driven.processes(1, table(&[stat(10, 2, 10)]), &[1]);
    driven.asks(&[kill_group_of(handle(1)), kill(handle(1))]);
}

#[test]
fn sigkill_is_repeated_less_and_less_often_while_nothing_ends() {
    let mut driven = killed();
    let processes = [stat(10, 2, 10), stat(11, 10, 11)];
    driven.processes(1, table(&processes), &[1]);
    driven.asks(&[kill_group_of(handle(1)), kill(handle(1)), open(2, 11), kill(handle(2))]);
    driven.opened(2, Ok(true)).is_quiet();
    for (nth, wait) in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000].into_iter().enumerate() {
        assert_eq!(driven.wait(), Some(wait));
        let number = u64::try_from(nth).unwrap() + 2;
        driven.after(wait).asks(&[scan(number, &[], &[1])]);
        driven.processes(number, table(&processes), &[1]);
        driven.asks(&[kill_group_of(handle(1)), kill(handle(1)), kill(handle(2))]).tells(&[]);
    }
    driven.signal(W1, Signal::Kill).timeout().ignore().processes(10, table(&processes), &[1]);
    assert_eq!(driven.wait(), Some(100), "whoever asks again wants it soon");
}

#[test]
fn only_so_many_ends_are_waited_for_at_once() {
    let mut driven = killed();
    let processes: Vec<_> = (11..=30).map(|pid| stat(pid, 10, 10)).collect();
    driven.processes(1, table(&processes), &[1]);
    let mut expected = vec![kill_group_of(handle(1))];
    expected.extend((11..=26).flat_map(|pid| {
        let number = u64::from(pid) - 9;
        [open(number, pid), kill(handle(number))]
    }));
    expected.extend((27..=30).map(|pid| Operation::SignalProcess {
        worker: W1,
        process: process(pid),
        signal: Signal::Kill,
    }));
    driven.asks(&expected);
}

#[test]
fn when_all_that_was_killed_has_ended_it_is_looked_again_at_once() {
    let mut driven = killed();
    driven.processes(1, table(&[stat(11, 10, 10), stat(12, 10, 10)]), &[1]).ignore();
    driven.ready(2).ignore();
    assert_eq!(driven.wait(), Some(100), "one is left");
    driven.ready(3).asks(&[Operation::Close(handle(3))]);
    assert_eq!(driven.wait(), Some(0));
    driven.timeout().asks(&[scan(2, &[], &[1])]);
}

#[test]
fn what_was_gone_before_it_could_be_killed_is_not_waited_for() {
    let mut driven = killed();
    driven.processes(1, table(&[stat(11, 10, 10)]), &[1]).ignore();
    driven.opened(2, Ok(false)).is_quiet();
    assert_eq!(driven.wait(), Some(0));
    driven.signalled(2, Err(Errno(9))).is_quiet();
}

#[test]
fn an_error_is_told_once_for_each_time_that_a_signal_is_asked_for() {
    let mut driven = killed();
    driven.processes(1, table(&[stat(10, 2, 10), stat(11, 10, 10)]), &[1]).ignore();
    let group = SignalScope::ProcessGroup;
    driven.answer(Answer::Signalled { handle: handle(1), scope: group, result: Err(EPERM) });
    driven.is_quiet();
    driven.signalled(1, Ok(false)).is_quiet();
    driven.signalled(1, Err(EPERM));
    driven.tells(&[failed("pid 10: Operation not permitted (os error 1)")]);
    driven.signalled(2, Err(EPERM)).is_quiet();
    driven.signal(W1, Signal::Kill).signalled(2, Err(EPERM));
    driven.tells(&[failed("pid 11: Operation not permitted (os error 1)")]);
    driven.signal(W1, Signal::Kill).opened(2, Err(Errno(24)));
    driven.tells(&[failed("pid 11: Too many open files (os error 24)")]);
    driven.signal(W1, Signal::Kill);
    let result = Err(EPERM);
    driven.answer(Answer::ProcessSignalled { worker: W1, process: process(12), result });
    driven.tells(&[failed("pid 12: Operation not permitted (os error 1)")]);
    let result = Ok(true);
    driven.signal(W1, Signal::Kill);
    driven.answer(Answer::ProcessSignalled { worker: W1, process: process(12), result });
    driven.tells(&[]);
}

#[test]
fn a_leader_that_the_table_does_not_show_is_killed_all_the_same() {
    let mut driven = killed();
    driven.processes(1, table(&[]), &[1]);
    driven.asks(&[kill(handle(1)), kill_group_of(handle(1))]).tells(&[]);
    assert_eq!(driven.wait(), Some(100));
    driven.after(100).asks(&[scan(2, &[], &[1])]);
}

#[test]
fn while_something_might_be_its_own_it_is_looked_for_again_five_times() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).leader_ends(1, Exit::Code(0)).timeout().ignore();
    for round in 1..=6 {
        driven.processes(round, table(&[dead(stat(10, 2, 10)), stat(30, 2, 30)]), &[1]);
        let processes = vec![process(30)];
        driven.asks(&[Operation::ReadEnvironments { scan: round, processes }]).tells(&[]);
        driven.environments(round, &[(30, Environment::Unreadable)]);
        if round < 6 {
            driven.is_quiet();
            assert_eq!(driven.wait(), Some(20));
            driven.after(20).asks(&[scan(round + 1, &[20], &[1])]);
        }
    }
    driven.tells(&[ended(W1, Exit::Code(0))]);
}

#[test]
fn what_turns_up_is_killed_and_looked_for_five_times_more() {
    let mut driven = Driven::reaper();
    driven.running(W1, 10).running(W2, 20).leader_ends(1, Exit::Code(0)).timeout().ignore();
    for round in 1..=4 {
        driven.processes(round, table(&[stat(30, 2, 30)]), &[1]).ignore();
        driven.environments(round, &[(30, Environment::Unreadable)]).after(20).ignore();
    }
    driven.processes(5, table(&[stat(31, 2, 10)]), &[1]);
    driven.asks(&[kill_group_of(handle(1)), open(3, 31), kill(handle(3))]);
    driven.ready(3).timeout().ignore();
    for round in 6..=10 {
        driven.processes(round, table(&[stat(30, 2, 30)]), &[1]).ignore();
        driven.environments(round, &[(30, Environment::Unreadable)]).is_quiet();
        driven.after(20).ignore();
    }
    driven.processes(11, table(&[stat(30, 2, 30)]), &[1]).ignore();
    driven.environments(11, &[(30, Environment::Unreadable)]).tells(&[ended(W1, Exit::Code(0))]);
}
