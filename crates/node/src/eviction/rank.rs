//! In which order pods are evicted, and what is said of it. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;

use super::threshold::{Observed, Resource, Threshold};
use crate::mirror;
use crate::pod::amount::{Amounts, whole};
use crate::pod::plan::init_containers;
use crate::pod::resources;
use crate::settings::CRITICAL;

/// What a pod and its containers use of what is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) total: u64,
    /// By container; what of it is the pod's as a whole (volumes) is in none.
    pub(crate) containers: Vec<(String, u64)>,
}

/// A pod that could be evicted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) usage: &'a Usage,
}

pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// A pod that its node does not run without: a static one, or one of a system priority.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    mirror::is_static(pod) || mirror::is_mirror(pod) || priority(pod) >= CRITICAL
}

/// What the pod has asked for; nothing can be asked of inodes and process ids.
fn request(pod: &Pod, resource: Resource) -> u64 {
    let asked = match resource {
        Resource::Memory | Resource::EphemeralStorage => resources::requested(pod, resource.name()),
        Resource::Inodes | Resource::Pids => 0,
    };
    u64::try_from(asked).unwrap_or(0)
}

/// The pods in the order in which they go: those that use more than they asked for first, then by priority, then by how
/// much more they use.
pub(crate) fn order<'a>(resource: Resource, mut pods: Vec<Candidate<'a>>) -> Vec<Candidate<'a>> {
    pods.sort_by_key(|c| {
        let asked = request(c.pod, resource);
        let within = resource != Resource::Pids && c.usage.total <= asked;
        let over = i128::from(c.usage.total) - i128::from(asked);
        (within, priority(c.pod), Reverse(over))
    });
    pods
}

/// Why the pod goes, in upstream's words.
pub(crate) fn message(candidate: Candidate<'_>, threshold: &Threshold, observed: Observed) -> String {
    let resource = threshold.signal.resource();
    let mut text = format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
        resource.name(),
        resource.shown(threshold.value.of(observed.capacity)),
        resource.shown(observed.available)
    );
    if matches!(resource, Resource::Inodes | Resource::Pids) {
        return text;
    }
    let spec = candidate.pod.spec.as_ref();
    let containers = spec
        .into_iter()
        .flat_map(|s| s.containers.iter().chain(init_containers(s)));
    for container in containers {
        let used = candidate
            .usage
            .containers
            .iter()
            .find(|(name, _)| *name == container.name);
        let requests: Option<&Amounts> = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let asked = requests.and_then(|r| r.get(resource.name()));
        let Some((name, used)) = used.filter(|(_, used)| i128::from(*used) > asked.map_or(0, |q| whole(q).into()))
        else {
            continue;
        };
        text.push_str(&format!(
            "Container {name} was using {}, request is {}, has larger consumption of {}. ",
            resource.shown(*used),
            asked.map_or("0", |q| q.0.as_str()),
            resource.name()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::threshold::{Signal, Value};
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn pod(name: &str, priority: i32, resource: &str, request: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {resource: request}}}]}}))
        .unwrap()
    }

    fn usage(total: u64) -> Usage {
        Usage {
            total,
            containers: vec![("c".into(), total)],
        }
    }

    fn names(resource: Resource, pods: &[(Pod, Usage)]) -> Vec<String> {
        let candidates = pods.iter().map(|(pod, usage)| Candidate { pod, usage }).collect();
        let ordered = order(resource, candidates);
        ordered.iter().map(|c| c.pod.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn pods_over_their_request_go_first_then_the_least_important_then_the_greediest() {
        for (resource, name) in [
            (Resource::Memory, "memory"),
            (Resource::EphemeralStorage, "ephemeral-storage"),
        ] {
            let pods = [
                (pod("within-low", 0, name, "100"), usage(100)),
                (pod("within-high", 1000, name, "1000"), usage(900)),
                (pod("over-high", 1000, name, "0"), usage(5000)),
                (pod("over-low-little", 0, name, "100"), usage(150)),
                (pod("over-low-much", 0, name, "100"), usage(200)),
                (pod("within-low-idle", 0, name, "100"), usage(1)),
            ];
            assert_eq!(
                names(resource, &pods),
                [
                    "over-low-much",
                    "over-low-little",
                    "over-high",
                    "within-low",
                    "within-low-idle",
                    "within-high"
                ]
            );
        }
    }

    #[test]
    fn for_process_ids_only_priority_and_number_count() {
        let pods = [
            (pod("few", 0, "memory", "1"), usage(3)),
            (pod("important", 9, "memory", "1"), usage(3000)),
            (pod("many", 0, "memory", "1"), usage(300)),
        ];
        assert_eq!(names(Resource::Pids, &pods), ["many", "few", "important"]);
    }

    #[test]
    fn static_pods_and_those_of_the_system_are_critical() {
        assert!(!is_critical(&pod("p", 1_999_999_999, "memory", "1")));
        assert!(is_critical(&pod("p", 2_000_000_000, "memory", "1")));
        let mut of_file = pod("p", 0, "memory", "1");
        of_file.metadata.annotations = Some([("kubernetes.io/config.source".into(), "file".into())].into());
        assert!(is_critical(&of_file));
    }

    #[test]
    fn the_message_names_the_threshold_and_the_containers_over_their_request() {
        let threshold = Threshold {
            signal: Signal::Memory,
            value: Value::Amount(100 << 20),
            grace: Duration::ZERO,
            min_reclaim: None,
        };
        let observed = Observed {
            available: 50 << 20,
            capacity: 1 << 30,
        };
        let pod = pod("p", 0, "memory", "10Mi");
        let usage = usage(64 << 20);
        let candidate = Candidate {
            pod: &pod,
            usage: &usage,
        };
        assert_eq!(
            message(candidate, &threshold, observed),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 64Mi, request is 10Mi, has larger consumption of memory. "
        );
        let pids = Threshold {
            signal: Signal::Pids,
            value: Value::Amount(1000),
            ..threshold
        };
        let observed = Observed {
            available: 10,
            capacity: 32_768,
        };
        assert_eq!(
            message(candidate, &pids, observed),
            "The node was low on resource: pids. Threshold quantity: 1k, available: 10. "
        );
    }
}
