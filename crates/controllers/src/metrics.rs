//! What the controllers count, under upstream's names. It is handed in with the [`Context`](crate::Context); whoever serves
//! `/metrics` [registers](Metrics::register) it.

use prometheus_client::registry::Registry;

use crate::endpoint_slice::metrics::ServiceMetrics;
use crate::endpoint_slice_mirroring::metrics::MirrorMetrics;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Of queues, reconciles and informers.
    pub work: coracle_informer::Metrics,
    pub endpoint_slices: ServiceMetrics,
    pub mirrored_slices: MirrorMetrics,
}

impl Metrics {
    /// Puts them into a registry, to be called once for each.
    pub fn register(&self, registry: &mut Registry) {
        self.work.register(registry);
        let slices = registry.sub_registry_with_prefix("endpoint_slice_controller");
        self.endpoint_slices.register(slices);
        let mirrored = registry.sub_registry_with_prefix("endpoint_slice_mirroring_controller");
        self.mirrored_slices.register(mirrored);
    }
}
