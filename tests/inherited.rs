//! What an agent gets from whoever starts it, and what does it no harm: signals that are ignored or
//! blocked, few descriptors, a `/proc` that hides things.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use arroyo_node::rpc::wire::{StopWorkerStatus, WorkerState};
use nix::sys::signal::Signal;
use support::{
    PROGRAM,
    agent::Home,
    calls::signal,
    controller::Recorder,
    eventually, processes,
    program::{AgentProgram, Program},
};

/// An agent that these words start.
async fn started_by(
    words: &[&str],
    home: &Home,
    recorder: &Recorder,
    worker: Option<&str>,
) -> AgentProgram {
    let mut own = home.arguments(&recorder.url());
    if let Some(worker) = worker {
        let program = own.iter().position(|argument| argument == "--worker-command").unwrap() + 1;
        own[program] = worker.to_owned();
    }
    let own = own.iter().map(String::as_str);
    let (first, rest) = words.split_first().unwrap();
    let arguments: Vec<_> = rest.iter().copied().chain([PROGRAM]).chain(own).collect();
    AgentProgram::serving(Program::run_copy(Path::new(first), &home.mark, &arguments, &[])).await
}

/// As by `trap '' CHLD`, and by supervisors that let the kernel reap.
#[tokio::test]
async fn signals_that_were_ignored_or_blocked_are_heard() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let words = ["env", "--ignore-signal=CHLD", "--block-signal"];
    let mut agent = started_by(&words, &home, &recorder, None).await;
    let id = agent.start(home.request("job", 1, &[("WORKER_EXIT_AFTER", "0s:3")])).await;
    assert_eq!(agent.until_exited(id).await.exit, support::calls::code(3));
    agent.program.signal(Signal::SIGTERM);
    assert_eq!(agent.program.end().await.code(), Some(0));
}

/// A terminal that is closed takes the agent along, not its workers; one under `nohup` stays.
#[tokio::test]
async fn an_agent_whose_terminal_closes_leaves_its_workers_unless_it_is_to_stay() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let mut stays = started_by(&["env", "--ignore-signal=HUP"], &home, &recorder, None).await;
    stays.program.signal(Signal::SIGHUP);
    let id = stays.start(home.request("job", 1, &[])).await;
    home.until_ready(id).await;
    let worker = stays.worker(id).await;
    stays.program.signal(Signal::SIGUSR1);
    assert_eq!(stays.program.end().await.code(), Some(0));

    let mut leaves = started_by(&["env", "--default-signal=HUP"], &home, &recorder, None).await;
    leaves.program.signal(Signal::SIGHUP);
    assert_eq!(leaves.program.end().await.code(), Some(0));
    leaves.program.line_with("detaching").await;
    let agent = home.run(&recorder.url(), &[]).await;
    assert_eq!(agent.worker(id).await, worker);
}

fn processor_time(pid: u32) -> u64 {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = line.rsplit(')').next().unwrap().split_ascii_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// What cannot be accepted stays in the queue, and the listener readable.
#[tokio::test]
async fn callers_whom_no_descriptor_is_left_for_cost_nothing() {
    let home = Home::new();
    let recorder = Recorder::start().await;
    let agent = started_by(&["prlimit", "--nofile=64:64"], &home, &recorder, None).await;
    let pid = agent.program.pid();
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let callers: Vec<_> = (0..64).map(|_| TcpStream::connect(agent.address).unwrap()).collect();
    eventually("there is none left", || descriptors() >= 63).await;

    let (before, began) = (processor_time(pid), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (ticks, took) = (processor_time(pid) - before, began.elapsed());
    assert!(ticks < 20, "{ticks} hundredths of a second in {took:?}");
    drop(callers);
    agent.status().await;
}

/// A `/proc` in which this user sees nothing of who runs as another, as its worker does.
#[tokio::test]
async fn workers_that_are_hidden_are_stopped_and_keep_nobody_from_being_stopped() {
    let hides = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 \
                 --regid=65534 --clear-groups \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", hides, "sh"];
    let try_it = Command::new(words[0]).args(&words[1..]).arg(PROGRAM).arg("--help").output();
    if !try_it.is_ok_and(|tried| tried.status.success()) {
        return println!("passed by: no mount namespace, or not root");
    }
    let home = Home::new();
    let recorder = Recorder::start().await;
    let program = home.scratch().join("sleep-as-root");
    fs::copy("/bin/sleep", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    for directory in home.scratch().ancestors().take(2) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = home.scratch().join("worker");
    let runs =
        format!("#!/bin/sh\n[ -n \"$HIDDEN\" ] && exec {} 60\nexec sleep 60\n", program.display());
    fs::write(&script, runs).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

    let agent = started_by(&words, &home, &recorder, script.to_str()).await;
    let hidden = agent.start(home.request("hidden", 1, &[("HIDDEN", "yes")])).await;
    let plain = agent.start(home.request("plain", 1, &[])).await;
    let pid = agent.worker(hidden).await.pid;
    let process = processes::identify(pid).unwrap();
    let is_root = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().any(|line| line.starts_with("Uid:") && line.contains("\t0\t"))
    };
    eventually("it is root", is_root).await;
    for id in [hidden, plain] {
        agent.stop_by_force(id).await;
        let ended = agent.until(id, "ended", |worker| worker.state() == WorkerState::Exited).await;
        assert_eq!(ended.exit, signal(15));
        assert_eq!(agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    }
    assert!(!processes::is_alive(process));
}
