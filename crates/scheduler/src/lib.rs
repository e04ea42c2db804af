//! The scheduler: gives every pod without a node the node that fits it best.
//!
//! * [`queue`]: pods that wait, in order; woken only by what can help them.
//! * [`cache`]: nodes and the pods on them, as far as known, including placements still on their way to the API.
//! * [`framework`]: the extension points of a cycle, and [`Profile`](framework::Profile), plugins run in order.
//! * [`plugins`]: one file each.
//! * [`Scheduler`](scheduler::Scheduler): the loop that joins them, and the informers that feed it.
//!
//! Everything but the loop is synchronous and without a clock of its own; the loop holds only a client, so the scheduler
//! runs in the server's process, in its own, or against another Kubernetes. Start reading at [`scheduler`].

pub mod cache;
pub mod framework;
pub mod plugins;
pub mod queue;
pub mod resources;
pub mod scheduler;

pub use scheduler::{DEFAULT_SCHEDULER, Scheduler, SchedulerOptions};
