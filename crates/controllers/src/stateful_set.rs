//! StatefulSet: replicas with a name, an order and storage of their own each. Watches StatefulSets, Pods and
//! ControllerRevisions by owner, and claims that go. Writes Pods, PersistentVolumeClaims, ControllerRevisions and the set's
//! status.
//!
//! Names follow from ordinals, and deletions name a uid, so that nothing is made or deleted twice however stale the cache.
//! A pod that was told to go counts as going before the cache says so: another would go beside it. What comes and goes is
//! [`plan`]'s to say, the order of an update [`rollout`]'s.

pub mod claims;
pub mod identity;
mod leaving;
pub mod plan;
pub mod rollout;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

use crate::Context;
use crate::claim::{Claimable, Claiming};
use crate::history::{self, History};
use crate::metrics::replicas::StatefulSetMetrics;
use crate::owner::controller_of;
use crate::status;
use crate::template::Digests;
use leaving::Leaving;
use plan::{Mend, Observed, Plan, Step, plan};

const NAME: &str = "statefulset-controller";
const WORKERS: usize = 5;
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// How many pods come or go at once at most.
const BURST: usize = 500;

struct StatefulSets {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    sets: Lister<StatefulSet>,
    pods: Claimable<StatefulSet, Pod>,
    leaving: Leaving,
    claims: Lister<PersistentVolumeClaim>,
    history: History<StatefulSet>,
    metrics: StatefulSetMetrics,
}

pub async fn run(cx: Context) {
    let sets = cx.informers.informer::<StatefulSet>();
    let pods = cx.informers.informer::<Pod>();
    let claims = cx.informers.informer::<PersistentVolumeClaim>();
    let revisions = cx.informers.informer::<ControllerRevision>();
    let claimable = Claimable::new(&pods);
    let client = cx.client_of(NAME);
    let digests = Digests::default();
    sets.observe(digests.observer(|set: &StatefulSet| &set.spec.template));
    revisions.observe(digests.observer(|revision: &ControllerRevision| &revision.data));
    let controllers = StatefulSets {
        history: History {
            client: client.clone(),
            revisions: Claimable::new(&revisions),
            hash_label: HASH_LABEL,
            digests,
        },
        client,
        events: cx.recorder(NAME),
        clock: cx.clock,
        sets: sets.lister(),
        pods: claimable.clone(),
        leaving: Leaving::default(),
        claims: claims.lister(),
        metrics: cx.metrics.stateful_sets.clone(),
    };
    let claimers = sets.lister();
    cx.controller(NAME, WORKERS)
        .watches(&sets, |set| [ObjectKey::of(set)])
        .watches_owned(&pods)
        .watches_owned(&revisions)
        .watches_changes(&pods, move |change| claimable.adopters(change))
        // A pod may wait for a claim of its name to be gone.
        .watches_changes(&claims, move |change| {
            let gone = change.is_deletion();
            let keys = gone.then(|| claimants(change.object(), &claimers));
            keys.unwrap_or_default()
        })
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

fn selector(set: &StatefulSet) -> Option<LabelSelector> {
    let selector = LabelSelector::from_typed(Some(&set.spec.selector)).ok();
    // Validation allows none that is empty; it would take every pod of a fitting name.
    selector.filter(|s| !s.is_everything())
}

fn claimants(claim: &PersistentVolumeClaim, sets: &Lister<StatefulSet>) -> Vec<ObjectKey<StatefulSet>> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let claimants = sets.select(namespace, |s| claims::is_named_after(s, name));
    claimants.iter().map(|s| ObjectKey::of(&**s)).collect()
}

impl StatefulSets {
    async fn reconcile(&self, key: ObjectKey<StatefulSet>) -> Result<Action, Error> {
        let Some(set) = self.sets.get(&key) else {
            self.metrics.forget(&key.namespace, &key.name);
            self.pods.forget(&key);
            self.leaving.forget(&key);
            self.history.revisions.forget(&key);
            return Ok(Action::Done);
        };
        let Some(selector) = selector(&set) else {
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        let revisions = self.history.claim(&*set, &selector).await?;
        let claiming = Claiming {
            client: &self.client,
            owner: &*set,
        };
        let cached = claiming
            .claim(&self.pods, &selector, |meta| {
                let name = meta.name.as_deref().unwrap_or_default();
                identity::ordinal(&set, name).is_some()
            })
            .await?;
        let api = &self.client.namespaced::<Pod>(&key.namespace);
        let find = |name: String| async move { api.find(&name).await };
        let pods = self.leaving.mark(&key, cached, self.clock.now(), find).await?;
        let known = set.status.as_ref().and_then(|s| s.collision_count);
        let (update, collisions) = self
            .history
            .current(&*set, &set.spec.template, &revisions, known)
            .await?;
        let noted = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
        let current = revisions
            .iter()
            .find(|r| noted == Some(history::name(r)))
            .unwrap_or(&update);
        let plan = plan(&Observed {
            set: &set,
            pods: &pods,
            current,
            update: &update,
            claim: &|name| self.claims.find(&key.namespace, name),
            now: self.clock.now(),
        });
        let mut status = plan.status.clone();
        status.collision_count = Some(collisions.unwrap_or(0));
        self.metrics.seen(
            &key.namespace,
            &key.name,
            set.spec.pod_management_policy.as_deref() == Some("Parallel"),
            i32::try_from(rollout::max_unavailable(&set)).unwrap_or(i32::MAX),
            identity::ordinals(&set)
                .1
                .saturating_sub(status.available_replicas.unwrap_or(0)),
        );
        let check_again = plan.check_again;
        let acted = self.execute(&set, plan).await;
        let changed = StatefulSet {
            status: Some(status),
            ..(*set).clone()
        };
        status::write(&self.client, &*set, &changed).await?;
        acted?;
        self.trim(&set, &pods, &revisions, current, &update).await?;
        Ok(check_again.map_or(Action::Done, Action::After))
    }

    /// What has to be right first; then pods come and go, in batches that double while all goes well.
    async fn execute(&self, set: &StatefulSet, plan: Plan) -> Result<(), Error> {
        for mend in &plan.mend {
            self.mend(set, mend).await?;
        }
        let (mut done, mut batch) = (0, 1);
        while let Some(now) = plan
            .steps
            .get(done..(done + batch).min(plan.steps.len()))
            .filter(|n| !n.is_empty())
        {
            for result in join_all(now.iter().map(|step| self.step(set, step))).await {
                result?;
            }
            done += now.len();
            batch = (batch * 2).min(BURST);
        }
        Ok(())
    }

    async fn mend(&self, set: &StatefulSet, mend: &Mend) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let result = match mend {
            Mend::Claims { pod, claims } => return self.create_claims(set, pod, claims).await,
            Mend::Labels { pod, patch } => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let api = self.client.namespaced::<Pod>(namespace);
                api.patch(name, Patch::Merge(patch.clone())).await.map(drop)
            }
            Mend::Owners { claim, owners } => {
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                let patch = json!({"metadata": {
                    "uid": claim.metadata.uid,
                    "resourceVersion": claim.metadata.resource_version,
                    "ownerReferences": owners,
                }});
                let api = self.client.namespaced::<PersistentVolumeClaim>(namespace);
                api.patch(name, Patch::Merge(patch)).await.map(drop)
            }
        };
        gone_is_done(result)?;
        Ok(())
    }

    async fn step(&self, set: &StatefulSet, step: &Step) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        match step {
            Step::Create { pod, claims } => {
                if let Err(error) = self.create_claims(set, pod, claims).await {
                    self.tell("create", set, pod, Some(&error.to_string()));
                    return Err(error);
                }
                match pods.create(pod).await {
                    Ok(_) => self.tell("create", set, pod, None),
                    Err(error) if error.is_already_exists() && self.is_own(set, pod).await? => {}
                    Err(error) if error.is_namespace_terminating() => {}
                    Err(error) => {
                        self.tell("create", set, pod, Some(&error.to_string()));
                        return Err(error.into());
                    }
                }
            }
            Step::Delete(pod) => {
                let options = DeleteOptions {
                    uid: pod.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let deleted = gone_is_done(pods.delete(name, &options).await);
                self.leaving.told(&ObjectKey::of(set), pod, deleted.as_ref().err());
                match &deleted {
                    Ok(Some(_)) => self.tell("delete", set, pod, None),
                    // A conflict: gone already, perhaps, and followed by another of its name.
                    Err(error) if !error.is_conflict() => self.tell("delete", set, pod, Some(&error.to_string())),
                    _ => {}
                }
                deleted?;
            }
        }
        Ok(())
    }

    /// The pod of this name is the set's: the cache did not know it yet.
    async fn is_own(&self, set: &StatefulSet, pod: &Pod) -> Result<bool, Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let there = self.client.namespaced::<Pod>(namespace).find(name).await?;
        Ok(there.is_some_and(|p| controller_of(&p.metadata).map(|o| &o.uid) == set.metadata.uid.as_ref()))
    }

    async fn create_claims(&self, set: &StatefulSet, pod: &Pod, claims: &[PersistentVolumeClaim]) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<PersistentVolumeClaim>(namespace);
        for claim in claims {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let about = format!(
                "create Claim {name} Pod {} in StatefulSet {}",
                pod.metadata.name.as_deref().unwrap_or_default(),
                identity::name(set)
            );
            match api.create(claim).await {
                Ok(_) => {
                    let message = format!("{about} success");
                    self.events.event(set, EventType::Normal, "SuccessfulCreate", message);
                }
                Err(error) if error.is_already_exists() => {
                    let there = api.find(name).await?;
                    if there.is_none_or(|c| c.metadata.deletion_timestamp.is_some()) {
                        return Err(Error::message(format!(
                            "claim {name} is being deleted; the pod has to wait until it is gone"
                        )));
                    }
                }
                Err(error) if error.is_namespace_terminating() => {}
                Err(error) => {
                    let message = format!("{about} failed error: {error}");
                    self.events.event(set, EventType::Warning, "FailedCreate", message);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn tell(&self, verb: &str, set: &StatefulSet, pod: &Pod, failure: Option<&str>) {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        let about = format!("{verb} Pod {pod} in StatefulSet {}", identity::name(set));
        let noun = if verb == "create" { "Create" } else { "Delete" };
        let (kind, reason, message) = match failure {
            None => (
                EventType::Normal,
                format!("Successful{noun}"),
                format!("{about} successful"),
            ),
            Some(error) => (
                EventType::Warning,
                format!("Failed{noun}"),
                format!("{about} failed error: {error}"),
            ),
        };
        self.events.event(set, kind, &reason, message);
    }

    /// Gives up revisions that no pod is of beyond `revisionHistoryLimit`.
    async fn trim(
        &self,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
        revisions: &[Arc<ControllerRevision>],
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> Result<(), Error> {
        let mut live: HashSet<&str> = pods.iter().map(|p| identity::revision(p)).collect();
        live.extend([history::name(current), history::name(update)]);
        let is_live = |r: &ControllerRevision| live.contains(history::name(r));
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let dead = revisions.iter().filter(|r| !is_live(r)).count();
        let surplus = dead.saturating_sub(usize::try_from(limit).unwrap_or(0));
        self.history.delete(&history::oldest(revisions, surplus, is_live)).await
    }
}
