//! What queues, controllers and informers count, under the names that client-go and controller-runtime made known. Whoever
//! makes them hands a [`Metrics`] in; what is handed in twice is counted together.

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_clock::Clock;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::work_queue::Working;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    controller: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabel {
    resource: String,
}

type Histograms = Family<QueueLabel, Histogram, fn() -> Histogram>;

/// The numbers of all queues, controllers and informers that were given it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<All>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

#[derive(Default)]
struct All {
    depth: Family<QueueLabel, Gauge>,
    adds: Family<QueueLabel, Counter>,
    retries: Family<QueueLabel, Counter>,
    queue_duration: QueueHistograms,
    work_duration: QueueHistograms,
    reconciles: Family<ResultLabel, Counter>,
    reconcile_time: ControllerHistograms,
    reconcile_panics: Family<ControllerLabel, Counter>,
    active_workers: Family<ControllerLabel, Gauge>,
    handler_panics: Family<ResourceLabel, Counter>,
    queues: Mutex<Vec<Queue>>,
}

struct QueueHistograms(Histograms);

impl Default for QueueHistograms {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(1e-8, 10.0, 12))
        }))
    }
}

struct ControllerHistograms(Family<ControllerLabel, Histogram, fn() -> Histogram>);

impl Default for ControllerHistograms {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 16))
        }))
    }
}

/// A queue that lives, to be asked what its workers are doing.
struct Queue {
    name: String,
    clock: Clock,
    fifo: Weak<dyn Working>,
}

impl Metrics {
    /// Puts them into a registry, to be called once for each.
    pub fn register(&self, registry: &mut Registry) {
        let all = &*self.0;
        registry.register("workqueue_depth", "Current depth of workqueue", all.depth.clone());
        registry.register(
            "workqueue_adds",
            "Total number of adds handled by workqueue",
            all.adds.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Total number of retries handled by workqueue",
            all.retries.clone(),
        );
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            all.queue_duration.0.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes",
            all.work_duration.0.clone(),
        );
        registry.register_collector(Box::new(Unfinished(self.clone())));
        registry.register(
            "controller_runtime_reconcile",
            "Total number of reconciliations per controller",
            all.reconciles.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "Length of time per reconciliation per controller",
            all.reconcile_time.0.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_panics",
            "Total number of reconciliation panics per controller",
            all.reconcile_panics.clone(),
        );
        registry.register(
            "controller_runtime_active_workers",
            "Number of currently used workers per controller",
            all.active_workers.clone(),
        );
        registry.register(
            "informer_handler_panics",
            "Total number of panics in event handlers per resource",
            all.handler_panics.clone(),
        );
    }

    pub(crate) fn handler_panicked(&self, resource: &str) {
        let label = ResourceLabel {
            resource: resource.to_owned(),
        };
        self.0.handler_panics.get_or_create(&label).inc();
    }
}

/// The metrics of one queue.
pub(crate) struct QueueMetrics {
    pub depth: Gauge,
    pub adds: Counter,
    pub retries: Counter,
    pub queue_duration: Histogram,
    pub work_duration: Histogram,
}

impl QueueMetrics {
    pub fn new(all: &Metrics, name: &str, clock: Clock, fifo: Arc<dyn Working>) -> Self {
        let all = &*all.0;
        let label = QueueLabel { name: name.to_owned() };
        let mut queues = all.queues.lock();
        queues.retain(|q| q.fifo.strong_count() > 0);
        queues.push(Queue {
            name: name.to_owned(),
            clock,
            fifo: Arc::downgrade(&fifo),
        });
        Self {
            depth: all.depth.get_or_create_owned(&label),
            adds: all.adds.get_or_create_owned(&label),
            retries: all.retries.get_or_create_owned(&label),
            queue_duration: all.queue_duration.0.get_or_create_owned(&label),
            work_duration: all.work_duration.0.get_or_create_owned(&label),
        }
    }
}

/// The metrics of one controller.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    all: Metrics,
    controller: String,
    pub time: Histogram,
    pub panics: Counter,
    pub active: Gauge,
}

impl ControllerMetrics {
    pub fn new(all: &Metrics, controller: &str) -> Self {
        let controller = controller.to_owned();
        let label = ControllerLabel {
            controller: controller.clone(),
        };
        Self {
            all: all.clone(),
            controller,
            time: all.0.reconcile_time.0.get_or_create_owned(&label),
            panics: all.0.reconcile_panics.get_or_create_owned(&label),
            active: all.0.active_workers.get_or_create_owned(&label),
        }
    }

    pub fn reconciled(&self, result: &'static str) {
        let label = ResultLabel {
            controller: self.controller.clone(),
            result,
        };
        self.all.0.reconciles.get_or_create(&label).inc();
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// Asked when somebody looks, so that nothing has to keep these up to date.
#[derive(Debug)]
struct Unfinished(Metrics);

impl Collector for Unfinished {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut totals = std::collections::BTreeMap::<String, (Duration, Duration)>::new();
        for queue in self.0.0.queues.lock().iter() {
            if let Some(fifo) = queue.fifo.upgrade() {
                let (sum, longest) = fifo.working(queue.clock.instant());
                let total = totals.entry(queue.name.clone()).or_default();
                *total = (total.0 + sum, total.1.max(longest));
            }
        }
        let mut gauge = |name: &str, help: &str, value: fn(&(Duration, Duration)) -> Duration| {
            let kind = ConstGauge::new(0.0).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (name, total) in &totals {
                let label = QueueLabel { name: name.clone() };
                ConstGauge::new(value(total).as_secs_f64()).encode(family.encode_family(&label)?)?;
            }
            Ok(())
        };
        gauge(
            "workqueue_unfinished_work_seconds",
            "How many seconds of work has been done that is in progress and has not been observed by work_duration",
            |t| t.0,
        )?;
        gauge(
            "workqueue_longest_running_processor_seconds",
            "How many seconds the longest running processor for workqueue has been running",
            |t| t.1,
        )
    }
}
