//! See `answer` in `crates/client/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_client::fuzz::answer(bytes));
