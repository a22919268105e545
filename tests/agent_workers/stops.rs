//! StopWorker: gentle, forced, repeated, asked about.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arroyo_node::{
    NodeBuilder,
    rpc::wire::{StopWorkerStatus, WorkerState},
    runtime::process::send_signal,
};
use nix::libc::{SIGCONT, SIGSTOP};
use tonic::Code;

use crate::{
    Bench,
    support::{
        calls::{code, signal},
        eventually,
    },
};

#[tokio::test]
async fn a_gentle_stop_is_done_when_the_controller_knows_of_it() {
    let bench = Bench::new().await;
    let id = bench.agent.start(bench.home.request("job", 2, &[])).await;
    bench.home.until_ready(id).await;
    bench.recorder.hold_reports(true);
    let released = Arc::new(AtomicBool::new(false));

    let stop = tokio::spawn({
        let (agent, released) = ((*bench.agent).clone(), released.clone());
        async move {
            let status = agent.stop_gently(id).await;
            assert!(released.load(Ordering::SeqCst), "answered before the controller knew");
            status
        }
    });
    let worker = bench.agent.until_exited(id).await;
    assert_eq!(worker.exit, code(0));
    assert!(!worker.reported && worker.ended_at >= worker.started_at, "{worker:?}");
    bench.recorder.report_of(id).await;
    // An answer that was sent at the end of the worker would be here by now.
    for _ in 0..20 {
        bench.agent.workers().await;
    }
    assert!(!stop.is_finished());

    released.store(true, Ordering::SeqCst);
    bench.recorder.hold_reports(false);
    assert_eq!(stop.await.unwrap(), StopWorkerStatus::Stopped);
    let worker = bench.agent.worker(id).await;
    assert!(worker.reported && !worker.running, "{worker:?}");
    assert_eq!(bench.agent.status().await.free_slots, 16);
}

#[tokio::test]
async fn a_stop_is_answered_in_time_even_if_the_controller_does_not_acknowledge() {
    let wait = Duration::from_millis(100);
    let bench = Bench::with(|builder| builder.machine(|config| config.reply_wait = wait)).await;
    let id = bench.agent.start(bench.home.request("job", 1, &[])).await;
    bench.home.until_ready(id).await;
    bench.recorder.hold_reports(true);
    bench.agent.stop_gently(id).await;
    bench.agent.until_exited(id).await;
    assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopped);
    assert!(!bench.agent.worker(id).await.reported);
}

#[tokio::test]
async fn a_forced_stop_waits_for_what_it_kills_however_short_the_wait_of_others() {
    let wait = Duration::from_millis(50);
    let bench = Bench::with(|builder| builder.machine(|config| config.reply_wait = wait)).await;
    let stubborn = [("WORKER_IGNORE_SIGTERM", "1")];
    let id = bench.agent.start(bench.home.request("job", 1, &stubborn)).await;
    bench.home.until_ready(id).await;
    assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopping);
    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    let worker = bench.agent.worker(id).await;
    assert!(worker.reported && worker.exit == signal(9), "{worker:?}");
}

#[tokio::test]
async fn a_stock_controller_is_told_by_an_error_that_its_stop_is_done() {
    let bench = Bench::new().await;
    let id = bench.agent.start(bench.home.request("job", 1, &[])).await;
    bench.home.until_ready(id).await;
    let first = bench.agent.stop_as_stock(id).await.unwrap_err();
    assert_eq!(bench.home.mark.count_of(id), 0);
    assert!(bench.agent.worker(id).await.reported, "the report came first");
    let again = bench.agent.stop_as_stock(id).await.unwrap_err();
    for status in [first, again] {
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains("has ended: code 0"), "{status}");
    }
    let unknown = bench.agent.stop_as_stock(1).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("not known here"), "{unknown}");
    // Whoever asks gently, or only asks, or says that it understands a status, gets one.
    assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.agent.ask_whether_finished(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
}

#[tokio::test]
async fn a_stock_controller_that_has_not_acknowledged_the_end_is_not_told_that_it_is_done() {
    let bench = Bench::new().await;
    let id = bench.agent.start(bench.home.request("job", 1, &[])).await;
    bench.home.until_ready(id).await;
    bench.recorder.hold_reports(true);
    let status = bench.agent.stop_as_stock(id).await.unwrap();
    assert_eq!(status, StopWorkerStatus::Stopped);
    bench.recorder.hold_reports(false);
    bench.agent.until_reported(id).await;
    assert_eq!(bench.agent.stop_as_stock(id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_gentle_stop_leaves_a_worker_its_time() {
    let wait = Duration::from_millis(100);
    let bench = Bench::with(|builder| builder.machine(|config| config.reply_wait = wait)).await;
    let slow = [("WORKER_FINISH_TAKES", "2s")];
    let id = bench.agent.start(bench.home.request("job", 1, &slow)).await;
    bench.home.until_ready(id).await;

    assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopping);
    assert_eq!(bench.agent.worker(id).await.state(), WorkerState::Stopping);
    assert_eq!(bench.agent.until_reported(id).await.exit, code(0));
    assert!(bench.home.output(id).contains("finished on SIGTERM"), "{}", bench.home.output(id));
}

#[tokio::test]
async fn a_forced_stop_leaves_nothing_of_a_worker_that_ignores_sigterm() {
    let bench = Bench::new().await;
    let stubborn = [
        ("WORKER_IGNORE_SIGTERM", "1"),
        ("WORKER_CHILDREN", "group:2,chain:3"),
        ("WORKER_CHILDREN_IGNORE_SIGTERM", "1"),
    ];
    let id = bench.agent.start(bench.home.request("job", 2, &stubborn)).await;
    bench.home.until_ready(id).await;
    bench.home.until_alive(id, 6).await;

    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.home.mark.count_of(id), 0);
    assert_eq!(bench.agent.worker(id).await.exit, signal(9));
    assert!(bench.home.output(id).contains("takes no notice of SIGTERM"), "SIGTERM came first");
    assert_eq!(bench.recorder.report_of(id).await.slots, 2);
}

const EVERY_WAY_TO_ESCAPE: &str = "group:2,setsid:2,double-fork:2,daemon:2,chain:3";
const WITH_ALL_OF_THEM: usize = 1 + 2 + 2 + 2 + 2 + 3;

#[tokio::test]
async fn a_forced_stop_finds_descendants_wherever_they_went() {
    let bench = Bench::new().await;
    let family =
        [("WORKER_CHILDREN", EVERY_WAY_TO_ESCAPE), ("WORKER_CHILDREN_IGNORE_SIGTERM", "1")];
    let id = bench.agent.start(bench.home.request("job", 2, &family)).await;
    // A worker beside it, which is nobody's descendant.
    let bystander = bench.agent.start(bench.home.request("other", 1, &family)).await;
    for worker in [id, bystander] {
        bench.home.until_ready(worker).await;
        bench.home.until_alive(worker, WITH_ALL_OF_THEM).await;
    }

    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.home.mark.count_of(id), 0);
    assert_eq!(bench.agent.worker(id).await.exit, code(0), "the worker itself obeyed");
    assert_eq!(bench.home.mark.count_of(bystander), WITH_ALL_OF_THEM);
}

#[tokio::test]
async fn a_gentle_stop_reaches_descendants_wherever_they_went() {
    let bench = Bench::new().await;
    let family = [("WORKER_CHILDREN", EVERY_WAY_TO_ESCAPE)];
    let id = bench.agent.start(bench.home.request("job", 2, &family)).await;
    bench.home.until_ready(id).await;
    bench.home.until_alive(id, WITH_ALL_OF_THEM).await;
    assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.home.mark.count_of(id), 0);
}

#[tokio::test]
async fn a_stop_repeated_and_forced_is_one_stop() {
    let bench = Bench::new().await;
    let stubborn = [("WORKER_IGNORE_SIGTERM", "1")];
    let id = bench.agent.start(bench.home.request("job", 4, &stubborn)).await;
    bench.home.until_ready(id).await;

    let gentle = (0..5).map(|_| bench.agent.stop_gently(id));
    let forced = (0..5).map(|_| bench.agent.stop_by_force(id));
    let (gentle, forced) = tokio::join!(
        futures_util::future::join_all(gentle),
        futures_util::future::join_all(forced)
    );
    for status in gentle.into_iter().chain(forced) {
        assert_eq!(status, StopWorkerStatus::Stopped);
    }
    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopped);
    let notices = bench.home.output(id).matches("takes no notice").count();
    assert_eq!(notices, 1, "SIGTERM is sent once: {}", bench.home.output(id));
    assert_eq!(bench.agent.worker(id).await.exit, signal(9));
    assert_eq!(bench.recorder.record().reports_of(id).len(), 1);
    assert_eq!(bench.agent.status().await.free_slots, 16);
}

#[tokio::test]
async fn a_stop_that_began_gently_can_be_forced() {
    let wait = Duration::from_millis(100);
    let bench = Bench::with(|builder| builder.machine(|config| config.reply_wait = wait)).await;
    let stubborn = [("WORKER_IGNORE_SIGTERM", "1")];
    let id = bench.agent.start(bench.home.request("job", 1, &stubborn)).await;
    bench.home.until_ready(id).await;
    for _ in 0..3 {
        assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::Stopping);
    }
    bench.agent.stop_by_force(id).await;
    assert_eq!(bench.agent.until_reported(id).await.exit, signal(9));
}

#[tokio::test]
async fn without_time_to_end_a_worker_is_killed_at_once() {
    let bench =
        Bench::with(|builder| builder.machine(|config| config.kill_after = Duration::ZERO)).await;
    let stubborn = [("WORKER_IGNORE_SIGTERM", "1"), ("WORKER_CHILDREN", "setsid")];
    let id = bench.agent.start(bench.home.request("job", 1, &stubborn)).await;
    bench.home.until_ready(id).await;
    bench.home.until_alive(id, 2).await;
    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopped);
    assert_eq!(bench.home.mark.count_of(id), 0);
    assert!(!bench.home.output(id).contains("takes no notice"), "no SIGTERM came");
}

#[tokio::test]
async fn a_question_signals_nothing() {
    let bench = Bench::new().await;
    let id = bench.agent.start(bench.home.request("job", 1, &[])).await;
    bench.home.until_ready(id).await;
    for _ in 0..3 {
        assert_eq!(bench.agent.ask_whether_finished(id).await, StopWorkerStatus::Stopping);
    }
    let forced_question = arroyo_node::rpc::wire::StopWorkerReq {
        worker_id: id,
        force: true,
        job_id: "job".to_owned(),
        finished: true,
        wants_status: true,
    };
    assert_eq!(bench.agent.stop_with(forced_question).await, StopWorkerStatus::Stopping);
    let worker = bench.agent.worker(id).await;
    assert_eq!((worker.state(), worker.exit), (WorkerState::Running, None));

    bench.agent.stop_gently(id).await;
    assert_eq!(bench.agent.ask_whether_finished(id).await, StopWorkerStatus::Stopped);
}

#[tokio::test]
async fn a_worker_that_is_not_known_is_not_found() {
    let bench = Bench::new().await;
    let running = bench.agent.start(bench.home.request("job", 1, &[])).await;
    for id in [0, 1, running.wrapping_add(1), u64::MAX] {
        assert_eq!(bench.agent.stop_gently(id).await, StopWorkerStatus::NotFound);
        assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::NotFound);
        assert_eq!(bench.agent.ask_whether_finished(id).await, StopWorkerStatus::NotFound);
    }
    assert_eq!(bench.agent.worker(running).await.state(), WorkerState::Running);
}

#[tokio::test]
async fn a_worker_is_forgotten_once_it_was_reported_long_ago() {
    let change = |config: &mut arroyo_node::machine::Config| {
        config.retain_for = Duration::from_millis(100);
    };
    let bench = Bench::with(|builder| builder.machine(change)).await;
    let id = bench.agent.start(bench.home.request("job", 1, &[])).await;
    bench.agent.stop_by_force(id).await;
    bench.agent.until_view("forgotten", |view| view.workers.is_empty()).await;
    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::NotFound);
    crate::support::eventually("its output is gone", || !bench.home.output_file(id).exists()).await;
}

/// As when the disk of a program hangs that it is to run.
#[tokio::test]
async fn a_forced_stop_does_not_wait_for_a_shim_that_hangs() {
    let at_once = |builder: NodeBuilder| {
        builder.machine(|config| {
            config.kill_after = Duration::from_millis(100);
            config.reply_wait = Duration::from_millis(200);
        })
    };
    let bench = Bench::with(at_once).await;
    let stubborn =
        [("WORKER_CHILDREN", EVERY_WAY_TO_ESCAPE), ("WORKER_CHILDREN_IGNORE_SIGTERM", "1")];
    let id = bench.agent.start(bench.home.request("job", 1, &stubborn)).await;
    bench.home.until_ready(id).await;
    bench.home.until_alive(id, WITH_ALL_OF_THEM).await;
    let other = bench.agent.start(bench.home.request("other", 1, &[])).await;
    bench.home.until_ready(other).await;
    let shim = bench.home.shim().unwrap();
    assert!(send_signal(shim, SIGSTOP).unwrap());

    assert_eq!(bench.agent.stop_by_force(id).await, StopWorkerStatus::Stopping);
    eventually("nothing of it is left", || bench.home.mark.count_of(id) == 0).await;
    assert!(bench.home.mark.count_of(other) > 0, "who was not to be killed is alive");

    assert!(send_signal(shim, SIGCONT).unwrap());
    assert_eq!(bench.agent.until_reported(id).await.exit, signal(9));
    assert!(bench.agent.worker(other).await.running);
}
