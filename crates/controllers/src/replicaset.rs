//! ReplicaSet: keeps N pods of a template. Watches ReplicaSets, and Pods by owner. Writes Pods and the set's status.
//!
//! Whatever can be seen as a ReplicaSet ([`Replicating`]) is kept by the same code: ReplicationControllers are.

pub mod plan;

use std::borrow::Cow;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, Patch, TypedKind};
use coracle_clock::Clock;
use coracle_informer::{Action, Change, Controller, Error, Lister};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Context;
use crate::expectations::Expectations;
use crate::owner::{self, controller_of};
use crate::template::pod_from_template;
use plan::{note_failure, plan};

const NAME: &str = "replicaset-controller";
const WORKERS: usize = 8;

/// A kind that keeps N pods of a template, seen as a ReplicaSet.
pub trait Replicating:
    TypedKind + k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + Clone + PartialEq
{
    fn as_set(&self) -> Cow<'_, ReplicaSet>;

    /// The same with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicating for ReplicaSet {
    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self {
            status: Some(status),
            ..self.clone()
        }
    }
}

struct Replicas<K: Replicating> {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    sets: Lister<K>,
    pods: Lister<Pod>,
    expectations: Arc<Expectations>,
}

pub async fn run(cx: Context) {
    run_for::<ReplicaSet>(cx, NAME, NAME).await;
}

/// The controller of this name for the kind `K`, acting as `account`.
pub async fn run_for<K: Replicating>(cx: Context, name: &'static str, account: &str) {
    let sets = cx.informers.informer::<K>();
    let pods = cx.informers.informer::<Pod>();
    let expectations = Arc::new(Expectations::new(cx.clock));
    let controllers = Replicas {
        client: cx.client_of(account),
        events: cx.recorder(account),
        clock: cx.clock,
        sets: sets.lister(),
        pods: pods.lister(),
        expectations: expectations.clone(),
    };
    let (forget, lister) = (expectations.clone(), sets.lister());
    Controller::new(name, WORKERS, cx.clock)
        .watches_changes(&sets, move |change| {
            let key = ObjectKey::of(&**change.object());
            if change.is_deletion() {
                forget.forget(&key.to_string());
            }
            [key]
        })
        .watches_owned(&pods)
        .watches_changes(&pods, move |change| observe(change, &expectations, &lister))
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

/// Counts what the informer saw against what was asked for. An orphan wakes every set that might adopt it.
fn observe<K: Replicating>(change: &Change<Pod>, expectations: &Expectations, sets: &Lister<K>) -> Vec<ObjectKey<K>> {
    let pod = change.object();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(owner) = controller_of(&pod.metadata) else {
        if change.is_deletion() {
            return Vec::new();
        }
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let may_adopt = |s: &K| selector(&s.as_set()).is_some_and(|s| s.matches_labels(&labels));
        return sets
            .select(namespace, may_adopt)
            .iter()
            .map(|s| ObjectKey::of(&**s))
            .collect();
    };
    if owner.kind == K::KIND {
        let key = format!("{namespace}/{}", owner.name);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if change.is_deletion() || pod.metadata.deletion_timestamp.is_some() {
            expectations.deletion_observed(&key, uid);
        } else if change.old().is_none() {
            expectations.creation_observed(&key);
        }
    }
    Vec::new()
}

fn selector(set: &ReplicaSet) -> Option<LabelSelector> {
    let selector = LabelSelector::from_typed(Some(&set.spec.selector)).ok();
    // Validation allows none that is empty; it would take every pod.
    selector.filter(|s| !s.is_everything())
}

impl<K: Replicating> Replicas<K> {
    async fn reconcile(&self, key: ObjectKey<K>) -> Result<Action, Error> {
        let Some(owner) = self.sets.get(&key) else {
            return Ok(Action::Done);
        };
        let set = owner.as_set();
        let Some(selector) = selector(&set) else {
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        let name = key.to_string();
        let may_act = self.expectations.satisfied(&name);
        let owned = self.claim(&owner, &selector).await?;
        let plan = plan(&set, &owned, &self.related(&set), may_act, self.clock.now());

        let mut failure = None;
        if plan.create > 0 {
            failure = self
                .create_pods(&owner, &set, &name, plan.create)
                .await
                .err()
                .map(|e| ("FailedCreate", e));
        } else if !plan.delete.is_empty() {
            failure = self
                .delete_pods(&owner, &name, &plan.delete)
                .await
                .err()
                .map(|e| ("FailedDelete", e));
        }
        let mut status = plan.status;
        let told = failure.as_ref().map(|(reason, error)| (*reason, error.to_string()));
        note_failure(&mut status, told, self.clock.now());
        self.write_status(&owner, status).await?;
        match failure {
            Some((_, error)) => Err(error),
            None => Ok(plan.check_again.map_or(Action::Done, Action::After)),
        }
    }

    /// The set's pods, after adopting matching orphans and releasing pods that match no longer.
    async fn claim(&self, set: &K, selector: &LabelSelector) -> Result<Vec<Arc<Pod>>, Error> {
        let meta = set.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let none = Default::default();
        let matches = |m: &ObjectMeta| selector.matches_labels(m.labels.as_ref().unwrap_or(&none));
        let candidates = self.pods.in_namespace(namespace);
        let claim = owner::claim(meta, candidates, matches);
        let mut owned = claim.owned;
        if claim.adopt.is_empty() && claim.release.is_empty() {
            return Ok(owned);
        }
        let pods = self.client.namespaced::<Pod>(namespace);
        if !claim.adopt.is_empty() {
            // The cache may be behind: a set that is being deleted adopts nothing.
            let name = meta.name.as_deref().unwrap_or_default();
            let fresh = self.client.namespaced::<K>(namespace).find(name).await?;
            let living = fresh.filter(|f| f.meta().uid == meta.uid && f.meta().deletion_timestamp.is_none());
            if living.is_some() {
                let reference = owner::controller_reference(set);
                for pod in claim.adopt {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    match pods
                        .patch(name, Patch::Merge(owner::adopt_patch(&reference, &pod.metadata)))
                        .await
                    {
                        Ok(adopted) => owned.push(adopted),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        for pod in claim.release {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let uid = meta.uid.as_deref().unwrap_or_default();
            match pods
                .patch(name, Patch::Merge(owner::release_patch(uid, &pod.metadata)))
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(owned)
    }

    /// Pods of all sets with the same owner: they count for spreading when some have to go.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let Some(owner) = controller_of(&set.metadata) else {
            return self.pods.controlled_by(set.metadata.uid.as_deref().unwrap_or_default());
        };
        let siblings = self.sets.select(namespace, |s| {
            controller_of(s.meta()).is_some_and(|o| o.uid == owner.uid)
        });
        let uids = siblings.iter().filter_map(|s| s.meta().uid.as_deref());
        uids.flat_map(|uid| self.pods.controlled_by(uid)).collect()
    }

    /// Creates pods in batches that double while all goes well, so that a quota is not hit hundreds of times.
    async fn create_pods(&self, owner: &K, set: &ReplicaSet, key: &str, count: usize) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let Some(template) = set.spec.template.as_ref() else {
            return Ok(());
        };
        let pod = pod_from_template(template, namespace, name, owner::controller_reference(owner));
        let pods = self.client.namespaced::<Pod>(namespace);
        self.expectations.expect(key, count, []);
        let mut left = count;
        let mut batch = 1;
        while left > 0 {
            let now = batch.min(left);
            let results = join_all((0..now).map(|_| pods.create(&pod))).await;
            let mut failure = None;
            for result in results {
                match result {
                    Ok(created) => {
                        let message = format!("Created pod: {}", created.metadata.name.as_deref().unwrap_or_default());
                        self.events.event(owner, EventType::Normal, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        self.expectations.creation_observed(key);
                        failure = Some(error);
                    }
                }
            }
            left -= now;
            if let Some(error) = failure {
                for _ in 0..left {
                    self.expectations.creation_observed(key);
                }
                if namespace_is_going(&error) {
                    return Ok(());
                }
                self.events.event(
                    owner,
                    EventType::Warning,
                    "FailedCreate",
                    format!("Error creating: {error}"),
                );
                return Err(error.into());
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn delete_pods(&self, set: &K, key: &str, doomed: &[Arc<Pod>]) -> Result<(), Error> {
        let namespace = set.meta().namespace.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        let uid_of = |p: &Pod| p.metadata.uid.clone().unwrap_or_default();
        self.expectations.expect(key, 0, doomed.iter().map(|p| uid_of(p)));
        let deletions = doomed.iter().map(|pod| {
            let pods = &pods;
            async move {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let options = DeleteOptions {
                    uid: pod.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                (pod, pods.delete(name, &options).await)
            }
        });
        let mut failure = None;
        for (pod, result) in join_all(deletions).await {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match result {
                Ok(_) => {
                    self.events.event(
                        set,
                        EventType::Normal,
                        "SuccessfulDelete",
                        format!("Deleted pod: {name}"),
                    );
                }
                Err(error) => {
                    self.expectations.deletion_observed(key, &uid_of(pod));
                    if !error.is_not_found() && !error.is_conflict() {
                        let message = format!("Error deleting: {error}");
                        self.events.event(set, EventType::Warning, "FailedDelete", message);
                        failure = Some(error);
                    }
                }
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn write_status(&self, owner: &K, status: ReplicaSetStatus) -> Result<(), Error> {
        let changed = owner.with_status(status);
        if changed == *owner {
            return Ok(());
        }
        let namespace = owner.meta().namespace.as_deref().unwrap_or_default();
        match self.client.namespaced::<K>(namespace).update_status(&changed).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The namespace is being deleted: nothing can be created there, and nothing has to be.
fn namespace_is_going(error: &coracle_client::Error) -> bool {
    let details = error.status().and_then(|s| s.details.as_ref());
    details.is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
}
