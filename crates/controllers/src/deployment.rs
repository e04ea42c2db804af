//! Deployment: one ReplicaSet per version of the template, and an orderly way from one to the next. Watches Deployments,
//! ReplicaSets by owner, and Pods (Recreate waits for the last). Writes ReplicaSets and the Deployment's status.

pub mod plan;
pub mod revision;
pub mod scale;
pub mod status;
#[cfg(test)]
mod tests;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::Context;
use crate::claim::{Claimable, Claiming};
use crate::owner::controller_of;
use crate::template::{Digests, digest};
use crate::written::Written;
use plan::{Observed, Plan, plan};

const NAME: &str = "deployment-controller";
const WORKERS: usize = 5;

/// The replicas a Deployment asks for.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// The replicas a set is asked for.
pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The replicas of a set that are available.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

struct Deployments {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    deployments: Lister<Deployment>,
    sets: Claimable<Deployment, ReplicaSet>,
    pods: Lister<Pod>,
    written: Written<Deployment>,
    written_sets: Written<ReplicaSet, Deployment>,
    digests: Digests,
}

pub async fn run(cx: Context) {
    let deployments = cx.informers.informer::<Deployment>();
    let sets = cx.informers.informer::<ReplicaSet>();
    let pods = cx.informers.informer::<Pod>();
    let claimable = Claimable::new(&sets);
    let written = Written::default();
    let digests = Digests::default();
    deployments.observe(digests.observer(|deployment: &Deployment| &deployment.spec.template));
    sets.observe(digests.observer(|set: &ReplicaSet| &set.spec.template));
    let context = Deployments {
        client: cx.client_of(NAME),
        events: cx.recorder(NAME),
        clock: cx.clock,
        deployments: deployments.lister(),
        sets: claimable.clone(),
        pods: pods.lister(),
        written: written.clone(),
        written_sets: Written::default(),
        digests,
    };
    let by_set = sets.lister();
    cx.controller(NAME, WORKERS)
        .watches_changes(&deployments, move |change| {
            let key = ObjectKey::of(&**change.object());
            if change.is_deletion() {
                written.forget(&key);
            }
            [key]
        })
        .watches_owned(&sets)
        .watches_changes(&sets, move |change| claimable.adopters(change))
        // A Recreate rollout goes on when the last old pod is gone.
        .watches_changes(&pods, move |change| {
            let gone = change.is_deletion().then(|| owner_of_owner(change.object(), &by_set));
            gone.flatten()
        })
        .run(
            context,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

fn selector(deployment: &Deployment) -> Option<LabelSelector> {
    LabelSelector::from_typed(Some(&deployment.spec.selector)).ok()
}

/// The Deployment of the set of a pod.
fn owner_of_owner(pod: &Pod, sets: &Lister<ReplicaSet>) -> Option<ObjectKey<Deployment>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let owner = controller_of(&pod.metadata).filter(|o| o.kind == "ReplicaSet")?;
    let set = sets.find(namespace, &owner.name)?;
    let top = controller_of(&set.metadata).filter(|o| o.kind == "Deployment")?;
    Some(ObjectKey::of_owner(namespace, top))
}

impl Deployments {
    async fn reconcile(&self, key: ObjectKey<Deployment>) -> Result<Action, Error> {
        let Some(cached) = self.deployments.get(&key) else {
            self.sets.forget(&key);
            self.written_sets.forget(&key);
            return Ok(Action::Done);
        };
        let deployment = self.written.newest(&key, cached);
        let Some(selector) = selector(&deployment) else {
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        if selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.events
                .event(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(Action::Done);
        }
        let claiming = Claiming {
            client: &self.client,
            owner: &*deployment,
        };
        let cached = claiming.claim(&self.sets, &selector, |_| true).await?;
        let api = &self.client.namespaced::<ReplicaSet>(&key.namespace);
        let find = |name: String| async move { api.find(&name).await };
        let sets = self.written_sets.newest_of(&*deployment, cached, find).await?;
        let plan = {
            let pods_of = |set: &ReplicaSet| self.pods.controlled_by(set.metadata.uid.as_deref().unwrap_or_default());
            let now = self.clock.now();
            plan(&Observed {
                deployment: &deployment,
                sets: &sets,
                pods_of: &pods_of,
                digests: &self.digests,
                now,
            })
        };
        self.execute(&key, &deployment, plan).await
    }

    async fn execute(&self, key: &ObjectKey<Deployment>, deployment: &Deployment, plan: Plan) -> Result<Action, Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<ReplicaSet>(namespace);
        let mut status = plan.status;
        if let Some(set) = &plan.create {
            let set_name = set.metadata.name.as_deref().unwrap_or_default();
            self.written_sets.expect(key, set_name);
            let made = api.create(set).await;
            self.written_sets.answered(key, set_name, &made);
            match made {
                Ok(_) => self.tell_scaled(deployment, set, 0, replicas(set)),
                // Nothing can be made in a namespace that is going, and nothing has to be.
                Err(error) if error.is_namespace_terminating() => return Ok(Action::Done),
                Err(error) if error.is_already_exists() => {
                    if let Some(collision) = self.collision(deployment, set).await? {
                        status.collision_count = Some(collision);
                        self.write_status(deployment, status).await?;
                        return Ok(Action::Done);
                    }
                }
                Err(error) => {
                    let name = set.metadata.name.as_deref().unwrap_or_default();
                    let message = format!("Failed to create new replica set {name:?}: {error}");
                    self.events
                        .event(deployment, EventType::Warning, "ReplicaSetCreateError", message.clone());
                    if status::deadline(deployment).is_some() {
                        let (kind, now) = (status::PROGRESSING, self.clock.now());
                        let failed = status::condition(kind, false, "ReplicaSetCreateError", message, now);
                        status::set(&mut status, failed);
                    }
                    self.write_status(deployment, status).await?;
                    return Err(error.into());
                }
            }
        }
        for (set, patch) in plan.annotate {
            let patched = api.patch(&set, Patch::Merge(patch)).await;
            self.written_sets.answered(key, &set, &patched);
            patched?;
        }
        // A set whose annotations were just written has a newer revision than the cache knows.
        for (resize, annotations) in plan.resize {
            let set = &resize.set;
            let from = replicas(set);
            let patch = serde_json::json!({
                "metadata": {"annotations": annotations},
                "spec": {"replicas": resize.to},
            });
            let test_and_set = serde_json::json!([
                {"op": "test", "path": "/spec/replicas", "value": from},
                {"op": "test", "path": "/metadata/uid", "value": set.metadata.uid},
            ]);
            let set_name = set.metadata.name.as_deref().unwrap_or_default();
            let patch = json_patch_of(test_and_set, &patch, set);
            let patched = api.patch(set_name, Patch::Json(patch)).await;
            self.written_sets.answered(key, set_name, &patched);
            patched?;
            self.tell_scaled(deployment, set, from, resize.to);
        }
        for set in plan.delete {
            let options = DeleteOptions {
                uid: set.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let set_name = set.metadata.name.as_deref().unwrap_or_default();
            gone_is_done(api.delete(set_name, &options).await)?;
        }
        let patched = match plan.revision {
            None => None,
            Some(revision) => {
                let patch = serde_json::json!({"metadata": {
                    "uid": deployment.metadata.uid,
                    "annotations": {revision::REVISION: revision},
                }});
                let deployments = self.client.namespaced::<Deployment>(namespace);
                let patched = deployments.patch(name, Patch::Merge(patch)).await?;
                self.written.note(patched.clone());
                Some(patched)
            }
        };
        self.write_status(patched.as_deref().unwrap_or(deployment), status)
            .await?;
        Ok(plan.check_again.map_or(Action::Done, Action::After))
    }

    /// The name is taken: by our own set (then nothing is wrong), or by a stranger (then the hash must change).
    async fn collision(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<Option<i32>, Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let there = self.client.namespaced::<ReplicaSet>(namespace).get(name).await?;
        let ours = controller_of(&there.metadata).is_some_and(|o| Some(&o.uid) == deployment.metadata.uid.as_ref());
        let template = |s: &ReplicaSet| s.spec.template.as_ref().map(digest);
        if ours && template(&there) == template(set) {
            return Ok(None);
        }
        Ok(Some(
            deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0) + 1,
        ))
    }

    fn tell_scaled(&self, deployment: &Deployment, set: &ReplicaSet, from: i32, to: i32) {
        if from == to {
            return;
        }
        let direction = if to > from { "up" } else { "down" };
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
        self.events
            .event(deployment, EventType::Normal, "ScalingReplicaSet", message);
    }

    async fn write_status(&self, deployment: &Deployment, status: DeploymentStatus) -> Result<(), Error> {
        let changed = Deployment {
            status: Some(status),
            ..deployment.clone()
        };
        let written = crate::status::write(&self.client, deployment, &changed).await?;
        written.into_iter().for_each(|w| self.written.note(w));
        Ok(())
    }
}

/// The tests, then the changes of a merge patch of annotations and replicas, as one JSON patch: a set that was scaled
/// by someone else meanwhile is left alone.
fn json_patch_of(tests: serde_json::Value, change: &serde_json::Value, set: &ReplicaSet) -> serde_json::Value {
    let mut operations = tests.as_array().cloned().unwrap_or_default();
    if set.metadata.annotations.is_none() {
        operations.push(serde_json::json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    for (key, value) in change["metadata"]["annotations"].as_object().into_iter().flatten() {
        let path = format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1"));
        operations.push(serde_json::json!({"op": "add", "path": path, "value": value}));
    }
    operations
        .push(serde_json::json!({"op": "replace", "path": "/spec/replicas", "value": change["spec"]["replicas"]}));
    serde_json::Value::Array(operations)
}
