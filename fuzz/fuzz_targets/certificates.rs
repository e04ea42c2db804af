//! See `certificates` in `crates/api/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_api::fuzz::certificates(bytes));
