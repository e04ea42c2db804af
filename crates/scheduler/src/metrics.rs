//! What a scheduler counts, under upstream's names.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Instant;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::framework::Point;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IncomingLabel {
    queue: &'static str,
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptsLabel {
    attempts: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PointLabel {
    extension_point: &'static str,
    status: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabel {
    plugin: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabel {
    result: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn attempt_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn sli_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

fn point_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 12))
}

struct All {
    pending: Family<QueueLabel, Gauge>,
    incoming: Family<IncomingLabel, Counter>,
    attempts: Family<ResultLabel, Counter>,
    attempt_duration: Histograms<ResultLabel>,
    algorithm_duration: Histogram,
    sli_duration: Histograms<AttemptsLabel>,
    pod_attempts: Histogram,
    victims: Histogram,
    preemptions: Counter,
    points: Histograms<PointLabel>,
    unschedulable: Family<PluginLabel, Gauge>,
    cache_size: Family<TypeLabel, Gauge>,
    permit_wait: Histograms<WaitLabel>,
}

/// What one scheduler counts. Clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(All {
            pending: Family::default(),
            incoming: Family::default(),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(attempt_buckets),
            algorithm_duration: attempt_buckets(),
            sli_duration: Family::new_with_constructor(sli_buckets),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            preemptions: Counter::default(),
            points: Family::new_with_constructor(point_buckets),
            unschedulable: Family::default(),
            cache_size: Family::default(),
            permit_wait: Family::new_with_constructor(attempt_buckets),
        }))
    }
}

impl Metrics {
    /// Puts them into `registry`, under upstream's names.
    pub fn register(&self, registry: &mut Registry) {
        let all = &self.0;
        let registry = registry.sub_registry_with_prefix("scheduler");
        registry.register(
            "pending_pods",
            "Number of pending pods, by the queue: active, backoff, unschedulable (tried and not placed) or gated (never tried)",
            all.pending.clone(),
        );
        registry.register(
            "queue_incoming_pods",
            "Number of pods added to scheduling queues by event and queue",
            all.incoming.clone(),
        );
        registry.register(
            "schedule_attempts",
            "Number of attempts to schedule pods by result: scheduled, unschedulable, or error (an internal problem)",
            all.attempts.clone(),
        );
        registry.register(
            "scheduling_attempt_duration_seconds",
            "Latency of an attempt: finding a node and binding",
            all.attempt_duration.clone(),
        );
        registry.register(
            "scheduling_algorithm_duration_seconds",
            "Latency of finding a node",
            all.algorithm_duration.clone(),
        );
        registry.register(
            "pod_scheduling_sli_duration_seconds",
            "Latency of a pod's scheduling from when it enters the queue, over all its attempts",
            all.sli_duration.clone(),
        );
        registry.register(
            "pod_scheduling_attempts",
            "Number of attempts to schedule a pod successfully",
            all.pod_attempts.clone(),
        );
        registry.register(
            "preemption_victims",
            "Number of selected preemption victims",
            all.victims.clone(),
        );
        registry.register(
            "preemption_attempts",
            "Number of preemption attempts in the cluster till now",
            all.preemptions.clone(),
        );
        registry.register(
            "framework_extension_point_duration_seconds",
            "Latency of running all plugins of an extension point",
            all.points.clone(),
        );
        registry.register(
            "unschedulable_pods",
            "Number of unschedulable pods by the plugins that turned them down",
            all.unschedulable.clone(),
        );
        registry.register(
            "cache_size",
            "Number of nodes, of pods, and of assumed pods, in the scheduler's cache",
            all.cache_size.clone(),
        );
        registry.register(
            "permit_wait_duration_seconds",
            "How long pods wait on permit",
            all.permit_wait.clone(),
        );
    }

    /// How many pods wait: active, in back-off, unschedulable, gated.
    pub(crate) fn pending(&self, counts: [usize; 4]) {
        for (queue, count) in ["active", "backoff", "unschedulable", "gated"].into_iter().zip(counts) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.0.pending.get_or_create(&QueueLabel { queue }).set(count);
        }
    }

    /// A pod came into one of the queues.
    pub(crate) fn incoming(&self, queue: &'static str, event: &'static str) {
        self.0.incoming.get_or_create(&IncomingLabel { queue, event }).inc();
    }

    /// An attempt ended as `result`: scheduled, unschedulable or error.
    pub(crate) fn attempt(&self, result: &'static str, profile: &str, took: Duration) {
        let label = ResultLabel {
            result,
            profile: profile.to_owned(),
        };
        self.0.attempts.get_or_create(&label).inc();
        self.0
            .attempt_duration
            .get_or_create(&label)
            .observe(took.as_secs_f64());
    }

    /// A cycle decided, one way or the other.
    pub(crate) fn algorithm(&self, took: Duration) {
        self.0.algorithm_duration.observe(took.as_secs_f64());
    }

    /// A pod was bound at its n-th attempt, this long after it entered the queue.
    pub(crate) fn scheduled(&self, attempts: u32, since_queued: Duration) {
        let label = AttemptsLabel {
            attempts: if attempts >= 15 {
                "15+".into()
            } else {
                attempts.to_string()
            },
        };
        self.0
            .sli_duration
            .get_or_create(&label)
            .observe(since_queued.as_secs_f64());
        self.0.pod_attempts.observe(f64::from(attempts));
    }

    /// PostFilter looked for pods to evict.
    pub(crate) fn preemption_attempt(&self) {
        self.0.preemptions.inc();
    }

    /// So many pods are evicted for one.
    pub(crate) fn victims(&self, count: usize) {
        self.0.victims.observe(count as f64);
    }

    /// Pods became unschedulable (or no longer are) because of a plugin.
    pub(crate) fn unschedulable(&self, plugin: &'static str, profile: &str, by: i64) {
        let label = PluginLabel {
            plugin,
            profile: profile.to_owned(),
        };
        self.0.unschedulable.get_or_create(&label).inc_by(by);
    }

    pub(crate) fn cache_size(&self, nodes: usize, pods: usize, assumed: usize) {
        for (r#type, count) in [("nodes", nodes), ("pods", pods), ("assumed_pods", assumed)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.0.cache_size.get_or_create(&TypeLabel { r#type }).set(count);
        }
    }

    pub(crate) fn permit_wait(&self, allowed: bool, took: Duration) {
        let result = if allowed { "Success" } else { "Unschedulable" };
        self.0
            .permit_wait
            .get_or_create(&WaitLabel { result })
            .observe(took.as_secs_f64());
    }
}

/// Times the extension points of one profile: its histograms, looked up once.
pub(crate) struct PointTimer {
    /// By [`Point`], and whether all went well.
    histograms: Vec<[Histogram; 2]>,
}

impl PointTimer {
    pub fn new(metrics: &Metrics, profile: &str) -> Self {
        let of = |point: Point, status| {
            let label = PointLabel {
                extension_point: point.name(),
                status,
                profile: profile.to_owned(),
            };
            metrics.0.points.get_or_create(&label).clone()
        };
        let both = |point: Point| match point {
            // The queue asks these, and nobody times it.
            Point::PreEnqueue | Point::QueueSort => [point_buckets(), point_buckets()],
            Point::PreBind | Point::Bind => [of(point, "Error"), of(point, "Success")],
            _ => [of(point, "Unschedulable"), of(point, "Success")],
        };
        Self {
            histograms: Point::ALL.map(both).into(),
        }
    }

    pub fn start(&self) -> Timing<'_> {
        Timing {
            timer: self,
            started: Instant::now(),
        }
    }
}

/// An extension point under way.
pub(crate) struct Timing<'a> {
    timer: &'a PointTimer,
    started: Instant,
}

impl Timing<'_> {
    pub fn end(self, point: Point, well: bool) {
        let [ill, fine] = &self.timer.histograms[point as usize];
        let histogram = if well { fine } else { ill };
        histogram.observe(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_upstreams() {
        let metrics = Metrics::default();
        metrics.pending([1, 2, 3, 4]);
        metrics.incoming("active", "PodAdd");
        metrics.attempt("scheduled", "default-scheduler", Duration::from_millis(2));
        metrics.scheduled(1, Duration::from_millis(3));
        metrics.victims(1);
        metrics.preemption_attempt();
        metrics.unschedulable("NodeResourcesFit", "default-scheduler", 1);
        metrics.cache_size(3, 2, 1);
        let timer = PointTimer::new(&metrics, "default-scheduler");
        timer.start().end(Point::Filter, true);
        timer.start().end(Point::PreBind, false);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for expected in [
            "scheduler_pending_pods{queue=\"gated\"} ",
            "scheduler_queue_incoming_pods_total{queue=\"active\",event=\"PodAdd\"} ",
            "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"default-scheduler\"} ",
            "scheduler_scheduling_attempt_duration_seconds_bucket{",
            "scheduler_scheduling_algorithm_duration_seconds_count ",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} ",
            "scheduler_pod_scheduling_attempts_count ",
            "scheduler_preemption_victims_count ",
            "scheduler_preemption_attempts_total ",
            "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Filter\",status=\"Success\"",
            "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"PreBind\",status=\"Error\"",
            "scheduler_cache_size{type=\"nodes\"} 3",
            "scheduler_cache_size{type=\"assumed_pods\"} 1",
            "scheduler_unschedulable_pods{plugin=\"NodeResourcesFit\"",
        ] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }
}
