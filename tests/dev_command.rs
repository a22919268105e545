//! `arroyo-node dev`, as somebody sees it who has just found the project.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use support::{agent::Home, program::Program};

/// Runs `dev` with these arguments; its temporary files are the home's.
fn dev(home: &Home, arguments: &[&str]) -> Program {
    let arguments: Vec<_> = ["dev"].into_iter().chain(arguments.iter().copied()).collect();
    let temporary = home.scratch();
    Program::run(&home.mark, &arguments, &[("TMPDIR", temporary.to_str().unwrap())])
}

/// Waits for its end, which must be a good one.
async fn ends_well(mut dev: Program, home: &Home) -> Vec<String> {
    let status = dev.end().await;
    dev.line_with("The books").await;
    dev.line_with("They agree, and no process is left.").await;
    let said = dev.said();
    assert_eq!(status.code(), Some(0), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("DISAGREEMENT")), "{said:#?}");
    assert_eq!(home.mark.alive(), []);
    said
}

/// What the line says after these words.
fn after<'a>(said: &'a [String], words: &str) -> &'a str {
    let found = said.iter().find_map(|line| Some(line.split_once(words)?.1));
    found.unwrap_or_else(|| panic!("no {words:?}: {said:#?}"))
}

/// The account tells all of this, in this order.
fn assert_tells(said: &[String], chapters: &[&[&str]]) {
    let mut lines = said.iter();
    for words in chapters {
        let told = lines.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(told, "{words:?} is not told, or too early: {said:#?}");
    }
}

#[tokio::test]
async fn the_account_tells_of_a_crash_and_how_it_is_mended() {
    let home = Home::new();
    let said = ends_well(dev(&home, &["--for", "6s"]), &home).await;
    // Each tells in order; who of two is first to tell is a matter of chance.
    assert_tells(
        &said,
        &[
            &["agent", "job orders: worker", "started, pid"],
            &["agent", "job orders: worker", "ended: signal 9 (SIGKILL)"],
            &["agent", "job orders: worker", "started, pid"],
            &["agent", "stopping worker"],
            &["agent", "ended: code 0"],
        ],
    );
    assert_tells(
        &said,
        &[
            &["controller", "node dev registered: 8 slots"],
            &["controller", "job orders: generation 1 runs with 3 slots"],
            &["controller", "told that worker", "of job orders ended: 3 slots free again"],
            &["controller", "job orders: lost a worker of generation 1, scheduling it anew"],
            &["controller", "job orders: generation 2 runs with 3 slots"],
            &["controller", "told that worker", "slots free again"],
            &["controller", "stopped"],
        ],
    );
    assert_tells(
        &said,
        &[
            &["orders", "│ worker", "started: job orders generation 1"],
            &["dev", "crashing worker", "as a bug would"],
            &["orders", "│ worker", "started: job orders generation 2"],
            &["dev", "ending: the jobs are stopped, then the agent"],
            &["orders", "│ worker", "finished on SIGTERM"],
            &["The books"],
            &["workers started", "3", "3"],
            &["workers ended", "3", "3"],
            &["slots free", "8/8", "8/8"],
            &["reports", "3 acknowledged, 0 owed"],
            &["ends", "2 × code 0, 1 × signal 9 (SIGKILL)"],
        ],
    );
    assert!(!Path::new(after(&said, "state in ")).exists(), "it tidies up");
}

#[tokio::test]
async fn it_runs_whatever_program_it_is_given() {
    let home = Home::new();
    let said = ends_well(dev(&home, &["--for", "2s", "--", "/bin/sleep", "60"]), &home).await;
    assert_eq!(after(&said, "worker program: "), "/bin/sleep");
    assert_tells(&said, &[&["ended: signal 15 (SIGTERM)"]]);
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_the_end_at_once_and_named_with_the_reason() {
    let home = Home::new();
    let mut dev = dev(&home, &["--", "/no/such/program"]);
    assert_eq!(dev.end().await.code(), Some(1));
    let error = "error: cannot run the worker program /no/such/program: No such file or directory";
    dev.line_with(error).await;
    assert_eq!(dev.said(), [error]);
}

#[tokio::test]
async fn ctrl_c_ends_it_with_the_books() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let home = Home::new();
        let dev = dev(&home, &[]);
        dev.line_with("job orders: generation 1 runs").await;
        dev.signal(signal);
        ends_well(dev, &home).await;
    }
}

#[tokio::test]
async fn a_state_directory_that_is_named_is_kept() {
    let home = Home::new();
    let state_dir = home.state_dir();
    let arguments = ["--for", "1s", "--state-dir", state_dir.to_str().unwrap()];
    let said = ends_well(dev(&home, &arguments), &home).await;
    assert_eq!(PathBuf::from(after(&said, "state in ")), state_dir);
    assert!(state_dir.join("journal.sqlite").is_file());
}

/// The arguments of a run of 2 s in the home's state directory.
fn in_state_dir(home: &Home) -> [String; 4] {
    let state_dir = home.state_dir().to_str().unwrap().to_owned();
    ["--for".into(), "2s".into(), "--state-dir".into(), state_dir]
}

#[tokio::test]
async fn a_second_run_over_the_same_state_counts_its_own_workers_alone() {
    let home = Home::new();
    let arguments = in_state_dir(&home);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    ends_well(dev(&home, &arguments), &home).await;
    let said = ends_well(dev(&home, &arguments), &home).await;
    assert_tells(
        &said,
        &[
            // Three of the run before, one of which crashed: generations follow on from theirs.
            &["controller", "job orders: generation 3 runs with 3 slots"],
            &["workers started", "3", "3"],
            &["workers ended", "3", "3"],
            &["reports", "3 acknowledged, 0 owed"],
            &["earlier runs", "3 workers, 0 of them alive"],
        ],
    );
    assert!(!said.iter().any(|line| line.contains("generation 1")), "{said:#?}");
    assert!(
        !said.iter().any(|line| line.contains("of an earlier run that are alive")),
        "{said:#?}"
    );
}

#[tokio::test]
async fn a_run_after_one_that_was_killed_takes_its_workers_over_and_replaces_them() {
    let home = Home::new();
    let arguments = in_state_dir(&home);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut killed = dev(&home, &arguments);
    killed.line_with("started: job clicks generation 1").await;
    killed.line_with("started: job orders generation 1").await;
    killed.kill().await;
    assert_eq!(home.mark.workers().len(), 2, "they outlive it");

    let said = ends_well(dev(&home, &arguments), &home).await;
    assert_tells(
        &said,
        &[
            &["dev", "workers of an earlier run that are alive: 2"],
            &["workers started", "3", "3"],
            &["workers ended", "3", "3"],
            &["earlier runs", "2 workers, 0 of them alive"],
        ],
    );
    assert_tells(&said, &[&["controller", "job clicks: generation 2 runs with 2 slots"]]);
    assert_tells(&said, &[&["controller", "job orders: generation 2 runs with 3 slots"]]);
    assert!(!said.iter().any(|line| line.contains("generation 1 runs")), "{said:#?}");
}

#[tokio::test]
async fn ports_that_are_taken_are_no_hindrance() {
    const USUAL: [u16; 3] = [5116, 5118, 5114];
    // What somebody else has taken may be free in a moment.
    let taken = USUAL.map(|port| TcpListener::bind(("127.0.0.1", port)));
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    let taken_ports: Vec<_> =
        taken.iter().map(|taken| taken.local_addr().unwrap().port()).collect();
    let homes: Vec<_> = (0..4).map(|_| Home::new()).collect();
    let devs: Vec<_> = homes.iter().map(|home| dev(home, &["--for", "1s"])).collect();
    let mut addresses = BTreeSet::new();
    for (dev, home) in devs.into_iter().zip(&homes) {
        let said = ends_well(dev, home).await;
        for words in ["controller at ", "agent at ", "status page: http://"] {
            let address = after(&said, words).split([',', '/']).next().unwrap();
            let port = address.rsplit(':').next().unwrap().parse().unwrap();
            assert!(!taken_ports.contains(&port), "{address}");
            assert!(addresses.insert(address.to_owned()), "{address} twice");
        }
    }
}

#[tokio::test]
async fn several_can_be_started_at_once() {
    let homes: Vec<_> = (0..6).map(|_| Home::new()).collect();
    let devs: Vec<_> = homes.iter().map(|home| dev(home, &["--for", "1s"])).collect();
    for (dev, home) in devs.into_iter().zip(&homes) {
        ends_well(dev, home).await;
    }
}
