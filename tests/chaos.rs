//! A short run of `arroyo-node chaos`, and one that is interrupted.

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{processes::Mark, program::Program};

/// Longer than the run itself may take until it gives up on what does not heal.
const PATIENCE: Duration = Duration::from_secs(150);

async fn end(program: &mut Program) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = program.ended() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "it does not end: {:#?}", program.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ten_rounds_break_no_promise_and_leave_nothing() {
    let mark = Mark::new();
    let arguments = ["chaos", "--rounds", "10", "--workers", "8", "--json"];
    let mut program = Program::run(&mark, &arguments, &[]);
    let code = end(&mut program).await;
    assert_eq!(mark.alive(), []);
    support::eventually("all is said", || program.said().last().is_some_and(|line| line == "}"))
        .await;
    let said = program.said().join("\n");
    let summary: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(summary["broken"], Value::Array(Vec::new()), "{said}");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary["rounds"], 10);
    assert!(summary["workers_started"].as_u64().unwrap() > 0, "{said}");
    assert!(summary["reports"].as_u64() >= summary["workers_started"].as_u64(), "{said}");
}

#[tokio::test]
async fn an_interrupted_run_ends_well_and_leaves_nothing() {
    let mark = Mark::new();
    let arguments = ["chaos", "--rounds", "1000000", "--workers", "4"];
    let mut program = Program::run(&mark, &arguments, &[]);
    program.line_with("round    1").await;
    program.signal(Signal::SIGINT);
    let code = end(&mut program).await;
    program.line_with("Every promise was kept.").await;
    assert_eq!(code, Some(0));
    assert_eq!(mark.alive(), []);
}
