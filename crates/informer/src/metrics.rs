//! What queues and controllers count, under the names that client-go and controller-runtime made known. The numbers are
//! the process's; [`register`] puts them into a registry.

use std::any::Any;
use std::sync::{Arc, LazyLock, Weak};
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

static ALL: LazyLock<All> = LazyLock::new(All::default);

/// Puts the metrics of every queue and controller of the process into `registry`.
pub fn register(registry: &mut Registry) {
    let all = &*ALL;
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
    registry.register_collector(Box::new(Unfinished));
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

/// The metrics of one queue.
pub(crate) struct QueueMetrics {
    pub depth: Gauge,
    pub adds: Counter,
    pub retries: Counter,
    pub queue_duration: Histogram,
    pub work_duration: Histogram,
}

impl QueueMetrics {
    pub fn new(name: &str, clock: Clock, fifo: Arc<dyn Working>) -> Self {
        let label = QueueLabel { name: name.to_owned() };
        let mut queues = ALL.queues.lock();
        queues.retain(|q| q.fifo.strong_count() > 0);
        queues.push(Queue {
            name: name.to_owned(),
            clock,
            fifo: Arc::downgrade(&fifo),
        });
        Self {
            depth: ALL.depth.get_or_create_owned(&label),
            adds: ALL.adds.get_or_create_owned(&label),
            retries: ALL.retries.get_or_create_owned(&label),
            queue_duration: ALL.queue_duration.0.get_or_create_owned(&label),
            work_duration: ALL.work_duration.0.get_or_create_owned(&label),
        }
    }
}

/// The metrics of one controller.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    controller: String,
    pub time: Histogram,
    pub panics: Counter,
    pub active: Gauge,
}

impl ControllerMetrics {
    pub fn new(controller: &str) -> Self {
        let controller = controller.to_owned();
        let label = ControllerLabel {
            controller: controller.clone(),
        };
        Self {
            controller,
            time: ALL.reconcile_time.0.get_or_create_owned(&label),
            panics: ALL.reconcile_panics.get_or_create_owned(&label),
            active: ALL.active_workers.get_or_create_owned(&label),
        }
    }

    pub fn reconciled(&self, result: &'static str) {
        let label = ResultLabel {
            controller: self.controller.clone(),
            result,
        };
        ALL.reconciles.get_or_create(&label).inc();
    }
}

pub(crate) fn handler_panicked(resource: &str) {
    let label = ResourceLabel {
        resource: resource.to_owned(),
    };
    ALL.handler_panics.get_or_create(&label).inc();
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
struct Unfinished;

impl Collector for Unfinished {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut totals = std::collections::BTreeMap::<String, (Duration, Duration)>::new();
        for queue in ALL.queues.lock().iter() {
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
