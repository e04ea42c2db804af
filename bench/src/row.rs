//! One file per row of the budget table.

pub mod fake_nodes;
pub mod idle;
pub mod pod_start;
pub mod requests;
pub mod scale_out;
pub mod schedule;
pub mod start;
pub mod watch;
