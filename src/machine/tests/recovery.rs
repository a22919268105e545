//! What the agent before this one left.

use super::*;

#[test]
fn a_worker_that_lives_is_adopted_and_goes_on() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 5));
    let mut agent = agent.successor();
    let process = Some(process_of(worker));
    assert!(agent.effects().contains(&Effect::Adopt { worker, process }));
    assert_eq!(agent.free_slots(), 11, "from the first moment");

    agent.give(Event::Adopted { worker, process: process_of(worker) });
    agent.registered();
    agent.advance(secs(60));
    assert_eq!(agent.phase(worker), Some(Phase::Running));
    assert_eq!(agent.signals(worker), []);

    agent.exited(worker, Exit::Code(9));
    assert_eq!(agent.reports(), [worker]);
    assert_eq!(agent.free_slots(), 16);
}

#[test]
fn a_worker_that_only_the_shim_knew_is_written_to_the_new_journal_at_once() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 5));
    let mut agent = agent.successor_with(|recovered| {
        recovered.unwritten.insert(worker);
    });
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    let written = agent.journal.row(worker).and_then(|row| row.process);
    assert_eq!(written, Some(process_of(worker)));

    let agent = agent.successor();
    assert_eq!(agent.phase(worker), Some(Phase::Running), "though the shim has died meanwhile");
}

#[test]
fn a_worker_that_ended_meanwhile_is_reported() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 5));
    let mut agent = agent.successor();
    agent.registered();
    agent.exited(worker, Exit::Signal(6));
    assert_eq!(agent.reports(), [worker]);
    assert!(agent.released(worker));
}

#[test]
fn an_end_that_was_owed_is_owed_still() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 5));
    agent.exited(worker, Exit::Code(1));
    let mut agent = agent.successor();
    assert!(agent.released(worker), "the agent may have died before it said so");
    assert_eq!(agent.machine.view().reports_owed, 1);
    agent.registered();
    assert_eq!(agent.reports(), [worker]);
    let announced = agent.times(|effect| matches!(effect, Effect::Announce(_)));
    assert_eq!(announced.len(), 1);
}

#[test]
fn owed_reports_go_out_in_the_order_of_the_ends_and_not_of_the_ids() {
    let mut agent = Agent::with(|config| {
        config.task_slots = 20;
        config.reports_in_flight = 1.try_into().expect("one");
    });
    let mut ends: Vec<_> = (0..10).map(|_| agent.run(start("job", 1, 1))).collect();
    ends.sort();
    ends.reverse();
    agent.controller_away();
    for worker in &ends[..5] {
        agent.exited(*worker, Exit::Code(0));
    }
    // The count goes on where the agent before left off.
    let mut agent = agent.successor();
    for worker in &ends[5..] {
        agent.exited(*worker, Exit::Code(0));
    }
    let sequence = |worker| agent.worker(worker).and_then(|w| w.end).map(|end| end.sequence);
    let sequences: Vec<_> = ends.iter().map(|worker| sequence(*worker)).collect();
    assert_eq!(sequences, (1..=10).map(Some).collect::<Vec<_>>());

    let mut agent = agent.successor();
    agent.registered();
    for worker in &ends {
        agent.acknowledged(*worker);
    }
    assert_eq!(agent.reports(), ends);
}

#[test]
fn an_end_from_a_journal_that_kept_no_order_goes_first() {
    let mut agent = Agent::with(|config| config.reports_in_flight = 1.try_into().expect("one"));
    let mut workers = ["a", "b"].map(|job| agent.run(start(job, 1, 1)));
    workers.sort();
    let [early, late] = workers;
    agent.controller_away();
    agent.exited(early, Exit::Code(0));
    agent.exited(late, Exit::Code(0));
    let mut agent = agent.successor_with(|recovered| {
        let ends = recovered.workers.iter_mut().filter(|worker| worker.id == late);
        ends.filter_map(|worker| worker.end.as_mut()).for_each(|end| end.sequence = 0);
    });
    agent.registered();
    agent.acknowledged(late);
    assert_eq!(agent.reports(), [late, early]);
}

#[test]
fn a_reported_worker_is_remembered_and_then_forgotten() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 5));
    agent.exited(worker, Exit::Code(1));
    agent.acknowledged(worker);
    let mut agent = agent.successor();
    agent.registered();
    assert_eq!(agent.phase(worker), Some(Phase::Reported));
    agent.advance(secs(600));
    assert_eq!(agent.phase(worker), None);
    assert_eq!(agent.reports(), []);
}

#[test]
fn a_reboot_ends_every_worker_as_lost() {
    let mut agent = Agent::new();
    let running = agent.run(start("running", 1, 5));
    agent.start(start("starting", 1, 5));
    let starting = agent.last_spawn();
    let ended = agent.run(start("ended", 1, 5));
    agent.exited(ended, Exit::Code(4));

    let mut agent = agent.successor_with(|recovered| {
        recovered.lost = BTreeSet::from([running, starting]);
    });
    assert_eq!(agent.times(|effect| matches!(effect, Effect::Adopt { .. })), []);
    assert_eq!(agent.free_slots(), 16);
    let exit = |worker| agent.worker(worker).and_then(|w| w.end).map(|end| end.exit);
    assert_eq!(exit(running), Some(Exit::Lost));
    assert_eq!(exit(starting), Some(Exit::Lost), "somebody may have been told of it");
    assert_eq!(exit(ended), Some(Exit::Code(4)));
    agent.registered();
    let reported: BTreeSet<_> = agent.reports().into_iter().collect();
    assert_eq!(reported, BTreeSet::from([running, starting, ended]));
}

#[test]
fn a_worker_that_was_being_started_is_found_or_never_was() {
    let mut agent = Agent::new();
    agent.start(start("found", 1, 5));
    let found = agent.last_spawn();
    agent.start(start("never", 1, 5));
    let never = agent.last_spawn();

    let mut agent = agent.successor();
    let adopt = |worker| Effect::Adopt { worker, process: None };
    let effects = agent.effects();
    assert!(effects.contains(&adopt(found)) && effects.contains(&adopt(never)));
    agent.give(Event::Adopted { worker: found, process: process_of(found) });
    agent.give(Event::NeverRan(never));

    assert_eq!(agent.phase(found), Some(Phase::Running));
    let row = agent.journal.row(found).expect("a row");
    assert_eq!(row.process, Some(process_of(found)), "for the next agent");
    assert_eq!(agent.phase(never), None);
    assert_eq!(agent.journal.row(never), None);
    assert_eq!(agent.free_slots(), 11);
    agent.registered();
    assert_eq!(agent.reports(), []);
}

#[test]
fn a_stop_in_progress_keeps_its_deadline() {
    let mut agent = Agent::new();
    let [soon, late, gentle] = ["soon", "late", "gentle"].map(|job| agent.run(start(job, 1, 1)));
    agent.stop(late, StopHow::Force);
    agent.stop(gentle, StopHow::Gentle);
    agent.advance(secs(2));
    agent.stop(soon, StopHow::Force);
    agent.advance(secs(1));

    let mut agent = agent.successor();
    agent.advance(secs(3));
    for worker in [soon, late, gentle] {
        assert_eq!(agent.signals(worker), [], "not before it is known to be that process");
        agent.give(Event::Adopted { worker, process: process_of(worker) });
    }
    assert_eq!(agent.signals(late), [Signal::Kill], "its time was over a second ago");
    assert_eq!(agent.signals(soon), [Signal::Terminate]);
    agent.advance(secs(1));
    assert_eq!(agent.signals(soon), [Signal::Terminate, Signal::Kill]);
    agent.advance(secs(60));
    assert_eq!(agent.signals(gentle), [Signal::Terminate]);
}

#[test]
fn a_stop_that_comes_before_the_adoption_follows_it() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 1));
    let mut agent = agent.successor();
    let request = agent.stop(worker, StopHow::Force);
    assert_eq!(agent.signals(worker), []);
    agent.advance(secs(1));
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    assert_eq!(agent.signals(worker), [Signal::Terminate]);
    agent.advance(secs(4));
    assert_eq!(agent.signals(worker), [Signal::Terminate, Signal::Kill]);
    assert_eq!(agent.answer(request), None);
    agent.advance(secs(2));
    assert_eq!(agent.answer(request), Some(&STOPPING));
}

#[test]
fn recovered_workers_are_superseded_and_repeated_like_any_other() {
    let mut agent = Agent::new();
    let asked = with_key("attempt", start("kept", 1, 4));
    let kept = agent.run(asked.clone());
    let old = agent.run(start("job", 1, 12));
    let mut agent = agent.successor();
    let repeat = agent.start(asked);
    assert_eq!(agent.answer(repeat), Some(&Reply::Started(Ok(kept))));

    let newer = agent.start(start("job", 2, 12));
    agent.give(Event::Adopted { worker: old, process: process_of(old) });
    assert_eq!(agent.signals(old), [Signal::Kill]);
    agent.exited(old, Exit::Signal(9));
    agent.spawned(agent.last_spawn());
    assert!(matches!(agent.answer(newer), Some(Reply::Started(Ok(_)))));
}

#[test]
fn a_repeat_of_a_start_that_a_crash_interrupted_waits_for_what_became_of_it() {
    let begun = || {
        let mut agent = Agent::new();
        agent.start(with_key("k", start("job", 1, 5)));
        let worker = agent.last_spawn();
        let mut agent = agent.successor();
        let repeat = agent.start(with_key("k", start("job", 1, 5)));
        assert_eq!(agent.answer(repeat), None, "it may never have run");
        (agent, worker, repeat)
    };

    let (mut agent, worker, repeat) = begun();
    agent.give(Event::Adopted { worker, process: process_of(worker) });
    assert_eq!(agent.answer(repeat), Some(&Reply::Started(Ok(worker))));

    let (mut agent, worker, repeat) = begun();
    agent.exited(worker, Exit::Code(1));
    assert_eq!(agent.answer(repeat), Some(&Reply::Started(Ok(worker))), "its end will be told");

    let (mut agent, worker, repeat) = begun();
    agent.give(Event::NeverRan(worker));
    assert_eq!(agent.refusal(repeat), &StartError::NeverRan);
    assert_eq!(agent.free_slots(), 16);
}
