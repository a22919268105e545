//! No new workers, the rest goes on.

use super::*;

const DRAINED: Reply = Reply::Draining(Ok(()));

#[test]
fn a_draining_agent_refuses_new_work_and_goes_on_with_the_old() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let request = agent.request(Ask::SetDraining(true));
    assert_eq!(agent.answer(request), Some(&DRAINED));
    assert_eq!(agent.machine.view().mode, Mode::Draining);

    let refused = agent.start(start("job", 2, 1));
    assert_eq!(agent.refusal(refused), &StartError::Draining);
    assert_eq!(agent.signals(worker), [], "a refused start supersedes nobody");
    agent.exited(worker, Exit::Code(0));
    assert_eq!(agent.reports(), [worker]);
    agent.acknowledged(worker);
    agent.advance(secs(600));
    assert!(!agent.finished(), "draining is not shutting down");

    let request = agent.request(Ask::SetDraining(false));
    assert_eq!(agent.answer(request), Some(&DRAINED));
    agent.run(start("job", 2, 1));
}

#[test]
fn draining_survives_a_restart() {
    let mut agent = Agent::new();
    agent.request(Ask::SetDraining(true));
    let mut agent = agent.successor();
    let request = agent.start(start("job", 1, 1));
    assert_eq!(agent.refusal(request), &StartError::Draining);
    agent.request(Ask::SetDraining(false));
    let mut agent = agent.successor();
    agent.run(start("job", 1, 1));
}

#[test]
fn a_draining_that_is_not_durable_takes_effect_but_says_so() {
    let mut agent = Agent::new();
    agent.journal.broken = true;
    let first = agent.request(Ask::SetDraining(true));
    let down = JournalDown { reason: "disk full".into() };
    assert_eq!(agent.answer(first), Some(&Reply::Draining(Err(down.clone()))));
    let second = agent.request(Ask::SetDraining(true));
    assert_eq!(agent.answer(second), Some(&Reply::Draining(Err(down))));
    assert_eq!(agent.machine.view().mode, Mode::Draining);

    agent.journal.broken = false;
    agent.advance(secs(1));
    let third = agent.request(Ask::SetDraining(true));
    assert_eq!(agent.answer(third), Some(&DRAINED));
    assert_eq!(agent.successor().machine.view().mode, Mode::Draining);
}

#[test]
fn draining_refuses_the_starts_that_still_wait() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 1));
    let waiting = agent.start(start("job", 2, 1));
    agent.request(Ask::SetDraining(true));
    assert_eq!(agent.refusal(waiting), &StartError::Draining);
    agent.exited(old, Exit::Signal(9));
    assert_eq!(agent.spawns(), [old], "whoever drains counts on no new worker");
}
