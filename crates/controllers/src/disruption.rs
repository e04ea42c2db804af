//! Disruption: keeps each PodDisruptionBudget's status, by which evictions are granted or refused. Watches budgets and
//! Pods (by the budgets that select them). How many pods there should be is asked of their controllers, whatever kind
//! they are, by the scale subresource. Also takes back a pod's word that it is about to be disturbed when it was not.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::discovery::Discovered;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{ApiResource, Client, DynamicObject, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Change, Error, Lister};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde_json::json;

use crate::Context;
use crate::members::Members;
use crate::owner::controller_of;
use crate::pace::Pace;
use crate::selector_text::spelt;
use crate::status;
use plan::{Expected, expected, failed, needs_scale, plan, stale_in};

const NAME: &str = "disruption-controller";
const WORKERS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Budget(ObjectKey<PodDisruptionBudget>),
    /// A pod that says that it is about to be disturbed.
    Target(ObjectKey<Pod>),
}

struct Budgets {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    budgets: Lister<PodDisruptionBudget>,
    pods: Lister<Pod>,
    members: Members<PodDisruptionBudget>,
    pace: Pace<ObjectKey<PodDisruptionBudget>>,
    deployments: Lister<Deployment>,
    replica_sets: Lister<ReplicaSet>,
    replication_controllers: Lister<ReplicationController>,
    stateful_sets: Lister<StatefulSet>,
}

pub async fn run(cx: Context) {
    let budgets = cx.informers.informer::<PodDisruptionBudget>();
    let pods = cx.informers.informer::<Pod>();
    let members = Members::new(|_| true);
    pods.observe(members.observer());
    let context = Budgets {
        client: cx.client_of(NAME),
        events: cx.recorder(NAME),
        clock: cx.clock,
        budgets: budgets.lister(),
        pods: pods.lister(),
        members: members.clone(),
        pace: Pace::new(cx.clock),
        deployments: cx.informers.informer::<Deployment>().lister(),
        replica_sets: cx.informers.informer::<ReplicaSet>().lister(),
        replication_controllers: cx.informers.informer::<ReplicationController>().lister(),
        stateful_sets: cx.informers.informer::<StatefulSet>().lister(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&budgets, |budget| [Key::Budget(ObjectKey::of(budget))])
        .watches_changes(&pods, move |change: &Change<Pod>| {
            let pod = change.object();
            let mut selecting = members.selecting(pod);
            if let Some(old) = change.old().filter(|old| old.metadata.labels != pod.metadata.labels) {
                selecting.extend(members.selecting(old));
            }
            let mut keys: Vec<Key> = selecting.into_iter().map(Key::Budget).collect();
            if !change.is_deletion() && stale_in(pod, coracle_clock::Timestamp::MIN).is_some() {
                keys.push(Key::Target(ObjectKey::of(&**pod)));
            }
            keys
        })
        .run(
            context,
            |this, key| async move {
                match key {
                    Key::Budget(key) => this.reconcile(&key).await,
                    Key::Target(key) => this.take_back(&key).await,
                }
            },
            cx.shutdown.clone(),
        )
        .await;
}

fn selector(budget: &PodDisruptionBudget) -> Option<LabelSelector> {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    LabelSelector::from_typed(Some(selector?)).ok()
}

/// The resource of an owner, if it has a scale.
fn scalable<'d>(found: &'d [Discovered], group: &str, owner: &OwnerReference) -> Result<&'d ApiResource, String> {
    let is_of_kind = |d: &&Discovered| d.resource.group == group && d.resource.kind == owner.kind;
    let of_kind: Vec<&Discovered> = found.iter().filter(is_of_kind).collect();
    let Some(first) = of_kind.first() else {
        let (kind, version) = (&owner.kind, &owner.api_version);
        return Err(format!("no matches for kind {kind:?} in version {version:?}"));
    };
    let scalable = of_kind.iter().find(|d| d.subresources.iter().any(|s| s == "scale"));
    scalable.map(|d| &d.resource).ok_or_else(|| {
        let name = match group {
            "" => first.resource.plural.to_string(),
            group => format!("{}.{group}", first.resource.plural),
        };
        format!("{name} does not implement the scale subresource")
    })
}

/// What controls a pod.
struct Scale {
    uid: String,
    replicas: i32,
}

impl Budgets {
    async fn reconcile(&self, key: &ObjectKey<PodDisruptionBudget>) -> Result<Action, Error> {
        let Some(budget) = self.budgets.get(key) else {
            self.members.forget(key);
            self.pace.forget(key);
            return Ok(Action::Done);
        };
        if let Some(left) = self.pace.rest(key) {
            return Ok(Action::After(left));
        }
        let pods = match selector(&budget) {
            Some(selector) => self.members.of(key, &selector, &self.pods),
            None => {
                self.members.forget(key);
                Vec::new()
            }
        };
        self.pace.looked(key, pods.len());
        if pods.is_empty() {
            self.events
                .event(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let now = self.clock.now();
        let (expected, unmanaged) = match self.expected(&budget, &pods).await {
            Ok(found) => found,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.events
                    .event(&*budget, EventType::Warning, "CalculateExpectedPodCountFailed", message);
                self.write(&budget, failed(&budget, &why, now)).await?;
                // The controller may come later than its pods.
                return Err(Error::message(why));
            }
        };
        if unmanaged {
            let selected = spelt(budget.spec.as_ref().and_then(|s| s.selector.as_ref()));
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selected}) were found to be unmanaged. As a result, \
                 the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account \
                 for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.events
                .event(&*budget, EventType::Warning, "UnmanagedPods", message);
        }
        let plan = plan(&budget, &pods, expected, now);
        for pod in &plan.not_deleted {
            let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.events.event(&**pod, EventType::Warning, "NotDeleted", message);
        }
        self.write(&budget, plan.status).await?;
        Ok(plan.check_again.map_or(Action::Done, Action::After))
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Result<(), Error> {
        let changed = PodDisruptionBudget {
            status: Some(status),
            ..budget.clone()
        };
        status::write(&self.client, budget, &changed).await.map(drop)
    }

    /// How many pods there should be, and whether there are some that no controller wants.
    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<(Expected, bool), String> {
        if !needs_scale(budget) {
            return Ok((expected(budget, i32::try_from(pods.len()).unwrap_or(i32::MAX))?, false));
        }
        // Each controller counts once; which of its pods led to it does not matter.
        let mut owners: BTreeMap<&str, (&Pod, &OwnerReference)> = BTreeMap::new();
        let mut unmanaged = false;
        for pod in pods {
            match controller_of(&pod.metadata) {
                Some(owner) => drop(owners.entry(&owner.uid).or_insert((&**pod, owner))),
                None => unmanaged = true,
            }
        }
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for (pod, owner) in owners.into_values() {
            match self.scale_of(namespace, owner).await? {
                Some(scale) => drop(scales.insert(scale.uid, scale.replicas)),
                None => {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    return Err(format!("found no controllers for pod {name:?}"));
                }
            }
        }
        let sum = scales.values().fold(0, |sum: i32, n| sum.saturating_add(*n));
        Ok((expected(budget, sum)?, unmanaged))
    }

    async fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<Scale>, String> {
        let (group, _) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let is = |uid: &Option<String>| uid.as_deref() == Some(owner.uid.as_str());
        let scale = |uid: &Option<String>, replicas: Option<i32>| {
            let uid = uid.clone().unwrap_or_default();
            let replicas = replicas.unwrap_or(1);
            Ok(Some(Scale { uid, replicas }))
        };
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self
                    .replica_sets
                    .find(namespace, &owner.name)
                    .filter(|s| is(&s.metadata.uid))
                else {
                    return Ok(None);
                };
                // The Deployment's number is what counts: it has several sets during a rollout.
                let above = controller_of(&set.metadata).filter(|o| o.kind == "Deployment");
                if let Some(above) = above
                    && let Some(deployment) = self.deployments.find(namespace, &above.name)
                    && deployment.metadata.uid.as_deref() == Some(above.uid.as_str())
                {
                    return scale(&deployment.metadata.uid, deployment.spec.replicas);
                }
                scale(&set.metadata.uid, set.spec.replicas)
            }
            ("", "ReplicationController") => {
                let found = self.replication_controllers.find(namespace, &owner.name);
                match found.filter(|c| is(&c.metadata.uid)) {
                    Some(found) => scale(&found.metadata.uid, found.spec.as_ref().and_then(|s| s.replicas)),
                    None => Ok(None),
                }
            }
            ("apps", "StatefulSet") => {
                let found = self.stateful_sets.find(namespace, &owner.name);
                match found.filter(|s| is(&s.metadata.uid)) {
                    Some(found) => scale(&found.metadata.uid, found.spec.replicas),
                    None => Ok(None),
                }
            }
            _ => self.scale_of_other(namespace, group, owner).await,
        }
    }

    /// Any other kind's, by its scale subresource.
    async fn scale_of_other(
        &self,
        namespace: &str,
        group: &str,
        owner: &OwnerReference,
    ) -> Result<Option<Scale>, String> {
        let found = self.client.discover().await.map_err(|e| e.to_string())?;
        let resource = scalable(&found, group, owner)?;
        let api = self.client.dynamic::<DynamicObject>(resource).within(namespace);
        let Some(scale) = api.scale().find(&owner.name).await.map_err(|e| e.to_string())? else {
            return Ok(None);
        };
        let uid = scale.metadata.uid.clone().unwrap_or_else(|| owner.uid.clone());
        if uid != owner.uid {
            return Ok(None);
        }
        let replicas = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        Ok(Some(Scale { uid, replicas }))
    }

    /// A pod that was to be disturbed and was not says so no longer.
    async fn take_back(&self, key: &ObjectKey<Pod>) -> Result<Action, Error> {
        let now = self.clock.now();
        let Some((pod, left)) = self.pods.get(key).and_then(|p| stale_in(&p, now).map(|left| (p, left))) else {
            return Ok(Action::Done);
        };
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "False",
            "reason": null,
            "message": null,
            "lastTransitionTime": Time(now),
            "observedGeneration": pod.metadata.generation,
        });
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let pods = self.client.namespaced::<Pod>(&key.namespace);
        gone_is_done(pods.status().patch(&key.name, Patch::Strategic(patch)).await)?;
        Ok(Action::Done)
    }
}
