//! What each fuzz target does with its input.
//!
//! | target | any bytes, as |
//! |---|---|
//! | `config` | a settings file of each kind |
//! | `journal` | the rows, or the damaged file, that an agent finds at its start |
//! | `requests` | every call to an agent and to a controller |
//! | `shim_protocol` | what agent and shim say to each other |
//!
//! `fuzz_targets/` hands these functions to libFuzzer, on nightly; `tests/fuzz_corpus.rs` of
//! arroyo-node includes this file by its path and replays `corpus/` with them, on stable, on every
//! `cargo test`. So neither can drift from the other, and nothing of it is part of arroyo-node.
//!
//! ```sh
//! # New inputs go to the first directory; the committed ones are in the second.
//! mkdir -p target/requests
//! cargo +nightly fuzz run requests target/requests corpus/requests -- -max_total_time=1800
//! # Of all of them, the few that reach everything: a new corpus.
//! cargo +nightly fuzz cmin requests target/requests
//! ```
//!
//! `config` and `journal` make files: `TMPDIR=/dev/shm` spares the disk.

pub mod config;
pub mod journal;
pub mod machine;
pub mod requests;
pub mod shim_protocol;
