//! How workers begin and end.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::*;
use crate::machine::SpawnError;

#[test]
fn an_exit_code_is_reported_as_it_is() {
    let mut bench = Bench::new();
    for code in [0, 1, 42, 255] {
        let (worker, _) = bench.start(&format!("exit {code}"));
        assert_eq!(bench.exit_of(worker), Exit::Code(code));
    }
}

#[test]
fn a_death_by_signal_is_reported_as_such() {
    let mut bench = Bench::new();
    let (worker, _) = bench.start("kill -KILL $$");
    assert_eq!(bench.exit_of(worker), Exit::Signal(libc::SIGKILL));
}

#[test]
fn terminate_lets_a_worker_end_in_its_own_way() {
    let mut bench = Bench::new();
    let (worker, _) =
        bench.start("trap 'exit 3' TERM; echo $$ >>$PIDS; while :; do sleep 0.01; done");
    bench.wait_for_pids(1);
    bench.signal(worker, Signal::Terminate);
    assert_eq!(bench.exit_of(worker), Exit::Code(3));
}

#[test]
fn kill_ends_a_worker_that_ignores_terminate() {
    let mut bench = Bench::new();
    let (worker, process) =
        bench.start("trap '' TERM; echo $$ >>$PIDS; while :; do sleep 60; done");
    bench.wait_for_pids(1);
    bench.signal(worker, Signal::Terminate);
    // Orders are taken in turn: when this worker has ended, the signal has long been sent.
    let (other, _) = bench.start("exit 0");
    assert_eq!(bench.exit_of(other), Exit::Code(0));
    assert!(is_alive(process));

    bench.signal(worker, Signal::Kill);
    assert_eq!(bench.exit_of(worker), Exit::Signal(libc::SIGKILL));
    bench.signal(worker, Signal::Kill);
    let (other, _) = bench.start("exit 0");
    assert_eq!(bench.exit_of(other), Exit::Code(0), "to signal who has ended is no error");
}

#[test]
fn the_leader_is_reaped_and_forgotten() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("exit 0");
    bench.exit_of(worker);
    assert_eq!(procfs::stat(process.pid).unwrap().filter(|stat| stat.process == process), None);
}

fn failure(program: PathBuf) -> SpawnError {
    let mut bench = Bench::running(WorkerCommand::new(program));
    let mut failure = None;
    eventually("no other test's child still has the program open for writing", || {
        bench.spawn("");
        match bench.next() {
            Event::SpawnFailed { error, .. } => failure = Some(error),
            other => panic!("{other:?} instead of SpawnFailed"),
        }
        failure.as_ref().is_some_and(|error| !error.reason.contains("Text file busy"))
    });
    failure.unwrap()
}

/// A program that would say that it ran, if it could be run.
fn script(dir: &Path, mode: u32, text: &str) -> PathBuf {
    let path = dir.join("program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn zombies_of_this_process() -> Vec<u32> {
    let table = procfs::read_all().unwrap();
    let ours = |stat: &&crate::supervisor::Stat| stat.parent == std::process::id() && stat.dead;
    table.processes.values().filter(ours).map(|stat| stat.process.pid).collect()
}

#[test]
fn a_program_that_cannot_be_run_is_named_with_the_systems_word() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("missing");
    let error = failure(missing.clone());
    assert_eq!(&*error.program, missing.to_str().unwrap());
    assert_eq!(&*error.reason, "No such file or directory (os error 2)");

    let error = failure(script(temp.path(), 0o644, "#!/bin/sh\n"));
    assert_eq!(&*error.reason, "Permission denied (os error 13)");
    let error = failure(script(temp.path(), 0o755, "#!/no/such/interpreter\n"));
    assert!(error.reason.contains("interpreter"), "{error}");
    let error = failure(script(temp.path(), 0o755, "\u{7f}no program at all"));
    assert_eq!(&*error.reason, "Exec format error (os error 8)");
    let error = failure("no-program-is-called-this".into());
    assert!(error.reason.contains("PATH"), "{error}");
}

#[test]
fn a_failed_exec_leaves_no_process() {
    let mut bench = Bench::running(WorkerCommand::new("/no/such/program"));
    // Others' zombies come and go while tests run side by side; ours would stay.
    for _ in 0..20 {
        bench.spawn("");
        assert!(matches!(bench.next(), Event::SpawnFailed { .. }));
    }
    eventually("no zombie is left", || zombies_of_this_process().is_empty());
}

#[test]
fn a_missing_working_directory_is_named() {
    let mut command = WorkerCommand::new("/bin/true");
    command.cwd = Some("/no/such/directory".into());
    let mut bench = Bench::running(command);
    bench.spawn("");
    match bench.next() {
        Event::SpawnFailed { error, .. } => {
            assert!(error.reason.contains("/no/such/directory"), "{error}");
        }
        other => panic!("{other:?} instead of SpawnFailed"),
    }
}

#[test]
fn a_bare_name_is_found_on_path() {
    let mut command = WorkerCommand::new("sh");
    command.args = vec!["-c".into(), "exit 9".into()];
    let mut bench = Bench::running(command);
    let (worker, _) = bench.start("");
    assert_eq!(bench.exit_of(worker), Exit::Code(9));
}

#[test]
fn a_worker_gets_exactly_its_environment() {
    let mut bench = Bench::running(WorkerCommand {
        program: "/usr/bin/env".into(),
        args: vec!["-0".into()],
        cwd: None,
        env: Vec::new(),
    });
    let (worker, _) = bench.start("anything");
    assert_eq!(bench.exit_of(worker), Exit::Code(0));

    let output = bench.output(worker, Stream::Stdout);
    let split = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    let actual: BTreeMap<String, String> =
        output.split('\0').filter(|pair| !pair.is_empty()).map(split).collect();

    let mut expected: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| !name.starts_with("ARROYO_NODE__")).collect();
    let pids = bench.pids_file();
    let given = [
        ("SCRIPT", "anything"),
        ("PIDS", pids.to_str().unwrap()),
        ("RUST_LOG", "info"),
        ("ARROYO__WORKER__ID", &worker.to_string()),
        ("ARROYO__WORKER__TASK_SLOTS", "2"),
        ("ARROYO__ADMIN__HTTP_PORT", "0"),
        ("JOB_ID", "job"),
        ("RUN_ID", "3"),
        ("GENERATION", "3"),
    ];
    expected.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(actual, expected);
}

#[test]
fn a_worker_starts_clean() {
    let mut bench = Bench::new();
    // A descriptor that an embedding program forgot to mark close-on-exec.
    let file = fs::File::open("/dev/zero").unwrap();
    let leaked = nix::unistd::dup(&file).unwrap();
    let (worker, _) = bench.start(
        "readlink /proc/$$/fd/0; ls /proc/$$/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; pwd",
    );
    assert_eq!(bench.exit_of(worker), Exit::Code(0));
    drop(leaked);
    let output = bench.output(worker, Stream::Stdout);
    let lines: Vec<&str> = output.lines().collect();
    let none = "0000000000000000";
    let cwd = std::env::current_dir().unwrap();
    let expected = [
        "/dev/null",
        "0",
        "1",
        "2",
        &format!("SigBlk:\t{none}"),
        // Rust programs ignore SIGPIPE; a worker must not.
        &format!("SigIgn:\t{none}"),
        cwd.to_str().unwrap(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_worker_leads_its_own_session_and_group() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("sleep 60");
    let stat = procfs::stat(process.pid).unwrap().unwrap();
    assert_eq!(stat.process, process);
    assert_eq!((stat.session, stat.group), (process.pid, process.pid));
    bench.signal(worker, Signal::Kill);
    bench.exit_of(worker);
}

#[test]
fn output_goes_to_files_that_outlive_the_worker() {
    let mut bench = Bench::new();
    let (worker, _) = bench.start("echo out; echo err >&2");
    bench.exit_of(worker);
    assert_eq!(bench.output(worker, Stream::Stdout), "out\n");
    assert_eq!(bench.output(worker, Stream::Stderr), "err\n");

    bench.port().discard(worker);
    let path = bench.config.output.path(worker, Stream::Stdout);
    eventually("the output is gone", || !path.exists());
}

#[test]
fn an_id_is_spawned_once() {
    let mut bench = Bench::new();
    let (worker, process) = bench.start("sleep 60");
    bench.port().spawn(launch(worker));
    assert!(matches!(bench.next(), Event::SpawnFailed { .. }));
    assert!(is_alive(process));
    bench.alive.insert(worker);
}

#[test]
fn three_hundred_at_once() {
    let mut bench = Bench::new();
    let workers: BTreeSet<WorkerId> = (0..300).map(|_| bench.spawn("exec sleep 60")).collect();
    let mut processes = BTreeMap::new();
    while processes.len() < workers.len() {
        match bench.next() {
            Event::Spawned { worker, process } => processes.insert(worker, process),
            other => panic!("{other:?} instead of Spawned"),
        };
    }
    assert_eq!(processes.keys().copied().collect::<BTreeSet<_>>(), workers);
    for &worker in &workers {
        bench.signal(worker, Signal::Kill);
    }
    let mut ended = BTreeSet::new();
    while ended.len() < workers.len() {
        match bench.next() {
            Event::Exited { worker, exit: Exit::Signal(libc::SIGKILL) } => {
                assert!(!is_alive(processes[&worker]));
                assert!(ended.insert(worker), "one end each");
            }
            other => panic!("{other:?} instead of Exited"),
        }
    }
}
