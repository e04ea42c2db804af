//! The node agent: it registers the node, runs the pods bound to it and reports how they are.
//!
//! [`Agent::start`] takes [`AgentOptions`]: a client, a [`PodRuntime`](coracle_runtime::PodRuntime) for containers and a
//! [`PodNetworking`] for addresses. Each pod has one worker, a loop of observe, plan, execute and report; containers live
//! in the runtime's pod shims, so that an agent may be killed and started again without touching them.
//!
//! The agent's own API is in `server`: logs, statistics (`stats`), and exec, attach and port-forward (`streaming`).
//!
//! Start reading at `agent`, then `pod/worker` and the pure `pod/plan` and `pod/status`.

mod agent;
mod client_objects;
mod local_volumes;
mod logs;
mod machine;
mod node_object;
pub mod objects;
mod pod;
mod pods;
mod registration;
mod server;
mod stats;
mod streaming;
mod volume;

pub use agent::{Agent, AgentOptions, Error};
pub use pod::context::PodNetworking;
pub use server::{Certificate, Error as ServeError, Serving};
#[cfg(any(test, fuzzing))]
pub use streaming::fuzz;
