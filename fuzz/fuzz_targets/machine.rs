//! See `machine` in `src/machine.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arroyo_node_fuzz::machine::machine(bytes));
