//! See `continue_token` in `crates/server/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_server::fuzz::continue_token(bytes));
