//! One agent and its controller, which dies, hangs, forgets, comes back: the agent and its workers
//! carry on, and in the end both books agree.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{net::TcpListener, time::Duration};

use arroyo_node::{
    controller::{Snapshot, Stop},
    ids::Generation,
    machine::{Config, Dialect, Phase, View},
    rpc::{
        admin_wire::NodeMode,
        client::CallSettings,
        wire::{StartWorkerReq, StopWorkerStatus},
    },
};
use nix::sys::signal::Signal;
use support::{
    agent::{Agent, Home},
    calls::{code, signal},
    controller::{Recorder, Reference, job, only_worker_of, runs},
    eventually, loopback, port_to_keep,
    processes::{MARK, crash, is_stopped},
    program::Program,
    soon,
};
use tokio::sync::mpsc;

/// Calls that notice soon that nobody answers.
fn impatient() -> CallSettings {
    let short = Duration::from_millis(300);
    CallSettings { deadline: short, connect_deadline: short, keepalive: (short, short) }
}

/// Calls that wait for longer than any test does.
fn patient() -> CallSettings {
    let long = Duration::from_secs(3_600);
    CallSettings { deadline: long, connect_deadline: long, keepalive: (long, long) }
}

/// Stops are answered without the controller's acknowledgement.
fn answer_soon(config: &mut Config) {
    config.reply_wait = Duration::from_millis(500);
}

/// Stops every job, and sees that nothing is left on either side.
async fn settle(controller: &Reference, agent: &Agent, home: &Home) {
    let jobs: Vec<_> = controller.controller.snapshot().jobs.into_keys().collect();
    for job in &jobs {
        controller.controller.stop(job, Stop::Force).unwrap();
    }
    let books = controller
        .until("all jobs are stopped", |books| {
            books.workers.is_empty() && books.jobs.values().all(|job| job.state.is_final())
        })
        .await;
    assert_eq!(books.violations, []);
    let view = agent.until_view("nothing owed", |view| view.reports_owed == 0).await;
    assert_eq!((view.live_workers, view.free_slots), (0, view.task_slots));
    assert_eq!(books.free_slots(), view.task_slots);
    assert_eq!(home.mark.workers(), []);
}

#[tokio::test]
async fn a_controller_that_comes_back_is_registered_with_and_told_what_ended_meanwhile() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let address = recorder.address;
    let agent = home.start(&recorder.url(), |builder| builder.machine(answer_soon)).await;
    let stays = agent.start(home.request("stays", 2, &[])).await;
    let ends = StartWorkerReq { generation: 9, ..home.request("ends", 3, &[]) };
    let ends = agent.start(ends).await;
    let before = agent.worker(stays).await;

    drop(recorder);
    agent.until_view("the controller is missed", |view| !view.registered).await;
    crash(&agent.worker(ends).await);
    let ended = agent.until_exited(ends).await;
    assert!(!ended.reported);
    assert_eq!(agent.worker(stays).await, before, "untouched");
    let meanwhile = agent.start(home.request("meanwhile", 1, &[])).await;
    assert_eq!(agent.stop_by_force(stays).await, StopWorkerStatus::Stopped);

    let recorder = Recorder::start_at(address).await;
    assert_eq!(recorder.report_of(ends).await.slots, 3);
    assert_eq!(recorder.report_of(stays).await.slots, 2);
    let record = recorder.until("heartbeats", |record| record.heartbeats.len() > 1).await;
    assert!(!record.registrations.is_empty());
    assert!(record.registrations.iter().all(|one| one.task_slots == 16), "{record:?}");
    assert_eq!(agent.until_reported(ends).await.exit, signal(9));
    assert!(agent.worker(meanwhile).await.running);
}

#[tokio::test]
async fn an_agent_that_is_there_first_waits_for_its_controller() {
    let home = Home::new();
    let address = loopback(port_to_keep());
    let agent = home.start(&format!("http://{address}"), |builder| builder).await;
    let id = agent.start(home.request("job", 2, &[("WORKER_EXIT_AFTER", "0s:7")])).await;
    assert_eq!(agent.until_exited(id).await.exit, code(7));
    assert!(!agent.now().registered);

    let recorder = Recorder::start_at(address).await;
    assert_eq!(recorder.report_of(id).await.slots, 2);
    agent.until_reported(id).await;
}

#[tokio::test]
async fn a_controller_that_never_answers_holds_up_nothing() {
    let home = Home::new();
    // The kernel takes its connections, nobody else does.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", hole.local_addr().unwrap());
    let agent = home.start(&url, |builder| builder.calls(patient()).machine(answer_soon)).await;

    // Whoever waited for the controller would wait for longer than the test.
    let first = agent.start(home.request("job", 2, &[])).await;
    let second = agent.start(home.request("job", 2, &[])).await;
    home.until_ready(first).await;
    agent.stop_gently(first).await;
    assert_eq!(agent.until_exited(first).await.exit, code(0));
    assert_eq!(agent.stop_gently(first).await, StopWorkerStatus::Stopped);
    assert!(agent.worker(second).await.running);
    agent.heartbeat(&home.machine).await.unwrap();
    assert!(!agent.now().registered);
}

#[tokio::test]
async fn a_controller_that_hangs_for_a_while_is_found_again() {
    let home = Home::new();
    let address = loopback(port_to_keep()).to_string();
    let controller = Program::run(&home.mark, &["controller", "--bind", &address], &[]);
    controller.line_with("controller serves").await;
    let agent = home.start(&format!("http://{address}"), |b| b.calls(impatient())).await;
    agent.until_view("registered", |view| view.registered).await;
    let before = agent.start(home.request("before", 2, &[])).await;

    controller.signal(Signal::SIGSTOP);
    eventually("it hangs", || is_stopped(controller.pid())).await;
    agent.until_view("the controller is missed", |view| !view.registered).await;
    let meanwhile = agent.start(home.request("meanwhile", 2, &[])).await;
    crash(&agent.worker(meanwhile).await);
    agent.until_exited(meanwhile).await;
    assert!(agent.worker(before).await.running);
    let silent_since = agent.now().last_contact.unwrap();

    controller.signal(Signal::SIGCONT);
    agent.until_reported(meanwhile).await;
    agent
        .until_view("heartbeats", |view| {
            let heard = view.last_contact.unwrap().since(silent_since);
            view.registered && heard > Duration::from_secs(1)
        })
        .await;
    assert!(agent.worker(before).await.running);
}

#[tokio::test]
async fn a_node_that_is_forgotten_registers_again() {
    let home = Home::new();
    let controller = Reference::start().await;
    let agent = home.start(&controller.url(), |builder| builder).await;
    controller.until("registered", |books| books.nodes.len() == 1).await;
    for times in 1..=3 {
        let id = agent.start(home.request("job", 2, &[])).await;
        let before = controller.controller.snapshot().counters.registered;
        assert!(controller.controller.forget_node(&home.machine.as_str().into()));
        let books = controller.until("registered again", |books| books.nodes.len() == 1).await;
        assert!(books.counters.registered > before, "{times}");
        // It heard of this node just now, so it is another controller: nobody knows the worker.
        assert_eq!(agent.until_reported(id).await.exit, signal(9));
    }
    assert_eq!(home.mark.workers(), []);
}

#[tokio::test]
async fn after_a_restart_a_job_gets_its_slots_back_from_its_own_old_workers() {
    let home = Home::new();
    let controller = Reference::start().await;
    let agent = home.start(&controller.url(), |builder| builder.task_slots(4)).await;
    let mut spec = job(&home, "job", 4, Dialect::V0_16);
    for (name, value) in [
        ("WORKER_IGNORE_SIGTERM", "1"),
        ("WORKER_CHILDREN", "setsid,daemon"),
        ("WORKER_CHILDREN_IGNORE_SIGTERM", "1"),
    ] {
        spec.env.insert(name.to_owned(), value.to_owned());
    }
    controller.controller.submit(spec.clone()).unwrap();
    let books = controller.until("the job runs", |books| runs(books, "job", 1)).await;
    let old = only_worker_of(&books, "job");
    home.until_ready(old).await;
    let before = agent.worker(old).await;

    let address = controller.die().await;
    agent.until_view("the controller is missed", |view| !view.registered).await;
    assert_eq!(agent.worker(old).await, before, "untouched");

    let controller = Reference::start_at(address).await;
    spec.last_generation = Generation(1);
    controller.controller.submit(spec).unwrap();
    let books = controller.until("the job runs again", |books| runs(books, "job", 2)).await;
    let new = only_worker_of(&books, "job");
    assert_eq!(home.mark.count_of(old), 0);
    assert_eq!(agent.until_reported(old).await.exit, signal(9));
    assert_eq!(agent.worker(new).await.generation, 2);
    let books = controller.until("the report", |books| books.counters.finished == 1).await;
    assert_eq!((books.counters.unknown, books.free_slots()), (1, 0));
    settle(&controller, &agent, &home).await;
}

#[tokio::test]
async fn each_controller_is_answered_in_its_own_dialect() {
    let home = Home::new();
    let controller = Reference::start().await;
    let agent = home.start(&controller.url(), |builder| builder).await;
    let old = job(&home, "old", 3, Dialect::V0_15);
    let new = job(&home, "new", 2, Dialect::V0_16);
    for spec in [&old, &new] {
        controller.controller.submit(spec.clone()).unwrap();
    }
    let both = |books: &Snapshot, generation| {
        runs(books, "old", generation) && runs(books, "new", generation)
    };
    let books = controller.until("both jobs run", |books| both(books, 1)).await;

    // A worker of each dies: its report must be understood for its job to be run anew.
    for name in ["old", "new"] {
        crash(&agent.worker(only_worker_of(&books, name)).await);
    }
    let books = controller.until("both jobs run anew", |books| both(books, 2)).await;
    assert_eq!(books.violations, []);
    assert_eq!(books.counters.finished, 2);

    // The cluster is upgraded: from now on everything is said as 0.16 says it.
    let address = controller.die().await;
    let controller = Reference::start_at(address).await;
    for mut spec in [old, new] {
        spec.dialect = Dialect::V0_16;
        spec.last_generation = Generation(2);
        controller.controller.submit(spec).unwrap();
    }
    let books = controller.until("both jobs run upgraded", |books| both(books, 3)).await;
    for name in ["old", "new"] {
        let worker = agent.worker(only_worker_of(&books, name)).await;
        assert_eq!(worker.pipeline_id, format!("pl_{name}"));
    }
    settle(&controller, &agent, &home).await;
}

#[tokio::test]
async fn a_draining_agent_takes_nothing_new_even_after_a_restart() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.start(&recorder.url(), |builder| builder).await;
    let id = agent.start(home.request("job", 1, &[])).await;
    home.until_ready(id).await;
    agent.set_draining(true).await;
    let refusal = agent.refusal(home.request("job", 1, &[])).await;
    assert_eq!(refusal.code(), tonic::Code::Unavailable);
    assert!(refusal.message().contains("draining"), "{refusal}");
    assert_eq!(agent.status().await.mode(), NodeMode::Draining);
    let before = agent.worker(id).await;
    assert!(before.running);

    drop(agent);
    let agent = home.start(&recorder.url(), |builder| builder).await;
    assert_eq!(agent.worker(id).await, before, "the same worker");
    assert_eq!(agent.refusal(home.request("job", 1, &[])).await.code(), tonic::Code::Unavailable);
    assert_eq!(agent.stop_gently(id).await, StopWorkerStatus::Stopped);
    assert_eq!(recorder.report_of(id).await.slots, 1);

    agent.set_draining(false).await;
    agent.start(home.request("job", 1, &[])).await;
    drop(agent);
    let agent = home.start(&recorder.url(), |builder| builder).await;
    assert_eq!(agent.status().await.mode(), NodeMode::Serving);
}

#[tokio::test]
async fn with_fencing_workers_do_not_outlive_their_controller_for_long() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let address = recorder.address;
    let fence_after = Duration::from_secs(3);
    let fencing = |config: &mut Config| {
        config.fence_after = Some(fence_after);
        config.backoff.most = Duration::from_millis(500);
    };
    let agent = home.start(&recorder.url(), |builder| builder.machine(fencing)).await;
    let obeys = agent.start(home.request("obeys", 1, &[])).await;
    let stubborn = home.request("stubborn", 2, &[("WORKER_IGNORE_SIGTERM", "1")]);
    let stubborn = agent.start(stubborn).await;
    for id in [obeys, stubborn] {
        home.until_ready(id).await;
    }
    // With a controller they live for longer than that.
    let registered = agent.until_view("registered", |view| view.registered).await;
    let first = registered.last_contact.unwrap();
    agent
        .until_view("a long time with a controller", |view| {
            view.last_contact.unwrap().since(first) > fence_after + Duration::from_secs(1)
        })
        .await;
    assert_eq!(agent.now().live_workers, 2);

    drop(recorder);
    assert_eq!(agent.until_exited(obeys).await.exit, code(0));
    assert_eq!(agent.until_exited(stubborn).await.exit, signal(9));
    let recorder = Recorder::start_at(address).await;
    for (id, slots) in [(obeys, 1), (stubborn, 2)] {
        assert_eq!(recorder.report_of(id).await.slots, slots);
    }
}

/// Starts so many workers that end at once, one after the other, and waits until the controller
/// knows.
async fn run_briefly(agent: &Agent, home: &Home, count: u64) -> Vec<u64> {
    let mut ids = Vec::new();
    for n in 0..count {
        let brief = home.request(&format!("job-{n}"), 1 + n % 3, &[("WORKER_EXIT_AFTER", "0s")]);
        ids.push(agent.start(brief).await);
    }
    for id in &ids {
        agent.until_reported(*id).await;
    }
    ids
}

#[tokio::test]
async fn the_embedding_program_hears_of_every_end() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let (sender, mut ends) = mpsc::channel(16);
    let agent = home.start(&recorder.url(), |builder| builder.worker_finished(sender)).await;
    let ids = run_briefly(&agent, &home, 5).await;
    for _ in &ids {
        let end = soon("an end", ends.recv()).await.unwrap();
        assert_eq!(end, recorder.report_of(support::controller::worker_of(&end)).await);
    }
    drop(agent);
    assert_eq!(soon("the agent's end", ends.recv()).await, None, "once each");
}

#[tokio::test]
async fn an_embedding_program_that_does_not_listen_harms_nothing() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let (sender, mut ends) = mpsc::channel(1);
    let agent = home.start(&recorder.url(), |builder| builder.worker_finished(sender)).await;
    let ids = run_briefly(&agent, &home, 8).await;
    assert_eq!(agent.status().await.free_slots, 16);
    // Slow, but in the end it has heard of everything.
    for _ in &ids {
        soon("an end", ends.recv()).await.unwrap();
    }
    // It goes away.
    drop(ends);
    run_briefly(&agent, &home, 3).await;
    assert_eq!(agent.status().await.free_slots, 16);
}

#[tokio::test]
async fn the_reference_controller_runs_a_job_as_a_process_of_its_own() {
    let home = Home::new();
    let address = loopback(port_to_keep()).to_string();
    let mark = format!("{MARK}={}", home.mark.value());
    let arguments =
        ["controller", "--bind", &address, "--job", "a=2", "--job", "b=1", "--env", &mark];
    let mut controller = Program::run(&home.mark, &arguments, &[]);
    let agent = home.start(&format!("http://{address}"), |builder| builder).await;
    let running =
        |view: &View| view.workers.iter().filter(|worker| worker.phase() == Phase::Running).count();
    let view = agent.until_view("both jobs run", |view| running(view) == 2).await;
    crash(&agent.worker(view.workers.iter().next().unwrap().id.0).await);
    agent
        .until_view("the job runs anew", |view| running(view) == 2 && view.workers.len() == 3)
        .await;

    controller.signal(Signal::SIGTERM);
    assert!(controller.end().await.success());
    let view = agent.now();
    assert_eq!((view.live_workers, view.reports_owed), (0, 0));
}

#[tokio::test]
async fn the_reference_controller_says_once_that_a_job_waits_and_once_that_it_waits_no_longer() {
    let home = Home::new();
    let address = loopback(port_to_keep()).to_string();
    let mark = format!("{MARK}={}", home.mark.value());
    let arguments = ["controller", "--bind", &address, "--job", "a=2", "--env", &mark];
    let mut controller = Program::run(&home.mark, &arguments, &[]);
    controller.line_with("job a waits for slots: it takes 2, and 0 are free").await;
    // In this time it looks for slots at least twice more.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let agent = home.start(&format!("http://{address}"), |builder| builder).await;
    controller.line_with("job a no longer waits for slots").await;
    controller.line_with("job a: generation 1 runs").await;
    controller.signal(Signal::SIGTERM);
    assert!(controller.end().await.success());
    drop(agent);

    let said = controller.said();
    for once in ["waits for slots: it takes", "no longer waits for slots"] {
        let lines = said.iter().filter(|line| line.contains(once)).count();
        assert_eq!(lines, 1, "{once:?}: {said:#?}");
    }
    for line in &said {
        assert!(!line.contains(" { ") && !line.contains("(\""), "Rust's notation: {line}");
    }
}
