//! What the documentation says of StatefulSets, sentence by sentence, in a model of the world: plans are carried out as
//! the controller does, and pods do as they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_clock::Timestamp;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::identity::{ordinal, revision};
use super::plan::{Mend, Observed, Plan, Step, plan};
use crate::history;
use crate::pods::{Availability, availability};

struct World {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    revisions: Vec<ControllerRevision>,
    now: Timestamp,
    made: usize,
    ends_at_once: bool,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut all = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s", "generation": 1},
            "spec": {
                "serviceName": "peers", "replicas": 3, "podManagementPolicy": "OrderedReady",
                "selector": {"matchLabels": {"app": "web"}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "v1"}]}},
            },
        });
        json_patch::merge(&mut all["spec"], &spec);
        let mut world = Self {
            set: serde_json::from_value(all).unwrap(),
            pods: Vec::new(),
            claims: BTreeMap::new(),
            revisions: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            made: 0,
            ends_at_once: true,
        };
        world.note_revision();
        world
    }

    /// As the history does: the template of now is the newest revision.
    fn note_revision(&mut self) {
        let data = history::data(&self.set.spec.template);
        let image = self.set.spec.template.spec.as_ref().unwrap().containers[0]
            .image
            .clone()
            .unwrap();
        let digest = history::digest(&data);
        self.revisions.retain(|r| history::digest(&r.data.0) != digest);
        let mut revision = ControllerRevision {
            data: RawExtension(data),
            ..ControllerRevision::default()
        };
        revision.metadata.name = Some(format!("web-{image}"));
        self.revisions.push(revision);
    }

    fn spec(&mut self, spec: Value) {
        let mut all = serde_json::to_value(&self.set).unwrap();
        json_patch::merge(&mut all["spec"], &spec);
        self.set = serde_json::from_value(all).unwrap();
        self.note_revision();
    }

    fn image(&mut self, image: &str) {
        self.spec(json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}));
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    fn plan(&self) -> Plan {
        let update = self.revisions.last().unwrap();
        let noted = self.set.status.as_ref().and_then(|s| s.current_revision.as_deref());
        let current = self.revisions.iter().find(|r| noted == Some(history::name(r)));
        plan(&Observed {
            set: &self.set,
            pods: &self.pods,
            current: current.unwrap_or(update),
            update,
            claim: &|name| self.claims.get(name).cloned(),
            now: self.now,
        })
    }

    fn make_claims(&mut self, claims: Vec<PersistentVolumeClaim>) {
        for claim in claims {
            self.claims
                .insert(claim.metadata.name.clone().unwrap(), Arc::new(claim));
        }
    }

    /// One reconcile, carried out. Whether it changed anything but the status.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let acted = !plan.steps.is_empty() || !plan.mend.is_empty();
        for mend in plan.mend {
            match mend {
                Mend::Claims { claims, .. } => self.make_claims(claims),
                Mend::Owners { claim, owners } => {
                    let kept = self.claims.get_mut(claim.metadata.name.as_ref().unwrap()).unwrap();
                    Arc::make_mut(kept).metadata.owner_references = Some(owners);
                }
                Mend::Labels { pod, patch } => {
                    let kept = self
                        .pods
                        .iter_mut()
                        .find(|p| p.metadata.uid == pod.metadata.uid)
                        .unwrap();
                    let labels: BTreeMap<String, String> =
                        serde_json::from_value(patch["metadata"]["labels"].clone()).unwrap();
                    Arc::make_mut(kept)
                        .metadata
                        .labels
                        .get_or_insert_default()
                        .extend(labels);
                }
            }
        }
        for step in plan.steps {
            match step {
                Step::Create { pod, claims } => {
                    self.make_claims(claims);
                    let mut pod = Pod::clone(&pod);
                    assert!(self.pod(pod.metadata.name.as_deref().unwrap()).is_none(), "made twice");
                    self.made += 1;
                    pod.metadata.uid = Some(format!("uid-{}", self.made));
                    pod.status = Some(serde_json::from_value(json!({"phase": "Pending"})).unwrap());
                    self.pods.push(Arc::new(pod));
                }
                Step::Delete(doomed) => {
                    let now = self.now;
                    let pod = self
                        .pods
                        .iter_mut()
                        .find(|p| p.metadata.uid == doomed.metadata.uid)
                        .unwrap();
                    Arc::make_mut(pod).metadata.deletion_timestamp = Some(Time(now));
                }
            }
        }
        if self.ends_at_once {
            self.end_terminating();
        }
        self.set.status = Some(plan.status);
        acted
    }

    /// Terminating pods end, and claims whose owning pod is gone go with it.
    fn end_terminating(&mut self) {
        self.pods.retain(|p| p.metadata.deletion_timestamp.is_none());
        let pods = &self.pods;
        self.claims.retain(|_, claim| {
            let mut owners = claim.metadata.owner_references.iter().flatten();
            owners.all(|o| o.kind != "Pod" || pods.iter().any(|p| p.metadata.uid.as_deref() == Some(o.uid.as_str())))
        });
    }

    fn pod(&self, name: &str) -> Option<&Arc<Pod>> {
        self.pods.iter().find(|p| p.metadata.name.as_deref() == Some(name))
    }

    fn set_status(&mut self, name: &str, status: Value) {
        let pod = self
            .pods
            .iter_mut()
            .find(|p| p.metadata.name.as_deref() == Some(name))
            .unwrap();
        Arc::make_mut(pod).status = Some(serde_json::from_value(status).unwrap());
    }

    fn ready(&mut self, name: &str) {
        let since = self.now.to_string();
        let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        self.set_status(name, json!({"phase": "Running", "conditions": [condition]}));
    }

    /// All pods but those of a broken image become ready.
    fn all_ready(&mut self, broken: &str) {
        let waits = |p: &&Arc<Pod>| availability(p, 0, self.now) == Availability::NotReady;
        let works = |p: &&Arc<Pod>| p.spec.as_ref().unwrap().containers[0].image.as_deref() != Some(broken);
        let waiting: Vec<String> = self
            .pods
            .iter()
            .filter(waits)
            .filter(works)
            .map(|p| p.metadata.name.clone().unwrap())
            .collect();
        for name in waiting {
            self.ready(&name);
        }
    }

    fn settle_with(&mut self, broken: &str) {
        for _ in 0..200 {
            let before = (self.pods.clone(), self.set.status.clone(), self.claims.clone());
            self.step();
            self.all_ready(broken);
            if before == (self.pods.clone(), self.set.status.clone(), self.claims.clone()) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn settle(&mut self) {
        self.settle_with("");
    }

    /// The pods by ordinal: name and revision.
    fn names(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.pods.iter().collect();
        all.sort_by_key(|p| ordinal(&self.set, p.metadata.name.as_deref().unwrap()));
        all.iter()
            .map(|p| (p.metadata.name.clone().unwrap(), revision(p).to_owned()))
            .collect()
    }

    fn ordinals(&self) -> Vec<i32> {
        let name = |p: &Arc<Pod>| ordinal(&self.set, p.metadata.name.as_deref().unwrap()).unwrap();
        let mut all: Vec<i32> = self.pods.iter().map(name).collect();
        all.sort_unstable();
        all
    }

    fn status(&self) -> &StatefulSetStatus {
        self.set.status.as_ref().unwrap()
    }

    fn revisions_of_pods(&self) -> String {
        self.names()
            .iter()
            .map(|(_, r)| r.trim_start_matches("web-"))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

#[test]
fn pods_are_created_sequentially_in_order_from_0_and_each_waits_until_its_predecessor_is_running_and_ready() {
    let mut w = World::new(json!({}));
    for n in 0..3 {
        w.step();
        assert!(!w.step(), "the next one waits");
        assert_eq!(w.ordinals(), (0..=n).collect::<Vec<_>>());
        w.ready(&format!("web-{n}"));
    }
    w.settle();
    let s = w.status();
    assert_eq!(
        (s.replicas, s.ready_replicas, s.available_replicas),
        (3, Some(3), Some(3))
    );
    assert_eq!((s.current_replicas, s.updated_replicas), (Some(3), Some(3)));
    assert_eq!(
        (s.current_revision.as_deref(), s.update_revision.as_deref()),
        (Some("web-v1"), Some("web-v1"))
    );
    assert_eq!(
        w.claims.keys().collect::<Vec<_>>(),
        ["data-web-0", "data-web-1", "data-web-2"]
    );
}

#[test]
fn pods_are_terminated_in_reverse_order_and_each_waits_until_its_successor_is_gone() {
    let mut w = World::new(json!({}));
    w.settle();
    w.ends_at_once = false;
    w.spec(json!({"replicas": 1}));
    w.step();
    assert!(!w.step(), "web-2 has not ended");
    let going = |w: &World| {
        w.pods
            .iter()
            .filter(|p| p.metadata.deletion_timestamp.is_some())
            .count()
    };
    assert_eq!(going(&w), 1);
    w.end_terminating();
    assert_eq!(w.ordinals(), [0, 1]);
    w.step();
    w.end_terminating();
    assert_eq!(w.ordinals(), [0]);
    assert_eq!(w.claims.len(), 3, "claims are retained by default");
}

#[test]
fn before_a_pod_is_terminated_all_of_its_predecessors_must_be_running_and_ready() {
    let mut w = World::new(json!({}));
    w.settle();
    w.set_status("web-0", json!({"phase": "Running"}));
    w.spec(json!({"replicas": 1}));
    assert!(!w.step());
    w.ready("web-0");
    w.settle();
    assert_eq!(w.ordinals(), [0]);
}

#[test]
fn parallel_pod_management_launches_and_terminates_all_pods_at_once() {
    let mut w = World::new(json!({"podManagementPolicy": "Parallel"}));
    w.step();
    assert_eq!(w.ordinals(), [0, 1, 2]);
    w.spec(json!({"replicas": 0}));
    w.step();
    assert!(w.ordinals().is_empty());
}

#[test]
fn with_a_start_ordinal_pods_are_numbered_from_it_and_those_outside_go() {
    let mut w = World::new(json!({}));
    w.settle();
    w.spec(json!({"ordinals": {"start": 2}}));
    w.settle();
    assert_eq!(w.ordinals(), [2, 3, 4]);
    assert_eq!(w.status().replicas, 3);
}

#[test]
fn a_pod_that_failed_or_succeeded_is_deleted_and_made_again_with_the_same_identity_and_claim() {
    for phase in ["Failed", "Succeeded"] {
        let mut w = World::new(json!({}));
        w.settle();
        w.set_status("web-1", json!({"phase": phase}));
        w.settle();
        assert_eq!(w.ordinals(), [0, 1, 2]);
        assert_eq!((w.made, w.claims.len()), (4, 3));
    }
}

#[test]
fn a_rolling_update_replaces_pods_from_the_largest_ordinal_to_the_smallest_one_at_a_time() {
    let mut w = World::new(json!({}));
    w.settle();
    w.image("v2");
    let mut seen = Vec::new();
    for _ in 0..20 {
        w.step();
        if w.pods.len() == 3 && seen.last() != Some(&w.revisions_of_pods()) {
            seen.push(w.revisions_of_pods());
        }
        w.all_ready("");
    }
    assert_eq!(seen, ["v1 v1 v2", "v1 v2 v2", "v2 v2 v2"]);
    w.settle();
    let s = w.status();
    assert_eq!(
        (s.current_revision.as_deref(), s.current_replicas),
        (Some("web-v2"), Some(3))
    );
}

#[test]
fn while_an_update_goes_on_the_status_tells_both_revisions_and_how_many_pods_each_has() {
    let mut w = World::new(json!({}));
    w.settle();
    w.image("v2");
    w.step();
    w.step();
    w.step();
    let s = w.status();
    assert_eq!(
        (s.current_revision.as_deref(), s.update_revision.as_deref()),
        (Some("web-v1"), Some("web-v2"))
    );
    assert_eq!(
        (s.current_replicas, s.updated_replicas, s.ready_replicas),
        (Some(2), Some(1), Some(2))
    );
}

#[test]
fn with_a_partition_only_ordinals_at_or_above_it_are_updated_and_lower_ones_stay_even_if_deleted() {
    let mut w = World::new(json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}));
    w.settle();
    w.image("v2");
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v1 v1 v2");
    w.pods.retain(|p| p.metadata.name.as_deref() != Some("web-0"));
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v1 v1 v2");
    assert_eq!(w.status().current_revision.as_deref(), Some("web-v1"));
    w.spec(json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}}));
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v2 v2 v2");
    assert_eq!(w.status().current_revision.as_deref(), Some("web-v2"));
}

#[test]
fn a_partition_above_the_replicas_updates_nothing() {
    let mut w = World::new(json!({"updateStrategy": {"rollingUpdate": {"partition": 9}}}));
    w.settle();
    w.image("v2");
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v1 v1 v1");
}

#[test]
fn max_unavailable_is_how_many_pods_may_be_unavailable_during_an_update() {
    for (value, at_once) in [(json!(2), 2), (json!("50%"), 2), (json!("1%"), 1)] {
        let mut w = World::new(json!({
            "replicas": 5, "podManagementPolicy": "Parallel",
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": value}},
        }));
        w.settle();
        w.image("v2");
        w.step();
        assert_eq!(5 - w.pods.len(), at_once, "{value}");
        assert_eq!(
            w.ordinals(),
            (0..5 - i32::try_from(at_once).unwrap()).collect::<Vec<_>>()
        );
        w.settle();
        assert_eq!(w.revisions_of_pods(), "v2 v2 v2 v2 v2");
    }
}

#[test]
fn with_parallel_management_pods_of_an_old_revision_that_do_not_serve_are_updated_first() {
    let mut w = World::new(json!({"podManagementPolicy": "Parallel"}));
    w.settle();
    w.image("broken");
    w.settle_with("broken");
    assert_eq!(w.revisions_of_pods(), "v1 v1 broken");
    w.image("v3");
    w.step();
    assert_eq!(w.revisions_of_pods(), "v1 v1");
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v3 v3 v3");
}

#[test]
fn with_ordered_management_a_broken_rollout_waits_for_a_manual_intervention() {
    let mut w = World::new(json!({}));
    w.settle();
    w.image("broken");
    w.settle_with("broken");
    w.image("v1");
    w.settle_with("broken");
    assert_eq!(w.revisions_of_pods(), "v1 v1 broken");
    w.pods.retain(|p| revision(p) != "web-broken");
    w.settle_with("broken");
    assert_eq!(w.revisions_of_pods(), "v1 v1 v1");
}

#[test]
fn with_on_delete_pods_are_not_updated_until_they_are_deleted_by_hand() {
    let mut w = World::new(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
    w.settle();
    w.image("v2");
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v1 v1 v1");
    w.pods.retain(|p| p.metadata.name.as_deref() != Some("web-1"));
    w.settle();
    assert_eq!(w.revisions_of_pods(), "v1 v2 v1");
    assert_eq!(
        (w.status().updated_replicas, w.status().current_replicas),
        (Some(1), Some(2))
    );
}

#[test]
fn min_ready_seconds_is_how_long_a_pod_must_be_ready_to_be_available_and_the_next_one_waits_for_it() {
    let mut w = World::new(json!({"minReadySeconds": 10}));
    w.step();
    w.ready("web-0");
    assert!(!w.step());
    let s = w.status();
    assert_eq!((s.ready_replicas, s.available_replicas), (Some(1), Some(0)));
    assert_eq!(w.plan().check_again.map(|d| d.as_secs()), Some(10));
    w.pass(10);
    w.step();
    assert_eq!(w.ordinals(), [0, 1]);
}

#[test]
fn a_claim_that_is_missing_while_its_pod_is_pending_is_made_again() {
    let mut w = World::new(json!({}));
    w.step();
    w.claims.clear();
    w.step();
    assert_eq!(w.claims.len(), 1);
}

#[test]
fn when_scaled_delete_removes_the_claims_of_pods_that_are_one_too_many_after_the_pods() {
    let mut w = World::new(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}));
    w.settle();
    w.ends_at_once = false;
    w.spec(json!({"replicas": 2}));
    w.step();
    let owner = &w.claims["data-web-2"].metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Pod", "web-2"));
    w.end_terminating();
    w.settle();
    assert_eq!(w.claims.keys().collect::<Vec<_>>(), ["data-web-0", "data-web-1"]);
}

#[test]
fn a_pod_scaled_up_again_waits_until_the_claim_of_its_forerunner_is_gone() {
    let mut w = World::new(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}));
    w.settle();
    w.spec(json!({"replicas": 2}));
    w.step();
    let left = json!({"metadata": {"name": "data-web-2", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "web-2", "uid": "gone", "controller": true},
    ]}});
    w.claims
        .insert("data-web-2".into(), Arc::new(serde_json::from_value(left).unwrap()));
    w.spec(json!({"replicas": 3}));
    assert!(!w.step());
    w.claims.remove("data-web-2");
    w.step();
    assert_eq!(w.ordinals(), [0, 1, 2]);
}

#[test]
fn a_change_of_the_retention_policy_is_carried_over_to_existing_claims() {
    let mut w = World::new(json!({}));
    w.settle();
    w.spec(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}));
    w.settle();
    let owners = |w: &World| -> Vec<String> {
        let all = w
            .claims
            .values()
            .flat_map(|c| c.metadata.owner_references.iter().flatten());
        all.map(|o| o.kind.clone()).collect()
    };
    assert_eq!(owners(&w), ["StatefulSet"; 3]);
    w.spec(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}));
    w.settle();
    assert!(owners(&w).is_empty());
}

#[test]
fn a_set_that_is_being_deleted_only_tells_its_status() {
    let mut w = World::new(json!({}));
    w.set.metadata.deletion_timestamp = Some(Time(w.now));
    assert!(!w.step());
    assert_eq!(w.status().replicas, 0);
}

proptest! {
    #[test]
    fn whatever_happens_it_never_makes_two_of_a_name_keeps_order_and_ends(
        before in 0..6_i32,
        after in 0..6_i32,
        parallel: bool,
        unavailable in 1..4_i32,
        ready in proptest::collection::vec(any::<bool>(), 300),
    ) {
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let mut w = World::new(json!({
            "replicas": before, "podManagementPolicy": policy,
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": unavailable}},
        }));
        w.settle();
        w.image("v2");
        let mut ready = ready.into_iter();
        for _ in 0..25 {
            w.step();
            let serving = w.pods.iter().filter(|p| availability(p, 0, w.now) == Availability::Available).count();
            prop_assert!(i32::try_from(serving).unwrap() >= before - unavailable);
            let names: Vec<String> = w.pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect();
            for name in names {
                let waits = availability(w.pod(&name).unwrap(), 0, w.now) == Availability::NotReady;
                if waits && ready.next().unwrap_or(true) {
                    w.ready(&name);
                }
            }
        }
        w.spec(json!({"replicas": after}));
        w.settle();
        prop_assert_eq!(w.ordinals(), (0..after).collect::<Vec<_>>());
        prop_assert!(w.pods.iter().all(|p| revision(p) == "web-v2"));
        prop_assert_eq!(w.status().current_revision.as_deref(), Some("web-v2"));
    }
}
