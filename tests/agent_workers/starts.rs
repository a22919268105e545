//! A worker that is started and runs: what it is given, how it is listed.

use std::{
    collections::BTreeMap,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use arroyo_node::rpc::wire::{StartWorkerReq, WorkerState, WorkerStatus};

use crate::{
    Bench,
    support::{PROGRAM, eventually, processes},
};

fn micros_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

#[tokio::test]
async fn a_worker_is_listed_as_it_was_started() {
    let bench = Bench::new().await;
    let before = micros_now();
    let request = StartWorkerReq {
        generation: 7,
        pipeline_id: "pl_1".to_owned(),
        ..bench.home.request("job_1", 3, &[])
    };
    let id = bench.agent.start(request).await;
    let after = micros_now();
    bench.home.until_ready(id).await;

    let listed = bench.agent.workers().await;
    let [worker] = &listed[..] else { panic!("{listed:?}") };
    let process = processes::identify(worker.pid).expect("the pid is a process");
    assert!(processes::is_alive(process));
    assert!((before..=after).contains(&worker.started_at), "{before} {after} {worker:?}");
    let expected = WorkerStatus {
        name: "name of job_1".to_owned(),
        slots: 3,
        running: true,
        worker_id: id,
        job_id: "job_1".to_owned(),
        generation: 7,
        pipeline_id: "pl_1".to_owned(),
        pid: worker.pid,
        state: WorkerState::Running.into(),
        started_at: worker.started_at,
        ended_at: 0,
        exit: None,
        reported: false,
        abandoned: false,
    };
    assert_eq!(*worker, expected);
    assert_eq!(processes::arguments(worker.pid), [PROGRAM, "worker"]);
    assert_eq!(bench.agent.status().await.free_slots, 13);
    assert_eq!(bench.home.mark.count_of(id), 1);
}

/// What stock gives a worker, with these names of the generation besides.
fn stock_variables(id: u64) -> Vec<(&'static str, String)> {
    vec![
        ("RUST_LOG", "info".to_owned()),
        ("ARROYO__WORKER__ID", id.to_string()),
        ("ARROYO__WORKER__TASK_SLOTS", "2".to_owned()),
        ("ARROYO__ADMIN__HTTP_PORT", "0".to_owned()),
        ("JOB_ID", "job_1".to_owned()),
        ("RUN_ID", "7".to_owned()),
        ("GENERATION", "7".to_owned()),
    ]
}

/// What a worker started with these variables has in its environment, all in all.
fn expected_environment(
    request: &StartWorkerReq,
    own: Vec<(&'static str, String)>,
) -> BTreeMap<String, String> {
    let inherited = std::env::vars().filter(|(name, _)| !name.starts_with("ARROYO_NODE__"));
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    inherited.chain(request.env_vars.clone()).chain(own).collect()
}

#[tokio::test]
async fn a_workers_environment_is_stocks_key_by_key() {
    let bench = Bench::new().await;
    let forged = [("RUST_LOG", "trace"), ("JOB_ID", "forged"), ("EMPTY", ""), ("WITH", "a=b c\n")];
    let old = StartWorkerReq { generation: 7, ..bench.home.request("job_1", 2, &forged) };
    let new = StartWorkerReq { pipeline_id: "pl_1".to_owned(), ..old.clone() };
    for request in [old, new] {
        let id = bench.agent.start(request.clone()).await;
        bench.home.until_ready(id).await;
        let pid = bench.agent.worker(id).await.pid;
        let mut own = stock_variables(id);
        if !request.pipeline_id.is_empty() {
            own.push(("PIPELINE_ID", request.pipeline_id.clone()));
        }
        assert_eq!(processes::environment(pid), expected_environment(&request, own));
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        assert_eq!(cwd, std::env::current_dir().unwrap());
    }
}

#[tokio::test]
async fn a_worker_writes_to_its_file_and_is_never_held_up() {
    const MORE_THAN_ANY_PIPE_HOLDS: u64 = 4 << 20;
    let bench = Bench::new().await;
    let id = bench.agent.start(bench.home.request("job", 1, &[("WORKER_FLOOD", "1")])).await;
    let written = || fs::metadata(bench.home.output_file(id)).map_or(0, |file| file.len());
    eventually("it has written a lot", || written() > MORE_THAN_ANY_PIPE_HOLDS).await;

    assert!(bench.agent.worker(id).await.running);
    let quiet = bench.agent.start(bench.home.request("quiet", 1, &[])).await;
    bench.home.until_ready(quiet).await;
    assert!(bench.home.output(quiet).contains(&format!("worker {quiet} started: job quiet")));
    bench.agent.stop_by_force(id).await;
    assert_eq!(bench.home.mark.count_of(id), 0);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_worker() {
    let bench = Bench::new().await;
    let request =
        StartWorkerReq { request_id: "attempt-1".to_owned(), ..bench.home.request("job", 2, &[]) };
    let calls = (0..8).map(|_| bench.agent.try_start(request.clone()));
    let answers = futures_util::future::join_all(calls).await;
    let first = *answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == first), "{answers:?}");
    bench.home.until_ready(first).await;
    assert_eq!(bench.agent.workers().await.len(), 1);
    assert_eq!(bench.home.mark.workers().len(), 1);
    assert_eq!(bench.agent.status().await.free_slots, 14);

    let other = StartWorkerReq { job_id: "another job".to_owned(), ..request.clone() };
    let status = bench.agent.refusal(other).await;
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("attempt-1"), "{status}");

    bench.agent.stop_gently(first).await;
    assert_eq!(bench.agent.start(request).await, first, "still the same, now that it has ended");
    assert_eq!(bench.home.mark.workers().len(), 0);
}

#[tokio::test]
async fn a_controller_can_ask_whether_the_node_is_who_it_thinks() {
    let bench = Bench::new().await;
    bench.agent.heartbeat(&bench.home.machine).await.unwrap();
    let status = bench.agent.heartbeat("another").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("another"), "{status}");
    assert!(status.message().contains(&bench.home.machine), "{status}");
}

#[tokio::test]
async fn a_node_registers_with_what_it_has_and_sends_heartbeats() {
    let bench = Bench::new().await;
    let record = bench.recorder.until("heartbeats", |record| record.heartbeats.len() >= 3).await;
    let registration = &record.registrations[0];
    assert_eq!(registration.machine_id, bench.home.machine);
    assert_eq!(registration.task_slots, 16);
    assert_eq!(registration.addr, bench.home.address.to_string());
    let now = micros_now() / 1_000;
    for heartbeat in &record.heartbeats {
        assert_eq!(heartbeat.machine_id, bench.home.machine);
        assert!(heartbeat.time.abs_diff(now) < 60_000, "{heartbeat:?}, now {now}");
    }
}
