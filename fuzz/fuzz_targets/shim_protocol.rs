//! See `shim_protocol` in `src/shim_protocol.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arroyo_node_fuzz::shim_protocol::shim_protocol(bytes));
