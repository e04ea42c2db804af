//! DaemonSet: a pod of a template on every node that fits. Watches DaemonSets, Pods and ControllerRevisions by owner, and
//! Nodes (which join, leave, and change labels and taints). Writes Pods, ControllerRevisions and the set's status.
//!
//! Which pods come and go is [`plan`]'s to say, how old ones are replaced [`rollout`]'s; the revisions are
//! [`history`](crate::history)'s.

pub mod backoff;
pub mod plan;
pub mod pod;
pub mod rollout;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Change, Error, Lister};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::Context;
use crate::claim::{Claimable, Claiming};
use crate::history::{self, History, REVISION_LABEL};
use crate::pod_control::PodControl;
use crate::status;
use crate::template::Digests;
use backoff::Failures;
use plan::{Observed, Plan, plan};

const NAME: &str = "daemonset-controller";
const ACCOUNT: &str = "daemon-set-controller";
const WORKERS: usize = 4;

struct DaemonSets {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    sets: Lister<DaemonSet>,
    claimable: Claimable<DaemonSet, Pod>,
    nodes: Lister<Node>,
    history: History<DaemonSet>,
    control: PodControl<DaemonSet>,
    failures: Arc<Failures>,
}

pub async fn run(cx: Context) {
    let sets = cx.informers.informer::<DaemonSet>();
    let pods = cx.informers.informer::<Pod>();
    let nodes = cx.informers.informer::<Node>();
    let revisions = cx.informers.informer::<ControllerRevision>();
    let claimable = Claimable::new(&pods);
    let client = cx.client_of(ACCOUNT);
    let events = EventRecorder::start(&client, NAME, None, cx.clock, cx.shutdown.clone());
    let (control, controller) = PodControl::of(cx.controller(NAME, WORKERS), &client, &events, cx.clock, &pods);
    let failures = Arc::new(Failures::default());
    let digests = Digests::default();
    sets.observe(digests.observer(|set: &DaemonSet| &set.spec.template));
    revisions.observe(digests.observer(|revision: &ControllerRevision| &revision.data));
    let controllers = DaemonSets {
        history: History {
            client: client.clone(),
            revisions: Claimable::new(&revisions),
            hash_label: REVISION_LABEL,
            digests,
        },
        client,
        events,
        clock: cx.clock,
        sets: sets.lister(),
        claimable: claimable.clone(),
        nodes: nodes.lister(),
        control: control.clone(),
        failures: failures.clone(),
    };
    let followers = sets.lister();
    controller
        .watches_changes(&sets, move |change| {
            let set = change.object();
            let key = ObjectKey::of(&**set);
            control.observe_owner(change);
            if change.is_deletion() {
                failures.forget(set.metadata.uid.as_deref().unwrap_or_default());
            }
            [key]
        })
        .watches_owned(&revisions)
        .watches_changes(&pods, move |change| claimable.adopters(change))
        .watches_changes(&nodes, move |change| concerned(change, &followers))
        .run(
            controllers,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

fn selector(set: &DaemonSet) -> Option<LabelSelector> {
    LabelSelector::from_typed(Some(&set.spec.selector)).ok()
}

/// The sets for which a change of a node changes what belongs on it. Most changes of nodes (heartbeats) change nothing.
fn concerned(change: &Change<Node>, sets: &Lister<DaemonSet>) -> Vec<ObjectKey<DaemonSet>> {
    let node = change.object();
    let same = |old: &Arc<Node>| {
        let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone());
        old.metadata.labels == node.metadata.labels && taints(old) == taints(node)
    };
    if change.old().is_some_and(same) {
        return Vec::new();
    }
    let is_concerned = |set: &DaemonSet| {
        let now = pod::fit(set, node);
        match change.old() {
            Some(old) => pod::fit(set, old) != now,
            None => now.run || now.stay,
        }
    };
    let concerned = sets.select("", is_concerned);
    concerned.iter().map(|s| ObjectKey::of(&**s)).collect()
}

impl DaemonSets {
    async fn reconcile(&self, key: ObjectKey<DaemonSet>) -> Result<Action, Error> {
        let Some(set) = self.sets.get(&key) else {
            self.claimable.forget(&key);
            self.history.revisions.forget(&key);
            return Ok(Action::Done);
        };
        let Some(selector) = selector(&set) else {
            return Err(Error::terminal("the selector cannot be used; mend spec.selector"));
        };
        if selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.events.event(&*set, EventType::Warning, "SelectingAll", message);
            return Ok(Action::Done);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let may_act = self.control.is_settled(&set, &key).await?;
        let claiming = Claiming {
            client: &self.client,
            owner: &*set,
        };
        let pods = claiming.claim(&self.claimable, &selector, |_| true).await?;
        let revisions = self.history.claim(&*set, &selector).await?;
        let known = set.status.as_ref().and_then(|s| s.collision_count);
        let (current, collisions) = self
            .history
            .current(&*set, &set.spec.template, &revisions, known)
            .await?;
        let hash = history::label(&current, REVISION_LABEL).unwrap_or(history::name(&current));
        let old = self.without_doubles(&pods, &current, hash, revisions).await?;

        let uid = set.metadata.uid.clone().unwrap_or_default();
        let generation = set.metadata.generation.unwrap_or(0);
        let now = self.clock.now();
        let failing = |node: &str| (uid.clone(), generation, node.to_owned());
        let nodes = self.nodes.list();
        let plan = plan(&Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods,
            hash,
            may_act,
            wait: &|node| self.failures.wait(&failing(node), now),
            now,
        });
        for node in &plan.failed {
            self.failures.count(failing(node), now);
        }
        let mut status = plan.status.clone();
        status.collision_count = collisions;
        let check_again = plan.check_again;
        let acted = self.execute(&set, &key, hash, plan).await;
        if acted.is_ok() && may_act {
            self.trim(&set, &pods, &old).await?;
        }
        let changed = DaemonSet {
            status: Some(status),
            ..(*set).clone()
        };
        status::write(&self.client, &*set, &changed).await?;
        acted.map(|()| check_again.map_or(Action::Done, Action::After))
    }

    async fn execute(&self, set: &DaemonSet, key: &ObjectKey<DaemonSet>, hash: &str, plan: Plan) -> Result<(), Error> {
        for (kind, reason, message) in plan.events {
            self.events.event(set, kind, reason, message);
        }
        let new: Vec<Pod> = plan.create.iter().map(|node| pod::make(set, node, hash)).collect();
        let new: Vec<&Pod> = new.iter().collect();
        self.control.change(set, key, &new, &plan.delete).await
    }

    /// The other revisions. One that holds the same template as the current one is given up, after its pods are told
    /// that they are of the current one.
    async fn without_doubles(
        &self,
        pods: &[Arc<Pod>],
        current: &ControllerRevision,
        hash: &str,
        revisions: Vec<Arc<ControllerRevision>>,
    ) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let others = revisions.into_iter().filter(|r| r.metadata.uid != current.metadata.uid);
        let (doubles, old): (Vec<_>, Vec<_>) = others.partition(|r| self.history.is_double(r, current));
        let theirs: HashSet<&str> = doubles
            .iter()
            .filter_map(|r| history::label(r, REVISION_LABEL))
            .collect();
        for pod in pods {
            let label = pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION_LABEL));
            if label.is_some_and(|l| theirs.contains(l.as_str())) {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let patch = json!({"metadata": {"uid": pod.metadata.uid, "labels": {REVISION_LABEL: hash}}});
                let api = self.client.namespaced::<Pod>(namespace);
                gone_is_done(api.patch(name, Patch::Merge(patch)).await)?;
            }
        }
        self.history.delete(&doubles).await?;
        Ok(old)
    }

    /// Gives up old revisions beyond `revisionHistoryLimit`; those that pods are of stay.
    async fn trim(&self, set: &DaemonSet, pods: &[Arc<Pod>], old: &[Arc<ControllerRevision>]) -> Result<(), Error> {
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let live: HashSet<&str> = pods
            .iter()
            .filter_map(|p| p.metadata.labels.as_ref()?.get(REVISION_LABEL))
            .map(String::as_str)
            .collect();
        let is_live = |r: &ControllerRevision| history::label(r, REVISION_LABEL).is_some_and(|l| live.contains(l));
        self.history.delete(&history::oldest(old, surplus, is_live)).await
    }
}
