//! See `journal` in `src/journal.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arroyo_node_fuzz::journal::journal(bytes));
