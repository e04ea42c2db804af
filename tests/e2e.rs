//! End to end: the real binary, real containers, real kubectl. Every test has a cluster of its own, in a temporary
//! directory and on a free port.
//!
//! Clients are looked for in `$CORACLE_CLIENTS` (`v27` to `v37`, `python`, `js`; `./test` fetches them). The tests need root.

#[cfg(test)]
mod e2e {
    pub mod bad_input;
    pub mod clients;
    pub mod containerd;
    #[path = "../../crates/runtime/tests/it/containerd.rs"]
    mod containerd_process;
    pub mod crash;
    pub mod custom;
    pub mod fake_nodes;
    pub mod harness;
    pub mod kubectl;
    pub mod lifecycle;
    pub mod node;
    pub mod store;
    pub mod streaming;
    pub mod takeover;
    pub mod trouble;
    pub mod workload;
}
