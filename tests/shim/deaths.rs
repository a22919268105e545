//! The shim dies; its workers do not, and nothing about them is made up.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, time::Duration};

use nix::{sys::signal, unistd::Pid};

use super::bench::{self, *};
use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Process, Signal},
};

const WAIT_FOR_GO: &str = "while [ ! -e $GO ]; do sleep 0.01; done";

/// Starts a worker that stays. When it runs, the old shim's death has been noticed.
fn start_at_new_shim(bench: &mut Bench) -> (WorkerId, Process) {
    loop {
        let asked = bench.spawn("exec sleep 600");
        match bench.next() {
            Event::Spawned { worker, process } if worker == asked => return (worker, process),
            // Asked of the old one, just before its death was noticed.
            Event::SpawnFailed { worker, .. } if worker == asked => {}
            other => panic!("{other:?} instead of an answer"),
        }
    }
}

#[test]
fn workers_outlive_their_shim_and_their_ends_are_told_truthfully() {
    let mut bench = Bench::new();
    let (ends, process) = bench.start(&format!("{WAIT_FOR_GO}; exit 9"));
    let (killed, _) =
        bench.start("( setsid sh -c 'echo $$ >>$PIDS; exec sleep 600' & ) & sleep 600");
    let escaped = bench.wait_for_pids(1)[0];
    bench.kill_shim(process);

    let (new, new_process) = start_at_new_shim(&mut bench);
    assert!(is_alive(process));
    assert_ne!(parent(new_process.pid), parent(process.pid));

    bench.go();
    let exit = bench.exit_of(ends);
    // Older kernels than 6.15 keep no status for anybody but the parent.
    assert!(matches!(exit, Exit::Code(9) | Exit::Unknown), "{exit}");
    bench.signal(killed, Signal::Kill);
    let exit = bench.exit_of(killed);
    assert!(matches!(exit, Exit::Signal(9) | Exit::Unknown), "{exit}");
    assert!(!is_alive(escaped));
    bench.signal(new, Signal::Kill);
    assert_eq!(bench.exit_of(new), Exit::Signal(9));
}

#[test]
fn a_kill_that_the_shim_did_not_finish_is_finished() {
    let mut bench = Bench::new();
    let (worker, process) =
        bench.start("( setsid sh -c 'echo $$ >>$PIDS; exec sleep 600' & ) & sleep 600");
    let escaped = bench.wait_for_pids(1)[0];
    // Whatever the shim had time for.
    bench.signal(worker, Signal::Kill);
    if is_alive(process) {
        bench.kill_shim(process);
    }
    let exit = bench.exit_of(worker);
    assert!(matches!(exit, Exit::Signal(9) | Exit::Unknown), "{exit}");
    assert!(!is_alive(process) && !is_alive(escaped));
}

#[test]
fn each_spawn_under_way_ends_in_one_answer_and_no_orphan() {
    for round in 0..5 {
        let mut bench = Bench::new();
        let (_, first) = bench.start("exec sleep 600");
        let workers: BTreeSet<WorkerId> = (0..20).map(|_| bench.spawn("exec sleep 600")).collect();
        // Each round catches it at another moment.
        for _ in 0..round * 3 {
            assert!(matches!(bench.next(), Event::Spawned { .. }));
        }
        bench.kill_shim(first);
        let mut answers = round * 3;
        let mut running = BTreeSet::new();
        while answers < workers.len() {
            match bench.next() {
                Event::Spawned { worker, .. } => drop(running.insert(worker)),
                Event::SpawnFailed { worker, .. } => {
                    assert_eq!(processes_of(worker), [0_u32; 0], "an orphan");
                }
                other => panic!("{other:?} instead of an answer"),
            }
            answers += 1;
        }
        for &worker in &workers {
            bench.signal(worker, Signal::Kill);
        }
        for worker in running {
            eventually("it is gone", || processes_of(worker).is_empty());
        }
    }
}

#[test]
fn a_worker_whose_shim_died_between_two_agents_is_adopted() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    bench.disconnect();
    bench.kill_shim(process);
    bench.connect();
    assert_eq!(bench.known, []);
    assert_eq!(bench.adopt(worker, Some(process)), Event::Adopted { worker, process });
    bench.signal(worker, Signal::Kill);
    let exit = bench.exit_of(worker);
    assert!(matches!(exit, Exit::Signal(9) | Exit::Unknown), "{exit}");
}

#[test]
fn a_worker_whose_shim_dies_before_the_new_agent_asks_for_it_is_adopted() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    bench.disconnect();
    bench.connect();
    assert_eq!(bench.known.len(), 1);
    bench.kill_shim(process);
    start_at_new_shim(&mut bench);
    assert_eq!(bench.adopt(worker, None), Event::Adopted { worker, process });
    bench.signal(worker, Signal::Kill);
    let exit = bench.exit_of(worker);
    assert!(matches!(exit, Exit::Signal(9) | Exit::Unknown), "{exit}");
}

#[test]
fn spawns_fail_while_no_shim_can_be_started() {
    let mut bench = Bench::new();
    let program = bench.file("program");
    symlink(&bench.shim.program, &program).unwrap();
    bench.disconnect();
    bench.shim.program.clone_from(&program);
    bench.connect();
    let (_, process) = bench.start("exec sleep 600");
    fs::rename(&program, bench.file("elsewhere")).unwrap();
    bench.kill_shim(process);
    let worker = bench.spawn("exec sleep 600");
    match bench.next() {
        Event::SpawnFailed { worker: failed, error } => {
            assert_eq!(failed, worker);
            assert!(error.reason.contains("shim"), "{error}");
        }
        other => panic!("{other:?} instead of SpawnFailed"),
    }
    fs::rename(bench.file("elsewhere"), &program).unwrap();
    // In time a shim can be started again.
    eventually("a worker is spawned", || {
        bench.spawn("exec sleep 600");
        matches!(bench.next(), Event::Spawned { .. })
    });
}

/// As when a program is run from a disk that hangs, and never comes back.
#[test]
fn a_shim_that_hangs_for_good_is_replaced() {
    let mut bench = Bench::new();
    bench.disconnect();
    bench.shim.timeout = Duration::from_secs(1);
    bench.connect();
    let (lives, process) = bench.start(&format!("{WAIT_FOR_GO}; exit 9"));
    let (killed, _) = bench.start("exec sleep 600");
    let hung = bench::process(parent(process.pid).unwrap()).unwrap();
    signal::kill(Pid::from_raw(hung.pid.cast_signed()), signal::SIGSTOP).unwrap();
    let never_runs = bench.spawn("exec sleep 600");
    bench.signal(killed, Signal::Kill);
    bench.signal(never_runs, Signal::Kill);

    // What becomes of these two, in either order.
    let mut ended = None;
    let mut failed = false;
    while ended.is_none() || !failed {
        match bench.next() {
            Event::Exited { worker, exit } if worker == killed => ended = Some(exit),
            Event::SpawnFailed { worker, .. } if worker == never_runs => failed = true,
            other => panic!("{other:?}"),
        }
        assert!(!is_alive(hung), "it could wake up and run what was said to have failed");
    }
    // Older kernels than 6.15 keep no status for anybody but the parent.
    assert!(matches!(ended, Some(Exit::Signal(9) | Exit::Unknown)), "{ended:?}");
    let (new, _) = start_at_new_shim(&mut bench);
    assert!(is_alive(process));
    bench.go();
    let exit = bench.exit_of(lives);
    assert!(matches!(exit, Exit::Code(9) | Exit::Unknown), "{exit}");
    bench.signal(new, Signal::Kill);
    assert_eq!(bench.exit_of(new), Exit::Signal(9));
}
