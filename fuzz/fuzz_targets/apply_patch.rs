//! See `apply_patch` in `crates/api/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_api::fuzz::apply_patch(bytes));
