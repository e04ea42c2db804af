//! See `cron` in `crates/controllers/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_controllers::fuzz::cron(bytes));
