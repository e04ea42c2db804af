//! What the controllers count, under upstream's names. It is handed in with the [`Context`](crate::Context); whoever serves
//! `/metrics` [registers](Metrics::register) it.
//!
//! Source of the names: <https://kubernetes.io/docs/reference/instrumentation/metrics/>. What counts work that is not done
//! here (a loop over all nodes, caches of kinds) is not there.

pub mod autoscaler;
pub mod batch;
pub mod node;
pub mod replicas;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::endpoint_slice::metrics::ServiceMetrics;
use crate::endpoint_slice_mirroring::metrics::MirrorMetrics;
use autoscaler::AutoscalerMetrics;
use batch::{CronJobMetrics, JobMetrics, TtlMetrics};
use node::{NodeMetrics, PodGcMetrics, TaintMetrics};
use replicas::{ReplicaSetMetrics, StatefulSetMetrics};

/// Labels whose values are words of the code.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Of queues, reconciles and informers.
    pub work: coracle_informer::Metrics,
    pub endpoint_slices: ServiceMetrics,
    pub mirrored_slices: MirrorMetrics,
    pub jobs: JobMetrics,
    pub cron_jobs: CronJobMetrics,
    pub expired_jobs: TtlMetrics,
    pub autoscalers: AutoscalerMetrics,
    pub nodes: NodeMetrics,
    pub evictions: TaintMetrics,
    pub collected_pods: PodGcMetrics,
    pub replica_sets: ReplicaSetMetrics,
    pub stateful_sets: StatefulSetMetrics,
    pub ephemeral_volumes: EphemeralMetrics,
    /// How often the garbage collector could not find out what is served.
    pub undiscovered: Counter,
}

/// Claims that were to be made for ephemeral volumes.
#[derive(Clone, Debug, Default)]
pub struct EphemeralMetrics {
    pub(crate) tried: Counter,
    pub(crate) failed: Counter,
}

impl Metrics {
    /// Puts them into a registry, to be called once for each.
    pub fn register(&self, registry: &mut Registry) {
        self.work.register(registry);
        let mut of = |controller: &str, register: &dyn Fn(&mut Registry)| {
            register(registry.sub_registry_with_prefix(controller));
        };
        of("endpoint_slice_controller", &|r| self.endpoint_slices.register(r));
        of("endpoint_slice_mirroring_controller", &|r| {
            self.mirrored_slices.register(r);
        });
        of("job_controller", &|r| self.jobs.register(r));
        of("cronjob_controller", &|r| self.cron_jobs.register(r));
        of("ttl_after_finished_controller", &|r| self.expired_jobs.register(r));
        of("horizontal_pod_autoscaler_controller", &|r| {
            self.autoscalers.register(r)
        });
        of("node_collector", &|r| self.nodes.register(r));
        of("taint_eviction_controller", &|r| self.evictions.register(r));
        of("pod_gc_collector", &|r| self.collected_pods.register(r));
        of("replicaset_controller", &|r| self.replica_sets.register(r));
        of("statefulset_controller", &|r| self.stateful_sets.register(r));
        of("ephemeral_volume_controller", &|r| {
            let help = "Number of PersistentVolumeClaim creation requests";
            r.register("create", help, self.ephemeral_volumes.tried.clone());
            let help = "Number of PersistentVolumeClaim creation requests that failed";
            r.register("create_failures", help, self.ephemeral_volumes.failed.clone());
        });
        of("garbagecollector_controller", &|r| {
            let help = "Number of garbage collector resources sync errors";
            r.register("resources_sync_error", help, self.undiscovered.clone());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn the_names_are_upstreams() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        // What has counted nothing is not shown.
        let (job, took) = (Job::default(), std::time::Duration::ZERO);
        metrics.jobs.synced(&job, "tracking", true, took);
        metrics.jobs.created(&job, None, 1, 0);
        metrics.jobs.handled("Ignore");
        metrics.jobs.external("example.com/queue");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"finalizers": [crate::job::pod::FINALIZER]}, "status": {"phase": "Failed"},
        }))
        .unwrap();
        metrics.jobs.seen(None, Some(&pod));
        let indexed: Job =
            serde_json::from_value(json!({"spec": {"completionMode": "Indexed", "completions": 1, "template": {}}}))
                .unwrap();
        let ended =
            json!({"succeeded": 1, "completedIndexes": "0", "conditions": [{"type": "Complete", "status": "True"}]});
        metrics.jobs.told(&indexed, &serde_json::from_value(ended).unwrap());
        metrics.autoscalers.reconciled(1, 2, autoscaler::Fault::None, took);
        metrics
            .autoscalers
            .computed("Pods", 1, 2, autoscaler::Fault::None, took);
        metrics.autoscalers.desired("default", "web", 2);
        metrics.nodes.zone("a", 1, 0);
        metrics.nodes.evicted("a");
        metrics.collected_pods.deleted("default", "orphaned", false);
        metrics.stateful_sets.seen("default", "db", true, 1, 0);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let found: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, _)| name)
            .collect();
        for name in [
            "job_controller_job_syncs",
            "job_controller_job_sync_duration_seconds",
            "job_controller_jobs_finished",
            "job_controller_jobs_by_external_controller",
            "job_controller_job_pods_finished",
            "job_controller_pod_failures_handled_by_failure_policy",
            "job_controller_terminated_pods_tracking_finalizer",
            "job_controller_job_finished_indexes",
            "job_controller_job_pods_creation",
            "cronjob_controller_cronjob_job_creation_skew_duration_seconds",
            "ttl_after_finished_controller_job_deletion_duration_seconds",
            "horizontal_pod_autoscaler_controller_reconciliations",
            "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds",
            "horizontal_pod_autoscaler_controller_metric_computation",
            "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds",
            "horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers",
            "horizontal_pod_autoscaler_controller_desired_replicas",
            "node_collector_zone_health",
            "node_collector_zone_size",
            "node_collector_unhealthy_nodes_in_zone",
            "node_collector_evictions",
            "node_collector_update_node_health_duration_seconds",
            "taint_eviction_controller_pod_deletions",
            "taint_eviction_controller_pod_deletion_duration_seconds",
            "pod_gc_collector_force_delete_pods",
            "pod_gc_collector_force_delete_pod_errors",
            "replicaset_controller_sorting_deletion_age_ratio",
            "statefulset_controller_statefulset_max_unavailable",
            "statefulset_controller_statefulset_unavailable_replicas",
            "ephemeral_volume_controller_create",
            "ephemeral_volume_controller_create_failures",
            "garbagecollector_controller_resources_sync_error",
        ] {
            assert!(found.contains(&name), "{name} is not in {found:#?}");
        }
    }
}
