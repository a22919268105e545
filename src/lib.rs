//! The node agent of an Arroyo cluster.
pub mod controller;
pub mod ids;
pub mod machine;
pub mod rpc;
pub mod runtime;
