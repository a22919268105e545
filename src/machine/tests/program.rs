//! A node whose worker program cannot be executed does not register, and does everything else.

use super::*;

fn missing() -> Event {
    Event::ProgramChecked(Err("/usr/bin/arroyo: No such file or directory".into()))
}

fn found() -> Event {
    Event::ProgramChecked(Ok(()))
}

/// An agent whose first probe is under way and whose worker program cannot be executed.
fn without_program() -> Agent {
    let mut agent = Agent::unregistered(|_| {}, Recovered::default());
    agent.give(missing());
    agent
}

#[test]
fn until_it_is_looked_at_a_program_is_taken_to_be_executable() {
    let agent = Agent::new();
    assert!(agent.is_registered());
    assert_eq!(agent.machine.view().program_error, None);
}

#[test]
fn the_view_says_why() {
    let mut agent = without_program();
    let error = agent.machine.view().program_error;
    assert_eq!(error.as_deref(), Some("/usr/bin/arroyo: No such file or directory"));
    agent.give(found());
    assert_eq!(agent.machine.view().program_error, None);
}

#[test]
fn a_forgotten_node_registers_once_it_can_run_workers() {
    let mut agent = without_program();
    agent.forgotten();
    for _ in 0..5 {
        agent.advance_to_heartbeat();
        agent.forgotten();
    }
    assert_eq!((agent.registrations(), agent.is_registered()), (0, false));
    agent.give(missing());
    assert_eq!(agent.registrations(), 0);
    agent.give(found());
    assert_eq!((agent.registrations(), agent.last_registration_may_reconnect()), (1, Some(true)));
    agent.registered();
    assert!(agent.is_registered());
}

#[test]
fn heartbeats_keep_their_cadence_meanwhile() {
    let mut agent = without_program();
    agent.forgotten();
    let begun = agent.now.mono;
    agent.advance(secs(60));
    let beats = agent.heartbeats();
    assert!(beats.len() >= 60 * 2 / 11, "{beats:?}");
    let mut last = begun;
    for at in beats {
        assert!(at.since(last) <= millis(5_500), "{at:?}");
        last = at;
    }
}

#[test]
fn what_is_owed_is_reported_meanwhile() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.controller_away();
    agent.exited(worker, Exit::Code(0));
    let mut agent = agent.successor();
    agent.give(missing());
    agent.forgotten();
    assert_eq!(agent.reports(), [worker]);
    agent.acknowledged(worker);
    assert_eq!((agent.machine.view().reports_owed, agent.registrations()), (0, 0));
}

#[test]
fn a_node_that_the_controller_knows_stays_in_touch_and_does_not_register() {
    let mut agent = without_program();
    agent.known();
    assert_eq!(agent.registrations(), 0);
    let beats = agent.heartbeats().len();
    agent.advance(secs(60));
    assert!(agent.heartbeats().len() >= beats + 10);
    assert_eq!(agent.registrations(), 0);
}

#[test]
fn a_registered_node_whose_program_disappears_registers_no_more() {
    let mut agent = Agent::new();
    agent.give(missing());
    agent.reconnected();
    assert_eq!((agent.probes().len(), agent.registrations()), (2, 1));
    agent.advance(secs(40));
    agent.forgotten();
    assert_eq!(agent.registrations(), 1);
    agent.give(found());
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn a_registration_that_waits_for_killed_workers_waits_for_the_program_too() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.give(missing());
    agent.forgotten();
    assert_eq!(agent.signals(worker), [Signal::Kill]);
    agent.exited(worker, Exit::Signal(9));
    agent.advance(secs(10));
    assert_eq!(agent.registrations(), 1);
    agent.give(found());
    assert_eq!(agent.registrations(), 2);
}
