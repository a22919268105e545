//! What StartWorker refuses, and what a repeat of it gets.

use super::*;

#[test]
fn overcommit_is_refused_with_what_is_free_and_what_was_asked() {
    let mut agent = Agent::new();
    agent.run(start("a", 1, 10));
    let request = agent.start(start("b", 1, 7));
    let error = agent.refusal(request);
    assert_eq!(error, &StartError::NotEnoughSlots { asked: 7, free: 6, total: 16 });
    assert_eq!(error.to_string(), "not enough slots: asked 7, free 6 of 16");
    agent.run(start("b", 1, 6));
}

#[test]
fn slots_beyond_any_sum_are_refused() {
    let mut agent = Agent::new();
    agent.run(start("a", 1, 1));
    let request = agent.start(start("b", 1, u64::MAX));
    let error = StartError::NotEnoughSlots { asked: u64::MAX, free: 15, total: 16 };
    assert_eq!(agent.refusal(request), &error);
}

#[test]
fn a_start_that_is_not_answered_yet_holds_its_slots() {
    let mut agent = Agent::new();
    agent.start(start("a", 1, 16));
    let request = agent.start(start("b", 1, 1));
    assert_eq!(
        agent.refusal(request),
        &StartError::NotEnoughSlots { asked: 1, free: 0, total: 16 }
    );
}

#[test]
fn a_start_for_another_machine_is_refused() {
    let mut agent = Agent::new();
    let request = agent.start(Start { machine: "machine-2".into(), ..start("job", 1, 1) });
    let error = WrongMachine { asked: "machine-2".into(), this: MACHINE.into() };
    assert_eq!(agent.refusal(request), &StartError::WrongMachine(error));
    assert_eq!(agent.spawns(), []);
}

#[test]
fn a_stale_generation_is_refused_while_a_newer_one_is_alive() {
    let mut agent = Agent::new();
    let newer = agent.run(start("job", 5, 1));
    let request = agent.start(start("job", 4, 1));
    let error = StartError::StaleGeneration {
        job: "job".into(),
        asked: Generation(4),
        alive: Generation(5),
    };
    assert_eq!(agent.refusal(request), &error);
    assert_eq!(agent.signals(newer), []);

    agent.exited(newer, Exit::Code(0));
    agent.run(start("job", 4, 1));
}

#[test]
fn workers_of_equal_generation_and_of_other_jobs_coexist() {
    let mut agent = Agent::new();
    let workers =
        [start("job", 5, 2), start("job", 5, 2), start("other", 9, 2)].map(|s| agent.run(s));
    for worker in workers {
        assert_eq!(agent.phase(worker), Some(Phase::Running));
        assert_eq!(agent.signals(worker), []);
    }
}

#[test]
fn a_repeat_gets_the_first_answer_whatever_has_become_of_the_worker() {
    let mut agent = Agent::new();
    let asked = with_key("attempt", start("job", 1, 16));

    let first = agent.start(asked.clone());
    let worker = agent.last_spawn();
    let launching = agent.start(asked.clone());
    assert_eq!(agent.answer(launching), None);

    agent.spawned(worker);
    let running = agent.start(asked.clone());

    agent.exited(worker, Exit::Code(0));
    let ended = agent.start(asked.clone());

    for request in [first, launching, running, ended] {
        assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));
        agent.delivered(request);
    }
    agent.acknowledged(worker);
    let reported = agent.start(asked);
    assert_eq!(agent.answer(reported), Some(&Reply::Started(Ok(worker))));
    assert_eq!(agent.spawns(), [worker]);
}

#[test]
fn a_repeat_shares_the_first_ones_failure_and_then_counts_as_new() {
    let mut agent = Agent::new();
    let asked = with_key("attempt", start("job", 1, 16));
    let first = agent.start(asked.clone());
    let repeat = agent.start(asked.clone());
    let worker = agent.last_spawn();
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });
    for request in [first, repeat] {
        assert_eq!(agent.refusal(request), &StartError::Spawn(spawn_error()));
    }
    assert_ne!(agent.run(asked), worker);
}

#[test]
fn a_repeat_while_the_first_waits_for_superseded_workers_waits_along() {
    let mut agent = Agent::new();
    let old = agent.run(start("job", 1, 16));
    let asked = with_key("attempt", start("job", 2, 16));
    let first = agent.start(asked.clone());
    let repeat = agent.start(asked);
    assert_eq!(agent.answer(repeat), None);

    agent.exited(old, Exit::Signal(9));
    let worker = agent.last_spawn();
    agent.spawned(worker);
    for request in [first, repeat] {
        assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));
    }
}

#[test]
fn a_repeat_is_answered_though_new_work_is_refused() {
    let mut agent = Agent::new();
    let asked = with_key("attempt", start("job", 1, 1));
    let worker = agent.run(asked.clone());
    agent.request(Ask::SetDraining(true));
    let repeat = agent.start(asked);
    assert_eq!(agent.answer(repeat), Some(&Reply::Started(Ok(worker))));
}

#[test]
fn a_key_names_one_attempt_only() {
    let mut agent = Agent::new();
    let key = StartKey("attempt".into());
    let reused = StartError::KeyReused { key, job: "job".into() };
    agent.run(start("waited for", 1, 1));

    let first = with_key("attempt", start("job", 1, 1));
    agent.start(first.clone());
    for other in [
        start("another job", 1, 1),
        start("job", 2, 1),
        start("job", 1, 2),
        Start { dialect: Dialect::V0_16, ..start("job", 1, 1) },
    ] {
        let request = agent.start(with_key("attempt", other));
        assert_eq!(agent.refusal(request), &reused, "while it is launched");
    }
    agent.spawned(agent.last_spawn());
    let request = agent.start(with_key("attempt", start("job", 2, 1)));
    assert_eq!(agent.refusal(request), &reused, "while it runs");
    assert_eq!(agent.signals(agent.last_spawn()), [], "a refused start supersedes nobody");

    let waiting = with_key("attempt 2", start("waited for", 2, 1));
    agent.start(waiting);
    let request = agent.start(with_key("attempt 2", start("waited for", 2, 3)));
    assert!(matches!(agent.refusal(request), StartError::KeyReused { .. }), "while it waits");
}

#[test]
fn starts_without_a_key_are_never_taken_for_repeats() {
    let mut agent = Agent::new();
    let workers = [start("job", 1, 1), start("job", 1, 1)].map(|s| agent.run(s));
    assert_ne!(workers[0], workers[1]);
}

#[test]
fn a_program_that_does_not_run_in_time_is_not_waited_for_and_ends_once_it_does() {
    let mut agent = Agent::with(|config| config.spawn_wait = secs(10));
    let request = agent.start(start("job", 1, 4));
    let worker = agent.last_spawn();
    agent.advance(millis(9_999));
    assert_eq!(agent.answer(request), None);
    agent.advance(millis(1));
    assert_eq!(agent.refusal(request), &StartError::NotRunning { wait: secs(10) });
    assert_eq!(agent.free_slots(), 12, "it may run yet");

    agent.spawned(worker);
    assert_eq!(agent.signals(worker), [Signal::Kill]);
    agent.exited(worker, Exit::Signal(9));
    assert_eq!(agent.free_slots(), 16);
}

#[test]
fn a_program_that_could_not_be_run_after_all_leaves_nothing() {
    let mut agent = Agent::with(|config| config.spawn_wait = secs(10));
    agent.start(start("job", 1, 4));
    let worker = agent.last_spawn();
    agent.advance(secs(10));
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });
    assert_eq!(agent.free_slots(), 16);
    assert_eq!(agent.worker(worker), None);
}

#[test]
fn a_repeat_waits_for_a_program_anew() {
    let mut agent = Agent::with(|config| config.spawn_wait = secs(10));
    let start = with_key("attempt", start("job", 1, 4));
    agent.start(start.clone());
    agent.advance(secs(10));
    let repeat = agent.start(start);
    agent.advance(secs(9));
    assert_eq!(agent.answer(repeat), None);
    agent.advance(secs(1));
    assert_eq!(agent.refusal(repeat), &StartError::NotRunning { wait: secs(10) });
    assert_eq!(agent.spawns().len(), 1);
}
