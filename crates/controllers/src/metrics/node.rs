//! What is counted of nodes by zone, and of pods that go because of their node.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Zone {
    zone: String,
}

#[derive(Clone, Debug)]
pub struct NodeMetrics {
    health: Family<Zone, Gauge>,
    size: Family<Zone, Gauge>,
    unhealthy: Family<Zone, Gauge>,
    evictions: Family<Zone, Counter>,
    updates: Histogram,
}

impl Default for NodeMetrics {
    fn default() -> Self {
        Self {
            health: Family::default(),
            size: Family::default(),
            unhealthy: Family::default(),
            evictions: Family::default(),
            updates: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
        }
    }
}

fn zone(name: &str) -> Zone {
    Zone { zone: name.to_owned() }
}

impl NodeMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Gauge measuring percentage of healthy nodes per zone";
        registry.register("zone_health", help, self.health.clone());
        let help = "Gauge measuring number of registered Nodes per zones";
        registry.register("zone_size", help, self.size.clone());
        let help = "Gauge measuring number of not Ready Nodes per zones";
        registry.register("unhealthy_nodes_in_zone", help, self.unhealthy.clone());
        let help = "Number of Node evictions that happened since current instance of NodeController started";
        registry.register("evictions", help, self.evictions.clone());
        let help = "Duration in seconds for NodeController to update the health of a single node";
        registry.register("update_node_health_duration_seconds", help, self.updates.clone());
    }

    /// A zone has so many nodes, of which so many are not ready.
    pub(crate) fn zone(&self, name: &str, ready: usize, not_ready: usize) {
        let (label, all) = (zone(name), ready + not_ready);
        if all == 0 {
            for gauge in [&self.health, &self.size, &self.unhealthy] {
                gauge.remove(&label);
            }
            return;
        }
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.health.get_or_create_owned(&label).set(number(100 * ready / all));
        self.size.get_or_create_owned(&label).set(number(all));
        self.unhealthy.get_or_create_owned(&label).set(number(not_ready));
    }

    /// The pods of a node of the zone have to go.
    pub(crate) fn evicted(&self, name: &str) {
        self.evictions.get_or_create(&zone(name)).inc();
    }

    pub(crate) fn updated(&self, took: Duration) {
        self.updates.observe(took.as_secs_f64());
    }
}

#[derive(Clone, Debug)]
pub struct TaintMetrics {
    deleted: Counter,
    latency: Histogram,
}

impl Default for TaintMetrics {
    fn default() -> Self {
        let buckets = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0];
        Self {
            deleted: Counter::default(),
            latency: Histogram::new(buckets),
        }
    }
}

impl TaintMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Total number of Pods deleted by TaintEvictionController since its start";
        registry.register("pod_deletions", help, self.deleted.clone());
        let help = "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its \
                    deletion via TaintEvictionController";
        registry.register("pod_deletion_duration_seconds", help, self.latency.clone());
    }

    pub(crate) fn deleted(&self, took: Duration) {
        self.deleted.inc();
        self.latency.observe(took.as_secs_f64());
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Collected {
    namespace: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Default)]
pub struct PodGcMetrics {
    deleted: Family<Collected, Counter>,
    failed: Family<Collected, Counter>,
}

impl PodGcMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Number of pods that are being forcefully deleted since the Pod GC Controller started";
        registry.register("force_delete_pods", help, self.deleted.clone());
        let help = "Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started";
        registry.register("force_delete_pod_errors", help, self.failed.clone());
    }

    pub(crate) fn deleted(&self, namespace: &str, reason: &'static str, succeeded: bool) {
        let namespace = namespace.to_owned();
        let label = Collected { namespace, reason };
        self.deleted.get_or_create(&label).inc();
        if !succeeded {
            self.failed.get_or_create(&label).inc();
        }
    }
}
