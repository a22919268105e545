//! What becomes of abandoned workers: those that were alive when the controller turned out to have
//! forgotten this node.

use super::*;
use Signal::{Kill, Terminate};

/// An agent with a worker that was abandoned just now, though perhaps not by a restart.
fn with_abandoned(change: impl FnOnce(&mut Config)) -> (Agent, WorkerId) {
    let mut agent = Agent::with(change);
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(40));
    agent.forgotten();
    assert!(agent.is_abandoned(worker));
    agent.registered();
    (agent, worker)
}

fn stop_after(config: &mut Config) {
    config.abandoned = AbandonedPolicy::StopAfter(secs(100));
}

#[test]
fn they_stay_for_stop_after_and_are_stopped_by_force_then() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.advance(millis(99_999));
    assert_eq!((agent.signals(worker), agent.phase(worker)), (vec![], Some(Phase::Running)));
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(millis(4_999));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
    agent.exited(worker, Exit::Signal(9));
    assert_eq!(agent.reports(), [worker], "like any other");
}

#[test]
fn a_worker_that_ends_by_itself_meanwhile_is_reported_and_nothing_more() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.exited(worker, Exit::Code(0));
    assert_eq!(agent.machine.view().abandoned_workers, 0);
    agent.acknowledged(worker);
    agent.advance(secs(200));
    assert_eq!((agent.signals(worker), agent.reports()), (vec![], vec![worker]));
}

#[test]
fn the_view_tells_them_from_others() {
    let (mut agent, worker) = with_abandoned(stop_after);
    let other = agent.run(start("another", 1, 1));
    let view = agent.machine.view();
    assert_eq!((view.live_workers, view.abandoned_workers), (2, 1));
    assert_eq!([worker, other].map(|worker| agent.is_abandoned(worker)), [true, false]);
}

#[test]
fn their_time_goes_on_under_the_next_agent() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.advance(secs(60));
    let mut agent = agent.successor();
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    agent.registered();
    assert!(agent.is_abandoned(worker));
    agent.advance(millis(39_999));
    assert_eq!(agent.signals(worker), []);
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(secs(5));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn time_that_was_over_before_the_next_agent_is_over_at_once() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.pass_to(agent.now.mono + secs(500));
    let mut agent = agent.successor();
    agent.advance(Duration::ZERO);
    assert_eq!(agent.signals(worker), [], "not before it is known to be that process");
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    assert_eq!(agent.signals(worker), [Terminate]);
}

#[test]
fn to_be_forgotten_again_gives_no_more_time() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.advance(secs(60));
    let later = agent.run(start("later", 1, 1));
    agent.forgotten();
    agent.registered();
    assert!(agent.is_abandoned(later));
    agent.advance(secs(40));
    assert_eq!(agent.signals(worker), [Terminate]);
    assert_eq!(agent.signals(later), [], "its own time began later");
    agent.advance(secs(60));
    assert_eq!(agent.signals(later), [Terminate]);
}

#[test]
fn a_restart_that_is_certain_the_next_time_ends_those_of_before_too() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.advance(secs(10));
    agent.forgotten();
    assert_eq!(agent.signals(worker), [Kill]);
}

#[test]
fn a_worker_that_was_being_stopped_gently_is_stopped_by_force() {
    let mut agent = Agent::with(stop_after);
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Gentle);
    agent.advance(secs(40));
    agent.forgotten();
    agent.advance(secs(100));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(secs(5));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn a_worker_that_was_being_stopped_by_force_keeps_its_earlier_deadline() {
    let mut agent = Agent::with(|config| {
        stop_after(config);
        config.kill_after = secs(50);
    });
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(31));
    agent.stop(worker, StopHow::Force);
    agent.forgotten();
    agent.advance(secs(50));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn the_policy_end_kills_them_though_it_may_have_been_no_restart() {
    let mut agent = Agent::with(|config| config.abandoned = AbandonedPolicy::End);
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(600));
    agent.forgotten();
    assert_eq!((agent.signals(worker), agent.registrations()), (vec![Kill], 1));
    agent.exited(worker, Exit::Signal(9));
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn the_policy_end_holds_for_those_that_the_next_agent_finds() {
    let (mut agent, worker) = with_abandoned(stop_after);
    agent.machine.config.abandoned = AbandonedPolicy::End;
    agent.journal.broken = true;
    let mut agent = agent.successor();
    agent.journal.broken = false;
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    agent.advance(secs(5));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn the_policy_keep_ends_nobody_though_it_was_certainly_a_restart() {
    let mut agent = Agent::with(|config| config.abandoned = AbandonedPolicy::Keep);
    let worker = agent.run(start("job", 1, 1));
    agent.connection_lost(Loss::Closed);
    agent.forgotten();
    assert_eq!(agent.registrations(), 2, "and the registration waits for nobody");
    agent.registered();
    assert!(agent.is_abandoned(worker));
    agent.advance(secs(24 * 3_600));
    assert_eq!((agent.signals(worker), agent.phase(worker)), (vec![], Some(Phase::Running)));
}

#[test]
fn a_stop_that_names_one_shows_that_somebody_knows_it() {
    for how in [StopHow::Ask, StopHow::Gentle] {
        let (mut agent, worker) = with_abandoned(stop_after);
        agent.stop(worker, how);
        assert!(!agent.is_abandoned(worker));
        let row = agent.journal.row(worker).expect("a row");
        assert_eq!(row.abandoned_at, None, "for the next agent too");
        agent.advance(secs(600));
        assert!(!agent.signals(worker).contains(&Kill), "it stays");
        assert_eq!(agent.machine.view().live_workers, 1);
    }
}

#[test]
fn a_stop_that_names_the_last_one_ends_the_wait_for_the_registration() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.forgotten();
    assert_eq!(agent.registrations(), 1);
    agent.stop(worker, StopHow::Ask);
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn a_stop_that_names_another_changes_nothing() {
    let (mut agent, worker) = with_abandoned(stop_after);
    let other = agent.run(start("another", 1, 1));
    agent.stop(other, StopHow::Ask);
    agent.stop(WorkerId(1), StopHow::Force);
    assert!(agent.is_abandoned(worker));
}

#[test]
fn without_a_journal_there_is_no_registration_that_would_hide_them_from_the_next_agent() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.advance(secs(40));
    agent.journal.broken = true;
    agent.forgotten();
    assert!(agent.is_abandoned(worker));
    assert!(agent.journal.row(worker).is_some_and(|row| row.abandoned_at.is_none()));
    assert_eq!(agent.registrations(), 1, "it rests on the commit that failed");

    let beats = agent.heartbeats().len();
    for _ in 0..5 {
        agent.advance_to_heartbeat();
        agent.forgotten();
    }
    assert_eq!((agent.heartbeats().len(), agent.registrations()), (beats + 5, 1));
    assert!(!agent.is_registered());

    agent.journal.broken = false;
    agent.advance(secs(5));
    assert!(agent.journal.row(worker).is_some_and(|row| row.abandoned_at.is_some()));
    assert_eq!((agent.registrations(), agent.last_registration_may_reconnect()), (2, Some(true)));
}

#[test]
fn without_a_journal_killed_workers_are_waited_for_and_then_it_may_register() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.journal.broken = true;
    agent.forgotten();
    assert_eq!(agent.signals(worker), [Kill], "supervision goes on");
    agent.advance(secs(10));
    assert_eq!(agent.registrations(), 1, "the time for it is over, and still it may not");
    agent.exited(worker, Exit::Signal(9));
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn without_a_journal_a_node_with_no_workers_registers() {
    let mut agent = Agent::new();
    agent.journal.broken = true;
    agent.request(Ask::SetDraining(true));
    agent.forgotten();
    assert_eq!(agent.registrations(), 2);
    // The commit that this one rests on has failed, and yet there is nothing to be lost by it.
    let mut agent = Agent::new();
    agent.journal.broken = true;
    let (_, draining) = agent.asking(Ask::SetDraining(true));
    let heartbeat = agent.last_heartbeat();
    let result = Err(CallError::NotFound);
    agent.batch([draining, Event::HeartbeatAnswered { heartbeat, result }]);
    assert_eq!(agent.registrations(), 2);
}
