//! NodeResourcesFit: requests must fit into what is left of allocatable; scores by how full a node would be.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use smallvec::SmallVec;

use super::resource_score::{Strategy, WeightedResource, amount};
use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, Reason, Rejection, Reuse, Severity};
use crate::node_info::NodeInfo;
use crate::resources::{Resources, parse};
use crate::shape::PodInfo;

pub struct NodeResourcesFit {
    /// Extended resources that others account for.
    pub ignored: Vec<String>,
    /// The same by the part of their name before the slash.
    pub ignored_groups: Vec<String>,
    pub strategy: Strategy,
    pub resources: Vec<WeightedResource>,
}

impl Default for NodeResourcesFit {
    fn default() -> Self {
        Self {
            ignored: Vec::new(),
            ignored_groups: Vec::new(),
            strategy: Strategy::LeastAllocated,
            resources: WeightedResource::cpu_and_memory(),
        }
    }
}

impl NodeResourcesFit {
    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map(|(group, _)| group);
        self.ignored.iter().any(|i| i == resource) || group.is_some_and(|g| self.ignored_groups.iter().any(|i| i == g))
    }

    /// Every resource of which the node has too little left, in upstream's words; and whether it has too little in all.
    fn shortages(&self, wanted: &Resources, node: &NodeInfo) -> (SmallVec<[Reason; 2]>, bool) {
        let mut out = SmallVec::new();
        let mut hopeless = false;
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) + 1 > node.allowed_pods {
            out.push(Reason::Fixed("Too many pods"));
        }
        let (has, used) = (&node.allocatable, &node.requested);
        let mut check = |reason: Reason, wanted: i64, has: i64, used: i64| {
            if wanted > 0 && wanted > has - used {
                out.push(reason);
                hopeless |= wanted > has;
            }
        };
        check(
            Reason::Fixed("Insufficient cpu"),
            wanted.milli_cpu,
            has.milli_cpu,
            used.milli_cpu,
        );
        check(
            Reason::Fixed("Insufficient memory"),
            wanted.memory,
            has.memory,
            used.memory,
        );
        check(
            Reason::Fixed("Insufficient ephemeral-storage"),
            wanted.ephemeral_storage,
            has.ephemeral_storage,
            used.ephemeral_storage,
        );
        for (name, amount) in &wanted.scalar {
            if !self.ignores(name) {
                let reason = Reason::Insufficient(Arc::clone(name));
                check(reason, *amount, has.scalar(name), used.scalar(name));
            }
        }
        (out, hopeless)
    }
}

/// Whether `freed` has any of what `wanted` asks for.
fn frees(wanted: &Resources, freed: &Resources) -> bool {
    let named = ["cpu", "memory", "ephemeral-storage"];
    let scalar = wanted.scalar.iter().map(|(name, _)| &**name);
    named
        .into_iter()
        .chain(scalar)
        .any(|name| amount(wanted, name) > 0 && amount(freed, name) > 0)
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::Score]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    #[inline]
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let (reasons, hopeless) = self.shortages(&pod.shape.requests, node);
        if reasons.is_empty() {
            return Ok(());
        }
        let severity = match hopeless {
            true => Severity::Unresolvable,
            false => Severity::Unschedulable,
        };
        Err(Rejection::reasons(reasons, severity))
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.strategy.score(&self.resources, node, pod)
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let wanted = &pod.shape.requests;
        let room = |n: &Node| {
            let listed = n.status.as_ref().and_then(|s| s.allocatable.as_ref());
            let has = listed.map(Resources::parse).unwrap_or_default();
            let pods = listed.and_then(|l| l.get("pods")).map_or(0, |q| parse(q).value());
            let scalar = wanted
                .scalar
                .iter()
                .all(|(name, a)| self.ignores(name) || *a <= has.scalar(name));
            pods > 0
                && wanted.milli_cpu <= has.milli_cpu
                && wanted.memory <= has.memory
                && wanted.ephemeral_storage <= has.ephemeral_storage
                && scalar
        };
        let gone = |gone: &PodInfo| *wanted == Resources::default() || frees(wanted, &gone.shape.requests);
        match event {
            ClusterEvent::NodeAdded(node) => room(node),
            ClusterEvent::NodeChanged { change, new, .. } => change.allocatable && room(new),
            // A pod that goes always frees a place, if nothing else.
            ClusterEvent::PodGone(_) => true,
            ClusterEvent::PodChanged { old, new } => old.shape.requests != new.shape.requests && gone(old),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resource_score::ShapePoint;
    use super::*;
    use crate::testing::{node, pod, pod_requesting};
    use serde_json::{Value, json};

    fn info(status: Value, pods: &[PodInfo]) -> NodeInfo {
        let mut info = NodeInfo::new(node("n", json!({}), status), 0);
        pods.iter().for_each(|p| info.add_pod(p.clone()));
        info
    }

    #[test]
    fn every_shortage_is_named_and_hopeless_ones_are_told_apart() {
        let there = pod_requesting("there", "3", "30Gi", json!({}));
        for (cpu, memory, message, severity) in [
            ("1", "2Gi", "", None),
            ("1500m", "1Gi", "Insufficient cpu", Some(Severity::Unschedulable)),
            (
                "2",
                "3Gi",
                "Insufficient cpu, Insufficient memory",
                Some(Severity::Unschedulable),
            ),
            ("5", "1Gi", "Insufficient cpu", Some(Severity::Unresolvable)),
            ("0", "0", "", None),
        ] {
            let new = pod_requesting("new", cpu, memory, json!({}));
            let node = info(json!({}), std::slice::from_ref(&there));
            let verdict = NodeResourcesFit::default().filter(&CycleState::default(), &new, &node);
            let found = verdict.err();
            assert_eq!(found.as_ref().map(|r| r.severity), severity, "{cpu} {memory}");
            assert_eq!(found.map(|r| r.to_string()).unwrap_or_default(), message);
        }
        let full = info(json!({"allocatable": {"pods": "1"}}), &[there]);
        let verdict = NodeResourcesFit::default().filter(&CycleState::default(), &pod("new", json!({})), &full);
        assert_eq!(verdict.unwrap_err().to_string(), "Too many pods");
    }

    #[test]
    fn what_counts_as_asked_for_is_the_most_that_the_pod_holds_at_once() {
        let container = |name: &str, requests: Value| json!({"name": name, "resources": {"requests": requests}});
        let cpu = |name: &str, amount: &str| container(name, json!({"cpu": amount}));
        let cases = [
            ("nothing", json!({"containers": [{"name": "c"}]}), ""),
            ("all that is left", json!({"containers": [cpu("c", "2")]}), ""),
            (
                "the sum of its containers",
                json!({"containers": [cpu("c", "1"), cpu("d", "1")]}),
                "",
            ),
            (
                "a sum that is too much",
                json!({"containers": [cpu("c", "1"), cpu("d", "1001m")]}),
                "Insufficient cpu",
            ),
            (
                "the highest init container, not their sum",
                json!({"initContainers": [cpu("i", "2"), cpu("j", "2")], "containers": [cpu("c", "1")]}),
                "",
            ),
            (
                "an init container that is too large",
                json!({"initContainers": [cpu("i", "3"), cpu("j", "1")], "containers": [cpu("c", "1")]}),
                "Insufficient cpu",
            ),
            (
                "a sidecar beside the rest",
                json!({"initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}],
                    "containers": [cpu("c", "1500m")]}),
                "Insufficient cpu",
            ),
            (
                "overhead",
                json!({"overhead": {"cpu": "500m"}, "containers": [cpu("c", "1600m")]}),
                "Insufficient cpu",
            ),
            (
                "storage",
                json!({"containers": [container("c", json!({"ephemeral-storage": "11Gi"}))]}),
                "Insufficient ephemeral-storage",
            ),
            (
                "huge pages",
                json!({"containers": [container("c", json!({"hugepages-2Mi": "6Mi"}))]}),
                "Insufficient hugepages-2Mi",
            ),
            (
                "what the node does not know",
                json!({"containers": [container("c", json!({"example.com/none": "1"}))]}),
                "Insufficient example.com/none",
            ),
            (
                "none of what the node does not know",
                json!({"containers": [container("c", json!({"example.com/none": "0"}))]}),
                "",
            ),
            (
                "an extended resource by the most of init and the sum of other containers",
                json!({"initContainers": [container("i", json!({"example.com/gpu": "2"}))],
                    "containers": [container("c", json!({"example.com/gpu": "1"})), container("d", json!({"example.com/gpu": "1"}))]}),
                "",
            ),
            (
                "everything at once",
                json!({"containers": [container("c", json!({"cpu": "3", "memory": "33Gi", "example.com/gpu": "3"}))]}),
                "Insufficient cpu, Insufficient memory, Insufficient example.com/gpu",
            ),
        ];
        let there = pod_requesting("there", "2", "1", json!({}));
        let allocatable = json!({"ephemeral-storage": "10Gi", "hugepages-2Mi": "4Mi", "example.com/gpu": "2"});
        let node = info(json!({"allocatable": allocatable}), &[there]);
        for (what, spec, message) in cases {
            let verdict = NodeResourcesFit::default().filter(&CycleState::default(), &pod("new", spec), &node);
            let found = verdict.err().map(|r| r.to_string()).unwrap_or_default();
            assert_eq!(found, message, "{what}");
        }
    }

    #[test]
    fn a_node_that_shrank_below_what_is_used_still_takes_who_asks_for_nothing() {
        let there = pod_requesting("there", "2", "1", json!({}));
        let shrunk = info(json!({"allocatable": {"cpu": "1"}}), std::slice::from_ref(&there));
        let plugin = NodeResourcesFit::default();
        assert_eq!(
            plugin.filter(&CycleState::default(), &pod("new", json!({})), &shrunk),
            Ok(())
        );
        let asking = pod_requesting("new", "100m", "0", json!({}));
        let verdict = plugin.filter(&CycleState::default(), &asking, &shrunk);
        assert_eq!(verdict.unwrap_err().severity, Severity::Unschedulable);
        let full = info(json!({"allocatable": {"pods": "1"}}), &[there]);
        let verdict = plugin.filter(
            &CycleState::default(),
            &pod_requesting("new", "3", "0", json!({})),
            &full,
        );
        assert_eq!(verdict.unwrap_err().to_string(), "Too many pods, Insufficient cpu");
    }

    #[test]
    fn the_documentations_example_of_bin_packing_scores_as_it_says() {
        let weighted = |name: &str, weight: i64| WeightedResource {
            name: name.to_owned(),
            weight,
        };
        let plugin = NodeResourcesFit {
            strategy: Strategy::RequestedToCapacityRatio(
                [(0, 0), (100, 100)]
                    .map(|(utilization, score)| ShapePoint { utilization, score })
                    .into(),
            ),
            resources: vec![weighted("intel.com/foo", 5), weighted("memory", 1), weighted("cpu", 3)],
            ..NodeResourcesFit::default()
        };
        let asking = |name: &str, foo: &str, memory: &str, cpu: &str| {
            let requests = json!({"intel.com/foo": foo, "memory": memory, "cpu": cpu});
            pod(
                name,
                json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}),
            )
        };
        let new = asking("new", "2", "256Mi", "2");
        for (foo, used, expected) in [
            // 75, 50 and 37 of a hundred, weighted.
            ("4", asking("there", "1", "256Mi", "1"), 60),
            // 50, 75 and 100.
            ("8", asking("there", "2", "512Mi", "6"), 69),
        ] {
            let allocatable = json!({"intel.com/foo": foo, "memory": "1Gi", "cpu": "8"});
            let node = info(json!({"allocatable": allocatable}), &[used]);
            assert_eq!(plugin.score(&CycleState::default(), &new, &node), expected);
        }
    }

    #[test]
    fn pods_without_requests_score_by_what_they_are_assumed_to_use() {
        let score = |strategy: Strategy, pods: &[PodInfo]| {
            let plugin = NodeResourcesFit {
                strategy,
                ..NodeResourcesFit::default()
            };
            plugin.score(&CycleState::default(), &pod("new", json!({})), &info(json!({}), pods))
        };
        // 100m of 4 CPUs and 200Mi of 32Gi are 2 % and less than one.
        assert_eq!(score(Strategy::LeastAllocated, &[]), 98);
        let four = || ["a", "b", "c", "d"].map(|name| pod(name, json!({})));
        assert_eq!(score(Strategy::LeastAllocated, &four()), (87 + 96) / 2);
        assert_eq!(score(Strategy::MostAllocated, &four()), (12 + 3) / 2);
        // More than the node has counts as all of it.
        let full = pod_requesting("full", "4", "32Gi", json!({}));
        assert_eq!(score(Strategy::LeastAllocated, std::slice::from_ref(&full)), 0);
        assert_eq!(score(Strategy::MostAllocated, &[full]), 100);
    }

    #[test]
    fn extended_resources_count_unless_ignored() {
        let requests = json!({"example.com/gpu": "2"});
        let new = pod(
            "new",
            json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}),
        );
        let node = info(json!({"allocatable": {"example.com/gpu": "1"}}), &[]);
        let filter = |plugin: NodeResourcesFit| plugin.filter(&CycleState::default(), &new, &node);
        assert_eq!(
            filter(NodeResourcesFit::default()).unwrap_err().to_string(),
            "Insufficient example.com/gpu"
        );
        assert_eq!(
            filter(NodeResourcesFit {
                ignored: vec!["example.com/gpu".into()],
                ..NodeResourcesFit::default()
            }),
            Ok(())
        );
        assert_eq!(
            filter(NodeResourcesFit {
                ignored_groups: vec!["example.com".into()],
                ..NodeResourcesFit::default()
            }),
            Ok(())
        );
    }

    #[test]
    fn strategies_score_as_documented() {
        // Half of the CPU and a quarter of the memory would be used.
        let there = pod_requesting("there", "1", "4Gi", json!({}));
        let new = pod_requesting("new", "1", "4Gi", json!({}));
        let node = info(json!({}), &[there]);
        let line = |points: [(i64, i64); 2]| {
            Strategy::RequestedToCapacityRatio(
                points
                    .map(|(utilization, score)| ShapePoint { utilization, score })
                    .into(),
            )
        };
        let weighted = |cpu, memory| {
            vec![
                WeightedResource {
                    name: "cpu".into(),
                    weight: cpu,
                },
                WeightedResource {
                    name: "memory".into(),
                    weight: memory,
                },
            ]
        };
        for (strategy, resources, expected) in [
            (Strategy::LeastAllocated, weighted(1, 1), 62),
            (Strategy::MostAllocated, weighted(1, 1), 37),
            (Strategy::MostAllocated, weighted(3, 1), 43),
            (line([(0, 0), (100, 100)]), weighted(1, 1), 38),
            (line([(0, 100), (100, 0)]), weighted(1, 0), 50),
        ] {
            let plugin = NodeResourcesFit {
                strategy: strategy.clone(),
                resources,
                ..NodeResourcesFit::default()
            };
            assert_eq!(
                plugin.score(&CycleState::default(), &new, &node),
                expected,
                "{strategy:?}"
            );
        }
    }

    #[test]
    fn only_room_that_is_large_enough_wakes() {
        let plugin = NodeResourcesFit::default();
        let big = pod_requesting("big", "8", "1Gi", json!({}));
        let added = |cpu: &str| ClusterEvent::NodeAdded(node("n", json!({}), json!({"allocatable": {"cpu": cpu}})));
        assert!(!plugin.may_help(&added("4"), &big));
        assert!(plugin.may_help(&added("8"), &big));
        let gone = ClusterEvent::PodGone(pod("x", json!({})));
        assert!(plugin.may_help(&gone, &big));
    }
}
