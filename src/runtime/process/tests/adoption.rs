//! A next agent finds the workers of the one before.

use std::process::{Command, Stdio};

use super::*;

impl Bench {
    fn adopt(&mut self, worker: WorkerId, process: Option<Process>) -> Event {
        self.alive.insert(worker);
        self.port().adopt(worker, process);
        let event = self.next();
        if matches!(event, Event::NeverRan(_)) {
            self.alive.remove(&worker);
        }
        event
    }
}

#[test]
fn a_worker_outlives_its_agent_and_is_adopted() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("echo $$ >>$PIDS; exec sleep 600");
    bench.wait_for_pids(1);
    bench.restart();
    assert!(is_alive(process));
    assert_eq!(bench.adopt(worker, Some(process)), Event::Adopted { worker, process });
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(libc::SIGKILL));
}

#[test]
fn a_worker_of_which_only_the_id_is_known_is_found() {
    let mut bench = Bench::new();
    // Another session that names the same worker must not be taken for it.
    let (worker, process) = bench.start("setsid sh -c 'echo $$ >>$PIDS; exec sleep 600' & wait");
    let child = bench.wait_for_pids(1)[0];
    bench.restart();
    assert_eq!(bench.adopt(worker, None), Event::Adopted { worker, process });
    bench.signal(worker, Signal::Kill);
    bench.exit_of(worker);
    assert!(!is_alive(child) && !is_alive(process));
}

#[test]
fn a_worker_without_a_trace_never_ran() {
    let mut bench = Bench::new();
    let worker = worker_id();
    assert_eq!(bench.adopt(worker, None), Event::NeverRan(worker));
}

#[test]
fn a_pid_that_was_given_to_a_stranger_is_left_alone() {
    let mut stranger = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let owner = procfs::stat(stranger.id()).unwrap().unwrap().process;
    let mut bench = Bench::new();
    let worker = worker_id();
    let process = Process { start_time: owner.start_time - 1, ..owner };
    let event = bench.adopt(worker, Some(process));
    bench.signal(worker, Signal::Kill);
    let (other, _) = bench.start("exit 0");
    bench.exit_of(other);
    let alive = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();

    assert_eq!(event, Event::Exited { worker, exit: Exit::Unknown });
    assert!(alive, "it was signalled");
}

#[test]
fn what_a_dead_worker_left_is_cleared_away() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start(
        "( setsid sh -c 'echo $$ >>$PIDS; exec sleep 600' & ) & echo $$ >>$PIDS; exec sleep 600",
    );
    let members = bench.wait_for_pids(2);
    bench.port = None;
    // A child of this process: reaped here, as init would.
    let pid = nix::unistd::Pid::from_raw(process.pid.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();

    bench.restart();
    let exited = Event::Exited { worker, exit: Exit::Unknown };
    assert_eq!(bench.adopt(worker, Some(process)), exited);
    assert!(members.into_iter().all(|process| !is_alive(process)));
}

#[test]
fn the_status_of_somebody_elses_child_is_its_own_or_unknown() {
    let mut bench = Bench::new();
    let worker = worker_id();
    // The shell in between is its parent and reaps it, as init or another agent's shim would.
    let mut parent = Command::new("/bin/sh")
        .args(["-c", "setsid sh -c 'echo $$ >>$PIDS; while [ ! -e $PIDS.go ]; do sleep 0.01; done; exit 6' & wait"])
        .env("PIDS", bench.pids_file())
        .env("ARROYO__WORKER__ID", worker.to_string())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let process = bench.wait_for_pids(1)[0];
    assert_eq!(bench.adopt(worker, Some(process)), Event::Adopted { worker, process });
    std::fs::write(bench.pids_file().with_extension("go"), "").unwrap();
    let exit = bench.exit_of(worker);
    // The parent carries the worker's id too, but is not the worker's: it started before it. It
    // may have been killed all the same if both started within the same tick.
    parent.wait().unwrap();
    assert!(matches!(exit, Exit::Code(6) | Exit::Unknown), "{exit}");
}
