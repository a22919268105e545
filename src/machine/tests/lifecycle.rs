//! From StartWorker to the acknowledged report.

use super::*;

#[test]
fn a_worker_is_recorded_spawned_answered_reported_and_forgotten() {
    let mut agent = Agent::new();

    let request = agent.start(start("job", 1, 4));
    let worker = agent.last_spawn();
    assert_eq!(agent.phase(worker), Some(Phase::Starting));
    assert_eq!(agent.journal.row(worker).expect("recorded before the spawn").process, None);
    assert_eq!(agent.free_slots(), 12);
    assert_eq!(agent.answer(request), None, "not before the program runs");

    agent.spawned(worker);
    assert_eq!(agent.phase(worker), Some(Phase::Running));
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));
    let row = agent.journal.row(worker).expect("a row");
    assert_eq!(row.process, Some(process_of(worker)));
    agent.delivered(request);

    agent.exited(worker, Exit::Code(3));
    assert_eq!(agent.phase(worker), Some(Phase::Exited));
    assert_eq!(agent.free_slots(), 16);
    assert!(agent.released(worker));
    assert_eq!(agent.reports(), [worker]);

    agent.acknowledged(worker);
    assert_eq!(agent.phase(worker), Some(Phase::Reported));
    assert_eq!(agent.machine.view().reports_owed, 0);

    agent.advance(secs(600));
    assert_eq!(agent.phase(worker), None);
    assert_eq!(agent.journal.row(worker), None);
    assert!(agent.effects().contains(&Effect::Discard(worker)));
}

#[test]
fn a_launch_carries_what_the_start_said() {
    let mut agent = Agent::new();
    let env = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
    let asked = Start { env: env.clone(), pipeline: Some("pipe".into()), ..start("job", 7, 3) };
    agent.start(asked);
    let launches = agent.pick(|effect| match effect {
        Effect::Spawn(launch) => Some(launch.clone()),
        _ => None,
    });
    let [launch] = launches.as_slice() else { panic!("one spawn, not {launches:?}") };
    assert_eq!(launch.env, env);
    assert_eq!(launch.admitted_at, agent.now.wall);
    assert_eq!(launch.spec.job, JobId::from("job"));
    assert_eq!(launch.spec.pipeline, Some("pipe".into()));
    assert_eq!((launch.spec.generation, launch.spec.slots.get()), (Generation(7), 3));
}

#[test]
fn a_program_that_cannot_run_leaves_nothing_behind() {
    let mut agent = Agent::new();
    let request = agent.start(start("job", 1, 4));
    let worker = agent.last_spawn();
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });

    assert_eq!(agent.refusal(request), &StartError::Spawn(spawn_error()));
    assert_eq!(agent.free_slots(), 16);
    assert_eq!(agent.worker(worker), None);
    assert_eq!(agent.journal.row(worker), None);
    assert_eq!(agent.reports(), [], "nothing is owed for what never ran");
}

#[test]
fn a_worker_that_ends_before_its_start_is_answered_was_started_all_the_same() {
    let mut agent = Agent::new();
    let request = agent.start(start("job", 1, 4));
    let worker = agent.last_spawn();
    agent.exited(worker, Exit::Code(0));
    assert_eq!(agent.answer(request), Some(&Reply::Started(Ok(worker))));

    agent.delivered(request);
    assert_eq!(agent.reports(), [worker]);

    // The news that it ran comes late and changes nothing.
    agent.spawned(worker);
    agent.give(Event::SpawnFailed { worker, error: spawn_error() });
    assert_eq!(agent.phase(worker), Some(Phase::Exited));
}

#[test]
fn a_second_end_of_the_same_worker_changes_nothing() {
    let mut agent = Agent::new();
    let worker = agent.run(start("job", 1, 4));
    agent.exited(worker, Exit::Signal(9));
    agent.effects();
    agent.exited(worker, Exit::Code(0));
    assert_eq!(agent.effects(), []);
    assert_eq!(agent.worker(worker).and_then(|w| w.end).map(|end| end.exit), Some(Exit::Signal(9)));
}

#[test]
fn each_worker_gets_an_id_of_its_own() {
    let mut agent = Agent::with(|config| config.task_slots = 1_000);
    for _ in 0..1_000 {
        agent.start(start("job", 1, 1));
    }
    let ids: BTreeSet<_> = agent.spawns().into_iter().collect();
    assert_eq!(ids.len(), 1_000);
    assert!(!ids.contains(&WorkerId(0)), "zero means none on the wire");
}

#[test]
fn the_view_tells_what_there_is() {
    let mut agent = Agent::with(|config| config.task_slots = 8);
    let alive = agent.run(start("a", 1, 3));
    let ended = agent.run(start("b", 1, 2));
    agent.exited(ended, Exit::OomKilled);

    let view = agent.machine.view();
    assert_eq!(view.machine, MachineId::from(MACHINE));
    assert_eq!((view.task_slots, view.free_slots), (8, 5));
    assert_eq!((view.live_workers, view.reports_owed), (1, 1));
    assert_eq!(view.mode, Mode::Serving);
    assert!(view.registered);
    assert_eq!(view.last_contact, Some(agent.now.mono));
    assert_eq!(view.journal_error, None);
    let listed: BTreeSet<_> = view.workers.iter().map(|worker| worker.id).collect();
    assert_eq!(listed, BTreeSet::from([alive, ended]));
}

#[test]
fn the_agent_says_whether_it_is_the_one_that_was_meant() {
    let mut agent = Agent::new();
    let right = agent.request(Ask::Alive(MACHINE.into()));
    let wrong = agent.request(Ask::Alive("machine-2".into()));
    assert_eq!(agent.answer(right), Some(&Reply::Alive(Ok(()))));
    let error = WrongMachine { asked: "machine-2".into(), this: MACHINE.into() };
    assert_eq!(agent.answer(wrong), Some(&Reply::Alive(Err(error))));
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    let run = || {
        let mut agent = Agent::new();
        let worker = agent.run(start("job", 1, 4));
        agent.exited(worker, Exit::Code(1));
        agent.report_refused(worker);
        agent.advance(secs(60));
        agent.history
    };
    assert_eq!(run(), run());
}

#[test]
fn no_value_of_a_variable_is_ever_shown() {
    let env = BTreeMap::from([("DATABASE_PASSWORD".to_owned(), "hunter2".to_owned())]);
    let shown = format!("{:?}", Start { env, ..start("job", 1, 1) });
    assert!(shown.contains("DATABASE_PASSWORD") && !shown.contains("hunter2"), "{shown}");
}
