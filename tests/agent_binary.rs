//! The agent as an operator runs it: the binary, its signals, its settings, and one agent after the
//! other over the same workers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use arroyo_node::{
    rpc::{
        admin_wire::NodeMode,
        wire::{StopWorkerStatus, WorkerExit, WorkerStatus},
    },
    runtime::process::send_signal,
};
use futures_util::future::join_all;
use nix::{libc::SIGKILL, sys::signal::Signal};
use support::{
    PROGRAM, Parent,
    agent::Home,
    calls::{Calls, code, signal, unknown},
    controller::Recorder,
    eventually, loopback, port_to_keep, processes,
    program::{AgentProgram, Program},
};

/// How a worker ended is this. Without a shim, once the agent that started it is gone, nobody may be
/// able to tell; but nothing else is ever said.
fn assert_ended(home: &Home, worker: &WorkerStatus, expected: Option<WorkerExit>) {
    let untold = home.parent == Parent::Agent && worker.exit == unknown();
    assert!(worker.exit == expected || untold, "{worker:?}");
}

/// Kills a worker's first process, and waits until it is gone.
async fn crash(worker: &WorkerStatus) {
    let process = processes::identify(worker.pid).unwrap();
    assert!(send_signal(process, SIGKILL).unwrap());
    eventually("it is dead", || !processes::is_alive(process)).await;
}

async fn registered(agent: &AgentProgram) {
    agent.until_status("registered", |status| status.registered).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nobody_is_registered() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let _taken = TcpListener::bind(home.address).unwrap();
    let arguments = home.arguments(&recorder.url());
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut program = Program::run(&home.mark, &arguments, &[]);
    assert_eq!(program.end().await.code(), Some(1));
    let error = program.line_with("error: ").await;
    assert!(error.contains(&format!("cannot bind {}", home.address)), "{error}");
    for words in ["--bind-address", "--rpc-port", "in use"] {
        assert!(error.contains(words), "no {words:?} in {error}");
    }
    assert!(recorder.record().registrations.is_empty());
}

#[tokio::test]
async fn a_state_directory_that_is_taken_is_named_with_its_agent() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.run(&recorder.url(), &[]).await;
    registered(&agent).await;
    let mut arguments = home.arguments(&recorder.url());
    let port = arguments.iter().position(|argument| argument == "--rpc-port").unwrap();
    arguments[port + 1] = "0".to_owned();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();

    let mut second = Program::run(&home.mark, &arguments, &[]);
    assert_eq!(second.end().await.code(), Some(1));
    let error = second.line_with("error: ").await;
    assert!(error.contains(&agent.program.pid().to_string()), "{error}");
    assert!(error.contains(home.state_dir().to_str().unwrap()), "{error}");
    assert_eq!(recorder.record().registrations.len(), 1);
    agent.start(home.request("job", 1, &[])).await;
}

#[tokio::test]
async fn sigterm_ends_workers_gently_then_by_force_and_reports_them() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &["--shutdown-kill-after", "500ms"]).await;
    registered(&agent).await;
    let obeys = agent.start(home.request("obeys", 2, &[])).await;
    let stubborn = [
        ("WORKER_IGNORE_SIGTERM", "1"),
        ("WORKER_CHILDREN", "setsid,daemon"),
        ("WORKER_CHILDREN_IGNORE_SIGTERM", "1"),
    ];
    let stubborn = agent.start(home.request("stubborn", 3, &stubborn)).await;
    for id in [obeys, stubborn] {
        home.until_ready(id).await;
    }

    agent.program.signal(Signal::SIGTERM);
    assert_eq!(agent.program.end().await.code(), Some(0));
    assert_eq!(home.mark.workers(), []);
    assert_eq!(recorder.report_of(obeys).await.slots, 2);
    assert_eq!(recorder.report_of(stubborn).await.slots, 3);

    let agent = home.run(&recorder.url(), &[]).await;
    assert_eq!(agent.until_reported(obeys).await.exit, code(0));
    assert_eq!(agent.until_reported(stubborn).await.exit, signal(9));
    registered(&agent).await;
    let reports = recorder.record().reports;
    assert_eq!(reports.len(), 2, "nothing is reported again: {reports:?}");
}

#[tokio::test]
async fn what_cannot_be_reported_at_the_end_is_reported_by_the_next_agent() {
    let home = Home::new();
    let nobody = format!("http://{}", loopback(port_to_keep()));
    let mut agent = home.run(&nobody, &[]).await;
    let id = agent.start(home.request("job", 5, &[])).await;
    home.until_ready(id).await;
    agent.program.signal(Signal::SIGINT);
    assert_eq!(agent.program.end().await.code(), Some(0));
    assert_eq!(home.mark.workers(), []);

    let recorder = Recorder::start().await;
    let agent = home.run(&recorder.url(), &[]).await;
    assert_eq!(recorder.report_of(id).await.slots, 5);
    assert_eq!(agent.until_reported(id).await.exit, code(0));
}

#[tokio::test]
async fn a_second_signal_is_the_same_wish_within_a_second_and_kills_the_workers_later() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &["--shutdown-kill-after", "1h"]).await;
    let id = agent.start(home.request("job", 1, &[("WORKER_IGNORE_SIGTERM", "1")])).await;
    home.until_ready(id).await;
    agent.program.signal(Signal::SIGTERM);
    let ending = |status: &arroyo_node::rpc::admin_wire::GetStatusResponse| {
        status.mode() == NodeMode::ShuttingDown
    };
    agent.until_status("shutting down", ending).await;
    let refusal = agent.refusal(home.request("late", 1, &[])).await;
    assert_eq!(refusal.code(), tonic::Code::Unavailable);
    assert!(refusal.message().contains("shutting down"), "{refusal}");
    // As `timeout` does.
    agent.program.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agent.program.ended().is_none(), "it waits for its worker");
    assert_eq!(home.mark.count_of(id), 1, "the worker lives");

    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.program.signal(Signal::SIGINT);
    assert_eq!(agent.program.end().await.code(), Some(0));
    assert_eq!(home.mark.workers(), []);
    assert_eq!(recorder.record().reports_of(id).len(), 1, "the end was delivered");
}

/// Leaves an agent's workers to the next agent, in one way or another.
async fn hand_over(how: &str, agent: &mut AgentProgram, home: &Home) {
    match how {
        "SIGUSR1" => agent.program.signal(Signal::SIGUSR1),
        "SIGKILL" => agent.program.signal(Signal::SIGKILL),
        "detach" => {
            let address = agent.address.to_string();
            let mut detach = Program::run(&home.mark, &["detach", "--addr", &address], &[]);
            assert!(detach.end().await.success());
        }
        other => panic!("{other}"),
    }
    let status = agent.program.end().await;
    assert_eq!(status.code(), if how == "SIGKILL" { None } else { Some(0) });
}

async fn workers_outlive_an_agent_that_ends_by(how: &str, parent: Parent) {
    let home = &Home::with_workers_of(parent);
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &[]).await;
    registered(&agent).await;
    let talks = home.request("talks", 2, &[("WORKER_PRINT_EVERY", "20ms")]);
    let talks = agent.start(talks).await;
    let family = home.request("family", 3, &[("WORKER_CHILDREN", "group,setsid,daemon")]);
    let family = agent.start(family).await;
    for id in [talks, family] {
        home.until_ready(id).await;
    }
    home.until_alive(family, 4).await;
    let before = agent.workers().await;

    hand_over(how, &mut agent, home).await;
    assert_eq!((home.mark.count_of(talks), home.mark.count_of(family)), (1, 4));
    let written = home.output(talks).len();
    eventually("it goes on writing", || home.output(talks).len() > written).await;

    let agent = home.run(&recorder.url(), &[]).await;
    registered(&agent).await;
    assert_eq!(agent.workers().await, before, "the same workers, with the same pids");
    assert_eq!(agent.status().await.free_slots, 11);
    let written = home.output(talks).len();
    eventually("it goes on writing", || home.output(talks).len() > written).await;
    assert_eq!(recorder.record().reports, []);

    agent.stop_gently(talks).await;
    agent.stop_by_force(family).await;
    for (id, slots) in [(talks, 2), (family, 3)] {
        assert_ended(home, &agent.until_reported(id).await, code(0));
        assert_eq!(recorder.report_of(id).await.slots, slots);
        assert_eq!(agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    }
    assert_eq!(home.mark.workers(), []);
    assert_eq!(agent.status().await.free_slots, 16);
}

#[tokio::test]
async fn workers_outlive_an_agent_that_is_detached_by_signal() {
    for parent in [Parent::Shim, Parent::Agent] {
        workers_outlive_an_agent_that_ends_by("SIGUSR1", parent).await;
    }
}

#[tokio::test]
async fn workers_outlive_an_agent_that_is_detached_by_command() {
    for parent in [Parent::Shim, Parent::Agent] {
        workers_outlive_an_agent_that_ends_by("detach", parent).await;
    }
}

#[tokio::test]
async fn workers_outlive_an_agent_that_is_killed() {
    for parent in [Parent::Shim, Parent::Agent] {
        workers_outlive_an_agent_that_ends_by("SIGKILL", parent).await;
    }
}

#[tokio::test]
async fn what_ends_while_there_is_no_agent_is_reported_by_the_next() {
    what_ends_meanwhile_is_reported(Parent::Shim).await;
}

#[tokio::test]
async fn what_ends_while_there_is_neither_agent_nor_shim_is_reported_by_the_next() {
    what_ends_meanwhile_is_reported(Parent::Agent).await;
}

async fn what_ends_meanwhile_is_reported(parent: Parent) {
    let home = &Home::with_workers_of(parent);
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &[]).await;
    registered(&agent).await;
    let alone = agent.start(home.request("alone", 2, &[])).await;
    let children = [("WORKER_CHILDREN", "setsid,daemon")];
    let leaves_children = agent.start(home.request("leaves children", 3, &children)).await;
    let stays = agent.start(home.request("stays", 1, &[])).await;
    for id in [alone, leaves_children, stays] {
        home.until_ready(id).await;
    }
    let workers: BTreeMap<_, _> =
        agent.workers().await.into_iter().map(|worker| (worker.worker_id, worker)).collect();
    agent.program.kill().await;
    crash(&workers[&alone]).await;
    crash(&workers[&leaves_children]).await;
    match parent {
        Parent::Shim => home.until_alive(leaves_children, 0).await,
        Parent::Agent => assert_eq!(home.mark.count_of(leaves_children), 2),
    }

    let agent = home.run(&recorder.url(), &[]).await;
    for (id, slots) in [(alone, 2), (leaves_children, 3)] {
        assert_eq!(recorder.report_of(id).await.slots, slots);
        assert_ended(home, &agent.until_reported(id).await, signal(9));
    }
    assert_eq!(home.mark.count_of(leaves_children), 0);
    assert_eq!(agent.worker(stays).await, workers[&stays]);
    assert_eq!(agent.status().await.free_slots, 15);
}

#[tokio::test]
async fn no_worker_is_lost_or_left_behind_when_the_agent_is_killed_between_starts() {
    for parent in [Parent::Shim, Parent::Agent] {
        no_worker_is_lost_between_starts(parent).await;
    }
}

async fn no_worker_is_lost_between_starts(parent: Parent) {
    const STARTS: usize = 40;
    let home = Home::with_workers_of(parent);
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &["--task-slots", "100"]).await;
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let starts = (0..STARTS).map(|n| {
        let (calls, answered) = ((*agent).clone(), answered.clone());
        let request = home.request(&format!("job-{n}"), 1, &[]);
        tokio::spawn(async move {
            if let Ok(id) = calls.try_start(request).await {
                answered.lock().unwrap().insert(id);
            }
        })
    });
    let starts: Vec<_> = starts.collect();
    eventually("some are started", || answered.lock().unwrap().len() > STARTS / 8).await;
    agent.program.kill().await;
    for start in starts {
        start.await.unwrap();
    }

    let agent = home.run(&recorder.url(), &["--task-slots", "100"]).await;
    let alive = || -> BTreeSet<u64> {
        home.mark.workers().into_iter().filter_map(|marked| marked.worker).collect()
    };
    agent
        .until_status("all are adopted", |status| status.live_workers == alive().len() as u64)
        .await;
    let listed = agent.workers().await;
    let listed: BTreeSet<u64> =
        listed.iter().filter(|worker| worker.running).map(|worker| worker.worker_id).collect();
    assert_eq!(listed, alive());
    let answered = answered.lock().unwrap().clone();
    assert!(answered.is_subset(&listed), "{answered:?} {listed:?}");
    assert_eq!(recorder.record().reports, []);
    join_all(listed.iter().map(|id| agent.stop_by_force(*id))).await;
    for id in listed {
        agent.until_reported(id).await;
    }
    assert_eq!(home.mark.workers(), []);
}

#[tokio::test]
async fn a_shim_that_is_killed_takes_no_worker_with_it() {
    let home = Home::with_workers_of(Parent::Shim);
    let recorder = Recorder::start().await;
    let mut agent = home.run(&recorder.url(), &[]).await;
    let before = agent.start(home.request("before", 2, &[])).await;
    home.until_ready(before).await;
    let listed = agent.worker(before).await;
    let shim = home.shim().unwrap();
    assert!(send_signal(shim, SIGKILL).unwrap());
    eventually("it is dead", || !processes::is_alive(shim)).await;

    let after = agent.start(home.request("after", 1, &[])).await;
    home.until_ready(after).await;
    assert_ne!(home.shim(), Some(shim));
    assert_eq!(agent.worker(before).await, listed);
    agent.stop_by_force(before).await;
    agent.until_reported(before).await;
    assert_eq!(home.mark.count_of(before), 0);

    agent.program.kill().await;
    let agent = home.run(&recorder.url(), &[]).await;
    agent.stop_gently(after).await;
    assert_eq!(agent.until_reported(after).await.exit, code(0));
    let reports = recorder.record().reports;
    assert_eq!(reports.len(), 2, "{reports:?}");
}

#[tokio::test]
async fn the_variables_of_stock_arroyo_are_honoured() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let (port, admin_port) = (home.address.port().to_string(), port_to_keep().to_string());
    let state_dir = home.state_dir();
    let id = format!("\"{}\"", home.machine);
    let env = [
        ("ARROYO__NODE__ID", id.as_str()),
        ("ARROYO__NODE__TASK_SLOTS", "3"),
        ("ARROYO__NODE__RPC_PORT", &port),
        ("ARROYO__NODE__BIND_ADDRESS", "127.0.0.1"),
        ("ARROYO__CONTROLLER_ENDPOINT", &recorder.url()),
        ("ARROYO__ADMIN__BIND_ADDRESS", "127.0.0.1"),
        ("ARROYO__ADMIN__HTTP_PORT", &admin_port),
        ("ARROYO_NODE__STATE_DIR", state_dir.to_str().unwrap()),
        ("ARROYO_NODE__WORKER__COMMAND", PROGRAM),
    ];
    let arguments: Vec<_> =
        ["node"].into_iter().chain(home.parent.flags().iter().copied()).collect();
    let agent = AgentProgram::serving(Program::run(&home.mark, &arguments, &env)).await;
    let record = recorder.until("a node", |record| !record.registrations.is_empty()).await;
    let registration = &record.registrations[0];
    assert_eq!(registration.machine_id, home.machine);
    assert_eq!(registration.task_slots, 3);
    assert_eq!(registration.addr, home.address.to_string());
    assert_eq!(agent.admin, loopback(admin_port.parse().unwrap()));
    assert_eq!(agent.metric("arroyo_node_running_workers").await, Some(0.0));
    assert_eq!(
        fs::read_to_string(home.state_dir().join("lock")).unwrap().trim(),
        agent.program.pid().to_string()
    );

    // A worker inherits stock's variables, which it needs; ours it would not understand.
    let worker = agent.start(home.request("job", 3, &[])).await;
    home.until_ready(worker).await;
    let environment = processes::environment(agent.worker(worker).await.pid);
    assert_eq!(environment["ARROYO__CONTROLLER_ENDPOINT"], recorder.url());
    assert_eq!(environment["ARROYO__ADMIN__HTTP_PORT"], "0");
    assert!(environment.keys().all(|name| !name.starts_with("ARROYO_NODE__")), "{environment:?}");
}

#[tokio::test]
async fn the_metrics_count_the_workers_that_run() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.run(&recorder.url(), &[]).await;
    assert_eq!(agent.metric("arroyo_node_running_workers").await, Some(0.0));
    let first = agent.start(home.request("one", 1, &[])).await;
    agent.start(home.request("two", 2, &[])).await;
    assert_eq!(agent.metric("arroyo_node_running_workers").await, Some(2.0));
    agent.stop_by_force(first).await;
    assert_eq!(agent.metric("arroyo_node_running_workers").await, Some(1.0));
}

#[tokio::test]
async fn a_worker_is_given_the_agents_configuration_files() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let (file, dir) = (home.scratch().join("arroyo.toml"), home.scratch().join("conf.d"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&dir).unwrap();
    let (file, dir) = (file.to_str().unwrap(), dir.to_str().unwrap());
    let own = home.arguments(&recorder.url());
    let before = ["-c", file, "--config-dir", dir];
    let arguments: Vec<_> = before.into_iter().chain(own.iter().map(String::as_str)).collect();
    let agent = AgentProgram::serving(Program::run(&home.mark, &arguments, &[])).await;
    let worker = agent.start(home.request("job", 1, &[])).await;
    home.until_ready(worker).await;
    let argv = processes::arguments(agent.worker(worker).await.pid);
    assert_eq!(argv, [PROGRAM, "-c", file, "--config-dir", dir, "worker"]);
}

/// Where the kernel knows such a wish, the agent and its shim run as soon as they wake up; their workers
/// have what everybody has.
#[tokio::test]
async fn who_supervises_has_a_short_time_slice_and_no_worker_has() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.run(&recorder.url(), &[]).await;
    let usual = processes::time_slice(std::process::id());
    let Some(usual) = usual.filter(|_| processes::has_usual_priority()) else {
        println!("left out: no time slices to choose or to see, or a priority in their stead");
        return;
    };
    let worker = agent.start(home.request("job", 1, &[])).await;
    let worker = agent.worker(worker).await.pid;
    let shim = home.shim().unwrap().pid;
    let slices = [agent.program.pid(), shim, worker].map(|pid| processes::time_slice(pid).unwrap());
    assert_eq!(slices, [100_000, 100_000, usual]);
}

/// A commit waits half a second for somebody else's lock.
#[tokio::test]
async fn who_comes_while_a_commit_is_waited_for_does_not_wait_along() {
    const TRIES: usize = 20;
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = home.run(&recorder.url(), &[]).await;
    registered(&agent).await;
    let journal = rusqlite::Connection::open(home.state_dir().join("journal.sqlite")).unwrap();
    for _ in 0..TRIES {
        agent.until_status("healthy", |status| status.journal_error.is_empty()).await;
        journal.execute_batch("BEGIN IMMEDIATE").unwrap();
        let first = Calls::to(agent.address);
        let request = home.request("job", 1, &[]);
        let start = tokio::spawn(async move { first.try_start(request).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let workers = Calls::to(agent.address).workers().await;
        let overtook = !start.is_finished();
        journal.execute_batch("ROLLBACK").unwrap();
        // On a busy machine the lock is given up on, or let go, before anybody comes.
        let started = start.await.unwrap();
        if overtook {
            assert_eq!(workers, []);
            return;
        }
        if let Ok(worker) = started {
            agent.stop_by_force(worker).await;
        }
    }
    panic!("in {TRIES} tries, each caller waited for the commit");
}
