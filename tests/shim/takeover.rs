//! Agents come and go; the shim, the workers and their statuses stay.

use std::{
    fs::{self, File},
    process::Command,
    time::Duration,
};

use nix::{sys::signal, unistd::Pid};

use super::bench::{self, *};
use arroyo_node::{
    ids::WorkerId,
    machine::{Event, Exit, Phase, Process, Signal},
    runtime::ports::Processes as _,
};

const WAIT_FOR_GO: &str = "while [ ! -e $GO ]; do sleep 0.01; done";

#[test]
fn the_next_agent_adopts_a_worker_and_hears_its_status() {
    let mut bench = Bench::new();
    let launch = bench.launch(&format!("{WAIT_FOR_GO}; exit 9"));
    let worker = launch.worker;
    bench.port().spawn(launch.clone());
    let Event::Spawned { process, .. } = bench.next() else { panic!("not spawned") };
    bench.disconnect();
    bench.connect();
    assert!(is_alive(process));

    let [known] = &bench.known[..] else { panic!("one worker is known: {:?}", bench.known) };
    let again = known.worker().expect("the label tells of the worker");
    assert_eq!((again.id, &again.spec), (worker, &launch.spec));
    assert_eq!((again.admitted_at, again.process), (launch.admitted_at, Some(process)));
    assert_eq!(again.phase(), Phase::Running);

    // The journal may not have got to know the process.
    assert_eq!(bench.adopt(worker, None), Event::Adopted { worker, process });
    bench.go();
    assert_eq!(bench.exit_of(worker), Exit::Code(9));
}

#[test]
fn a_status_is_kept_until_it_is_released() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start(&format!("{WAIT_FOR_GO}; exit 7"));
    bench.disconnect();
    bench.go();
    eventually("the shim has reaped it", || bench::process(process.pid) != Some(process));
    for _ in 0..2 {
        bench.connect();
        let exited = Event::Exited { worker, exit: Exit::Code(7) };
        assert_eq!(bench.adopt(worker, Some(process)), exited);
        bench.disconnect();
    }
    bench.connect();
    assert_eq!(bench.known.len(), 1);
    bench.adopt(worker, Some(process));
    bench.release(worker);
    bench.disconnect();
    bench.connect();
    assert_eq!(bench.known, []);
}

#[test]
fn what_an_agent_asked_for_just_before_it_died_is_known_to_the_next() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        let worker = bench.spawn("exec sleep 600");
        // No answer is waited for.
        bench.disconnect();
        bench.connect();
        assert!(bench.known.iter().any(|known| known.worker == worker), "nobody knows {worker}");
    }
}

#[test]
fn a_worker_that_no_shim_knows_is_looked_for() {
    let mut bench = Bench::new();
    let worker = WorkerId(uuid::Uuid::new_v4().as_u64_pair().0);
    assert_eq!(bench.adopt(worker, None), Event::NeverRan(worker));

    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let mut owner = process(stranger.id()).unwrap();
    owner.start_time -= 1;
    let worker = WorkerId(uuid::Uuid::new_v4().as_u64_pair().0);
    let event = bench.adopt(worker, Some(owner));
    let alive = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(event, Event::Exited { worker, exit: Exit::Unknown });
    assert!(alive, "its pid is a stranger's");
}

#[test]
fn a_shim_ends_when_nobody_needs_it_and_not_before() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start(&format!("{WAIT_FOR_GO}; exit 0"));
    bench.disconnect();
    bench.go();
    eventually("the shim has reaped it", || bench::process(process.pid) != Some(process));
    // Longer than it lingers: it still has a status to keep.
    std::thread::sleep(Duration::from_millis(600));
    assert!(bench.has_shim());
    bench.connect();
    bench.adopt(worker, Some(process));
    bench.release(worker);
    bench.disconnect();
    eventually("the shim has ended", || !bench.has_shim());
    assert!(!bench.file("shim.sock").exists());
    let log = fs::read_to_string(bench.file("shim.log")).unwrap();
    assert_eq!(log, "", "it had nothing to complain of");
}

#[test]
fn what_ends_others_does_not_end_a_shim() {
    let mut bench = Bench::new();
    let (worker, leader) = bench.start("exec sleep 600");
    let shim = parent(leader.pid).unwrap();
    assert_eq!(comm(shim), "arroyo-shim");
    // A worker may send any of them to its parent, to say that it is ready.
    for signal in [
        signal::SIGTERM,
        signal::SIGINT,
        signal::SIGHUP,
        signal::SIGQUIT,
        signal::SIGUSR1,
        signal::SIGUSR2,
        signal::SIGALRM,
        signal::SIGTSTP,
    ] {
        signal::kill(Pid::from_raw(shim.cast_signed()), signal).unwrap();
    }
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(9));
}

#[test]
fn a_second_shim_leaves_the_first_alone() {
    let mut bench = Bench::new();
    let (worker, leader) = bench.start("exec sleep 600");
    let second = Command::new(env!("CARGO_BIN_EXE_arroyo-node"))
        .args(["shim", "--state-dir"])
        .arg(bench.temp.path())
        .output()
        .unwrap();
    assert!(second.status.success(), "{second:?}");
    assert!(is_alive(leader));
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(9), "the first still serves");
}

#[test]
fn a_shim_whose_directory_was_removed_ends_with_its_last_worker() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    let shim = parent(process.pid).and_then(bench::process).unwrap();
    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(9));
    bench.disconnect();
    assert!(is_alive(shim), "it has a status to keep");
    for file in ["shim.sock", "shim.lock"] {
        fs::remove_file(bench.file(file)).unwrap();
    }
    // Of another shim that has taken its place.
    fs::write(bench.file("shim.sock"), "").unwrap();
    eventually("the shim has ended", || !is_alive(shim));
    assert!(bench.file("shim.sock").exists());
}

/// By somebody who took it for left over, or what tidies up `/tmp`.
#[test]
fn a_shim_whose_socket_was_removed_is_found_all_the_same() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exec sleep 600");
    for while_connected in [true, false] {
        if !while_connected {
            bench.disconnect();
        }
        fs::remove_file(bench.file("shim.sock")).unwrap();
        bench.disconnect();
        bench.connect();
        let known: Vec<_> = bench.known.iter().map(|known| known.worker).collect();
        assert_eq!(known, [worker]);
        assert_eq!(bench.adopt(worker, Some(process)), Event::Adopted { worker, process });
    }
}

#[test]
fn whatever_stands_in_a_shims_way_is_set_aside() {
    for name in ["shim.sock", "shim.lock", "shim.log"] {
        let mut bench = Bench::new();
        let (worker, process) = bench.start("exec sleep 600");
        bench.disconnect();
        kill_shim_of(&bench, process);
        let _ = fs::remove_file(bench.file(name));
        fs::create_dir_all(bench.file(name).join("child")).unwrap();
        bench.connect();
        assert!(!bench.file(name).is_dir(), "{name}");
        assert_eq!(bench.adopt(worker, Some(process)), Event::Adopted { worker, process });
    }
}

fn kill_shim_of(bench: &Bench, worker: Process) {
    let shim = parent(worker.pid).and_then(bench::process).unwrap();
    bench.kill_shim(worker);
    eventually("the shim is dead", || !is_alive(shim));
}

/// As when somebody stopped it, or a disk keeps it. Nobody would look after its workers.
#[test]
fn a_shim_that_does_not_answer_the_next_agent_is_replaced_and_its_workers_live() {
    let mut bench = Bench::new();
    let (lives, process) = bench.start(&format!("{WAIT_FOR_GO}; exit 9"));
    let hung = bench::process(parent(process.pid).unwrap()).unwrap();
    signal::kill(Pid::from_raw(hung.pid.cast_signed()), signal::SIGSTOP).unwrap();
    // It shows as much of the lock, and is none of the shim's.
    let mut reader = Command::new("sleep")
        .arg("600")
        .stdin(File::open(bench.temp.path().join("shim.lock")).unwrap())
        .spawn()
        .unwrap();
    bench.disconnect();
    bench.shim.timeout = Duration::from_millis(1_500);
    bench.connect();
    assert_eq!(bench.known, [], "the new one knows nobody");
    assert!(!is_alive(hung) && is_alive(process));
    assert_eq!(reader.try_wait().unwrap(), None, "who only reads the file is left alone");
    reader.kill().unwrap();
    reader.wait().unwrap();

    let adopted = Event::Adopted { worker: lives, process };
    assert_eq!(bench.adopt(lives, Some(process)), adopted);
    let (new, new_process) = bench.start("exec sleep 600");
    assert_ne!(parent(new_process.pid), Some(hung.pid));
    bench.go();
    let exit = bench.exit_of(lives);
    // Older kernels than 6.15 keep no status for anybody but the parent.
    assert!(matches!(exit, Exit::Code(9) | Exit::Unknown), "{exit}");
    bench.signal(new, Signal::Kill);
    assert_eq!(bench.exit_of(new), Exit::Signal(9));
}
