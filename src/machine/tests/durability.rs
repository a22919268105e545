//! What rests on a commit, and what goes on without one.

use super::*;

fn down() -> JournalDown {
    JournalDown { reason: "disk full".into() }
}

#[test]
fn a_start_that_is_not_durable_never_happened() {
    let mut agent = Agent::new();
    agent.journal.broken = true;
    let asked = with_key("attempt", start("job", 1, 16));
    let (first, one) = agent.asking(Ask::Start(asked.clone()));
    let (repeat, two) = agent.asking(Ask::Start(asked.clone()));
    agent.batch([one, two]);
    for request in [first, repeat] {
        assert_eq!(agent.refusal(request), &StartError::JournalDown(down()));
    }
    assert_eq!(agent.spawns(), []);
    assert_eq!(agent.free_slots(), 16);
    assert_eq!(agent.machine.view().journal_error.as_deref(), Some("disk full"));

    let again = agent.start(asked.clone());
    assert_eq!(agent.refusal(again), &StartError::JournalDown(down()), "without trying");

    agent.journal.broken = false;
    agent.advance(secs(5));
    assert_eq!(agent.machine.view().journal_error, None);
    agent.run(asked);
}

#[test]
fn in_a_batch_that_fails_only_what_rests_on_it_is_undone() {
    let mut agent = Agent::new();
    let [ended, stopped] = ["ended", "stopped"].map(|job| agent.run(start(job, 1, 1)));
    agent.effects();
    agent.journal.broken = true;
    let (started, start) = agent.asking(Ask::Start(start("new", 1, 1)));
    let (_, stop) = agent.asking(Ask::Stop { worker: stopped, how: StopHow::Gentle });
    let (drained, drain) = agent.asking(Ask::SetDraining(true));
    let end = Event::Exited { worker: ended, exit: Exit::Code(1) };
    agent.batch([start, end, stop, drain]);

    assert_eq!(agent.refusal(started), &StartError::JournalDown(down()));
    assert_eq!(agent.answer(drained), Some(&Reply::Draining(Err(down()))));
    assert_eq!(agent.signals(stopped), [Signal::Terminate], "supervision goes on");
    assert_eq!(agent.reports(), [ended], "and so does reporting");
    assert!(!agent.released(ended), "the exit status has no other copy");
    assert_eq!(agent.machine.view().live_workers, 1);
}

#[test]
fn a_start_superseding_one_of_the_same_failed_batch_is_refused_too() {
    let mut agent = Agent::new();
    agent.journal.broken = true;
    let (first, one) = agent.asking(Ask::Start(start("job", 1, 9)));
    let (second, two) = agent.asking(Ask::Start(start("job", 2, 9)));
    agent.batch([one, two]);
    for request in [first, second] {
        assert_eq!(agent.refusal(request), &StartError::JournalDown(down()));
    }
    assert_eq!(agent.free_slots(), 16);
}

#[test]
fn a_waiting_start_is_refused_when_the_journal_fails_meanwhile() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 9));
    let waiting = agent.start(start("job", 2, 9));
    agent.journal.broken = true;
    agent.exited(old, Exit::Signal(9));
    assert_eq!(agent.refusal(waiting), &StartError::JournalDown(down()));
    assert_eq!(agent.spawns(), [old]);
    assert_eq!(agent.free_slots(), 16);
}

#[test]
fn a_program_that_is_being_started_when_the_journal_fails_is_answered() {
    let mut agent = Agent::new();
    let request = agent.start(start("job", 1, 1));
    let worker = agent.last_spawn();
    agent.journal.broken = true;
    agent.spawned(worker);
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))), "its row is durable");

    let mut next = agent.successor();
    assert!(next.effects().contains(&Effect::Adopt { worker, process: None }));
}

#[test]
fn what_happened_meanwhile_is_written_when_the_journal_works_again() {
    let mut agent = Agent::new();
    let [ended, reported, stopped] =
        ["ended", "reported", "stopped"].map(|job| agent.run(start(job, 1, 1)));
    agent.journal.broken = true;
    agent.request(Ask::SetDraining(true));
    agent.exited(ended, Exit::Code(1));
    agent.exited(reported, Exit::Code(2));
    agent.acknowledged(reported);
    agent.stop(stopped, StopHow::Gentle);
    agent.advance(secs(60));
    assert!(agent.journal.row(ended).is_some_and(|row| row.end.is_none()));

    agent.journal.broken = false;
    agent.advance(secs(5));
    assert!(agent.journal.recover().draining);
    for worker in [ended, reported, stopped] {
        assert_eq!(agent.journal.row(worker), agent.worker(worker).as_ref());
    }
    assert!(agent.released(ended) && agent.released(reported) && !agent.released(stopped));
}

#[test]
fn events_of_the_rewriting_batch_itself_are_written_with_it() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.journal.broken = true;
    agent.stop(worker, StopHow::Gentle);
    agent.journal.broken = false;
    agent.pass_to(agent.now.mono + millis(100));
    let end = Event::Exited { worker, exit: Exit::Code(1) };
    agent.batch([Event::Timeout, end]);
    assert!(agent.journal.row(worker).is_some_and(|row| row.end.is_some()));
    assert!(agent.released(worker));
}

#[test]
fn the_journal_is_tried_again_with_a_growing_backoff() {
    let mut agent = Agent::new();
    agent.journal.broken = true;
    agent.request(Ask::SetDraining(true));
    for bound in [100, 400, 1_600, 5_000, 5_000] {
        agent.journal.attempts = 0;
        agent.advance(millis(bound - 1));
        assert_eq!(agent.journal.attempts, 0);
        agent.advance(millis(1));
        assert_eq!(agent.journal.attempts, 1);
    }
}

#[test]
fn an_acknowledgement_that_is_not_durable_is_asked_for_again_after_a_crash_only() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    agent.exited(worker, Exit::Code(0));
    agent.journal.broken = true;
    agent.acknowledged(worker);
    agent.advance(secs(60));
    assert_eq!(agent.reports(), [worker]);
    let mut next = agent.successor();
    next.registered();
    assert_eq!(next.reports(), [worker]);
}

/// An agent whose journal does not work, and a worker that has ended and been forgotten meanwhile.
fn forgotten_while_the_journal_fails() -> (Agent, WorkerId) {
    let mut agent = Agent::with(|config| config.retain_most = 0);
    let worker = agent.run(start("job", 1, 1));
    agent.journal.broken = true;
    agent.exited(worker, Exit::Code(1));
    agent.acknowledged(worker);
    agent.advance(secs(60));
    assert_eq!(agent.worker(worker), None);
    assert!(!agent.released(worker));
    (agent, worker)
}

#[test]
fn an_end_is_released_once_it_is_durable_though_forgotten_by_then() {
    let (mut agent, worker) = forgotten_while_the_journal_fails();
    agent.journal.broken = false;
    agent.advance(secs(5));
    assert!(agent.released(worker), "else its exit status is kept for ever");
    assert_eq!(agent.worker(worker), None);
    assert_eq!(agent.journal.row(worker), None);
}

#[test]
fn an_end_that_was_forgotten_is_released_even_by_an_agent_that_ends_with_its_rewrite() {
    let (mut agent, worker) = forgotten_while_the_journal_fails();
    while let Some((at, timer)) = agent.machine.next_timeout() {
        agent.pass_to(at);
        if timer == Timer::Rewrite {
            break;
        }
        agent.give(Event::Timeout);
    }
    agent.journal.broken = false;
    agent.batch([Event::Timeout, Event::Shutdown(Shutdown::Detach)]);
    assert!(agent.finished());
    assert!(agent.released(worker), "the next agent would not know it, and report it again");
}
