//! The node agent of an Arroyo cluster: the daemon that runs on every machine, starts and stops worker
//! processes for a controller over gRPC, watches them, and tells the controller when they end.
//!
//! ```text
//!  ids ─▶ machine ─▶ supervisor ─▶ shim ─▶ mailbox ─▶ rpc ─▶ runtime ─▶ admin, config, controller ─▶ cli ─▶ main
//! ```
//!
//! Modules know only what stands to their left. Every decision is made in [`machine`],
//! [`supervisor`] and [`shim`], which are pure;
//! [`runtime::driver`] is the only loop; [`runtime::ports`] are what it needs of the world.
//!
//! To run an agent inside another program, begin with [`NodeServer`]. `ARCHITECTURE.md`, beside the
//! source, is the map.

pub mod admin;
pub mod cli;
pub mod config;
pub mod controller;
pub mod ids;
pub mod machine;
pub mod mailbox;
pub mod rpc;
pub mod runtime;
pub mod shim;
pub mod supervisor;

pub use ids::MachineId;
pub use runtime::{
    node::{BoundNode, NodeBuilder, NodeServer},
    shutdown::{ShutdownGuard, ShutdownTrigger, shutdown_channel},
};
