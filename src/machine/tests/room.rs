//! Which workers are ended for a start, besides older generations of its job.

use super::*;

/// Starts a worker whose process started at this time.
fn run_since(agent: &mut Agent, asked: Start, start_time: u64) -> WorkerId {
    let request = agent.start(asked);
    let worker = agent.last_spawn();
    let process = Process { start_time, ..process_of(worker) };
    agent.give(Event::Spawned { worker, process });
    agent.delivered(request);
    worker
}

/// An agent with 16 slots and a worker for each of these ages and sizes, each of its own job. All
/// were abandoned, though perhaps not by a restart.
fn abandoned<const N: usize>(workers: [(u64, u64); N]) -> (Agent, [WorkerId; N]) {
    let mut agent = Agent::new();
    let ids = workers.map(|(start_time, slots)| {
        run_since(&mut agent, start(&format!("job {start_time}"), 1, slots), start_time)
    });
    agent.advance(secs(40));
    agent.forgotten();
    agent.registered();
    (agent, ids)
}

/// Which of these workers have been killed. The others have not been signalled at all.
fn killed<const N: usize>(agent: &Agent, workers: [WorkerId; N]) -> [bool; N] {
    workers.map(|worker| match agent.signals(worker).as_slice() {
        [] => false,
        [Signal::Kill] => true,
        other => panic!("{worker} was sent {other:?}"),
    })
}

fn not_enough(asked: u64, free: u64) -> StartError {
    StartError::NotEnoughSlots { asked, free, total: 16 }
}

/// The start is admitted once its room is free.
fn admitted(agent: &mut Agent, request: RequestId) {
    let worker = agent.last_spawn();
    agent.spawned(worker);
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));
}

#[test]
fn abandoned_workers_are_ended_for_a_start_that_lacks_slots_and_it_waits_for_their_end() {
    let (mut agent, [old]) = abandoned([(1, 16)]);
    let request = agent.start(start("new", 1, 4));
    assert_eq!((killed(&agent, [old]), agent.answer(request)), ([true], None));
    agent.exited(old, Exit::Signal(9));
    admitted(&mut agent, request);
    assert_eq!(agent.free_slots(), 12);
    assert_eq!(agent.reports(), [old], "it is reported like any other");
}

#[test]
fn a_start_that_lacks_no_slots_ends_nobody() {
    let (mut agent, workers) = abandoned([(1, 4), (2, 4)]);
    agent.run(start("new", 1, 8));
    assert_eq!(killed(&agent, workers), [false, false]);
}

#[test]
fn the_oldest_go_first_and_only_as_many_as_needed() {
    // Neither in the order of the starts nor of the ids: by the age of the processes.
    for ages in [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3], [3, 1, 4, 2]] {
        let (mut agent, workers) = abandoned(ages.map(|age| (age, 4)));
        let request = agent.start(start("new", 1, 5));
        assert_eq!(killed(&agent, workers), ages.map(|age| age <= 2), "{ages:?}");
        for (worker, age) in workers.into_iter().zip(ages) {
            if age <= 2 {
                assert_eq!(agent.answer(request), None);
                agent.exited(worker, Exit::Signal(9));
            }
        }
        admitted(&mut agent, request);
    }
}

#[test]
fn the_age_is_not_a_matter_of_the_wall_clock() {
    let mut agent = Agent::new();
    let older = run_since(&mut agent, start("older", 1, 8), 1);
    agent.now.wall = Wall(1_000_000);
    let newer = run_since(&mut agent, start("newer", 1, 8), 2);
    agent.advance(secs(40));
    agent.forgotten();
    agent.registered();
    agent.start(start("new", 1, 1));
    assert_eq!(killed(&agent, [older, newer]), [true, false]);
}

#[test]
fn a_later_one_that_is_large_enough_spares_the_earlier_ones() {
    let (mut agent, workers) = abandoned([(1, 2), (2, 2), (3, 10), (4, 2)]);
    agent.start(start("new", 1, 9));
    assert_eq!(killed(&agent, workers), [false, false, true, false]);
}

#[test]
fn an_earlier_one_is_spared_only_if_the_rest_is_enough() {
    let (mut agent, workers) = abandoned([(1, 2), (2, 3), (3, 10)]);
    agent.start(start("new", 1, 14));
    assert_eq!(killed(&agent, workers), [false, true, true], "1 free, 3 and 10 are 14");
    let (mut agent, workers) = abandoned([(1, 2), (2, 3), (3, 10)]);
    agent.start(start("new", 1, 15));
    assert_eq!(killed(&agent, workers), [true, true, true]);
}

#[test]
fn what_cannot_be_freed_is_refused_and_nobody_is_killed() {
    let mut agent = Agent::new();
    agent.run(start("old", 1, 10));
    agent.advance(secs(40));
    agent.forgotten();
    agent.registered();
    let old = agent.last_spawn();
    let known = agent.run(start("known", 1, 4));
    let request = agent.start(start("new", 1, 13));
    assert_eq!(agent.refusal(request), &not_enough(13, 12), "all that could be had");
    assert_eq!(killed(&agent, [old, known]), [false, false]);
    agent.start(start("new", 1, 12));
    assert_eq!(killed(&agent, [old, known]), [true, false]);
}

#[test]
fn the_policy_keep_makes_no_room() {
    let mut agent = Agent::with(|config| config.abandoned = AbandonedPolicy::Keep);
    let old = agent.run(start("old", 1, 16));
    agent.advance(secs(40));
    agent.forgotten();
    agent.registered();
    let request = agent.start(start("new", 1, 1));
    assert_eq!(agent.refusal(request), &not_enough(1, 0));
    assert_eq!(killed(&agent, [old]), [false]);
}

#[test]
fn one_that_a_stop_has_named_makes_no_room_any_more() {
    let (mut agent, [named, other]) = abandoned([(1, 8), (2, 8)]);
    agent.stop(named, StopHow::Ask);
    agent.start(start("new", 1, 8));
    assert_eq!(killed(&agent, [named, other]), [false, true]);
    let request = agent.start(start("more", 1, 1));
    assert_eq!(agent.refusal(request), &not_enough(1, 0));
}

#[test]
fn one_that_is_being_killed_anyway_goes_before_the_oldest() {
    let (mut agent, [older, dying]) = abandoned([(1, 8), (2, 8)]);
    agent.machine.config.kill_after = Duration::ZERO;
    // It was killed for a start that has given up since.
    let first = agent.start(start("job 2", 2, 1));
    agent.advance(secs(2));
    let error = StartError::RoomNotFree { job: "job 2".into(), left: 1 };
    assert_eq!(agent.refusal(first), &error);
    agent.start(start("new", 1, 8));
    assert_eq!(killed(&agent, [older, dying]), [false, true]);
}

#[test]
fn the_same_generation_is_ended_for_a_start_without_a_key_that_lacks_slots() {
    let mut agent = Agent::new();
    let first = agent.run(start("job", 1, 10));
    let beside = agent.run(start("job", 1, 4));
    agent.run(start("job", 1, 2));
    let retry = agent.start(start("job", 1, 10));
    assert_eq!(killed(&agent, [first, beside]), [true, false], "a later one spares an earlier");
    agent.exited(first, Exit::Signal(9));
    admitted(&mut agent, retry);
}

#[test]
fn a_start_that_waits_makes_way_for_its_own_retry() {
    let (mut agent, [old]) = abandoned([(1, 16)]);
    let first = agent.start(start("job", 1, 12));
    let retry = agent.start(start("job", 1, 12));
    let error = StartError::Retried { job: "job".into(), generation: Generation(1) };
    assert_eq!((agent.refusal(first), agent.answer(retry)), (&error, None));
    agent.advance(secs(1));
    agent.exited(old, Exit::Signal(9));
    admitted(&mut agent, retry);
    assert_eq!(agent.spawns().len(), 2, "one of the two");
    agent.advance(secs(60));
}

#[test]
fn a_start_that_waits_stays_where_there_is_room_beside_it_or_none_without_it() {
    let (mut agent, [old]) = abandoned([(1, 12)]);
    let first = agent.start(start("job", 1, 10));
    agent.start(start("job", 1, 4));
    assert_eq!(agent.answer(first), None, "another worker of the same attempt");
    agent.spawned(agent.last_spawn());
    let too_large = agent.start(start("job", 1, 17));
    assert_eq!(agent.refusal(too_large), &not_enough(17, 16));
    assert_eq!(agent.answer(first), None, "nothing is ended for what is refused");
    let named = agent.start(with_key("another", start("job", 1, 8)));
    assert!(matches!(agent.refusal(named), StartError::NotEnoughSlots { .. }), "it is no retry");
    agent.exited(old, Exit::Signal(9));
    admitted(&mut agent, first);
}

#[test]
fn a_start_that_waits_makes_no_way_for_other_jobs_or_attempts() {
    let (mut agent, [_]) = abandoned([(1, 16)]);
    let first = agent.start(start("job", 2, 16));
    let other = agent.start(start("other", 2, 1));
    assert_eq!(agent.refusal(other), &not_enough(1, 0));
    let stale = agent.start(start("job", 1, 1));
    assert!(matches!(agent.refusal(stale), StartError::StaleGeneration { .. }));
    assert_eq!(agent.answer(first), None);
}

#[test]
fn the_same_generation_is_not_ended_for_a_start_with_a_key() {
    let mut agent = Agent::new();
    let first = agent.run(start("job", 1, 10));
    let request = agent.start(with_key("another", start("job", 1, 10)));
    assert_eq!(agent.refusal(request), &not_enough(10, 6));
    assert_eq!(killed(&agent, [first]), [false]);
}

#[test]
fn workers_of_other_jobs_that_are_known_make_no_room() {
    let mut agent = Agent::new();
    let known = agent.run(start("known", 1, 10));
    let request = agent.start(start("job", 1, 10));
    assert_eq!(agent.refusal(request), &not_enough(10, 6));
    assert_eq!(killed(&agent, [known]), [false]);
}

#[test]
fn a_retried_attempt_goes_before_abandoned_workers() {
    let (mut agent, [old]) = abandoned([(1, 8)]);
    let first = agent.run(start("job", 1, 8));
    agent.start(start("job", 1, 8));
    assert_eq!(killed(&agent, [old, first]), [false, true]);
}

#[test]
fn older_generations_go_whether_slots_are_lacking_or_not_and_count_first() {
    let (mut agent, [older, other]) = abandoned([(9, 8), (1, 8)]);
    let request = agent.start(start("job 9", 2, 8));
    assert_eq!(killed(&agent, [older, other]), [true, false], "though it is younger");
    agent.exited(older, Exit::Signal(9));
    admitted(&mut agent, request);
}

#[test]
fn room_is_made_beyond_older_generations_where_those_are_not_enough() {
    let (mut agent, [older, other, young]) = abandoned([(9, 4), (1, 6), (10, 6)]);
    let request = agent.start(start("job 9", 2, 8));
    assert_eq!(killed(&agent, [older, other, young]), [true, true, false]);
    agent.exited(older, Exit::Signal(9));
    assert_eq!(agent.answer(request), None, "it waits for both");
    agent.exited(other, Exit::Signal(9));
    admitted(&mut agent, request);
}

#[test]
fn the_slots_of_one_worker_are_promised_to_one_start() {
    let (mut agent, [first, second]) = abandoned([(1, 8), (2, 8)]);
    let one = agent.start(start("one", 1, 8));
    let two = agent.start(start("two", 1, 8));
    assert_eq!(killed(&agent, [first, second]), [true, true], "each has one of its own");
    let three = agent.start(start("three", 1, 1));
    assert_eq!(agent.refusal(three), &not_enough(1, 0));
    agent.exited(second, Exit::Signal(9));
    assert_eq!(agent.answer(one), None);
    admitted(&mut agent, two);
    agent.exited(first, Exit::Signal(9));
    admitted(&mut agent, one);
}

#[test]
fn what_is_left_of_a_worker_that_is_ended_for_one_start_goes_to_the_next() {
    let (mut agent, [old]) = abandoned([(1, 16)]);
    let small = agent.start(start("small", 1, 4));
    // Not before it is gone: until then its slots count as taken.
    let early = agent.start(start("early", 1, 4));
    assert_eq!(agent.refusal(early), &not_enough(4, 0));
    agent.exited(old, Exit::Signal(9));
    admitted(&mut agent, small);
    agent.run(start("late", 1, 12));
}

#[test]
fn the_start_gives_up_after_supersede_wait() {
    let (mut agent, [old]) = abandoned([(1, 16)]);
    let request = agent.start(start("new", 1, 4));
    agent.advance(millis(1_999));
    assert_eq!(agent.answer(request), None);
    agent.advance(millis(1));
    let error = StartError::RoomNotFree { job: "new".into(), left: 1 };
    assert_eq!(agent.refusal(request), &error);
    agent.exited(old, Exit::Signal(9));
    agent.run(start("new", 1, 16));
}

#[test]
fn what_the_controller_calls_free_can_be_had_in_pieces() {
    let (mut agent, workers) = abandoned([(1, 5), (2, 5), (3, 6)]);
    for piece in 0..4 {
        let request = agent.start(start(&format!("new {piece}"), 1, 4));
        for worker in workers {
            if !agent.signals(worker).is_empty() {
                agent.exited(worker, Exit::Signal(9));
            }
        }
        admitted(&mut agent, request);
    }
    assert_eq!(agent.free_slots(), 0);
}
