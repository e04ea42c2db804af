//! See `structural_schema` in `crates/api/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_api::fuzz::structural_schema(bytes));
