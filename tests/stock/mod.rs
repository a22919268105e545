//! The messages of stock Arroyo, written down apart from this project's contract, so that a
//! mistake in the one does not hide in the other. Modules [`v0_15`] and [`v0_16`] hold what the two
//! versions say differently; the rest they share.

#![allow(dead_code, reason = "each test uses the messages that it needs")]
#![allow(unreachable_pub, reason = "each test is a program of its own")]

use prost::Message;

pub mod v0_15 {
    use std::collections::BTreeMap;

    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct StartWorkerReq {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub job_id: String,
        #[prost(uint64, tag = "6")]
        pub slots: u64,
        #[prost(string, tag = "7")]
        pub machine_id: String,
        #[prost(uint64, tag = "8")]
        pub run_id: u64,
        #[prost(btree_map = "string, string", tag = "10")]
        pub env_vars: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct WorkerInfo {
        #[prost(uint64, tag = "1")]
        pub worker_id: u64,
        #[prost(string, tag = "2")]
        pub job_id: String,
        #[prost(uint64, tag = "3")]
        pub run_id: u64,
        #[prost(string, tag = "4")]
        pub machine_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct WorkerFinishedReq {
        #[prost(message, optional, tag = "1")]
        pub worker_info: Option<WorkerInfo>,
        #[prost(uint64, tag = "3")]
        pub slots: u64,
    }
}

pub mod v0_16 {
    use std::collections::BTreeMap;

    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct StartWorkerReq {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub job_id: String,
        #[prost(uint64, tag = "6")]
        pub slots: u64,
        #[prost(string, tag = "7")]
        pub machine_id: String,
        #[prost(uint64, tag = "8")]
        pub generation: u64,
        #[prost(btree_map = "string, string", tag = "10")]
        pub env_vars: BTreeMap<String, String>,
        #[prost(string, tag = "11")]
        pub pipeline_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct WorkerContext {
        #[prost(string, tag = "1")]
        pub machine_id: String,
        #[prost(uint64, tag = "2")]
        pub worker_id: u64,
        #[prost(string, tag = "3")]
        pub job_id: String,
        #[prost(uint64, tag = "4")]
        pub generation: u64,
        #[prost(string, tag = "5")]
        pub pipeline_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct WorkerFinishedReq {
        #[prost(message, optional, tag = "1")]
        pub worker_context: Option<WorkerContext>,
        #[prost(uint64, tag = "2")]
        pub time: u64,
        #[prost(uint64, tag = "3")]
        pub slots: u64,
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct RegisterNodeReq {
    #[prost(string, tag = "1")]
    pub machine_id: String,
    #[prost(uint64, tag = "2")]
    pub task_slots: u64,
    #[prost(string, tag = "3")]
    pub addr: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct HeartbeatNodeReq {
    #[prost(string, tag = "1")]
    pub machine_id: String,
    #[prost(uint64, tag = "2")]
    pub time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StartWorkerResp {
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StopWorkerReq {
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    #[prost(bool, tag = "2")]
    pub force: bool,
    #[prost(string, tag = "3")]
    pub job_id: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum StopWorkerStatus {
    Placeholder = 0,
    Stopped = 1,
    StopFailed = 2,
    NotFound = 3,
}

#[derive(Clone, PartialEq, Message)]
pub struct StopWorkerResp {
    #[prost(enumeration = "StopWorkerStatus", tag = "1")]
    pub status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct WorkerStatus {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub slots: u64,
    #[prost(bool, tag = "4")]
    pub running: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetWorkersResp {
    #[prost(message, repeated, tag = "1")]
    pub statuses: Vec<WorkerStatus>,
}
