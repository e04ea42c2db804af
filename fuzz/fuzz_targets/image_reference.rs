//! See `image_reference` in `crates/runtime/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_runtime::fuzz::image_reference(bytes));
