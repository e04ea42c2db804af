//! What is counted of slices: for each service how many endpoints and slices it has, and what every sync changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::plan::{CAPACITY, Identity, Plan, identity, port_key};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Distribution {
    traffic_distribution: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Changed {
    topology: &'static str,
    traffic_distribution: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    endpoints: i64,
    slices: i64,
    /// That would be enough if they were filled well.
    needed: i64,
}

/// What a sync changes, and what it leaves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sync {
    pub added: usize,
    pub removed: usize,
    pub updated: usize,
    totals: Totals,
    created_slices: usize,
    updated_slices: usize,
    deleted_slices: usize,
}

impl Sync {
    /// Of these slices, if the plan is carried out.
    pub fn of(before: &[Arc<EndpointSlice>], plan: &Plan) -> Self {
        let gone = |slice: &EndpointSlice| {
            let name = &slice.metadata.name;
            plan.update.iter().any(|s| s.metadata.name == *name) || plan.delete.iter().any(|s| s.metadata.name == *name)
        };
        let kept = before.iter().map(|s| &**s).filter(|s| !gone(s));
        let after: Vec<&EndpointSlice> = kept.chain(&plan.create).chain(&plan.update).collect();
        let (mut groups, mut endpoints) = (HashMap::new(), 0);
        for slice in &after {
            let ports = port_key(slice.ports.as_deref().unwrap_or_default());
            let count = slice.endpoints.as_ref().map_or(0, Vec::len);
            *groups.entry((&slice.address_type, ports)).or_insert(0) += count;
            endpoints += count;
        }
        let needed = groups
            .values()
            .map(|n: &usize| n.div_ceil(CAPACITY).max(1))
            .sum::<usize>();
        let listed = |slices: &mut dyn Iterator<Item = &EndpointSlice>| -> HashSet<Identity> {
            slices
                .flat_map(|s| s.endpoints.iter().flatten())
                .map(identity)
                .collect()
        };
        let old = listed(&mut before.iter().map(|s| &**s));
        let new = listed(&mut after.iter().copied());
        let written = listed(&mut plan.update.iter());
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            added: new.difference(&old).count(),
            removed: old.difference(&new).count(),
            updated: written.intersection(&old).count(),
            totals: Totals {
                endpoints: count(endpoints),
                slices: count(after.len()),
                needed: count(needed),
            },
            created_slices: plan.create.len(),
            updated_slices: plan.update.len(),
            deleted_slices: plan.delete.len(),
        }
    }
}

pub(crate) fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(2.0, 2.0, 15))
}

struct Inner {
    added: Histogram,
    removed: Histogram,
    endpoints: Gauge,
    slices: Gauge,
    needed: Gauge,
    /// It only grows, but the client would append `_total` to a counter's name, which upstream's has not.
    changes: Family<Operation, Gauge>,
    /// By owner's key.
    known: Mutex<HashMap<String, Totals>>,
}

/// What both controllers of slices count. Cheap to clone.
#[derive(Clone)]
pub struct SliceMetrics(Arc<Inner>);

impl Default for SliceMetrics {
    fn default() -> Self {
        Self(Arc::new(Inner {
            added: sizes(),
            removed: sizes(),
            endpoints: Gauge::default(),
            slices: Gauge::default(),
            needed: Gauge::default(),
            changes: Family::default(),
            known: Mutex::default(),
        }))
    }
}

impl SliceMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let all = &*self.0;
        let help = "Number of endpoints added on each Service sync";
        registry.register("endpoints_added_per_sync", help, all.added.clone());
        let help = "Number of endpoints removed on each Service sync";
        registry.register("endpoints_removed_per_sync", help, all.removed.clone());
        registry.register(
            "endpoints_desired",
            "Number of endpoints desired",
            all.endpoints.clone(),
        );
        registry.register("num_endpoint_slices", "Number of EndpointSlices", all.slices.clone());
        let help = "Number of EndpointSlices that would exist with perfect endpoint allocation";
        registry.register("desired_endpoint_slices", help, all.needed.clone());
        registry.register("changes", "Number of EndpointSlice changes", all.changes.clone());
    }

    /// A sync that has been carried out.
    pub(crate) fn synced(&self, key: &str, sync: &Sync) {
        self.0.added.observe(sync.added as f64);
        self.0.removed.observe(sync.removed as f64);
        for (operation, count) in [
            ("create", sync.created_slices),
            ("update", sync.updated_slices),
            ("delete", sync.deleted_slices),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.0.changes.get_or_create(&Operation { operation }).inc_by(count);
        }
        self.total(key, sync.totals);
    }

    /// The owner of the slices is gone, and they with it.
    pub(crate) fn forget(&self, key: &str) {
        self.total(key, Totals::default());
        self.0.known.lock().remove(key);
    }

    fn total(&self, key: &str, new: Totals) {
        let mut known = self.0.known.lock();
        let old = known.insert(key.to_owned(), new).unwrap_or_default();
        self.0.endpoints.inc_by(new.endpoints - old.endpoints);
        self.0.slices.inc_by(new.slices - old.slices);
        self.0.needed.inc_by(new.needed - old.needed);
    }
}

struct OfServices {
    common: SliceMetrics,
    changed: Family<Changed, Histogram, fn() -> Histogram>,
    syncs: Family<Outcome, Gauge>,
    distributions: Family<Distribution, Gauge>,
    /// By service; those that say nothing of it are not in it.
    distribution_of: Mutex<HashMap<String, String>>,
}

/// What is counted of the slices of services. Cheap to clone.
#[derive(Clone)]
pub struct ServiceMetrics(Arc<OfServices>);

impl std::fmt::Debug for ServiceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceMetrics(..)")
    }
}

impl Default for ServiceMetrics {
    fn default() -> Self {
        Self(Arc::new(OfServices {
            common: SliceMetrics::default(),
            changed: Family::new_with_constructor(sizes),
            syncs: Family::default(),
            distributions: Family::default(),
            distribution_of: Mutex::default(),
        }))
    }
}

impl ServiceMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let all = &*self.0;
        all.common.register(registry);
        let help = "Number of EndpointSlices changed on each Service sync";
        registry.register("endpointslices_changed_per_sync", help, all.changed.clone());
        registry.register("syncs", "Number of EndpointSlice syncs", all.syncs.clone());
        let help = "Number of Services using some specific trafficDistribution";
        registry.register(
            "services_count_by_traffic_distribution",
            help,
            all.distributions.clone(),
        );
    }

    /// `topology`: whether the service asks for hints by its annotation.
    pub(crate) fn synced(&self, key: &str, sync: &Sync, topology: bool, distribution: Option<&str>) {
        self.0.common.synced(key, sync);
        let changed = Changed {
            topology: if topology { "Auto" } else { "Disabled" },
            traffic_distribution: distribution.unwrap_or_default().to_owned(),
        };
        let count = sync.created_slices + sync.updated_slices + sync.deleted_slices;
        self.0.changed.get_or_create(&changed).observe(count as f64);
        self.distributed(key, distribution);
    }

    pub(crate) fn ended(&self, result: &'static str) {
        self.0.syncs.get_or_create(&Outcome { result }).inc();
    }

    pub(crate) fn forget(&self, key: &str) {
        self.0.common.forget(key);
        self.distributed(key, None);
    }

    fn distributed(&self, key: &str, distribution: Option<&str>) {
        let mut all = self.0.distribution_of.lock();
        let gauge = |of: &str| {
            let traffic_distribution = of.to_owned();
            self.0
                .distributions
                .get_or_create_owned(&Distribution { traffic_distribution })
        };
        let old = match distribution {
            Some(new) => all.insert(key.to_owned(), new.to_owned()),
            None => all.remove(key),
        };
        if old.as_deref() == distribution {
            return;
        }
        if let Some(old) = old {
            gauge(&old).dec();
        }
        if let Some(new) = distribution {
            gauge(new).inc();
        }
    }
}
