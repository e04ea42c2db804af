//! What is counted of autoscalers and the metrics that they look at.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Histograms, Labels};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Computed {
    action: &'static str,
    error: &'static str,
    metric_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Autoscaler {
    namespace: String,
    hpa_name: String,
}

/// Whose fault it is that something could not be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// What the autoscaler's spec says makes no sense.
    Spec,
    Internal,
}

impl Fault {
    fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spec => "spec",
            Self::Internal => "internal",
        }
    }
}

fn action(from: i32, to: i32) -> &'static str {
    match to.cmp(&from) {
        std::cmp::Ordering::Less => "scale_down",
        std::cmp::Ordering::Equal => "none",
        std::cmp::Ordering::Greater => "scale_up",
    }
}

#[derive(Clone, Debug)]
pub struct AutoscalerMetrics {
    reconciled: Family<Labels<2>, Counter>,
    durations: Histograms<Labels<2>>,
    computed: Family<Computed, Counter>,
    computations: Histograms<Computed>,
    number: Gauge,
    desired: Family<Autoscaler, Gauge>,
}

impl Default for AutoscalerMetrics {
    fn default() -> Self {
        let times = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        Self {
            reconciled: Family::default(),
            durations: Family::new_with_constructor(times),
            computed: Family::default(),
            computations: Family::new_with_constructor(times),
            number: Gauge::default(),
            desired: Family::default(),
        }
    }
}

impl AutoscalerMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "reconciliations",
            "Number of reconciliations of HPA controller",
            self.reconciled.clone(),
        );
        let help = "The time in seconds that the HPA controller takes to reconcile once";
        registry.register("reconciliation_duration_seconds", help, self.durations.clone());
        registry.register(
            "metric_computation",
            "Number of metric computations",
            self.computed.clone(),
        );
        let help = "The time in seconds that the HPA controller takes to calculate one metric";
        registry.register("metric_computation_duration_seconds", help, self.computations.clone());
        let help = "Current number of controlled HPA objects";
        registry.register("num_horizontal_pod_autoscalers", help, self.number.clone());
        let help = "Current desired replica count for HPA objects";
        registry.register("desired_replicas", help, self.desired.clone());
    }

    /// A look that led from so many replicas to so many.
    pub(crate) fn reconciled(&self, from: i32, to: i32, fault: Fault, took: Duration) {
        let labels = [("action", action(from, to)), ("error", fault.label())];
        self.reconciled.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// One metric, and what it asks for.
    pub(crate) fn computed(&self, kind: &str, from: i32, to: i32, fault: Fault, took: Duration) {
        let labels = Computed {
            action: action(from, to),
            error: fault.label(),
            metric_type: kind.to_owned(),
        };
        self.computed.get_or_create(&labels).inc();
        self.computations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn known(&self, autoscalers: usize) {
        self.number.set(i64::try_from(autoscalers).unwrap_or(i64::MAX));
    }

    pub(crate) fn desired(&self, namespace: &str, name: &str, replicas: i32) {
        self.desired
            .get_or_create_owned(&label(namespace, name))
            .set(replicas.into());
    }

    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.desired.remove(&label(namespace, name));
    }
}

fn label(namespace: &str, name: &str) -> Autoscaler {
    Autoscaler {
        namespace: namespace.to_owned(),
        hpa_name: name.to_owned(),
    }
}
