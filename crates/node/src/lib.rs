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
mod allocation;
mod client_objects;
mod eviction;
mod image_gc;
mod local_volumes;
mod logs;
mod machine;
mod mirror;
mod node_object;
mod node_shutdown;
mod node_state;
pub mod objects;
mod patience;
mod pod;
mod pods;
mod registration;
mod server;
mod settings;
mod static_pods;
mod stats;
mod streaming;
mod user_ids;
mod volume;

pub use agent::{Agent, AgentOptions, Error};
pub use machine::own_address;
pub use pod::context::{PodNetworking, RuntimeNetworking};
pub use server::{Certificate, Error as ServeError, Serving};
pub use settings::{Settings, ShutdownGroup};
#[cfg(any(test, fuzzing))]
pub use streaming::fuzz;
