//! Kubernetes in one binary: subcommands that only wire the crates together.

fn main() {}
