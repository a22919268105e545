//! The end of the agent.

use super::*;
use Signal::{Kill, Terminate};

fn shut_down(agent: &mut Agent) {
    agent.give(Event::Shutdown(Shutdown::StopWorkers));
}

#[test]
fn an_idle_agent_ends_at_once() {
    let mut agent = Agent::new();
    let request = agent.request(Ask::Shutdown(Shutdown::StopWorkers));
    assert_eq!(
        agent.effects(),
        [Effect::Reply { request, reply: Reply::ShuttingDown }, Effect::Finish]
    );
}

#[test]
fn workers_are_asked_then_killed_then_reported_before_the_agent_ends() {
    let mut agent = Agent::new();
    let [polite, stubborn] = ["polite", "stubborn"].map(|job| agent.run(start(job, 1, 1)));
    shut_down(&mut agent);
    assert_eq!(agent.machine.view().mode, Mode::ShuttingDown);
    let refused = agent.start(start("late", 1, 1));
    assert_eq!(agent.refusal(refused), &StartError::ShuttingDown);

    agent.exited(polite, Exit::Code(0));
    agent.advance(secs(10));
    assert_eq!(agent.signals(polite), [Terminate]);
    assert_eq!(agent.signals(stubborn), [Terminate, Kill]);
    agent.exited(stubborn, Exit::Signal(9));
    agent.acknowledged(stubborn);
    assert!(!agent.finished(), "one report is still owed");
    agent.acknowledged(polite);
    assert!(agent.finished());
}

#[test]
fn an_unreachable_controller_is_waited_for_with_patience() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.controller_away();
    shut_down(&mut agent);
    agent.exited(worker, Exit::Code(0));
    agent.advance(millis(4_999));
    assert!(!agent.finished());
    agent.advance(millis(1));
    assert!(agent.finished());

    let mut next = agent.successor();
    next.registered();
    assert_eq!(next.reports(), [worker], "what was owed stays owed");
}

#[test]
fn workers_that_do_not_die_keep_the_agent_no_longer_than_its_patience() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    shut_down(&mut agent);
    // A second request changes nothing: only signals are impatient.
    agent.advance(secs(8));
    let request = agent.request(Ask::Shutdown(Shutdown::StopWorkers));
    assert_eq!(agent.answer(request), Some(&Reply::ShuttingDown));
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(millis(6_999));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
    assert!(!agent.finished());
    agent.advance(millis(1));
    assert!(agent.finished());
    let row = agent.journal.row(worker).expect("the next agent finds it");
    assert!(row.stop.is_some_and(|stop| stop.kill_at.is_some()) && row.end.is_none());
}

#[test]
fn a_second_signal_within_a_second_is_the_same_wish() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    shut_down(&mut agent);
    shut_down(&mut agent);
    agent.advance(millis(999));
    shut_down(&mut agent);
    assert_eq!(agent.signals(worker), [Terminate]);
    agent.advance(millis(9_000));
    assert_eq!(agent.signals(worker), [Terminate], "nor is the deadline any sooner");
    agent.advance(millis(1));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn a_later_signal_kills_at_once_and_what_is_owed_is_still_delivered() {
    let mut agent = Agent::new();
    let [dies, stays] = ["dies", "stays"].map(|job| agent.run(start(job, 1, 1)));
    shut_down(&mut agent);
    agent.advance(secs(1));
    shut_down(&mut agent);
    for worker in [dies, stays] {
        assert_eq!(agent.signals(worker), [Terminate, Kill]);
    }
    agent.exited(dies, Exit::Signal(9));
    assert_eq!(agent.reports(), [dies]);
    assert!(!agent.finished(), "it waits for the acknowledgement, and for the other");
    agent.advance(millis(4_999));
    assert!(!agent.finished());
    agent.advance(millis(1));
    assert!(agent.finished(), "but not for longer than its patience from the second signal");
}

#[test]
fn a_third_signal_gives_no_more_time() {
    let mut agent = Agent::new();
    agent.run(start("job", 1, 1));
    shut_down(&mut agent);
    for _ in 0..3 {
        agent.advance(secs(2));
        shut_down(&mut agent);
    }
    assert!(!agent.finished());
    agent.advance(secs(1));
    assert!(agent.finished(), "five seconds after the second");
}

#[test]
fn a_stop_that_is_under_way_keeps_its_earlier_deadline() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.stop(worker, StopHow::Force);
    agent.advance(secs(1));
    shut_down(&mut agent);
    agent.advance(secs(4));
    assert_eq!(agent.signals(worker), [Terminate, Kill]);
}

#[test]
fn a_worker_that_starts_during_the_shutdown_is_stopped() {
    let mut agent = Agent::new();
    let request = agent.start(start("job", 1, 1));
    let worker = agent.last_spawn();
    shut_down(&mut agent);
    assert!(!agent.finished());
    agent.spawned(worker);
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));
    assert_eq!(agent.signals(worker), [Terminate]);
}

#[test]
fn starts_that_wait_are_refused() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 1));
    let waiting = agent.start(start("job", 2, 1));
    shut_down(&mut agent);
    assert_eq!(agent.refusal(waiting), &StartError::ShuttingDown);
    agent.exited(old, Exit::Signal(9));
    agent.acknowledged(old);
    assert_eq!(agent.spawns(), [old]);
    assert!(agent.finished());
}

#[test]
fn detaching_ends_the_agent_and_nobody_else() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.effects();
    let request = agent.request(Ask::Shutdown(Shutdown::Detach));
    assert_eq!(
        agent.effects(),
        [Effect::Reply { request, reply: Reply::ShuttingDown }, Effect::Finish]
    );
    let mut next = agent.successor();
    next.give(Event::Adopted { worker, process: process_of(worker) });
    assert_eq!(next.phase(worker), Some(Phase::Running));
    assert_eq!(next.signals(worker), []);
}

#[test]
fn detaching_cuts_a_shutdown_short() {
    let mut agent = Agent::new();
    agent.run(start("job", 1, 1));
    shut_down(&mut agent);
    agent.give(Event::Shutdown(Shutdown::Detach));
    assert!(agent.finished());
}

#[test]
fn a_broken_journal_does_not_keep_an_agent_from_ending() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.journal.broken = true;
    shut_down(&mut agent);
    agent.exited(worker, Exit::Code(0));
    agent.acknowledged(worker);
    assert!(agent.finished());
}

#[test]
fn patience_counts_from_the_last_worker_though_it_never_ran() {
    let mut agent = Agent::new();
    let ended = agent.run(start("ended", 1, 1));
    agent.exited(ended, Exit::Code(0));
    agent.start(start("unborn", 1, 1));
    let worker = agent.last_spawn();
    shut_down(&mut agent);
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });
    agent.advance(secs(5));
    assert!(agent.finished());
}

#[test]
fn nothing_begins_once_the_agent_has_finished() {
    let mut agent = Agent::new();
    let (_, late) = agent.asking(Ask::Start(start("job", 1, 1)));
    agent.batch([Event::Shutdown(Shutdown::Detach), late]);
    assert!(agent.finished());
    assert_eq!(agent.spawns(), [], "in the same batch, and too late");
}
