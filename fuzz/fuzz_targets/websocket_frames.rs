//! See `websocket_frames` in `crates/node/src/streaming/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| coracle_node::fuzz::websocket_frames(bytes));
