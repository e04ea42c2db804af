//! What the documentation says of DaemonSets, sentence by sentence, in a model of the world: plans are carried out as the
//! controller does, nodes run what is meant for them, and after every step the promises of a rolling update are checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::backoff::Failures;
use super::plan::{Observed, Plan, plan};
use super::pod::{fit, is_updated, make, target};
use crate::pods::{Availability, availability};

struct World {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    hash: String,
    failures: Failures,
    now: Timestamp,
    made: usize,
    /// Deleted pods end at once; else they linger.
    ends_at_once: bool,
}

fn node(name: &str) -> Arc<Node> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"kind": "worker"}}})).unwrap())
}

impl World {
    fn new(nodes: usize, spec: Value) -> Self {
        let mut all = json!({
            "metadata": {"name": "d", "namespace": "ns", "uid": "u", "generation": 1},
            "spec": {
                "selector": {"matchLabels": {"app": "d"}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
                "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c"}]}},
            },
        });
        json_patch::merge(&mut all["spec"], &spec);
        Self {
            set: serde_json::from_value(all).unwrap(),
            nodes: (0..nodes).map(|n| node(&format!("n{n}"))).collect(),
            pods: Vec::new(),
            hash: "v1".into(),
            failures: Failures::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            made: 0,
            ends_at_once: true,
        }
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    fn failing(&self, node: &str) -> (String, i64, String) {
        ("u".into(), 1, node.into())
    }

    fn plan(&self) -> Plan {
        plan(&Observed {
            set: &self.set,
            nodes: &self.nodes,
            pods: &self.pods,
            hash: &self.hash,
            may_act: true,
            wait: &|node| self.failures.wait(&self.failing(node), self.now),
            now: self.now,
        })
    }

    /// One reconcile, carried out. Whether it changed anything.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let acted = !plan.create.is_empty() || !plan.delete.is_empty();
        for node in &plan.failed {
            self.failures.count(self.failing(node), self.now);
        }
        for node in &plan.create {
            let mut pod = make(&self.set, node, &self.hash);
            self.made += 1;
            pod.metadata.name = Some(format!("d-{}", self.made));
            pod.metadata.uid = Some(format!("uid-{}", self.made));
            pod.metadata.creation_timestamp = Some(Time(self.now));
            self.pods.push(Arc::new(pod));
        }
        let now = self.now;
        for doomed in &plan.delete {
            let mut pods = self.pods.iter_mut();
            let pod = pods.find(|p| p.metadata.uid == doomed.metadata.uid).unwrap();
            Arc::make_mut(pod).metadata.deletion_timestamp = Some(Time(now));
        }
        if self.ends_at_once {
            self.pods.retain(|p| p.metadata.deletion_timestamp.is_none());
        }
        self.set.status = Some(plan.status);
        acted
    }

    fn set_status(&mut self, at: usize, status: Value) {
        Arc::make_mut(&mut self.pods[at]).status = Some(serde_json::from_value(status).unwrap());
    }

    fn ready(&mut self, at: usize) {
        let since = self.now.to_string();
        let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        let node = target(&self.pods[at]).unwrap().to_owned();
        Arc::make_mut(&mut self.pods[at]).spec.as_mut().unwrap().node_name = Some(node);
        self.set_status(at, json!({"phase": "Running", "conditions": [condition]}));
    }

    /// All pods that are not ready become so. Whether there were any.
    fn all_ready(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.pods.len() {
            if availability(&self.pods[at], 0, self.now) == Availability::NotReady {
                self.ready(at);
                changed = true;
            }
        }
        changed
    }

    fn available(&self) -> usize {
        let is = |p: &&Arc<Pod>| availability(p, 0, self.now) == Availability::Available;
        let mut nodes: Vec<_> = self.pods.iter().filter(is).filter_map(|p| target(p)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }

    /// Steps until nothing changes; between any two, what is there becomes ready.
    fn settle(&mut self) {
        for _ in 0..200 {
            let acted = self.step();
            if !self.all_ready() && !acted {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn status(&self) -> &DaemonSetStatus {
        self.set.status.as_ref().unwrap()
    }

    /// Desired, current, ready, up to date, available.
    fn counts(&self) -> (i32, i32, i32, i32, i32) {
        let s = self.status();
        let n = |v: Option<i32>| v.unwrap_or(0);
        (
            s.desired_number_scheduled,
            s.current_number_scheduled,
            s.number_ready,
            n(s.updated_number_scheduled),
            n(s.number_available),
        )
    }

    fn by_node(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for pod in &self.pods {
            *all.entry(target(pod).unwrap().to_owned()).or_default() += 1;
        }
        all
    }
}

#[test]
fn a_daemon_set_ensures_that_all_nodes_run_a_copy_of_a_pod() {
    let mut w = World::new(3, json!({}));
    w.step();
    w.step();
    assert_eq!((w.counts(), w.status().number_unavailable), ((3, 3, 0, 3, 0), Some(3)));
    w.settle();
    assert_eq!((w.counts(), w.status().number_unavailable), ((3, 3, 3, 3, 3), None));
    assert_eq!(w.status().observed_generation, Some(1));
    assert!(w.by_node().values().all(|n| *n == 1));
}

#[test]
fn as_nodes_are_added_to_the_cluster_pods_are_added_to_them() {
    let mut w = World::new(2, json!({}));
    w.settle();
    w.nodes.push(node("n9"));
    w.settle();
    assert_eq!(w.by_node().get("n9"), Some(&1));
}

#[test]
fn a_pod_for_a_node_that_left_before_it_was_bound_is_deleted() {
    let mut w = World::new(2, json!({}));
    w.step();
    w.nodes.pop();
    w.step();
    assert_eq!(w.by_node(), BTreeMap::from([("n0".to_owned(), 1)]));
}

#[test]
fn if_node_labels_are_changed_pods_are_added_to_newly_matching_nodes_and_deleted_from_others() {
    let mut w = World::new(2, json!({"template": {"spec": {"nodeSelector": {"kind": "worker"}}}}));
    w.settle();
    let label = |n: &mut Arc<Node>, value: &str| {
        Arc::make_mut(n)
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("kind".into(), value.into());
    };
    label(&mut w.nodes[0], "other");
    assert_eq!(w.plan().status.number_misscheduled, 1);
    w.settle();
    assert_eq!(w.by_node(), BTreeMap::from([("n1".to_owned(), 1)]));
    label(&mut w.nodes[0], "worker");
    w.settle();
    assert_eq!(w.by_node().len(), 2);
}

#[test]
fn a_pod_stays_under_a_no_schedule_taint_but_goes_under_an_untolerated_no_execute_one() {
    for (effect, left) in [("NoSchedule", 1), ("NoExecute", 0)] {
        let mut w = World::new(1, json!({}));
        w.settle();
        let taints = json!({"taints": [{"key": "own", "effect": effect}]});
        Arc::make_mut(&mut w.nodes[0]).spec = Some(serde_json::from_value(taints).unwrap());
        w.settle();
        assert_eq!(w.pods.len(), left, "{effect}");
        assert_eq!(w.status().desired_number_scheduled, 0);
    }
}

#[test]
fn a_failed_daemon_pod_is_killed_and_recreated_with_back_off() {
    let mut w = World::new(1, json!({}));
    w.settle();
    for wait in [0, 1, 2, 4] {
        w.set_status(0, json!({"phase": "Failed"}));
        if wait > 0 {
            let plan = w.plan();
            assert!(plan.delete.is_empty());
            assert_eq!(plan.check_again.map(|d| d.as_secs()), Some(wait));
            w.pass(i64::try_from(wait).unwrap());
        }
        let plan = w.plan();
        assert_eq!(plan.delete.len(), 1);
        assert_eq!(plan.events[0].1, "FailedDaemonPod");
        assert!(plan.events[0].2.starts_with("Found failed daemon pod ns/d-"));
        w.step();
        w.step();
    }
}

#[test]
fn a_succeeded_daemon_pod_is_replaced() {
    let mut w = World::new(1, json!({}));
    w.settle();
    w.set_status(0, json!({"phase": "Succeeded"}));
    assert_eq!(w.plan().events[0].1, "SucceededDaemonPod");
    w.settle();
    assert_eq!((w.pods.len(), w.counts().2), (1, 1));
}

#[test]
fn a_second_pod_on_a_node_is_deleted_and_the_oldest_stays() {
    let mut w = World::new(1, json!({}));
    w.settle();
    let mut double = Pod::clone(&w.pods[0]);
    double.metadata.uid = Some("double".into());
    double.metadata.creation_timestamp = Some(Time(w.now.checked_add(SignedDuration::from_secs(9)).unwrap()));
    w.pods.push(Arc::new(double));
    w.settle();
    assert_eq!(w.pods.len(), 1);
    assert_eq!(w.pods[0].metadata.uid.as_deref(), Some("uid-1"));
}

#[test]
fn nothing_comes_or_goes_while_the_cache_is_behind_and_the_generation_is_not_called_observed() {
    let w = World::new(2, json!({}));
    let plan = plan(&Observed {
        set: &w.set,
        nodes: &w.nodes,
        pods: &[],
        hash: "v1",
        may_act: false,
        wait: &|_| None,
        now: w.now,
    });
    assert!(plan.create.is_empty());
    assert_eq!(
        (plan.status.desired_number_scheduled, plan.status.observed_generation),
        (2, None)
    );
}

#[test]
fn with_on_delete_new_pods_are_only_created_when_old_ones_are_deleted_by_hand() {
    let mut w = World::new(
        2,
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    w.settle();
    w.hash = "v2".into();
    w.settle();
    assert_eq!(w.counts(), (2, 2, 2, 0, 2));
    w.pods.remove(0);
    w.settle();
    assert_eq!(w.counts(), (2, 2, 2, 1, 2));
}

#[test]
fn with_rolling_update_old_pods_are_killed_as_far_as_max_unavailable_allows() {
    for (value, at_once) in [(json!(1), 1), (json!(2), 2), (json!("50%"), 3), (json!("1%"), 1)] {
        let mut w = World::new(
            5,
            json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": value}}}),
        );
        w.settle();
        w.hash = "v2".into();
        w.step();
        assert_eq!(5 - w.pods.len(), at_once, "{value}");
        w.step();
        w.step();
        assert_eq!(w.pods.len(), 5, "replaced, and no more go before these are available");
        w.settle();
        assert_eq!(w.counts(), (5, 5, 5, 5, 5));
    }
}

#[test]
fn old_pods_that_are_not_available_are_replaced_first_and_all_together() {
    let mut w = World::new(4, json!({}));
    w.settle();
    for at in [1, 2] {
        w.set_status(at, json!({"phase": "Running"}));
    }
    w.hash = "v2".into();
    w.step();
    // Their nodes are all that may be without.
    assert_eq!(w.pods.len(), 2);
}

#[test]
fn a_node_whose_pod_is_terminating_counts_as_unavailable() {
    let mut w = World::new(3, json!({}));
    w.ends_at_once = false;
    w.settle();
    w.hash = "v2".into();
    assert!(w.step());
    assert!(!w.step());
    w.pods.retain(|p| p.metadata.deletion_timestamp.is_none());
    assert!(w.step());
    assert_eq!(w.pods.iter().filter(|p| is_updated(p, "v2")).count(), 1);
}

#[test]
fn min_ready_seconds_is_how_long_a_new_pod_must_be_ready_before_the_next_is_replaced() {
    let mut w = World::new(2, json!({"minReadySeconds": 30}));
    w.settle();
    w.pass(30);
    w.hash = "v2".into();
    w.step();
    w.step();
    w.all_ready();
    w.pass(10);
    let plan = w.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(plan.check_again.map(|d| d.as_secs()), Some(20));
    assert_eq!((plan.status.number_ready, plan.status.number_available), (2, Some(1)));
    w.pass(20);
    assert_eq!(w.plan().delete.len(), 1);
}

#[test]
fn with_max_surge_the_new_pod_runs_beside_the_old_one_until_it_is_available() {
    let mut w = World::new(
        3,
        json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}),
    );
    w.settle();
    w.hash = "v2".into();
    w.step();
    assert_eq!(w.pods.len(), 4);
    assert!(!w.step(), "one at a time");
    w.all_ready();
    w.step();
    assert_eq!(w.pods.len(), 3, "the old one goes when the new one is available");
    w.settle();
    assert_eq!(w.counts(), (3, 3, 3, 3, 3));
}

#[test]
fn with_max_surge_a_node_without_an_available_old_pod_gets_the_new_one_at_once() {
    let mut w = World::new(
        3,
        json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}),
    );
    w.settle();
    w.set_status(0, json!({"phase": "Running"}));
    w.hash = "v2".into();
    w.step();
    assert_eq!(w.pods.len(), 5);
    w.step();
    assert_eq!(w.pods.len(), 4, "the old one served no one");
}

proptest! {
    #[test]
    fn every_rollout_keeps_its_promises_and_ends(
        nodes in 1..8_usize,
        unavailable in 0..4_usize,
        surge in 0..4_usize,
        ready in proptest::collection::vec(any::<bool>(), 400),
    ) {
        let (unavailable, surge) = match (unavailable, surge) {
            (0, 0) => (1, 0),
            (_, 0) => (unavailable, 0),
            _ => (0, surge),
        };
        let rolling = json!({"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
        let mut w = World::new(nodes, json!({"updateStrategy": rolling}));
        w.settle();
        w.hash = "v2".into();
        let mut ready = ready.into_iter();
        for _ in 0..60 {
            w.step();
            prop_assert!(w.pods.len() <= nodes + surge, "more pods than surge allows");
            prop_assert!(w.available() + unavailable >= nodes, "fewer available than promised");
            prop_assert!(w.by_node().values().all(|n| *n <= 1 + usize::from(surge > 0)));
            for at in 0..w.pods.len() {
                let waits = availability(&w.pods[at], 0, w.now) == Availability::NotReady;
                if waits && ready.next().unwrap_or(true) {
                    w.ready(at);
                }
            }
        }
        w.settle();
        let n = i32::try_from(nodes).unwrap();
        prop_assert_eq!(w.counts(), (n, n, n, n, n));
        prop_assert_eq!(w.pods.len(), nodes);
        prop_assert!(w.nodes.iter().all(|n| fit(&w.set, n).run));
    }
}
