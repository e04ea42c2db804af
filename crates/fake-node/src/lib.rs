//! Fake nodes: they register, renew their leases, take pods that are bound to them and walk them through a life (created,
//! initialized, running, ready, ended, deleted) with the stages, delays and failures of a small configuration. Nothing runs.
//! A laptop holds a cluster of thousands of them, for tests of operators, schedulers and autoscalers.
//!
//! * [`Fleet`] is the fake nodes of a process; [`FleetOptions`] say how many, how they look ([`NodeTemplate`]) and how they
//!   and their pods live ([`Config`]).
//! * A pod's life is a function of time (`life`): no task polls for it. A pod at rest costs its record of some 50 bytes
//!   beside the informer's object; a node costs two entries in the one queue of timers.
//!
//! ```no_run
//! use coracle_fake_node::{Config, Fleet, FleetOptions};
//!
//! # async fn example(client: coracle_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = FleetOptions::new(client, 100);
//! options.config = Config::parse("seed: 1\nrules:\n- match: {labels: {app: db}}\n  ready: 5s..10s\n  crashes: 0.1\n")?;
//! let shutdown = options.shutdown.clone();
//! let fleet = Fleet::start(options).await?;
//! println!("{} nodes are Ready", fleet.nodes());
//! shutdown.cancel();
//! fleet.ended().await;
//! # Ok(())
//! # }
//! ```
//!
//! Every node that has the label [`FLEET_LABEL`] with the fleet's name is run, whoever made it: an autoscaler adds nodes by
//! creating Node objects and takes them away by deleting them. Start reading at `fleet`, then the pure `life` and `status`.

mod config;
mod draw;
mod fleet;
mod life;
mod network;
mod node_object;
mod plan;
mod record;
mod server;
mod status;
mod template;
mod told;

pub use config::rule::ANNOTATION_PREFIX;
pub use config::{Amount, Cidr, Cidr6, Config, ConfigError, Delay, Match, NodeLife, Outage, Rule, Stages};
pub use fleet::{Error, Fleet, FleetOptions};
pub use node_object::FLEET_LABEL;
pub use server::{Error as ServeError, Serving};
pub use template::NodeTemplate;
