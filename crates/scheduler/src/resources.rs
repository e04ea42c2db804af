//! How much a pod asks for and a node has: sums of quantities as integers, so that fitting is a comparison.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
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

    /// Sets an extended resource.
    pub fn set_scalar(&mut self, name: &str, amount: i64) {
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

/// Whether the node reports that a container has other resources than its spec asks for: a resize is under way.
pub fn was_resized(pod: &Pod) -> bool {
    let specified = |name: &str| {
        let spec = pod.spec.as_ref()?;
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        all.into_iter()
            .find(|c| c.name == name)?
            .resources
            .as_ref()?
            .requests
            .as_ref()
    };
    statuses(pod).any(|s| {
        let actual = s.resources.as_ref().and_then(|r| r.requests.as_ref());
        [actual, s.allocated_resources.as_ref()]
            .into_iter()
            .flatten()
            .filter(|reported| !reported.is_empty())
            .any(|reported| specified(&s.name) != Some(reported))
    })
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|s| {
        let init = s.init_container_statuses.iter().flatten();
        s.container_statuses.iter().flatten().chain(init)
    })
}

/// A container's requests, or what it holds on its node until a resize is done, whichever is more.
fn held(pod: &Pod, container: &Container) -> Resources {
    let mut out = requests_of(container.resources.as_ref());
    if let Some(status) = statuses(pod).find(|s| s.name == container.name) {
        out.raise_to(&requests_of(status.resources.as_ref()));
        if let Some(allocated) = &status.allocated_resources {
            out.raise_to(&Resources::parse(allocated));
        }
    }
    out
}

/// What the pod requests: what filtering and accounting go by.
pub fn pod_requests(pod: &Pod) -> Resources {
    pod.spec
        .as_ref()
        .map(|spec| total(spec, |c| held(pod, c)))
        .unwrap_or_default()
}

/// What the pod is assumed to use at least: as requested, or a small default for containers that request nothing.
/// Scoring goes by this, so that pods without requests spread too.
pub fn pod_assumed_use(pod: &Pod) -> Resources {
    let assumed = |c: &Container| {
        let listed = c.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut out = held(pod, c);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(spec: serde_json::Value) -> (i64, i64) {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
        let out = pod_requests(&pod);
        (out.milli_cpu, out.memory)
    }

    fn container(name: &str, cpu: &str) -> serde_json::Value {
        serde_json::json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": "1"}}})
    }

    fn sidecar(name: &str, cpu: &str) -> serde_json::Value {
        let mut out = container(name, cpu);
        out["restartPolicy"] = "Always".into();
        out
    }

    #[test]
    fn a_pod_requests_what_it_holds_at_its_most() {
        let main = serde_json::json!([container("a", "1"), container("b", "500m")]);
        for (init, expected) in [
            (serde_json::json!([]), 1500),
            // Init containers run alone, one after another.
            (serde_json::json!([container("i", "1"), container("j", "2")]), 2000),
            // A sidecar stays, beside later init containers and the main ones.
            (serde_json::json!([sidecar("s", "1"), container("i", "2")]), 3000),
            (serde_json::json!([container("i", "2"), sidecar("s", "1")]), 2500),
        ] {
            let spec = serde_json::json!({"containers": main, "initContainers": init});
            assert_eq!(requests(spec).0, expected, "{init}");
        }
    }

    #[test]
    fn overhead_is_added_and_pod_level_requests_replace_the_sum() {
        let containers = serde_json::json!([container("a", "1")]);
        let overhead = serde_json::json!({"cpu": "100m"});
        assert_eq!(
            requests(serde_json::json!({"containers": containers, "overhead": overhead})),
            (1100, 1)
        );
        assert_eq!(
            requests(serde_json::json!({"containers": containers, "overhead": overhead,
                "resources": {"requests": {"cpu": "3"}}})),
            (3100, 1)
        );
    }

    #[test]
    fn during_a_resize_the_larger_of_wanted_and_held_counts() {
        let pod = serde_json::json!({"spec": {"containers": [container("a", "1")]},
            "status": {"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": {"requests": {"cpu": "2", "memory": "1"}}}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert!(was_resized(&pod));
        assert_eq!(pod_requests(&pod).milli_cpu, 2000);
    }

    #[test]
    fn scoring_assumes_a_little_of_containers_that_request_nothing() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": [{"name": "a"}]}})).unwrap();
        assert_eq!(pod_requests(&pod), Resources::default());
        let assumed = pod_assumed_use(&pod);
        assert_eq!((assumed.milli_cpu, assumed.memory), (100, 200 * 1024 * 1024));
    }
}
