//! What one look at a Deployment and its ReplicaSets leads to. Pure: the same inputs give the same plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::revision::{self, DESIRED_REPLICAS, MAX_REPLICAS, REVISION};
use super::scale::{self, Resize};
use super::status::{self, PROGRESSING};
use super::{replicas, wanted};
use crate::owner::controller_reference;
use crate::pods::is_finished;
use crate::template::{Digests, template_hash};

/// Steps to take, in this order, and the status to write afterwards.
#[derive(Debug, Default)]
pub struct Plan {
    /// The ReplicaSet of a new template.
    pub create: Option<Box<ReplicaSet>>,
    /// Sets whose annotations or minReadySeconds follow the Deployment's: name, merge patch.
    pub annotate: Vec<(String, serde_json::Value)>,
    /// Sets to scale, with the annotations that go with their new size.
    pub resize: Vec<(Resize, BTreeMap<String, String>)>,
    /// Sets of forgotten revisions.
    pub delete: Vec<Arc<ReplicaSet>>,
    /// The Deployment's own revision annotation, when it must change.
    pub revision: Option<String>,
    pub status: DeploymentStatus,
    pub check_again: Option<Duration>,
}

/// What is observed. `sets` are all ReplicaSets the Deployment controls; `old_pods` is asked only for Recreate.
pub struct Observed<'a> {
    pub deployment: &'a Deployment,
    pub sets: &'a [Arc<ReplicaSet>],
    pub pods_of: &'a dyn Fn(&ReplicaSet) -> Vec<Arc<Pod>>,
    pub digests: &'a Digests,
    pub now: Timestamp,
}

pub fn plan(observed: &Observed<'_>) -> Plan {
    let &Observed {
        deployment,
        sets,
        digests,
        now,
        ..
    } = observed;
    let new = revision::find_new(deployment, sets, digests);
    let old: Vec<Arc<ReplicaSet>> = sets
        .iter()
        .filter(|s| new.as_ref().is_none_or(|n| n.metadata.uid != s.metadata.uid))
        .cloned()
        .collect();
    let mut plan = Plan {
        status: status::counted(deployment, new.as_deref(), sets, now),
        ..Plan::default()
    };

    if deployment.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let paused = deployment.spec.paused.unwrap_or(false);
    if status::deadline(deployment).is_some() {
        note_pause(&mut plan.status, paused, now);
    }

    // A known template keeps its set's annotations in step even while paused.
    if let Some(new) = &new {
        follow(deployment, new, &old, &mut plan);
    }
    // Recreate has one set at a time: there is nothing to keep in proportion.
    if paused || !scale::is_recreate(deployment) && scale::was_scaled(deployment, sets) {
        let resizes = scale::proportional(deployment, new.as_ref(), &old);
        push_resizes(deployment, resizes, &mut plan);
        if paused {
            plan.delete = revision::beyond_history(deployment, &old)
                .into_iter()
                .cloned()
                .collect();
        }
        return plan;
    }
    if scale::is_recreate(deployment) {
        recreate(observed, new.as_ref(), &old, &mut plan);
    } else {
        match &new {
            None => plan.create = Some(Box::new(new_set(deployment, sets, &old))),
            Some(new) => push_resizes(deployment, scale::roll(deployment, new, &old), &mut plan),
        }
    }
    note_new_set(&mut plan, new.as_deref(), now);
    status::progress(deployment, &mut plan.status, new.as_deref(), sets, now);
    if plan.resize.is_empty() && plan.create.is_none() && status::is_complete(deployment, &plan.status) {
        plan.delete = revision::beyond_history(deployment, &old)
            .into_iter()
            .cloned()
            .collect();
    }
    plan.check_again = status::check_again(deployment, &plan.status, now);
    plan
}

/// Recreate: old pods go, all of them, before the first new one comes.
fn recreate(observed: &Observed<'_>, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>], plan: &mut Plan) {
    let deployment = observed.deployment;
    let to_zero: Vec<Resize> = old
        .iter()
        .filter(|s| replicas(s) > 0)
        .map(|s| Resize { set: s.clone(), to: 0 })
        .collect();
    if !to_zero.is_empty() {
        push_resizes(deployment, to_zero, plan);
        return;
    }
    // What the sets count may be newer than what is known of the pods.
    let counted = old.iter().any(|s| s.status.as_ref().is_some_and(|st| st.replicas > 0));
    let still_running = counted || old.iter().flat_map(|s| (observed.pods_of)(s)).any(|p| !is_finished(&p));
    if still_running {
        return;
    }
    match new {
        None => plan.create = Some(Box::new(new_set(deployment, observed.sets, old))),
        Some(new) if replicas(new) != wanted(deployment) => {
            push_resizes(
                deployment,
                vec![Resize {
                    set: new.clone(),
                    to: wanted(deployment),
                }],
                plan,
            );
        }
        Some(_) => {}
    }
}

fn size_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let wanted = wanted(deployment);
    let (surge, _) = scale::fenceposts(deployment);
    BTreeMap::from([
        (DESIRED_REPLICAS.to_owned(), wanted.to_string()),
        (MAX_REPLICAS.to_owned(), (wanted + surge).to_string()),
    ])
}

fn push_resizes(deployment: &Deployment, resizes: Vec<Resize>, plan: &mut Plan) {
    let annotations = size_annotations(deployment);
    let differs = |r: &Resize| {
        replicas(&r.set) != r.to
            || annotations
                .iter()
                .any(|(k, v)| revision::annotation(&r.set, k) != Some(v.as_str()))
    };
    plan.resize
        .extend(resizes.into_iter().filter(differs).map(|r| (r, annotations.clone())));
}

/// The new set's annotations and minReadySeconds follow the Deployment; the Deployment's revision follows the set.
fn follow(deployment: &Deployment, new: &Arc<ReplicaSet>, old: &[Arc<ReplicaSet>], plan: &mut Plan) {
    let (annotations, revision) = revision::annotations(deployment, Some(new), old);
    let min_ready = deployment.spec.min_ready_seconds.unwrap_or(0);
    let set_min_ready = new.spec.min_ready_seconds.unwrap_or(0);
    if new.metadata.annotations.as_ref() != Some(&annotations) || min_ready != set_min_ready {
        let name = new.metadata.name.clone().unwrap_or_default();
        let patch = serde_json::json!({
            "metadata": {"annotations": annotations, "resourceVersion": new.metadata.resource_version},
            "spec": {"minReadySeconds": min_ready},
        });
        plan.annotate.push((name, patch));
    }
    let own = deployment.metadata.annotations.as_ref().and_then(|a| a.get(REVISION));
    if own != Some(&revision.to_string()) {
        plan.revision = Some(revision.to_string());
    }
}

/// The ReplicaSet for a template that has none yet.
fn new_set(deployment: &Deployment, all: &[Arc<ReplicaSet>], old: &[Arc<ReplicaSet>]) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let name = format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default());
    let label = |labels: &mut Option<BTreeMap<String, String>>| {
        labels
            .get_or_insert_default()
            .insert("pod-template-hash".into(), hash.clone());
    };
    let mut template = spec.template.clone();
    let mut meta = template.metadata.take().unwrap_or_default();
    label(&mut meta.labels);
    let labels = meta.labels.clone();
    template.metadata = Some(meta);
    let mut selector = spec.selector.clone();
    label(&mut selector.match_labels);
    let (mut annotations, _) = revision::annotations(deployment, None, old);
    annotations.extend(size_annotations(deployment));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(scale::new_size(deployment, 0, all)),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}

fn note_pause(status: &mut DeploymentStatus, paused: bool, now: Timestamp) {
    let reason = status::find(status, PROGRESSING).and_then(|c| c.reason.clone());
    if reason.as_deref() == Some(status::DEADLINE_EXCEEDED) {
        return;
    }
    let was_paused = reason.as_deref() == Some("DeploymentPaused");
    let fresh = |reason: &str, message: &str| {
        let mut condition = status::condition(PROGRESSING, true, reason, message.into(), now);
        condition.status = Some("Unknown".into());
        condition
    };
    if paused && !was_paused {
        status::set(status, fresh("DeploymentPaused", "Deployment is paused"));
    } else if !paused && was_paused {
        status::set(status, fresh("DeploymentResumed", "Deployment is resumed"));
    }
}

/// Progressing says that the new set was found or is being made, when it says nothing yet.
fn note_new_set(plan: &mut Plan, new: Option<&ReplicaSet>, now: Timestamp) {
    if let Some(created) = &plan.create {
        let message = format!(
            "Created new replica set {:?}",
            created.metadata.name.as_deref().unwrap_or_default()
        );
        status::set(
            &mut plan.status,
            status::condition(PROGRESSING, true, "NewReplicaSetCreated", message, now),
        );
    } else if let Some(new) = new
        && status::find(&plan.status, PROGRESSING).is_none()
    {
        let message = format!(
            "Found new replica set {:?}",
            new.metadata.name.as_deref().unwrap_or_default()
        );
        status::set(
            &mut plan.status,
            status::condition(PROGRESSING, true, "FoundNewReplicaSet", message, now),
        );
    }
}
