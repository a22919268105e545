//! What stock peers put on the wire, against what this project reads and writes.
//!
//! `golden/wire.json` holds bytes that were encoded independently of this project, with the fields
//! that they mean. Every case is read, compared field by field, and written again.

mod stock;

use std::fmt::Debug;

use arroyo_node::rpc::wire::{
    FinishedWorker, GetWorkersResp, HeartbeatNodeReq, RegisterNodeReq, StartWorkerReq,
    StartWorkerResp, StopWorkerReq, StopWorkerResp, StopWorkerStatus, WorkerContext, WorkerExit,
    WorkerFinishedReq, WorkerInfo, WorkerState, WorkerStatus, worker_exit::How,
};
use prost::Message;
use serde_json::Value;

#[test]
fn every_golden_case_is_read_and_written_as_stock_does() {
    let golden: Value = serde_json::from_str(include_str!("golden/wire.json")).expect("JSON");
    let cases = golden["cases"].as_array().expect("a list of cases");
    assert_eq!(cases.len(), 15, "a case was added or lost");
    for case in cases {
        let bytes = from_hex(text(case, "hex"));
        let fields = Fields(&case["fields"]);
        let name = text(case, "name");
        match text(case, "message") {
            "StartWorkerReq" => check(name, &bytes, &fields.start()),
            "StartWorkerResp" => {
                check(name, &bytes, &StartWorkerResp { worker_id: fields.number("worker_id") });
            }
            "StopWorkerReq" => check(name, &bytes, &fields.stop()),
            "StopWorkerResp" => check(name, &bytes, &fields.stopped()),
            "RegisterNodeReq" => check(name, &bytes, &fields.registration()),
            "HeartbeatNodeReq" => check(name, &bytes, &fields.heartbeat()),
            "WorkerFinishedReq" => check(name, &bytes, &fields.finished()),
            "GetWorkersResp" => check(name, &bytes, &fields.workers()),
            other => panic!("{name}: no check for message {other}"),
        }
    }
}

/// Reads `bytes`, and writes them again. A message with fields from the future is written without
/// them.
fn check<M: Message + Default + PartialEq + Debug>(name: &str, bytes: &[u8], expected: &M) {
    let read = M::decode(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&read, expected, "{name}: read");
    let written = expected.encode_to_vec();
    assert_eq!(written.len(), expected.encoded_len(), "{name}: length");
    if name == "start_unknown_field" {
        assert_eq!(written, bytes[..written.len()], "{name}: written, up to the unknown field");
        assert!(written.len() < bytes.len(), "{name}: has no unknown field");
    } else {
        assert_eq!(written, bytes, "{name}: written");
    }
}

/// The `fields` of a case, as this project's messages.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn number(&self, name: &str) -> u64 {
        match &self.0[name] {
            Value::Null => 0,
            value => value.as_u64().unwrap_or_else(|| panic!("{name} is no number: {value}")),
        }
    }

    fn text(&self, name: &str) -> String {
        match &self.0[name] {
            Value::Null => String::new(),
            _ => text(self.0, name).to_owned(),
        }
    }

    fn start(&self) -> StartWorkerReq {
        let env = self.0["env_vars"].as_object();
        let env = env.into_iter().flatten();
        StartWorkerReq {
            name: self.text("name"),
            job_id: self.text("job_id"),
            slots: self.number("slots"),
            machine_id: self.text("machine_id"),
            generation: self.number("generation"),
            env_vars: env
                .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()))
                .collect(),
            pipeline_id: self.text("pipeline_id"),
            request_id: String::new(),
        }
    }

    fn stop(&self) -> StopWorkerReq {
        StopWorkerReq {
            worker_id: self.number("worker_id"),
            force: self.0["force"].as_bool().expect("a flag"),
            job_id: self.text("job_id"),
            finished: false,
            wants_status: false,
        }
    }

    fn stopped(&self) -> StopWorkerResp {
        let name = self.text("status");
        let status = StopWorkerStatus::from_str_name(&name);
        StopWorkerResp { status: status.unwrap_or_else(|| panic!("status {name}")).into() }
    }

    fn registration(&self) -> RegisterNodeReq {
        RegisterNodeReq {
            machine_id: self.text("machine_id"),
            task_slots: self.number("task_slots"),
            addr: self.text("addr"),
        }
    }

    fn heartbeat(&self) -> HeartbeatNodeReq {
        HeartbeatNodeReq { machine_id: self.text("machine_id"), time: self.number("time") }
    }

    fn finished(&self) -> WorkerFinishedReq {
        let (info, context) = (Fields(&self.0["worker_info"]), Fields(&self.0["worker_context"]));
        let worker = if context.0.is_null() {
            FinishedWorker::Info(WorkerInfo {
                worker_id: info.number("worker_id"),
                job_id: info.text("job_id"),
                run_id: info.number("run_id"),
                machine_id: info.text("machine_id"),
            })
        } else {
            FinishedWorker::Context(WorkerContext {
                machine_id: context.text("machine_id"),
                worker_id: context.number("worker_id"),
                job_id: context.text("job_id"),
                generation: context.number("generation"),
                pipeline_id: context.text("pipeline_id"),
            })
        };
        WorkerFinishedReq {
            worker: Some(worker),
            time: self.number("time"),
            slots: self.number("slots"),
        }
    }

    fn workers(&self) -> GetWorkersResp {
        let statuses = self.0["statuses"].as_array().expect("a list").iter().map(Fields);
        let statuses = statuses.map(|status| WorkerStatus {
            name: status.text("name"),
            slots: status.number("slots"),
            running: status.0["running"].as_bool().expect("a flag"),
            ..WorkerStatus::default()
        });
        GetWorkersResp { statuses: statuses.collect() }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// Writes a message of ours and reads it as a stock peer does.
fn as_stock<S: Message + Default>(ours: &impl Message) -> S {
    S::decode(&*ours.encode_to_vec()).expect("a stock peer can read it")
}

#[test]
fn stock_peers_ignore_the_additions_to_requests() {
    let start = StartWorkerReq {
        name: "impulse".into(),
        job_id: "job".into(),
        slots: 2,
        machine_id: "node-a".into(),
        generation: 7,
        env_vars: [("A".into(), "1".into())].into(),
        pipeline_id: "pl".into(),
        request_id: "attempt-1".into(),
    };
    let read: stock::v0_16::StartWorkerReq = as_stock(&start);
    let expected = stock::v0_16::StartWorkerReq {
        name: "impulse".into(),
        job_id: "job".into(),
        slots: 2,
        machine_id: "node-a".into(),
        generation: 7,
        env_vars: [("A".into(), "1".into())].into(),
        pipeline_id: "pl".into(),
    };
    assert_eq!(read, expected);
    let read: stock::v0_15::StartWorkerReq = as_stock(&start);
    let expected = stock::v0_15::StartWorkerReq {
        name: "impulse".into(),
        job_id: "job".into(),
        slots: 2,
        machine_id: "node-a".into(),
        run_id: 7,
        env_vars: [("A".into(), "1".into())].into(),
    };
    assert_eq!(read, expected);

    let stop = StopWorkerReq {
        worker_id: 5,
        force: true,
        job_id: "job".into(),
        finished: true,
        wants_status: true,
    };
    let expected = stock::StopWorkerReq { worker_id: 5, force: true, job_id: "job".into() };
    assert_eq!(as_stock::<stock::StopWorkerReq>(&stop), expected);
}

#[test]
fn stock_controllers_ignore_the_additions_to_answers() {
    let status = WorkerStatus {
        name: "impulse".into(),
        slots: 2,
        running: true,
        worker_id: u64::MAX,
        job_id: "job".into(),
        generation: 7,
        pipeline_id: "pl".into(),
        pid: 4_711,
        state: WorkerState::Running.into(),
        started_at: 1,
        ended_at: 2,
        exit: Some(WorkerExit { how: Some(How::OomKilled(())) }),
        reported: true,
        abandoned: true,
    };
    let read: stock::GetWorkersResp = as_stock(&GetWorkersResp { statuses: vec![status] });
    let expected = stock::WorkerStatus { name: "impulse".into(), slots: 2, running: true };
    assert_eq!(read, stock::GetWorkersResp { statuses: vec![expected] });

    // Neither stopped nor failed: the controller asks again.
    let stopping = StopWorkerResp { status: StopWorkerStatus::Stopping.into() };
    let read: stock::StopWorkerResp = as_stock(&stopping);
    assert_eq!(read.status(), stock::StopWorkerStatus::Placeholder);
}
