//! A newer generation of a job ends the older ones, then takes their place.

use super::*;

#[test]
fn older_generations_are_killed_and_the_start_waits_for_the_last_of_them() {
    let mut agent = Agent::new();
    let first = agent.run(start("job", 1, 8));
    let other = agent.run(start("other job", 1, 1));
    let request = agent.start(start("job", 3, 15));

    assert_eq!(agent.signals(first), [Signal::Kill], "there is no time to ask");
    assert_eq!(agent.signals(other), []);
    assert_eq!(agent.answer(request), None);
    assert_eq!(agent.spawns(), [first, other]);

    agent.exited(first, Exit::Signal(9));
    let worker = agent.last_spawn();
    agent.spawned(worker);
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));
    assert_eq!(agent.free_slots(), 0);
    assert_eq!(agent.reports(), [first], "the superseded one is reported like any other");
}

#[test]
fn of_several_older_workers_the_last_end_admits() {
    let mut agent = Agent::new();
    let old = [start("job", 1, 2), start("job", 1, 2), start("job", 1, 2)].map(|s| agent.run(s));
    agent.start(start("job", 2, 2));
    for (left, worker) in old.into_iter().enumerate().map(|(n, worker)| (2 - n, worker)) {
        assert_eq!(agent.spawns().len(), 3, "{} still to end", left + 1);
        agent.exited(worker, Exit::Signal(9));
    }
    assert_eq!(agent.spawns().len(), 4);
}

#[test]
fn the_slots_are_reserved_for_the_start_that_waits() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 10));
    let waiting = agent.start(start("job", 2, 14));
    assert_eq!(agent.free_slots(), 2, "6 were free, 4 of them are promised beyond the old 10");

    let rival = agent.start(start("rival", 1, 3));
    assert!(matches!(agent.refusal(rival), StartError::NotEnoughSlots { asked: 3, free: 2, .. }));
    agent.run(start("modest", 1, 2));

    // In the same batch as the old worker's end: the promise still holds.
    let (late, event) = agent.asking(Ask::Start(start("late", 1, 1)));
    agent.batch([Event::Exited { worker: old, exit: Exit::Signal(9) }, event]);
    assert!(matches!(agent.refusal(late), StartError::NotEnoughSlots { asked: 1, free: 0, .. }));
    let worker = agent.last_spawn();
    agent.spawned(worker);
    assert_eq!(agent.answer(waiting), Some(&Reply::Started(Ok(worker))));
}

#[test]
fn a_start_too_big_even_for_superseding_kills_nobody() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 10));
    agent.run(start("other", 1, 4));
    let request = agent.start(start("job", 2, 13));
    let error = StartError::NotEnoughSlots { asked: 13, free: 12, total: 16 };
    assert_eq!(agent.refusal(request), &error);
    assert_eq!(agent.signals(old), []);
}

#[test]
fn two_starts_of_one_generation_do_not_take_the_same_slots() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 12));
    agent.start(with_key("first", start("job", 2, 12)));
    let second = agent.start(with_key("second", start("job", 2, 5)));
    let error = StartError::NotEnoughSlots { asked: 5, free: 4, total: 16 };
    assert_eq!(agent.refusal(second), &error);
    agent.start(with_key("third", start("job", 2, 4)));

    agent.exited(old, Exit::Signal(9));
    assert_eq!(agent.spawns().len(), 3);
    assert_eq!(agent.free_slots(), 0);
}

#[test]
fn a_start_gives_up_after_supersede_wait_and_its_promise_with_it() {
    let mut agent = Agent::with(|config| config.supersede_wait = secs(2));
    let old = agent.run(start("job", 1, 10));
    let request = agent.start(start("job", 2, 16));
    agent.advance(millis(1_999));
    assert_eq!(agent.answer(request), None);
    agent.advance(millis(1));
    let error = StartError::RoomNotFree { job: "job".into(), left: 1 };
    assert_eq!(agent.refusal(request), &error);
    assert_eq!(agent.free_slots(), 6);

    agent.exited(old, Exit::Signal(9));
    assert_eq!(agent.spawns(), [old], "nobody waits for it any more");
    agent.run(start("job", 2, 16));
}

#[test]
fn a_newer_start_takes_the_place_of_one_that_waits() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 10));
    let second = agent.start(start("job", 2, 16));
    let third = agent.start(start("job", 3, 16));
    let error =
        StartError::Superseded { job: "job".into(), asked: Generation(2), by: Generation(3) };
    assert_eq!(agent.refusal(second), &error);

    let stale = agent.start(start("job", 2, 1));
    assert!(matches!(
        agent.refusal(stale),
        StartError::StaleGeneration { alive: Generation(3), .. }
    ));

    agent.exited(old, Exit::Signal(9));
    agent.spawned(agent.last_spawn());
    assert!(matches!(agent.answer(third), Some(Reply::Started(Ok(_)))));
    assert_eq!(agent.spawns().len(), 2);
}

#[test]
fn a_newer_start_that_is_refused_leaves_the_one_that_waits_alone() {
    let mut agent = Agent::new();
    agent.run(start("job", 1, 10));
    let second = agent.start(start("job", 2, 16));
    let third = agent.start(start("job", 3, 17));
    assert!(matches!(agent.refusal(third), StartError::NotEnoughSlots { asked: 17, free: 16, .. }));
    assert_eq!(agent.answer(second), None);
}

#[test]
fn a_worker_that_is_superseded_before_it_runs_is_killed_once_it_does() {
    let mut agent = Agent::new();
    let request = agent.start(start("job", 1, 10));
    let old = agent.last_spawn();
    agent.start(start("job", 2, 10));
    assert_eq!(agent.signals(old), [], "there is nothing to signal yet");

    agent.spawned(old);
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(old))));
    assert_eq!(agent.signals(old), [Signal::Kill]);
}

#[test]
fn a_superseded_worker_that_never_runs_admits_too() {
    let mut agent = Agent::new();
    agent.start(start("job", 1, 10));
    let old = agent.last_spawn();
    agent.start(start("job", 2, 10));
    agent.give(Event::SpawnFailed { worker: old, error: spawn_error() });
    assert_eq!(agent.spawns().len(), 2);
}

#[test]
fn slots_that_were_overcommitted_before_a_restart_are_not_given_out_again() {
    let mut agent = Agent::new();
    let (a, b) = (agent.run(start("a", 1, 8)), agent.run(start("b", 1, 8)));
    let mut recovered = agent.journal.recover();
    recovered.workers.sort_by_key(|worker| worker.id);
    // The operator has lowered the agent to 8 slots: one of the two is too many.
    let mut agent = Agent::unregistered(|config| config.task_slots = 8, recovered);
    for worker in [a, b] {
        agent.give(Event::Adopted { worker, process: process_of(worker) });
    }
    let request = agent.start(start("a", 2, 8));
    let error = StartError::NotEnoughSlots { asked: 8, free: 0, total: 8 };
    assert_eq!(agent.refusal(request), &error, "b alone holds all there is");
    assert_eq!(agent.signals(a), []);

    agent.exited(b, Exit::Code(0));
    agent.start(start("a", 2, 8));
    agent.exited(a, Exit::Signal(9));
    assert_eq!(agent.machine.view().live_workers, 1);
}
