//! The network face: generated code, its translation to and from the machine's words, the services
//! that an agent serves and the client it calls its controller with.

pub mod client;
mod connection;
pub mod convert;
mod delivery;
pub mod finished;
mod serve;
pub mod service;

pub use serve::serve;

/// `arroyo_rpc`: the contract with stock Arroyo, see `proto/arroyo_rpc.proto`.
#[expect(missing_docs, reason = "generated; the contract is documented in proto/")]
#[allow(unreachable_pub, clippy::all, clippy::too_many_lines, clippy::unwrap_used)]
pub mod wire {
    pub use super::finished::{FinishedWorker, WorkerFinishedReq};
    tonic::include_proto!("arroyo_rpc");
}

/// `arroyo_node.v1`: what this agent offers beyond stock, see `proto/arroyo_node_v1.proto`.
#[expect(missing_docs, reason = "generated; the contract is documented in proto/")]
#[allow(unreachable_pub, clippy::all, clippy::too_many_lines, clippy::unwrap_used)]
pub mod admin_wire {
    tonic::include_proto!("arroyo_node.v1");
}

/// The compiled descriptors of `proto/`, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
