//! Whole rollouts in a model of the world: plans are carried out, pods become available a few at a time, and after every
//! step the promises of maxSurge and maxUnavailable are checked.

use std::sync::Arc;

use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Observed, plan};
use super::revision::{REVISION, annotation};
use super::scale::fenceposts;
use super::status::{self, PROGRESSING};
use super::{available, replicas, wanted};
use crate::template::Digests;

struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    made: u32,
    /// Pods of old sets that have been told to end but have not.
    lingering: usize,
}

fn deployment(spec: serde_json::Value) -> Deployment {
    let mut all = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": 3,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        },
    });
    json_patch::merge(&mut all["spec"], &spec);
    serde_json::from_value(all).unwrap()
}

impl World {
    fn new(spec: serde_json::Value) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self {
            deployment: deployment(spec),
            sets: Vec::new(),
            now,
            made: 0,
            lingering: 0,
        }
    }

    fn change(&mut self, spec: serde_json::Value) {
        let mut all = serde_json::to_value(&self.deployment).unwrap();
        json_patch::merge(&mut all["spec"], &spec);
        self.deployment = serde_json::from_value(all).unwrap();
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn image(&mut self, image: &str) {
        self.change(json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}));
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(replicas).sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(available).sum()
    }

    /// One reconcile, carried out. Whether it changed anything.
    fn reconcile(&mut self) -> bool {
        self.now = self.now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().cloned().map(Arc::new).collect();
        let lingering = self.lingering;
        let pods_of = |_: &ReplicaSet| vec![Arc::default(); lingering];
        let plan = plan(&Observed {
            deployment: &self.deployment,
            sets: &sets,
            pods_of: &pods_of,
            digests: &Digests::default(),
            now: self.now,
        });
        let mut acted = self.deployment.status.as_ref() != Some(&plan.status);
        if let Some(set) = plan.create {
            self.made += 1;
            let mut set = *set;
            set.metadata.uid = Some(format!("set-{}", self.made));
            set.metadata.creation_timestamp = Some(Time(self.now));
            set.metadata.generation = Some(1);
            self.sets.push(set);
            acted = true;
        }
        for (name, patch) in plan.annotate {
            let set = self
                .sets
                .iter_mut()
                .find(|s| s.metadata.name.as_deref() == Some(&*name))
                .unwrap();
            set.metadata.annotations = serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap();
            acted = true;
        }
        for (resize, annotations) in plan.resize {
            let set = self
                .sets
                .iter_mut()
                .find(|s| s.metadata.uid == resize.set.metadata.uid)
                .unwrap();
            set.metadata.annotations.get_or_insert_default().extend(annotations);
            set.spec.replicas = Some(resize.to);
            acted = true;
        }
        for set in plan.delete {
            self.sets.retain(|s| s.metadata.uid != set.metadata.uid);
            acted = true;
        }
        if let Some(revision) = plan.revision {
            self.deployment
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(REVISION.into(), revision);
            acted = true;
        }
        self.deployment.status = Some(plan.status);
        acted
    }

    /// The ReplicaSet controller and the nodes: sizes follow, and up to `ready` more pods become available. Pods that
    /// go are the unavailable ones first.
    fn pods(&mut self, mut ready: i32, broken: &str) -> bool {
        let mut changed = false;
        for set in &mut self.sets {
            let size = replicas(set);
            let works = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0]
                .image
                .as_deref()
                != Some(broken);
            let mut now_available = available(set).min(size);
            if works {
                let more = (size - now_available).min(ready);
                ready -= more;
                now_available += more;
            }
            let status = ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(now_available),
                available_replicas: Some(now_available),
                observed_generation: Some(1),
                ..ReplicaSetStatus::default()
            };
            changed |= set.status.as_ref() != Some(&status);
            set.status = Some(status);
        }
        changed
    }

    /// Runs until nothing changes, checking the promises of a rolling update after every step.
    fn settle(&mut self, ready: i32, broken: &str) {
        let was_available = self.available();
        for _ in 0..2000 {
            let acted = self.reconcile();
            let (surge, unavailable) = fenceposts(&self.deployment);
            let least = (wanted(&self.deployment) - unavailable).min(was_available);
            assert!(
                self.total() <= wanted(&self.deployment) + surge,
                "more pods than surge allows"
            );
            let moved = self.pods(ready, broken);
            assert!(
                self.available() >= least,
                "{} available, {least} promised",
                self.available()
            );
            if !acted && !moved {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn reason(&self, kind: &str) -> String {
        let found = status::find(self.deployment.status.as_ref().unwrap(), kind);
        found.and_then(|c| c.reason.clone()).unwrap_or_default()
    }

    fn newest(&self) -> &ReplicaSet {
        self.sets.last().unwrap()
    }
}

#[test]
fn a_new_deployment_gets_one_set_with_all_replicas_and_says_so() {
    let mut world = World::new(json!({}));
    world.settle(1, "");
    assert_eq!(world.sets.len(), 1);
    assert_eq!((world.total(), world.available()), (3, 3));
    assert_eq!(world.reason(PROGRESSING), "NewReplicaSetAvailable");
    assert_eq!(world.reason("Available"), "MinimumReplicasAvailable");
    assert_eq!(annotation(world.newest(), REVISION), Some("1"));
}

#[test]
fn a_new_template_replaces_the_old_set_and_counts_a_revision() {
    let mut world = World::new(json!({}));
    world.settle(1, "");
    world.image("v2");
    world.settle(1, "");
    assert_eq!(world.sets.len(), 2);
    assert_eq!(replicas(&world.sets[0]), 0);
    assert_eq!(annotation(world.newest(), REVISION), Some("2"));
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[REVISION], "2");
}

#[test]
fn going_back_to_an_old_template_uses_its_set_with_a_new_revision_and_remembers_the_old() {
    let mut world = World::new(json!({}));
    world.settle(2, "");
    world.image("v2");
    world.settle(2, "");
    world.image("v1");
    world.settle(2, "");
    assert_eq!(world.sets.len(), 2);
    assert_eq!(replicas(&world.sets[0]), 3);
    assert_eq!(annotation(&world.sets[0], REVISION), Some("3"));
    assert_eq!(
        annotation(&world.sets[0], "deployment.kubernetes.io/revision-history"),
        Some("1")
    );
}

#[test]
fn a_broken_template_stops_at_max_unavailable_and_fails_at_the_deadline() {
    let mut world = World::new(json!({"replicas": 4}));
    world.settle(4, "");
    world.image("broken");
    world.settle(4, "broken");
    assert_eq!(
        world.available(),
        3,
        "the old pods that maxUnavailable protects are there"
    );
    assert_eq!(world.reason(PROGRESSING), "ReplicaSetUpdated");
    world.now = world.now.checked_add(jiff::SignedDuration::from_secs(601)).unwrap();
    world.settle(4, "broken");
    assert_eq!(world.reason(PROGRESSING), "ProgressDeadlineExceeded");
    world.image("v3");
    world.settle(4, "broken");
    assert_eq!(world.reason(PROGRESSING), "NewReplicaSetAvailable");
    assert_eq!(world.available(), 4);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(json!({}));
    world.settle(3, "");
    world.change(json!({"paused": true}));
    world.image("v2");
    world.change(json!({"replicas": 5}));
    world.settle(5, "");
    assert_eq!(world.sets.len(), 1);
    assert_eq!(world.total(), 5);
    assert_eq!(world.reason(PROGRESSING), "DeploymentPaused");
    world.change(json!({"paused": false}));
    world.settle(5, "");
    assert_eq!(world.sets.len(), 2);
    assert_eq!(replicas(&world.sets[0]), 0);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_keeps_the_proportions() {
    // The example of the documentation: 10 replicas, maxSurge 3, maxUnavailable 2, a broken new image, then 15.
    let rolling = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    let mut world = World::new(json!({"replicas": 10, "strategy": rolling}));
    world.settle(10, "");
    world.image("broken");
    world.settle(10, "broken");
    assert_eq!((replicas(&world.sets[0]), replicas(&world.sets[1])), (8, 5));
    world.change(json!({"replicas": 15}));
    world.reconcile();
    assert_eq!((replicas(&world.sets[0]), replicas(&world.sets[1])), (11, 7));
}

#[test]
fn recreate_ends_all_old_pods_before_the_first_new_one() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}));
    world.settle(3, "");
    world.image("v2");
    world.lingering = 1;
    world.reconcile();
    world.pods(0, "");
    world.reconcile();
    assert_eq!(
        (world.sets.len(), world.total()),
        (1, 0),
        "an old pod has not ended yet"
    );
    world.lingering = 0;
    world.settle(3, "");
    assert_eq!((world.sets.len(), world.total()), (2, 3));
}

#[test]
fn recreate_goes_on_although_an_old_set_was_scaled_by_hand_for_another_size() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}));
    world.settle(3, "");
    world.image("v2");
    world.reconcile();
    world.pods(0, "");
    world.settle(3, "");
    world.change(json!({"replicas": 5}));
    world.sets[0].spec.replicas = Some(1);
    world.settle(5, "");
    assert_eq!((replicas(&world.sets[0]), replicas(&world.sets[1])), (0, 5));
}

#[test]
fn history_is_kept_to_its_limit_oldest_first() {
    let mut world = World::new(json!({"revisionHistoryLimit": 2}));
    for version in 1..=5 {
        world.image(&format!("v{version}"));
        world.settle(3, "");
    }
    let revisions: Vec<_> = world
        .sets
        .iter()
        .map(|s| annotation(s, REVISION).unwrap().to_owned())
        .collect();
    assert_eq!(revisions, ["3", "4", "5"]);
}

#[test]
fn both_bounds_rounding_to_zero_still_rolls() {
    let rolling = json!({"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "1%"}});
    let mut world = World::new(json!({"replicas": 2, "strategy": rolling}));
    world.settle(2, "");
    world.image("v2");
    world.settle(2, "");
    assert_eq!(available(world.newest()), 2);
}

proptest! {
    #[test]
    fn every_rollout_keeps_its_promises_and_ends(
        replicas_before in 0..12_i32,
        replicas_after in 0..12_i32,
        surge in 0..5_i32,
        unavailable in 0..5_i32,
        ready in 1..4_i32,
        interrupted in 0..6_usize,
    ) {
        prop_assume!(surge + unavailable > 0);
        let rolling = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut world = World::new(json!({"replicas": replicas_before, "strategy": rolling}));
        world.settle(ready, "");
        world.image("v2");
        for _ in 0..interrupted {
            world.reconcile();
            world.pods(ready, "");
        }
        world.image("v3");
        world.settle(ready, "");
        prop_assert_eq!(available(world.newest()), replicas_before);
        world.change(json!({"replicas": replicas_after}));
        for _ in 0..200 {
            let acted = world.reconcile();
            if !world.pods(ready, "") && !acted {
                break;
            }
        }
        prop_assert_eq!(world.available(), replicas_after);
        prop_assert_eq!(world.reason(PROGRESSING), "NewReplicaSetAvailable");
    }
}

#[test]
fn one_that_was_complete_is_not_looked_at_by_the_clock_when_it_loses_a_pod_and_no_look_leads_to_another_at_once() {
    let mut deployment = deployment(json!({"progressDeadlineSeconds": 20}));
    let told = |reason: &str| {
        let status = json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2, "conditions": [{"type": "Progressing",
            "status": "True", "reason": reason, "lastUpdateTime": "2026-01-01T00:00:00Z"}]});
        serde_json::from_value(status).unwrap()
    };
    // The deadline, and the second after it.
    let now = "2026-01-01T00:00:21Z".parse().unwrap();
    let status = told("NewReplicaSetAvailable");
    assert_eq!(status::check_again(&deployment, &status, now), None);
    let status = told("ReplicaSetUpdated");
    let second = std::time::Duration::from_secs(1);
    assert_eq!(status::check_again(&deployment, &status, now), Some(second));
    deployment.spec.progress_deadline_seconds = Some(600);
    let long = std::time::Duration::from_secs(580);
    assert_eq!(status::check_again(&deployment, &status, now), Some(long));
}
