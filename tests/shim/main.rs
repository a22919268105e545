//! Workers behind a real shim: what outlives what. The workers are shell scripts, each given in
//! the variable SCRIPT of its launch.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod deaths;
mod lives;
mod protocol;
mod takeover;
