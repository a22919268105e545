//! Workers, as GetWorkers lists them at each point of their life.

use std::sync::Arc;

use crate::{
    ids::{Generation, JobId, PipelineId, WorkerId},
    machine::{Dialect, End, Exit, Process, Stop, Wall, Worker, WorkerSpec},
    rpc::{
        convert::worker_status,
        wire::{WorkerExit, WorkerState, WorkerStatus, worker_exit::How},
    },
};

fn starting() -> Worker {
    Worker {
        id: WorkerId(u64::MAX),
        spec: Arc::new(WorkerSpec {
            name: "impulse".into(),
            job: JobId::from("job"),
            pipeline: Some(PipelineId::from("pl")),
            generation: Generation(7),
            slots: 2.try_into().expect("not zero"),
            dialect: Dialect::V0_16,
            key: None,
        }),
        admitted_at: Wall(10),
        process: None,
        stop: None,
        abandoned_at: None,
        end: None,
        reported_at: None,
    }
}

fn running() -> Worker {
    Worker { process: Some(Process { pid: 4_711, start_time: 1 }), ..starting() }
}

fn ended(exit: Exit) -> Worker {
    Worker { end: Some(End { exit, at: Wall(20), sequence: 3 }), ..running() }
}

fn expected(state: WorkerState) -> WorkerStatus {
    WorkerStatus {
        name: "impulse".into(),
        slots: 2,
        running: true,
        worker_id: u64::MAX,
        job_id: "job".into(),
        generation: 7,
        pipeline_id: "pl".into(),
        pid: 4_711,
        state: state.into(),
        started_at: 10,
        ended_at: 0,
        exit: None,
        reported: false,
        abandoned: false,
    }
}

#[test]
fn a_worker_without_a_process_has_no_pid_and_counts_as_running() {
    let status = worker_status(&starting());
    assert_eq!(status, WorkerStatus { pid: 0, ..expected(WorkerState::Starting) });
}

#[test]
fn a_live_worker_is_running_until_nothing_of_it_is_left() {
    assert_eq!(worker_status(&running()), expected(WorkerState::Running));
    let stopping = Worker { stop: Some(Stop { kill_at: None }), ..running() };
    assert_eq!(worker_status(&stopping), expected(WorkerState::Stopping));
}

#[test]
fn an_ended_worker_tells_how_and_when() {
    for (exit, how) in [
        (Exit::Code(0), How::Code(0)),
        (Exit::Code(-1), How::Code(-1)),
        (Exit::Signal(9), How::Signal(9)),
        (Exit::OomKilled, How::OomKilled(())),
        (Exit::Lost, How::Lost(())),
        (Exit::Unknown, How::Unknown(())),
    ] {
        let expected = WorkerStatus {
            running: false,
            ended_at: 20,
            exit: Some(WorkerExit { how: Some(how) }),
            ..expected(WorkerState::Exited)
        };
        assert_eq!(worker_status(&ended(exit)), expected);
        let reported = Worker { reported_at: Some(Wall(30)), ..ended(exit) };
        assert_eq!(worker_status(&reported), WorkerStatus { reported: true, ..expected });
    }
}

#[test]
fn a_worker_of_0_15_has_no_pipeline() {
    let mut worker = running();
    Arc::make_mut(&mut worker.spec).pipeline = None;
    assert_eq!(worker_status(&worker).pipeline_id, "");
}
