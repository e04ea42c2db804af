//! ReplicaSet: keeps N pods of a template. Watches ReplicaSets, and Pods by owner. Writes Pods and the set's status.
//!
//! Whatever can be seen as a ReplicaSet ([`Replicating`]) is kept by the same code: ReplicationControllers are.

pub mod plan;
pub mod tally;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, ObjectKey, TypedKind, Whole};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Context;
use crate::claim::Claiming;
use crate::metrics::replicas::ReplicaSetMetrics;
use crate::owner::{self, controller_of};
use crate::pod_control::PodControl;
use crate::status;
use crate::template::pod_from_template;
use crate::written::Written;
use plan::{doomed, note_failure, plan};
use tally::{Basis, Look, Tallies};

const NAME: &str = "replicaset-controller";
const WORKERS: usize = 8;

/// A kind that keeps N pods of a template, seen as a ReplicaSet.
pub trait Replicating:
    TypedKind + Whole + k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + Clone + PartialEq
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
    clock: Clock,
    sets: Lister<K>,
    pods: Lister<Pod>,
    control: PodControl<K>,
    written: Written<K>,
    tallies: Tallies<K>,
    metrics: ReplicaSetMetrics,
}

pub async fn run(cx: Context) {
    run_for::<ReplicaSet>(cx, NAME, NAME).await;
}

/// The controller of this name for the kind `K`, acting as `account`.
pub async fn run_for<K: Replicating>(cx: Context, name: &'static str, account: &str) {
    let sets = cx.informers.informer::<K>();
    let pods = cx.informers.informer::<Pod>();
    let client = cx.client_of(account);
    let events = cx.recorder(account);
    let (control, controller) = PodControl::of(cx.controller(name, WORKERS), &client, &events, cx.clock, &pods);
    let written = Written::default();
    let tallies = Tallies::default();
    pods.observe(tallies.observer());
    let would_adopt = tallies.orphans().clone();
    let controllers = Replicas {
        client,
        clock: cx.clock,
        sets: sets.lister(),
        pods: pods.lister(),
        control: control.clone(),
        written: written.clone(),
        tallies,
        metrics: cx.metrics.replica_sets.clone(),
    };
    controller
        .watches_changes(&sets, move |change| {
            let key = ObjectKey::of(&**change.object());
            control.observe_owner(change);
            if change.is_deletion() {
                written.forget(&key);
            }
            [key]
        })
        .watches_changes(&pods, move |change| match change.is_deletion() {
            true => Vec::new(),
            false => would_adopt.selecting(change.object()),
        })
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

fn selector(set: &ReplicaSet) -> Option<LabelSelector> {
    let selector = LabelSelector::from_typed(Some(&set.spec.selector)).ok();
    // Validation allows none that is empty; it would take every pod.
    selector.filter(|s| !s.is_everything())
}

impl<K: Replicating> Replicas<K> {
    async fn reconcile(&self, key: ObjectKey<K>) -> Result<Action, Error> {
        let Some(cached) = self.sets.get(&key) else {
            self.tallies.forget(&key);
            return Ok(Action::Done);
        };
        let owner = self.written.newest(&key, cached);
        let set = owner.as_set();
        let Some(selector) = selector(&set) else {
            self.tallies.forget(&key);
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        let basis = Basis::of(&set, selector);
        let may_act = self.control.is_settled(&owner, &key).await?;
        let now = self.clock.now();
        let Look {
            mut totals,
            orphans,
            strangers,
        } = self.tallies.look(&key, &basis, &self.pods, now);
        let mut adopted = Vec::new();
        if set.metadata.deletion_timestamp.is_none() {
            let claiming = Claiming {
                client: &self.client,
                owner: &*owner,
            };
            adopted = claiming.adopt(orphans, |_, _| None).await?;
            claiming.release(strangers, |_, _| None).await?;
        }
        adopted.iter().for_each(|pod| totals.add(&basis.share(pod), now));
        let plan = plan(&set, &totals, may_act, now);

        let new = self.new_pod(&owner, &set).filter(|_| plan.create > 0);
        let new: Vec<&Pod> = new.iter().cycle().take(plan.create).collect();
        let delete = if plan.shrink {
            self.doomed(&set, &basis, adopted, now)
        } else {
            Vec::new()
        };
        let reason = if new.is_empty() { "FailedDelete" } else { "FailedCreate" };
        let changed = self.control.change(&owner, &key, &new, &delete).await;
        let failure = changed.err().map(|error| (reason, error));
        let mut status = plan.status;
        let told = failure.as_ref().map(|(reason, error)| (*reason, error.to_string()));
        note_failure(&mut status, told, self.clock.now());
        let written = status::write(&self.client, &*owner, &owner.with_status(status)).await?;
        written.into_iter().for_each(|w| self.written.note(w));
        match failure {
            Some((_, error)) => Err(error),
            None => Ok(plan.check_again.map_or(Action::Done, Action::After)),
        }
    }

    fn new_pod(&self, owner: &K, set: &ReplicaSet) -> Option<Pod> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let template = set.spec.template.as_ref()?;
        let reference = owner::controller_reference(owner);
        Some(pod_from_template(template, namespace, name, reference))
    }

    /// The pods that have to go, of those in the cache and those just adopted.
    fn doomed(&self, set: &ReplicaSet, basis: &Basis, adopted: Vec<Arc<Pod>>, now: Timestamp) -> Vec<Arc<Pod>> {
        let mut owned = basis.owned(&self.pods);
        let known: HashSet<_> = owned.iter().map(|pod| pod.metadata.uid.clone()).collect();
        owned.extend(adopted.into_iter().filter(|pod| !known.contains(&pod.metadata.uid)));
        let doomed = doomed(set, &owned, &self.related(set), now);
        self.metrics.shrinks(&owned, &doomed, now);
        doomed
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
}
