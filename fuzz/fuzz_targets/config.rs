//! See `config` in `src/config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| arroyo_node_fuzz::config::config(text));
