//! See `request_info` in `crates/server/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_server::fuzz::request_info(bytes));
