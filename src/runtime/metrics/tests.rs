use std::{collections::BTreeMap, num::NonZeroU64};

use super::*;
use crate::{
    ids::{Generation, JobId, MachineId, RequestId, WorkerId},
    machine::{
        Dialect, Heartbeat, Now, Process, Registration, Report, Start, StartError, Wall, Workers,
    },
};

/// The value of one line of the text format.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.encode();
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

fn start(request: u64) -> Event {
    let start = Start {
        machine: MachineId::new("m"),
        name: "n".to_owned(),
        job: JobId::new("j"),
        pipeline: None,
        generation: Generation(1),
        slots: NonZeroU64::MIN,
        dialect: Dialect::V0_15,
        env: BTreeMap::new(),
        key: None,
    };
    Event::Request { request: RequestId(request), ask: Ask::Start(start) }
}

fn started(request: u64, result: Result<WorkerId, StartError>) -> Effect {
    Effect::Reply { request: RequestId(request), reply: Reply::Started(result) }
}

fn view() -> View {
    View {
        machine: MachineId::new("m"),
        task_slots: 16,
        free_slots: 5,
        mode: Mode::Draining,
        registered: true,
        last_contact: None,
        workers: Workers::default(),
        live_workers: 2,
        abandoned_workers: 1,
        reports_owed: 3,
        journal_error: Some("disk full".into()),
        program_error: Some("/bin/worker: No such file or directory".into()),
        started_at: Wall(0),
    }
}

#[test]
fn gauges_show_the_last_view() {
    let metrics = Metrics::new();
    metrics.observe_view(&view());
    for (name, expected) in [
        ("running_workers", 2.0),
        ("task_slots", 16.0),
        ("free_slots", 5.0),
        ("abandoned_workers", 1.0),
        ("reports_owed", 3.0),
        ("registered", 1.0),
        ("draining", 1.0),
        ("journal_healthy", 0.0),
        ("program_runnable", 0.0),
    ] {
        assert_eq!(value(&metrics, &format!("arroyo_node_{name}")), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_is_timed_from_request_to_answer() {
    let metrics = Metrics::new();
    metrics.observe_event(&start(1));
    metrics.observe_event(&start(2));
    tokio::time::advance(Duration::from_millis(20)).await;
    metrics.observe_effect(&started(1, Ok(WorkerId(1))));
    metrics.observe_effect(&started(2, Err(StartError::Draining)));

    let near = |series, expected: f64| assert!((value(&metrics, series) - expected).abs() < 1e-9);
    near("arroyo_node_start_worker_seconds_sum", 0.04);
    near("arroyo_node_start_worker_seconds_count", 2.0);
    near("arroyo_node_worker_start_failures_total{reason=\"draining\"}", 1.0);
    near("arroyo_node_worker_start_failures_total{reason=\"spawn\"}", 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_timed_from_its_first_signal_to_the_end() {
    let metrics = Metrics::new();
    let worker = WorkerId(7);
    metrics.observe_event(&Event::Spawned { worker, process: Process { pid: 1, start_time: 1 } });
    metrics.observe_effect(&Effect::Signal { worker, signal: Signal::Terminate });
    tokio::time::advance(Duration::from_secs(5)).await;
    metrics.observe_effect(&Effect::Signal { worker, signal: Signal::Kill });
    metrics.observe_event(&Event::Exited { worker, exit: Exit::Signal(9) });
    metrics.observe_event(&Event::Exited { worker: WorkerId(8), exit: Exit::Unknown });

    assert_eq!(value(&metrics, "arroyo_node_stop_worker_seconds_sum"), 5.0);
    assert_eq!(value(&metrics, "arroyo_node_stop_worker_seconds_count"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_workers_started_total"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_workers_ended_total{how=\"signal\"}"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_workers_ended_total{how=\"unknown\"}"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_workers_ended_total{how=\"success\"}"), 0.0);
    assert_eq!(value(&metrics, "arroyo_node_signals_sent_total{signal=\"SIGKILL\"}"), 1.0);
}

#[test]
fn calls_to_the_controller_are_counted_by_result() {
    let metrics = Metrics::new();
    let worker = WorkerId(7);
    let heartbeat = Heartbeat { sent: Now::default(), probe: true };
    let registration = Registration {
        machine: MachineId::new("m"),
        task_slots: 1,
        address: String::new(),
        reconnect: true,
    };
    let report = Report {
        machine: MachineId::new("m"),
        worker,
        job: JobId::new("j"),
        pipeline: None,
        generation: Generation(1),
        slots: 1,
        exit: Exit::Code(0),
        ended_at: Wall(0),
        dialect: Dialect::V0_15,
    };
    for effect in [
        Effect::Register(registration),
        Effect::Heartbeat(heartbeat),
        Effect::Report(report.clone()),
    ] {
        metrics.observe_effect(&effect);
    }
    metrics.observe_event(&Event::Registered(Ok(())));
    let result = Err(CallError::NotFound);
    metrics.observe_event(&Event::HeartbeatAnswered { heartbeat, result });
    let failed = Err(CallError::Failed("refused".into()));
    metrics.observe_event(&Event::ReportAnswered { worker, result: failed });

    assert_eq!(value(&metrics, "arroyo_node_registrations_total{result=\"ok\"}"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_heartbeats_total{result=\"not_found\"}"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_reports_sent_total{result=\"failed\"}"), 1.0);
    for call in ["register", "heartbeat", "report"] {
        let series = format!("arroyo_node_call_seconds_count{{call=\"{call}\"}}");
        assert_eq!(value(&metrics, &series), 1.0);
    }
}

#[test]
fn commits_and_batches_are_counted() {
    let metrics = Metrics::new();
    metrics.commit(Duration::from_micros(40), true);
    metrics.commit(Duration::from_micros(40), false);
    metrics.batch(3);
    assert_eq!(value(&metrics, "arroyo_node_journal_commits_total{result=\"ok\"}"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_journal_commits_total{result=\"failed\"}"), 1.0);
    assert_eq!(value(&metrics, "arroyo_node_journal_commit_seconds_bucket{le=\"0.00005\"}"), 2.0);
    assert_eq!(value(&metrics, "arroyo_node_batch_events_sum"), 3.0);
}

#[test]
fn a_caller_that_went_away_leaves_nothing_running() {
    let metrics = Metrics::new();
    metrics.observe_event(&start(1));
    metrics.observe_event(&Event::Delivered(RequestId(1)));
    metrics.observe_effect(&started(1, Ok(WorkerId(1))));
    assert_eq!(value(&metrics, "arroyo_node_start_worker_seconds_count"), 0.0);
}

#[test]
fn every_metric_is_documented_and_follows_the_conventions() {
    let metrics = Metrics::new();
    let documented = include_str!("mod.rs");
    for family in metrics.registry.gather() {
        let Some(name) = family.name().strip_prefix("arroyo_node_") else {
            assert!(family.name().starts_with("process_"), "{}", family.name());
            continue;
        };
        assert!(documented.contains(&format!("`{name}")), "{name} is not in the module doc");
        assert!(family.help().ends_with('.'), "{name}");
        let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
    }
}

/// Stock has them under these names.
#[test]
fn what_the_process_takes_is_shown() {
    let metrics = Metrics::new();
    for name in ["resident_memory_bytes", "open_fds", "threads"] {
        assert!(value(&metrics, &format!("process_{name}")) > 0.0, "{name}");
    }
}
