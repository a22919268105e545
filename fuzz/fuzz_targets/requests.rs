//! See `requests` in `src/requests.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arroyo_node_fuzz::requests::requests(bytes));
