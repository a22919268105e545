//! The controller has forgotten this node: whether it is certain that it restarted, and what comes
//! before the registration then.

use super::*;

/// The controller has forgotten this node. Whether the agent took that for a certain restart.
fn is_certain(agent: &mut Agent, worker: WorkerId) -> bool {
    let registrations = agent.registrations();
    agent.forgotten();
    assert!(agent.is_abandoned(worker));
    assert_eq!(agent.journal.row(worker), agent.worker(worker).as_ref(), "for the next agent too");
    let killed = agent.signals(worker) == [Signal::Kill];
    let registered = agent.registrations() - registrations;
    assert_eq!(registered, usize::from(!killed), "at once, unless somebody is killed first");
    killed
}

/// An agent with one worker whose last heartbeat was answered when it was sent, just now.
fn known_with_worker() -> (Agent, WorkerId) {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.advance_to_heartbeat();
    agent.known();
    (agent, worker)
}

/// The agent that comes after one with a worker, so long after the controller last knew that one.
fn successor_after(duration: Duration) -> (Agent, WorkerId) {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    assert_eq!(agent.journal.recover().known_at, Some(agent.now.mono));
    agent.advance(duration);
    let mut agent = agent.successor();
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    (agent, worker)
}

#[test]
fn a_controller_that_knew_this_node_less_than_half_a_minute_ago_has_restarted() {
    for (silence, certain) in [
        (secs(1), true),
        (secs(29), true),
        (millis(29_999), true),
        (secs(30), false),
        (secs(31), false),
    ] {
        let (mut agent, worker) = known_with_worker();
        agent.advance(silence);
        assert_eq!(is_certain(&mut agent, worker), certain, "{silence:?}");
    }
}

#[test]
fn a_new_agent_knows_from_the_journal_when_the_controller_last_knew_this_node() {
    for (silence, certain) in [(secs(29), true), (secs(31), false)] {
        let (mut agent, worker) = successor_after(silence);
        assert_eq!(agent.probes().len(), 1);
        assert_eq!(is_certain(&mut agent, worker), certain, "{silence:?}");
    }
}

#[test]
fn an_agent_that_never_heard_of_this_controller_is_not_certain() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let mut agent = agent.successor_with(|recovered| recovered.known_at = None);
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    assert!(!is_certain(&mut agent, worker));
}

#[test]
fn what_counts_is_when_the_heartbeat_was_sent_and_not_when_its_answer_came() {
    let (mut agent, worker) = known_with_worker();
    let heartbeat = agent.last_heartbeat();
    agent.advance(secs(3));
    agent.give(Event::HeartbeatAnswered { heartbeat, result: Ok(()) });
    agent.advance(secs(28));
    assert!(!is_certain(&mut agent, worker));
}

#[test]
fn the_answer_to_an_earlier_heartbeat_takes_back_nothing() {
    let (mut agent, worker) = known_with_worker();
    let earlier = agent.last_heartbeat();
    agent.advance_to_heartbeat();
    agent.known();
    agent.give(Event::HeartbeatAnswered { heartbeat: earlier, result: Ok(()) });
    agent.advance(secs(29));
    assert!(is_certain(&mut agent, worker));
}

#[test]
fn a_registration_of_a_forgotten_node_counts_as_knowing_it() {
    let (mut agent, worker) = known_with_worker();
    agent.advance(secs(60));
    assert!(!is_certain(&mut agent, worker));
    agent.registered();
    agent.advance(secs(29));
    assert!(is_certain(&mut agent, worker));
}

#[test]
fn a_registration_of_a_known_node_says_nothing_new() {
    let (mut agent, worker) = known_with_worker();
    agent.connection_lost(Loss::Broken);
    agent.advance_to_heartbeat();
    let probed = agent.now.mono;
    agent.advance(secs(3));
    agent.known();
    agent.registered();
    agent.pass_to(probed + secs(31));
    assert!(!is_certain(&mut agent, worker), "it may have gone to another one");
}

#[test]
fn a_controller_that_closed_a_connection_has_restarted_however_long_it_took() {
    let (mut agent, worker) = known_with_worker();
    agent.connection_lost(Loss::Closed);
    agent.advance_to_heartbeat();
    agent.advance(secs(600));
    assert!(is_certain(&mut agent, worker));
}

#[test]
fn a_controller_that_refused_a_connection_has_restarted() {
    let (mut agent, worker) = known_with_worker();
    agent.advance(secs(60));
    agent.connection_lost(Loss::Broken);
    agent.controller_away();
    agent.advance_to_heartbeat();
    agent.connection_lost(Loss::Closed);
    agent.controller_away();
    agent.advance_to_heartbeat();
    // What comes after that does not take it back.
    agent.connection_lost(Loss::Broken);
    agent.controller_away();
    agent.advance_to_heartbeat();
    assert!(is_certain(&mut agent, worker));
}

#[test]
fn a_broken_connection_alone_makes_nothing_certain() {
    let (mut agent, worker) = known_with_worker();
    agent.connection_lost(Loss::Broken);
    agent.advance_to_heartbeat();
    agent.advance(secs(40));
    assert!(!is_certain(&mut agent, worker));
}

#[test]
fn a_connection_that_was_closed_before_the_controller_last_knew_this_node_says_nothing() {
    let (mut agent, worker) = known_with_worker();
    agent.connection_lost(Loss::Closed);
    agent.advance_to_heartbeat();
    agent.registered();
    agent.advance(secs(40));
    assert!(!is_certain(&mut agent, worker));
}

#[test]
fn the_registration_comes_when_the_last_killed_worker_is_gone() {
    let mut agent = Agent::new();
    let [one, two] = ["one", "two"].map(|job| agent.run(start(job, 1, 1)));
    agent.forgotten();
    for worker in [one, two] {
        assert_eq!(agent.signals(worker), [Signal::Kill], "there is no time to ask");
    }
    agent.exited(one, Exit::Signal(9));
    agent.advance(millis(1_500));
    assert_eq!(agent.registrations(), 1);
    agent.exited(two, Exit::Signal(9));
    assert_eq!((agent.registrations(), agent.last_registration_may_reconnect()), (2, Some(true)));
    assert_eq!(agent.reports(), [], "not before it is registered");
    agent.registered();
    assert_eq!(agent.reports(), [one, two]);
}

#[test]
fn the_registration_waits_two_seconds_at_most() {
    let (mut agent, worker) = known_with_worker();
    agent.forgotten();
    agent.advance(millis(1_999));
    assert_eq!(agent.registrations(), 1);
    agent.advance(millis(1));
    assert_eq!((agent.registrations(), agent.last_registration_may_reconnect()), (2, Some(true)));
    agent.registered();
    assert!(agent.is_abandoned(worker), "it goes on being killed");
    agent.exited(worker, Exit::Signal(9));
    assert_eq!((agent.registrations(), agent.reports()), (2, vec![worker]));
}

#[test]
fn a_killed_worker_whose_program_never_runs_is_waited_for_too() {
    let mut agent = Agent::new();
    agent.start(start("job", 1, 1));
    let worker = agent.last_spawn();
    agent.forgotten();
    assert_eq!(agent.registrations(), 1);
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });
    assert_eq!(agent.registrations(), 2);
}

#[test]
fn a_node_without_workers_registers_at_once() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    agent.forgotten();
    assert_eq!((agent.registrations(), agent.last_registration_may_reconnect()), (2, Some(true)));
    assert_eq!(agent.worker(worker).and_then(|worker| worker.abandoned_at), None, "it has ended");
}

#[test]
fn starts_that_wait_are_refused() {
    for silence in [secs(1), secs(40)] {
        let mut agent = Agent::with(|config| config.supersede_wait = secs(60));
        let old = agent.run(start("job", 1, 1));
        agent.advance(silence);
        let waiting = agent.start(start("job", 2, 1));
        agent.forgotten();
        assert_eq!(agent.refusal(waiting), &StartError::Forgotten);
        agent.exited(old, Exit::Signal(9));
        assert_eq!(agent.spawns(), [old], "whoever asked for it is gone");
    }
}

#[test]
fn callers_of_stops_are_answered_as_ever() {
    let (mut agent, worker) = known_with_worker();
    let request = agent.stop(worker, StopHow::Force);
    agent.forgotten();
    assert_eq!(agent.signals(worker), [Signal::Terminate, Signal::Kill]);
    agent.exited(worker, Exit::Signal(9));
    agent.registered();
    agent.acknowledged(worker);
    assert_eq!(agent.answer(request), Some(&stopped(Exit::Signal(9))));
}

#[test]
fn when_the_controller_last_knew_this_node_is_recorded_every_ten_seconds_at_most() {
    let mut agent = Agent::new();
    let (mut recorded, mut beats) = (vec![agent.journal.recover().known_at], 0);
    let commits = agent.journal.attempts;
    for _ in 0..60 {
        agent.advance_to_heartbeat();
        agent.known();
        beats += 1;
        let known_at = agent.journal.recover().known_at;
        if recorded.last() != Some(&known_at) {
            assert_eq!(known_at, Some(agent.now.mono));
            recorded.push(known_at);
        }
    }
    assert_eq!(agent.journal.attempts - commits, recorded.len() - 1, "no other commits");
    let recorded: Vec<Mono> = recorded.into_iter().flatten().collect();
    for pair in recorded.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!(secs(10) <= gap && gap < secs(10) + millis(5_500), "{gap:?}");
    }
    assert!((beats / 4..=beats / 2).contains(&recorded.len()), "{} of {beats}", recorded.len());
}

#[test]
fn a_journal_that_is_written_anew_says_when_the_controller_last_knew_this_node() {
    let (mut agent, _) = known_with_worker();
    let known = agent.now.mono;
    agent.journal.broken = true;
    agent.request(Ask::SetDraining(true));
    agent.journal = MemoryJournal::default();
    agent.advance(secs(1));
    assert_eq!(agent.journal.recover().known_at, Some(known));
}
