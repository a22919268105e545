//! Whatever a worker starts goes with it, and nobody else does.

use std::process::{Child, Command, Stdio};

use super::*;

/// Says its pid and stays.
const STAY: &str = "sh -c 'echo $$ >>$PIDS; exec sleep 600'";

/// A process that is nobody's worker. Killed when dropped.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn assert_alive(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "a stranger was killed");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this script, waits for all its processes, kills the worker: nothing may be alive when
/// its end is reported, and nobody else dead.
fn kill_leaves_nothing(script: &str, processes: usize) {
    let mut stranger = Stranger::new();
    let mut bench = Bench::new();
    let mut neighbour = Bench::new();
    let (_, neighbour_process) = neighbour.start("exec sleep 600");
    let (worker, leader) = bench.start(script);
    let members = bench.wait_for_pids(processes);
    assert!(members.iter().chain([&leader]).all(|&process| is_alive(process)));

    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(libc::SIGKILL));
    let left: Vec<_> = members.into_iter().filter(|&process| is_alive(process)).collect();
    assert_eq!(left, [], "alive after the end of {script:?}");
    stranger.assert_alive();
    assert!(is_alive(neighbour_process));
}

#[test]
fn children_in_the_group() {
    kill_leaves_nothing(&format!("{STAY} & {STAY} & wait"), 2);
}

#[test]
fn a_child_in_a_session_of_its_own() {
    kill_leaves_nothing(&format!("setsid {STAY} & wait"), 1);
}

#[test]
fn a_child_with_an_empty_environment_in_a_session_of_its_own() {
    kill_leaves_nothing(&format!("env -i PIDS=$PIDS PATH=$PATH setsid {STAY} & wait"), 1);
}

#[test]
fn a_double_fork() {
    kill_leaves_nothing(&format!("( {STAY} & ) & sleep 600"), 1);
}

#[test]
fn a_daemon() {
    // Its parents are gone, it leads a session of its own: only its environment tells.
    kill_leaves_nothing(&format!("( setsid {STAY} & ) & sleep 600"), 1);
    kill_leaves_nothing(&format!("( setsid sh -c \"( {STAY} & )\" & ) & sleep 600"), 1);
}

#[test]
fn a_child_of_a_daemon_with_an_empty_environment() {
    let child = "env -i PIDS=$PIDS PATH=$PATH setsid sh -c 'echo $$ >>$PIDS; exec sleep 600'";
    let daemon = format!("( setsid sh -c \"{} & wait\" & ) & sleep 600", child.replace('$', "\\$"));
    kill_leaves_nothing(&daemon, 1);
}

#[test]
fn a_stopped_process() {
    let stopped = "sh -c 'echo $$ >>$PIDS; kill -STOP $$'";
    kill_leaves_nothing(&format!("{stopped} & ( setsid {stopped} & ) & sleep 600"), 2);
}

#[test]
fn a_hundred_descendants() {
    let grove = format!(
        "i=0; while [ $i -lt 25 ]; do {STAY} & setsid {STAY} & ( {STAY} & ) & ( setsid {STAY} & ) & \
         i=$((i+1)); done; sleep 600"
    );
    kill_leaves_nothing(&grove, 100);
}

#[test]
fn what_a_worker_leaves_behind_is_killed_before_its_end_is_reported() {
    let mut bench = Bench::new();
    let (worker, _) = bench.start(&format!(
        "{STAY} & ( setsid {STAY} & ) & while [ $(wc -l <$PIDS) -lt 2 ]; do sleep 0.01; done; \
         cp $PIDS $PIDS.done; while [ ! -e $PIDS.go ]; do sleep 0.01; done; exit 5"
    ));
    let members = bench.wait_for_pids(2);
    std::fs::write(bench.pids_file().with_extension("go"), "").unwrap();
    assert_eq!(bench.exit_of(worker), Exit::Code(5), "the leader's own status");
    assert!(members.into_iter().all(|process| !is_alive(process)));
}

#[test]
fn terminate_reaches_each_process_of_the_tree() {
    let count = "sh -c 'trap \"echo term >>$PIDS.term\" TERM; echo $$ >>$PIDS; \
                 while :; do sleep 0.01; done'";
    let mut bench = Bench::new();
    // The trap comes last: a shell that is started with SIGTERM ignored cannot trap it.
    let (worker, _) = bench.start(&format!(
        "{count} & setsid {count} & ( setsid {count} & ) & trap '' TERM; echo $$ >>$PIDS; \
         while :; do sleep 0.1; done"
    ));
    bench.wait_for_pids(4);
    bench.signal(worker, Signal::Terminate);
    let heard = bench.pids_file().with_extension("term");
    eventually("all three have heard it", || {
        std::fs::read_to_string(&heard).unwrap_or_default().lines().count() == 3
    });
    bench.signal(worker, Signal::Kill);
    bench.exit_of(worker);
}

#[test]
fn a_worker_that_forks_all_the_time_ends() {
    let mut bench = Bench::new();
    let forks = "while :; do ( setsid sleep 0.05 & ) & sleep 0.01; done";
    let (worker, _) = bench.start(&format!("echo $$ >>$PIDS; {forks} & {forks} & wait"));
    bench.wait_for_pids(1);
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(libc::SIGKILL));
    let table = procfs::read_all().unwrap();
    let left = |stat: &&crate::supervisor::Stat| {
        !stat.dead && procfs::worker_of(stat.process) == Some(worker)
    };
    assert_eq!(table.processes.values().find(left), None);
}
