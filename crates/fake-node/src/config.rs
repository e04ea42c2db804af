//! The configuration file: how nodes and pods live. `docs/fake-nodes.md` tells its fields; here they are read, and a
//! mistake is told by field and line. No I/O.

pub(crate) mod amount;
pub(crate) mod cidr;
pub(crate) mod delay;
mod read;
pub(crate) mod rule;
pub(crate) mod values;

use std::time::Duration;

pub use amount::Amount;
pub use cidr::{Cidr, Cidr6};
pub use coracle_api::configuration::ConfigError;
pub use delay::Delay;
pub use rule::{Match, Rule, Stages};

use crate::draw::Draw;

/// How fake nodes and their pods live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Decides every delay that is a range and every failure that is a fraction.
    pub seed: u64,
    pub nodes: NodeLife,
    /// The first that matches a pod tells how it lives; behind them come [`Rule::defaults`].
    pub rules: Vec<Rule>,
}

impl Config {
    /// Reads the text of a configuration file, YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        read::config(text)
    }
}

/// How nodes live.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeLife {
    /// What the nodes' pod ranges are cut from.
    pub pod_cidr: Cidr,
    /// The prefix length of a node's own range.
    pub pod_prefix_length: u8,
    /// Where pods have a second address, an IPv6 one.
    pub pod_cidr6: Option<Cidr6>,
    pub lease_interval: Duration,
    pub status_interval: Duration,
    /// Tell of pods' lives by events, as kubelets do.
    pub events: bool,
    pub outages: Vec<Outage>,
}

impl Default for NodeLife {
    fn default() -> Self {
        Self {
            pod_cidr: Cidr::DEFAULT,
            pod_prefix_length: 24,
            pod_cidr6: None,
            lease_interval: Duration::from_secs(10),
            status_interval: Duration::from_secs(300),
            events: true,
            outages: Vec::new(),
        }
    }
}

/// A time in which some nodes are dead: they renew no lease, write no status and do nothing for their pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// Names, in which `*` stands for anything; empty: all.
    pub nodes: Vec<String>,
    /// How many of those, chosen by seed.
    pub fraction: f64,
    /// Counted from when the node came up in this process.
    pub after: Delay,
    /// `None`: it never ends.
    pub lasting: Option<Delay>,
}

/// Milliseconds of the time of day: from, and to where it ends.
pub(crate) type Window = (i64, Option<i64>);

impl NodeLife {
    /// When the node is dead, if it came up at `up`.
    pub(crate) fn outages_of(&self, seed: u64, node: &str, up: i64) -> Vec<Window> {
        let draw = Draw::of_name(seed, node);
        let each = self.outages.iter().zip(0u32..);
        let own = each.filter(|(outage, n)| {
            (outage.nodes.is_empty() || outage.nodes.iter().any(|p| rule::glob(p, node)))
                && draw.happens(outage.fraction, "outage", *n)
        });
        own.map(|(outage, n)| {
            let from = up.saturating_add(outage.after.draw(draw, "outage after", n));
            let to = outage
                .lasting
                .map(|l| from.saturating_add(l.draw(draw, "outage lasting", n)));
            (from, to)
        })
        .collect()
    }
}

/// Whether a node with these windows is dead at `now`, and if so until when.
pub(crate) fn dead_until(windows: &[Window], now: i64) -> Option<Option<i64>> {
    let within = |(from, to): &&Window| *from <= now && to.is_none_or(|to| now < to);
    windows.iter().find(within).map(|(_, to)| *to)
}

#[cfg(test)]
mod tests;
