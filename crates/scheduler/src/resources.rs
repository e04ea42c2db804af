//! How much a pod asks for and a node has: sums of quantities as integers, so that fitting is a comparison.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What the scheduler assumes a container uses, for scoring only, when it requests nothing.
const ASSUMED_MILLI_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of resources. CPU is in thousandths of a core, memory and storage in bytes, others in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, sorted by name.
    pub scalar: Vec<(Arc<str>, i64)>,
}

/// What the API accepted parses; anything else counts as nothing.
pub fn parse(quantity: &Quantity) -> Amount {
    quantity.0.parse().unwrap_or_default()
}

impl Resources {
    pub fn parse(list: &BTreeMap<String, Quantity>) -> Self {
        let mut out = Self::default();
        for (name, amount) in list {
            match name.as_str() {
                "cpu" => out.milli_cpu = parse(amount).milli_value(),
                "memory" => out.memory = parse(amount).value(),
                "ephemeral-storage" => out.ephemeral_storage = parse(amount).value(),
                "pods" => {}
                other => out.set_scalar(other, parse(amount).value()),
            }
        }
        out
    }

    pub fn scalar(&self, name: &str) -> i64 {
        self.scalar
            .binary_search_by(|(n, _)| n.as_ref().cmp(name))
            .map_or(0, |at| self.scalar[at].1)
    }

    fn set_scalar(&mut self, name: &str, amount: i64) {
        match self.scalar.binary_search_by(|(n, _)| n.as_ref().cmp(name)) {
            Ok(at) => self.scalar[at].1 = amount,
            Err(at) => self.scalar.insert(at, (name.into(), amount)),
        }
    }

    fn zip(&mut self, other: &Self, op: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = op(self.milli_cpu, other.milli_cpu);
        self.memory = op(self.memory, other.memory);
        self.ephemeral_storage = op(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let sum = op(self.scalar(name), *amount);
            self.set_scalar(name, sum);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.zip(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.zip(other, i64::saturating_sub);
    }

    /// The larger of each amount.
    pub fn raise_to(&mut self, other: &Self) {
        self.zip(other, i64::max);
    }
}

fn requests_of(resources: Option<&ResourceRequirements>) -> Resources {
    resources
        .and_then(|r| r.requests.as_ref())
        .map(Resources::parse)
        .unwrap_or_default()
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Sums containers as they run: init containers one after another, sidecars from their start on, then all others
/// together; plus the pod's overhead. Pod-level requests replace the sum for the resources they name.
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            with_sidecars.add(&own);
            peak.raise_to(&with_sidecars);
        }
    }
    running.add(&sidecars);
    running.raise_to(&peak);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let named = Resources::parse(pod_level);
        if pod_level.contains_key("cpu") {
            running.milli_cpu = named.milli_cpu;
        }
        if pod_level.contains_key("memory") {
            running.memory = named.memory;
        }
        for (name, amount) in &named.scalar {
            running.set_scalar(name, *amount);
        }
    }
    if let Some(overhead) = &spec.overhead {
        running.add(&Resources::parse(overhead));
    }
    running
}

/// What the pod requests: what filtering and accounting go by.
pub fn pod_requests(pod: &Pod) -> Resources {
    pod.spec
        .as_ref()
        .map(|spec| total(spec, |c| requests_of(c.resources.as_ref())))
        .unwrap_or_default()
}

/// What the pod is assumed to use at least: as requested, or a small default for containers that request nothing.
/// Scoring goes by this, so that pods without requests spread too.
pub fn pod_assumed_use(pod: &Pod) -> Resources {
    let assumed = |c: &Container| {
        let listed = c.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut out = requests_of(c.resources.as_ref());
        if !listed.is_some_and(|l| l.contains_key("cpu")) {
            out.milli_cpu = ASSUMED_MILLI_CPU;
        }
        if !listed.is_some_and(|l| l.contains_key("memory")) {
            out.memory = ASSUMED_MEMORY;
        }
        out
    };
    pod.spec.as_ref().map(|spec| total(spec, assumed)).unwrap_or_default()
}
