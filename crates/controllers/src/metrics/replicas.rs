//! What is counted of ReplicaSets that shrink and of StatefulSets that lack pods.

use std::sync::Arc;

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::pods::is_ready;

#[derive(Clone, Debug)]
pub struct ReplicaSetMetrics {
    ages: Histogram,
}

impl Default for ReplicaSetMetrics {
    fn default() -> Self {
        Self {
            ages: Histogram::new(exponential_buckets(0.25, 2.0, 6)),
        }
    }
}

impl ReplicaSetMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "The ratio of chosen deleted pod's ages to the current youngest pod's age (at the time); only Ready \
                    pods are considered";
        registry.register("sorting_deletion_age_ratio", help, self.ages.clone());
    }

    /// Of these pods some are to go.
    pub(crate) fn shrinks(&self, pods: &[Arc<Pod>], doomed: &[Arc<Pod>], now: Timestamp) {
        let age = |p: &Arc<Pod>| {
            let created = p.metadata.creation_timestamp.as_ref().filter(|_| is_ready(p))?;
            Some(now.duration_since(created.0).as_millis())
        };
        let Some(youngest) = pods.iter().filter_map(age).min().filter(|age| *age > 0) else {
            return;
        };
        for age in doomed.iter().filter_map(age) {
            self.ages.observe(age as f64 / youngest as f64);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Set {
    statefulset_namespace: String,
    statefulset_name: String,
    pod_management_policy: &'static str,
}

#[derive(Clone, Debug, Default)]
pub struct StatefulSetMetrics {
    allowed: Family<Set, Gauge>,
    lacking: Family<Set, Gauge>,
}

fn label(namespace: &str, name: &str, parallel: bool) -> Set {
    Set {
        statefulset_namespace: namespace.to_owned(),
        statefulset_name: name.to_owned(),
        pod_management_policy: if parallel { "Parallel" } else { "OrderedReady" },
    }
}

impl StatefulSetMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Maximum number of unavailable pods allowed during StatefulSet rolling updates";
        registry.register("statefulset_max_unavailable", help, self.allowed.clone());
        let help = "Current number of unavailable pods in StatefulSet";
        registry.register("statefulset_unavailable_replicas", help, self.lacking.clone());
    }

    /// How many pods may be unavailable in a rollout, and how many are.
    pub(crate) fn seen(&self, namespace: &str, name: &str, parallel: bool, allowed: i32, lacking: i32) {
        let label = label(namespace, name, parallel);
        self.allowed.get_or_create_owned(&label).set(allowed.into());
        self.lacking.get_or_create_owned(&label).set(lacking.into());
    }

    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        for parallel in [false, true] {
            let label = label(namespace, name, parallel);
            self.allowed.remove(&label);
            self.lacking.remove(&label);
        }
    }
}
