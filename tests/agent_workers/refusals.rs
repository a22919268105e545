//! StartWorker refused: a clear error, and nothing has changed.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use arroyo_node::{
    rpc::wire::StartWorkerReq,
    runtime::process::{WorkerCommand, send_signal},
};
use nix::libc::{SIGCONT, SIGSTOP};
use tonic::{Code, Status};

use crate::{
    Bench,
    support::{Parent, agent::Home, eventually, processes},
};

impl Bench {
    /// Asks, is refused, and sees that nothing has changed.
    async fn refused(&self, request: StartWorkerReq) -> Status {
        let listed = self.agent.workers().await;
        let alive = self.home.mark.workers();
        let status = self.agent.refusal(request).await;
        assert_eq!(self.agent.workers().await, listed, "{status}");
        assert_eq!(self.home.mark.workers(), alive, "{status}");
        status
    }
}

fn assert_says(status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    for word in words {
        assert!(status.message().contains(word), "no {word:?} in {status}");
    }
}

#[tokio::test]
async fn more_slots_than_are_free() {
    let bench = Bench::with(|builder| builder.task_slots(4)).await;
    let one = bench.agent.start(bench.home.request("one", 1, &[])).await;
    bench.home.until_ready(one).await;
    let status = bench.refused(bench.home.request("two", 4, &[])).await;
    assert_says(&status, Code::ResourceExhausted, &["asked 4", "free 3", "of 4"]);
    let status = bench.refused(bench.home.request("two", u64::MAX, &[])).await;
    assert_says(&status, Code::ResourceExhausted, &["asked 18446744073709551615", "free 3"]);
    bench.agent.start(bench.home.request("two", 3, &[])).await;
    assert_eq!(bench.agent.status().await.free_slots, 0);
}

#[tokio::test]
async fn another_machine() {
    let bench = Bench::new().await;
    for machine in ["", "machine-b"] {
        let request =
            StartWorkerReq { machine_id: machine.to_owned(), ..bench.home.request("job", 1, &[]) };
        let status = bench.refused(request).await;
        assert_says(&status, Code::FailedPrecondition, &[machine, &bench.home.machine]);
    }
}

#[tokio::test]
async fn a_form_that_makes_no_sense() {
    let bench = Bench::new().await;
    let good = bench.home.request("job", 1, &[]);
    let variable = |name: &str, value: &str| {
        let mut request = good.clone();
        request.env_vars.insert(name.to_owned(), value.to_owned());
        request
    };
    let mut heavy = good.clone();
    for n in 0..12 {
        heavy.env_vars.insert(format!("HEAVY_{n}"), "x".repeat(100_000));
    }
    let long = "x".repeat(1_025);
    let cases = [
        (StartWorkerReq { job_id: String::new(), ..good.clone() }, "job_id is empty"),
        (StartWorkerReq { slots: 0, ..good.clone() }, "slots is 0"),
        (StartWorkerReq { name: long.clone(), ..good.clone() }, "name has 1025 bytes"),
        (StartWorkerReq { job_id: long.clone(), ..good.clone() }, "job_id has 1025 bytes"),
        (StartWorkerReq { pipeline_id: long, ..good.clone() }, "pipeline_id has 1025 bytes"),
        (StartWorkerReq { request_id: "x".repeat(129), ..good.clone() }, "request_id has 129"),
        (StartWorkerReq { job_id: "a\0b".to_owned(), ..good.clone() }, "zero byte"),
        (StartWorkerReq { name: "a\0b".to_owned(), ..good.clone() }, "zero byte"),
        (StartWorkerReq { pipeline_id: "a\0b".to_owned(), ..good.clone() }, "zero byte"),
        (StartWorkerReq { request_id: "a\0b".to_owned(), ..good.clone() }, "zero byte"),
        (variable("", "secret"), "env_vars has the name \"\""),
        (variable("A=B", "secret"), "\"A=B\""),
        (variable("A\0B", "secret"), "zero byte"),
        (variable("A", "secret\0"), "zero byte"),
        (variable("LONG", &"secret".repeat(30_000)), "LONG has 180006 bytes"),
        (heavy, "bytes in all"),
    ];
    for (request, words) in cases {
        let status = bench.refused(request).await;
        assert_says(&status, Code::InvalidArgument, &[words]);
        assert!(!status.message().contains("secret"), "{status}");
    }
    assert_eq!(bench.agent.status().await.free_slots, 16);
    assert_eq!(bench.recorder.record().reports, []);
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    for parent in [Parent::Shim, Parent::Agent] {
        no_program(parent).await;
    }
}

async fn no_program(parent: Parent) {
    let bench = Bench::at(Home::with_workers_of(parent), |builder| {
        builder.worker(WorkerCommand::new("/nonexistent/arroyo")).task_slots(1)
    })
    .await;
    for _ in 0..3 {
        let status = bench.refused(bench.home.request("job", 1, &[])).await;
        assert_says(&status, Code::Internal, &["/nonexistent/arroyo", "No such file or directory"]);
    }
    assert_eq!(bench.agent.status().await.free_slots, 1);
    assert_eq!(bench.agent.now().reports_owed, 0);
    let zombies = || match parent {
        Parent::Shim => processes::zombies_of(bench.home.shim().unwrap().pid, None),
        // Other tests' workers are children of this process, too. One that never ran a program has
        // the name of the thread that made it.
        Parent::Agent => processes::zombies_of(std::process::id(), Some("workers")),
    };
    eventually("no zombie is left", || zombies() == 0).await;

    let heartbeats = bench.recorder.record().heartbeats.len();
    bench.recorder.until("heartbeats", |record| record.heartbeats.len() > heartbeats + 1).await;
    assert_eq!(bench.recorder.record().reports, [], "nothing is owed");
}

#[tokio::test]
async fn a_program_that_may_not_be_run() {
    let home = Home::new();
    let program = home.scratch().join("arroyo");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    let path = program.clone();
    let agent = home.start_alone_with(|builder| builder.worker(WorkerCommand::new(path))).await;
    let status = agent.refusal(home.request("job", 1, &[])).await;
    assert_says(&status, Code::Internal, &[program.to_str().unwrap(), "Permission denied"]);
    assert_eq!(agent.workers().await, []);
    assert_eq!(agent.status().await.free_slots, 16);
}

#[tokio::test]
async fn a_generation_that_is_stale() {
    let bench = Bench::new().await;
    let newer = StartWorkerReq { generation: 3, ..bench.home.request("job", 1, &[]) };
    let running = bench.agent.start(newer).await;
    bench.home.until_ready(running).await;
    let older = StartWorkerReq { generation: 2, ..bench.home.request("job", 1, &[]) };
    let status = bench.refused(older.clone()).await;
    assert_says(&status, Code::FailedPrecondition, &["generation 2", "generation 3", "job"]);
    assert!(bench.agent.worker(running).await.running);

    // Another job's generations are its own, and once the newer one has ended nothing is stale.
    let other = StartWorkerReq { job_id: "other".to_owned(), ..older.clone() };
    bench.agent.start(other).await;
    bench.agent.stop_by_force(running).await;
    bench.agent.start(older).await;
}

/// Whoever is to run the program hangs. The controller holds a lock while it waits, so it must not wait
/// along; and it will not know the worker.
#[tokio::test]
async fn a_start_that_hangs_is_refused_and_what_runs_later_is_ended() {
    let wait = Duration::from_millis(300);
    let bench = Bench::with(|builder| builder.machine(|config| config.spawn_wait = wait)).await;
    let shim = bench.home.shim().unwrap();
    assert!(send_signal(shim, SIGSTOP).unwrap());
    let refused = bench.agent.refusal(bench.home.request("job", 3, &[])).await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("does not run after 0.3s"), "{refused:?}");
    assert_eq!(bench.agent.status().await.free_slots, 13, "it may run yet");

    assert!(send_signal(shim, SIGCONT).unwrap());
    let told = bench.recorder.until("its end", |record| record.reports.len() == 1).await;
    let report = &told.reports[0];
    assert_eq!(report.slots, 3);
    bench.agent.until_view("its slots are free", |view| view.free_slots == 16).await;
    assert_eq!(bench.home.mark.workers().len(), 0);
}
