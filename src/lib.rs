//! The node agent of an Arroyo cluster.

pub mod admin;
pub mod cli;
pub mod config;
pub mod controller;
pub mod ids;
pub mod machine;
pub mod mailbox;
pub mod rpc;
pub mod runtime;

pub use ids::MachineId;
pub use runtime::{
    node::{BoundNode, NodeBuilder, NodeServer},
    shutdown::{ShutdownGuard, ShutdownTrigger, shutdown_channel},
};
