//! What each fuzz target does with its input.
//!
//! `fuzz_targets/` hands these functions to libFuzzer, on nightly; `tests/fuzz_corpus.rs` of
//! arroyo-node includes this file by its path and replays `corpus/` with them, on stable, on every
//! `cargo test`. So neither can drift from the other, and nothing of it is part of arroyo-node.
//!
//! ```sh
//! # New inputs go to the first directory; the committed ones are in the second.
//! mkdir -p target/requests
//! cargo +nightly fuzz run requests target/requests corpus/requests -- -max_total_time=120
//! ```

pub mod machine;
pub mod requests;
