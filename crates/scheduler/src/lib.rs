//! The scheduler: gives every pod without a node the node that fits it best.
//!
//! * [`queue`]: pods that wait, in order; woken only by what can help them.
//! * [`cache`]: nodes and the pods on them, as far as known, including placements still on their way to the API; and the
//!   [`snapshot`] of it that a cycle sees.
//! * [`framework`]: the extension points of a cycle; [`profile`]: plugins run in order; [`plugins`]: one file each.
//! * [`cycle`]: finds a node for one pod.
//! * [`config`]: the configuration file.
//! * [`Scheduler`](scheduler::Scheduler): the loop that joins them, and the informers that feed it.
//!
//! Everything but the loop is synchronous and without a clock of its own; the loop holds only a client, so the scheduler
//! runs in the server's process, in its own, or against another Kubernetes. Start reading at [`scheduler`].

pub mod affinity_term;
pub mod cache;
pub mod config;
pub mod cycle;
pub mod diagnosis;
pub mod event;
pub mod framework;
pub mod listers;
pub mod metrics;
pub mod node_info;
pub mod node_selector;
pub mod nominator;
pub mod plugins;
pub mod profile;
pub mod queue;
pub mod resources;
pub mod scheduler;
pub mod shape;
pub mod snapshot;
#[doc(hidden)]
pub mod testing;
pub mod topology;
pub mod waiting;

pub use config::{ConfigError, SchedulerConfiguration};
pub use metrics::Metrics;
pub use scheduler::{DEFAULT_SCHEDULER, Scheduler, SchedulerOptions};
