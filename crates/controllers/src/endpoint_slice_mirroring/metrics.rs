//! What is counted of mirrored slices, besides what is counted of all.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::endpoint_slice::metrics::{SliceMetrics, Sync, sizes};

struct Inner {
    common: SliceMetrics,
    updated: Histogram,
    skipped: Histogram,
    duration: Histogram,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct MirrorMetrics(Arc<Inner>);

impl std::fmt::Debug for MirrorMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MirrorMetrics(..)")
    }
}

impl Default for MirrorMetrics {
    fn default() -> Self {
        Self(Arc::new(Inner {
            common: SliceMetrics::default(),
            updated: sizes(),
            skipped: sizes(),
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
        }))
    }
}

impl MirrorMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let all = &*self.0;
        all.common.register(registry);
        let help = "Number of endpoints updated on each Endpoints sync";
        registry.register("endpoints_updated_per_sync", help, all.updated.clone());
        let help = "Number of addresses skipped on each Endpoints sync due to being invalid or exceeding \
                    MaxEndpointsPerSubset";
        registry.register("addresses_skipped_per_sync", help, all.skipped.clone());
        let help = "Duration of syncEndpoints() in seconds";
        registry.register("endpoints_sync_duration", help, all.duration.clone());
    }

    pub(crate) fn synced(&self, key: &str, sync: &Sync, skipped: usize) {
        self.0.common.synced(key, sync);
        self.0.updated.observe(sync.updated as f64);
        self.0.skipped.observe(skipped as f64);
    }

    pub(crate) fn took(&self, time: Duration) {
        self.0.duration.observe(time.as_secs_f64());
    }

    pub(crate) fn forget(&self, key: &str) {
        self.0.common.forget(key);
    }
}
