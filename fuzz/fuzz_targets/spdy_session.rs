//! See `spdy_session` in `crates/node/src/streaming/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_node::fuzz::spdy_session(bytes));
