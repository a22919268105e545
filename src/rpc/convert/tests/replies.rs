//! The machine's answers: which status each of them is, and that its text arrives.

use std::time::Duration;

use tonic::Code;

use crate::{
    ids::{Generation, JobId},
    machine::{Exit, JournalDown, SpawnError, StartError, StartKey, StopStatus, WrongMachine},
    rpc::{
        convert::{
            BadStart, bad_start_status, draining_status, start_status, stop_status,
            wrong_machine_status,
        },
        wire::StopWorkerStatus,
    },
};

fn job() -> JobId {
    JobId::from("job")
}

fn wrong_machine() -> WrongMachine {
    WrongMachine { asked: "node-b".into(), this: "node-a".into() }
}

fn journal_down() -> JournalDown {
    JournalDown { reason: "disk full".into() }
}

/// The code, and words that the text must have for whoever reads it to act on.
fn told(error: &StartError) -> (Code, &'static [&'static str]) {
    match error {
        StartError::WrongMachine(_) => (Code::FailedPrecondition, &["node-a", "node-b"]),
        StartError::StaleGeneration { .. } => (Code::FailedPrecondition, &["job", "6", "7"]),
        StartError::Superseded { .. } => (Code::FailedPrecondition, &["job", "6", "7"]),
        StartError::Retried { .. } => (Code::FailedPrecondition, &["job", "7", "asked for again"]),
        StartError::NotEnoughSlots { .. } => (Code::ResourceExhausted, &["4", "3", "16"]),
        StartError::Draining => (Code::Unavailable, &["draining", "undrain"]),
        StartError::ShuttingDown => (Code::Unavailable, &["shutting down"]),
        StartError::JournalDown(_) => (Code::Unavailable, &["disk full"]),
        StartError::RoomNotFree { .. } => (Code::Unavailable, &["job", "2", "try again"]),
        StartError::Forgotten => (Code::Unavailable, &["forgotten", "try again"]),
        StartError::Spawn(_) => (Code::Internal, &["/bin/worker", "No such file"]),
        StartError::NotRunning { .. } => (Code::Unavailable, &["10s", "try again"]),
        StartError::NeverRan => (Code::Unavailable, &["never ran", "try again"]),
        StartError::KeyReused { .. } => (Code::InvalidArgument, &["attempt-1", "job"]),
    }
}

#[test]
fn every_refused_start_has_its_code_and_says_why() {
    let (asked, alive, by) = (Generation(6), Generation(7), Generation(7));
    let errors = [
        wrong_machine().into(),
        StartError::StaleGeneration { job: job(), asked, alive },
        StartError::Superseded { job: job(), asked, by },
        StartError::Retried { job: job(), generation: by },
        StartError::NotEnoughSlots { asked: 4, free: 3, total: 16 },
        StartError::Draining,
        StartError::ShuttingDown,
        journal_down().into(),
        StartError::RoomNotFree { job: job(), left: 2 },
        StartError::Forgotten,
        SpawnError { program: "/bin/worker".into(), reason: "No such file".into() }.into(),
        StartError::NotRunning { wait: Duration::from_secs(10) },
        StartError::NeverRan,
        StartError::KeyReused { key: StartKey("attempt-1".into()), job: job() },
    ];
    for error in errors {
        let (code, words) = told(&error);
        let status = start_status(&error);
        assert_eq!(status.code(), code, "{error:?}");
        for word in words {
            assert!(status.message().contains(word), "{word} is not in: {}", status.message());
        }
    }
}

#[test]
fn a_request_for_another_machine_names_both() {
    let status = wrong_machine_status(&wrong_machine());
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("node-a") && status.message().contains("node-b"));
}

#[test]
fn draining_that_would_be_forgotten_says_that_it_is_in_force() {
    let status = draining_status(&journal_down());
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("in force") && status.message().contains("disk full"));
}

#[test]
fn stops_have_the_numbers_of_the_contract() {
    let stopped = |acknowledged| StopStatus::Stopped { exit: Some(Exit::Code(0)), acknowledged };
    for (status, expected, number) in [
        (stopped(true), StopWorkerStatus::Stopped, 1),
        (stopped(false), StopWorkerStatus::Stopped, 1),
        (StopStatus::Failed, StopWorkerStatus::StopFailed, 2),
        (StopStatus::NotFound, StopWorkerStatus::NotFound, 3),
        (StopStatus::Stopping, StopWorkerStatus::Stopping, 4),
    ] {
        assert_eq!(stop_status(status), expected);
        assert_eq!(i32::from(stop_status(status)), number);
    }
}

/// A status travels in the headers, and peers refuse a response whose headers are large.
#[test]
fn a_long_text_is_cut_to_what_headers_hold() {
    let name = format!("={}", "é".repeat(100_000));
    let bad = bad_start_status(&BadStart::BadVariableName(name.clone()));
    let wrong = wrong_machine_status(&WrongMachine { asked: name.clone(), this: "node-a".into() });
    let start = start_status(&StartError::WrongMachine(WrongMachine {
        asked: name.clone(),
        this: "node-a".into(),
    }));
    for status in [bad, wrong, start] {
        let text = status.message();
        assert!(text.len() <= 1_024, "{} bytes", text.len());
        assert!(text.contains("éé") && text.ends_with('…'), "{text}");
    }
}
