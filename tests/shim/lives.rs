//! Workers begin and end behind a shim as they do without one.

use std::{collections::BTreeSet, fs};

use super::bench::*;
use arroyo_node::{
    machine::{Event, Exit, Signal},
    runtime::{ports::Processes as _, process::WorkerCommand},
    shim::ShimError,
};

#[test]
fn exit_codes_and_signals_arrive_as_they_are() {
    let mut bench = Bench::new();
    for code in [0, 1, 255] {
        let (worker, _) = bench.start(&format!("exit {code}"));
        assert_eq!(bench.exit_of(worker), Exit::Code(code));
    }
    let (worker, _) = bench.start("kill -KILL $$");
    assert_eq!(bench.exit_of(worker), Exit::Signal(9));
    let (worker, _) =
        bench.start("trap 'exit 3' TERM; echo $$ >>$PIDS; while :; do sleep 0.01; done");
    bench.wait_for_pids(1);
    bench.signal(worker, Signal::Terminate);
    assert_eq!(bench.exit_of(worker), Exit::Code(3));
}

#[test]
fn a_failed_exec_names_program_and_reason() {
    let mut bench = Bench::running(WorkerCommand::new("/no/such/program"));
    let worker = bench.spawn("");
    match bench.next() {
        Event::SpawnFailed { worker: failed, error } => {
            assert_eq!(failed, worker);
            assert_eq!(&*error.program, "/no/such/program");
            assert_eq!(&*error.reason, "No such file or directory (os error 2)");
        }
        other => panic!("{other:?} instead of SpawnFailed"),
    }
}

#[test]
fn environment_directory_and_output_are_the_agents_doing() {
    let mut bench = Bench::new();
    let (worker, _) = bench.start("env; pwd; cat; ls /proc/$$/fd");
    assert_eq!(bench.exit_of(worker), Exit::Code(0));
    let output = bench.output(worker);
    let lines: BTreeSet<&str> = output.lines().collect();
    let id = format!("ARROYO__WORKER__ID={worker}");
    let cwd = std::env::current_dir().unwrap();
    for expected in [&id, "GENERATION=3", "PIPELINE_ID=pipe", cwd.to_str().unwrap()] {
        assert!(lines.contains(expected), "{expected} is not in {output}");
    }
    assert!(output.ends_with("\n0\n1\n2\n"), "more descriptors than three in {output}");

    bench.port().discard(worker);
    eventually("the output is gone", || fs::read_dir(bench.file("output")).unwrap().count() == 0);
}

#[test]
fn nothing_of_a_killed_tree_is_left_however_it_tries_to_escape() {
    let stay = "sh -c 'echo $$ >>$PIDS; exec sleep 600'";
    let stopped = "sh -c 'echo $$ >>$PIDS; kill -STOP $$'";
    let mut bench = Bench::new();
    let (neighbour, neighbour_process) = bench.start("exec sleep 600");
    let (worker, leader) = bench.start(&format!(
        "{stay} & setsid {stay} & ( {stay} & ) & ( setsid {stay} & ) & {stopped} & \
         env -i PIDS=$PIDS PATH=$PATH setsid {stay} & ( setsid {stopped} & ) & sleep 600"
    ));
    let members = bench.wait_for_pids(7);
    let shim = parent(leader.pid).unwrap();
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(9));
    assert!(members.iter().all(|&member| !is_alive(member)));
    assert!(is_alive(neighbour_process));

    let children = || fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    eventually("the shim has reaped all the dead", || {
        children().trim() == neighbour_process.pid.to_string()
    });
    bench.signal(neighbour, Signal::Kill);
    bench.exit_of(neighbour);
}

#[test]
fn orphans_are_reaped_while_their_worker_lives() {
    let mut bench = Bench::new();
    let (_, leader) = bench.start("( setsid sh -c 'echo $$ >>$PIDS; exit 0' & ) & wait; sleep 600");
    let shim = parent(leader.pid).unwrap();
    eventually("the orphan is there or has been", || bench.file("pids").exists());
    let children = || fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    eventually("only the worker is left", || children().trim() == leader.pid.to_string());
}

#[test]
fn three_hundred_at_once() {
    let mut bench = Bench::new();
    let workers: BTreeSet<_> = (0..300).map(|_| bench.spawn("exec sleep 600")).collect();
    let mut spawned = BTreeSet::new();
    while spawned.len() < workers.len() {
        match bench.next() {
            Event::Spawned { worker, process } => {
                assert!(is_alive(process));
                assert!(spawned.insert(worker), "one answer each");
            }
            other => panic!("{other:?} instead of Spawned"),
        }
    }
    assert_eq!(spawned, workers);
    for &worker in &workers {
        bench.signal(worker, Signal::Kill);
    }
    let mut ended = BTreeSet::new();
    while ended.len() < workers.len() {
        match bench.next() {
            Event::Exited { worker, exit: Exit::Signal(9) } => {
                assert!(ended.insert(worker), "one end each");
            }
            other => panic!("{other:?} instead of Exited"),
        }
    }
}

/// Its session, its parent and its environment tell nothing of it. But whose else could it be?
#[test]
fn what_escapes_the_only_worker_is_killed_with_it() {
    let mut bench = Bench::new();
    let escapes = "env -i PIDS=$PIDS setsid sh -c 'echo $$ >>$PIDS; exec sleep 600'";
    let (worker, leader) = bench.start(&format!("( {escapes} & ) & sleep 600"));
    let escaped = bench.wait_for_pids(1)[0];
    let shim = parent(leader.pid);
    eventually("its parent is gone", || parent(escaped.pid) == shim);
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(9));
    assert!(!is_alive(escaped));
}

/// Each starts the next one, in a session of its own, and is gone: at any moment there is one of them, but
/// whoever is looked at may be gone before it has been asked whose it is.
#[test]
fn who_is_always_another_is_found_all_the_same() {
    let mut bench = Bench::new();
    let (_, neighbour) = bench.start("exec sleep 600");
    for _ in 0..8 {
        let (worker, _) = bench.start(
            "NEXT='[ -e $GO ] || setsid sh -c \"$NEXT\" &'; export NEXT; sh -c \"$NEXT\"; \
             sh -c \"$NEXT\"; exec sleep 600",
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
        bench.signal(worker, Signal::Kill);
        assert_eq!(bench.exit_of(worker), Exit::Signal(9));
        let alive = (0..20).map(|_| processes_of(worker).len()).max();
        if alive != Some(0) {
            bench.go();
        }
        assert_eq!(alive, Some(0), "processes lived on");
    }
    assert!(is_alive(neighbour));
}

/// About a mebibyte is the aim of a release build, whose code is shared with the agent's. What
/// nobody else can share is anonymous; the other private pages are code that only a shim without
/// an agent has to itself.
#[test]
fn the_shim_is_small() {
    let mut bench = Bench::new();
    let (_, leader) = bench.start("exec sleep 600");
    for _ in 0..19 {
        bench.start("exec sleep 600");
    }
    let shim = parent(leader.pid).unwrap();
    let rollup = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let private = kib("Private_Clean:") + kib("Private_Dirty:");
    let anonymous = kib("Anonymous:");
    println!("shim with 20 workers: private {private} KiB, of it anonymous {anonymous} KiB");
    assert!(anonymous < 3 * 1024, "{anonymous} KiB");
    let threads = fs::read_dir(format!("/proc/{shim}/task")).unwrap().count();
    assert_eq!(threads, 1);
}

#[test]
fn a_shim_that_cannot_be_started_is_an_error_that_names_it() {
    let bench = Bench::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let start = |program: &str| {
        let config = bench_config(temp.path());
        let mut shim = bench.shim.clone();
        shim.state_dir = temp.path().to_owned();
        shim.program = program.into();
        let (events, _receiver) = arroyo_node::runtime::ports::Events::channel();
        runtime
            .block_on(arroyo_node::runtime::process::shim::ShimProcesses::start(
                config,
                shim,
                events,
                &arroyo_node::runtime::essential::essential().0,
            ))
            .map(drop)
    };
    let error = start("/no/such/program").unwrap_err();
    assert!(matches!(&error, ShimError::Start(_)));
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let error = start("/bin/false").unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
}

fn bench_config(dir: &std::path::Path) -> arroyo_node::runtime::process::ProcessesConfig {
    arroyo_node::runtime::process::ProcessesConfig {
        command: WorkerCommand::new("/bin/true"),
        output: arroyo_node::runtime::output::OutputDir::create(dir.join("output")).unwrap(),
        groups: None,
    }
}
