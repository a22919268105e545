//! Requests of the controller: what is taken, as what, and what is refused.

use tonic::Code;

use crate::{
    ids::{Generation, JobId, MachineId, PipelineId, WorkerId},
    machine::{Ask, Dialect, Start, StartKey, StopHow},
    rpc::{
        convert::{BadStart, DialectPolicy, bad_start_status, parse_start, parse_stop},
        wire::{StartWorkerReq, StopWorkerReq},
    },
};

fn request() -> StartWorkerReq {
    StartWorkerReq {
        name: "impulse".into(),
        job_id: "job".into(),
        slots: 2,
        machine_id: "node-a".into(),
        generation: 7,
        env_vars: [("A".into(), "1".into()), ("B".into(), String::new())].into(),
        pipeline_id: "pl".into(),
        request_id: "attempt-1".into(),
    }
}

fn parse(change: impl FnOnce(&mut StartWorkerReq)) -> Result<Start, BadStart> {
    let mut request = request();
    change(&mut request);
    parse_start(request, DialectPolicy::PerWorker)
}

fn with_variable(name: &str, value: &str) -> Result<Start, BadStart> {
    parse(|request| request.env_vars = [(name.into(), value.into())].into())
}

#[test]
fn every_field_arrives() {
    let start = parse(|_| {}).expect("a good request");
    let expected = Start {
        machine: MachineId::from("node-a"),
        name: "impulse".into(),
        job: JobId::from("job"),
        pipeline: Some(PipelineId::from("pl")),
        generation: Generation(7),
        slots: 2.try_into().expect("not zero"),
        dialect: Dialect::V0_16,
        env: request().env_vars,
        key: Some(StartKey("attempt-1".into())),
    };
    assert_eq!(start, expected);
}

#[test]
fn what_stock_leaves_empty_is_absent() {
    let start = parse(|request| {
        request.name.clear();
        request.pipeline_id.clear();
        request.request_id.clear();
        request.env_vars.clear();
        request.generation = 0;
    });
    let start = start.expect("a good request");
    assert_eq!((start.pipeline, start.key, start.generation), (None, None, Generation(0)));
}

#[test]
fn the_pipeline_tells_the_dialect() {
    let with = parse(|_| {}).expect("a good request");
    let without = parse(|request| request.pipeline_id.clear()).expect("a good request");
    assert_eq!((with.dialect, without.dialect), (Dialect::V0_16, Dialect::V0_15));
}

#[test]
fn a_forced_dialect_wins_over_the_pipeline() {
    for dialect in [Dialect::V0_15, Dialect::V0_16] {
        for pipeline_id in ["", "pl"] {
            let request = StartWorkerReq { pipeline_id: pipeline_id.into(), ..request() };
            let start = parse_start(request, DialectPolicy::Always(dialect)).expect("good");
            assert_eq!(start.dialect, dialect);
            assert_eq!(start.pipeline.is_some(), !pipeline_id.is_empty());
        }
    }
}

#[test]
fn a_start_without_a_job_is_refused() {
    assert_eq!(parse(|request| request.job_id.clear()), Err(BadStart::EmptyJob));
}

#[test]
fn a_start_without_slots_is_refused() {
    assert_eq!(parse(|request| request.slots = 0), Err(BadStart::NoSlots));
    assert!(parse(|request| request.slots = u64::MAX).is_ok());
}

type Field = fn(&mut StartWorkerReq) -> &mut String;

const FIELDS: [(&str, usize, Field); 4] = [
    ("name", 1_024, |request| &mut request.name),
    ("job_id", 1_024, |request| &mut request.job_id),
    ("pipeline_id", 1_024, |request| &mut request.pipeline_id),
    ("request_id", 128, |request| &mut request.request_id),
];

#[test]
fn a_text_that_is_too_long_is_refused() {
    for (field, most, text) in FIELDS {
        assert!(parse(|request| *text(request) = "x".repeat(most)).is_ok(), "{field}");
        let refused = parse(|request| *text(request) = "x".repeat(most + 1));
        assert_eq!(refused, Err(BadStart::TooLong { field, length: most + 1, most }));
    }
}

#[test]
fn a_text_with_a_zero_byte_is_refused() {
    for (field, _, text) in FIELDS {
        let refused = parse(|request| *text(request) = "a\0b".into());
        assert_eq!(refused, Err(BadStart::ZeroByte { field, text: "a\0b".into() }));
    }
}

#[test]
fn a_name_that_no_variable_can_have_is_refused() {
    for name in ["", "=", "A=B", "A\0"] {
        assert_eq!(with_variable(name, "1"), Err(BadStart::BadVariableName(name.into())));
    }
    assert!(with_variable("any other_name-is.fine é", "1").is_ok());
}

#[test]
fn a_variable_with_a_zero_byte_is_refused_without_its_value() {
    let refused = with_variable("A", "secret\0").expect_err("a zero byte");
    assert_eq!(refused, BadStart::ZeroByte { field: "the value of", text: "A".into() });
    assert!(!refused.to_string().contains("secret"), "{refused}");
}

/// The kernel's limit counts `NAME=VALUE` and the zero byte behind it.
#[test]
fn a_variable_that_the_kernel_would_not_take_is_refused_without_its_value() {
    const LIMIT: usize = 128 * 1_024;
    assert!(with_variable("A", &"x".repeat(LIMIT - 3)).is_ok());
    let refused = with_variable("A", &"x".repeat(LIMIT - 2)).expect_err("one byte too many");
    assert_eq!(refused, BadStart::VariableTooLong { name: "A".into(), length: LIMIT + 1 });
    assert!(!refused.to_string().contains("xx"), "{refused}");
}

#[test]
fn an_environment_that_the_kernel_would_not_take_is_refused() {
    const LIMIT: usize = 1_024 * 1_024;
    // 16 variables of 64 KiB each fill it.
    let fill = |request: &mut StartWorkerReq, last: usize| {
        request.env_vars =
            (0..16).map(|i| (format!("{i:02}"), "x".repeat(64 * 1_024 - 4))).collect();
        request.env_vars.insert("15".into(), "x".repeat(last));
    };
    assert!(parse(|request| fill(request, 64 * 1_024 - 4)).is_ok());
    let refused = parse(|request| fill(request, 64 * 1_024 - 3));
    assert_eq!(refused, Err(BadStart::EnvironmentTooLong(LIMIT + 1)));
}

#[test]
fn a_bad_start_is_an_invalid_argument_with_its_text() {
    let status = bad_start_status(&BadStart::NoSlots);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "slots is 0; a worker holds at least one");
}

#[test]
fn a_stop_says_how() {
    for (finished, force, how) in [
        (false, false, StopHow::Gentle),
        (false, true, StopHow::Force),
        (true, false, StopHow::Ask),
        // Asking changes nothing, whatever else is said.
        (true, true, StopHow::Ask),
    ] {
        let request = StopWorkerReq {
            worker_id: 5,
            force,
            job_id: "other".into(),
            finished,
            wants_status: false,
        };
        assert_eq!(parse_stop(&request), Ask::Stop { worker: WorkerId(5), how });
    }
}
