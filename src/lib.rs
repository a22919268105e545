//! The node agent of an Arroyo cluster.
pub mod ids;
pub mod machine;
pub mod mailbox;
pub mod rpc;
pub mod runtime;
