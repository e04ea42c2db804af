//! See `schedule` in `crates/api/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_api::fuzz::schedule(bytes));
