//! See `layer_archive` in `crates/runtime/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_runtime::fuzz::layer_archive(bytes));
