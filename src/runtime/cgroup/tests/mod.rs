//! The layer in a directory that only looks like a cgroup, and in the kernel's own.

mod fake;
mod kernel;
mod sandbox;
