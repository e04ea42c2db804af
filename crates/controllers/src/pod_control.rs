//! Makes and deletes pods for their owners: in batches that double while all goes well, with events, and with
//! expectations, so that nothing is done twice while the cache is behind.

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ListOptions, ObjectKey, Patch, TypedKind};
use coracle_clock::Clock;
use coracle_informer::{Change, Controller, Error, Lister, SharedInformer, WorkQueue};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use crate::expectations::{Expectations, Wait};
use crate::owner::controller_of;

/// Of one controller, whose keys are of `O`.
pub struct PodControl<O: 'static> {
    client: Client,
    events: EventRecorder,
    pods: Lister<Pod>,
    expectations: Arc<Expectations>,
    queue: WorkQueue<ObjectKey<O>>,
}

impl<O: 'static> Clone for PodControl<O> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            events: self.events.clone(),
            pods: self.pods.clone(),
            expectations: self.expectations.clone(),
            queue: self.queue.clone(),
        }
    }
}

/// How many pods were made or deleted, and what went wrong first.
#[derive(Debug, Default)]
pub struct Done {
    pub count: usize,
    pub failure: Option<Error>,
}

fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The uid of the owner that manages the pod.
fn manager(pod: &Pod) -> Option<&str> {
    controller_of(&pod.metadata).map(|owner| owner.uid.as_str())
}

/// An owner's own uid.
fn own_uid<O: TypedKind>(owner: &O) -> &str {
    owner.meta().uid.as_deref().unwrap_or_default()
}

impl<O: TypedKind> PodControl<O> {
    /// For a controller in the making, which from now on reconciles an owner whenever a pod of it changes.
    pub fn of(
        controller: Controller<ObjectKey<O>>,
        client: &Client,
        events: &EventRecorder,
        clock: Clock,
        pods: &SharedInformer<Pod>,
    ) -> (Self, Controller<ObjectKey<O>>) {
        let control = Self {
            client: client.clone(),
            events: events.clone(),
            pods: pods.lister(),
            expectations: Arc::new(Expectations::new(clock)),
            queue: controller.queue(),
        };
        let expectations = control.expectations.clone();
        // What was seen is counted before the key is looked at for it.
        let controller = controller
            .watches_changes(pods, move |change| {
                observe(&expectations, change);
                None
            })
            .watches_owned(pods);
        (control, controller)
    }

    /// Whether the cache has everything that was done for this key. If not, the key is looked at again when it may have.
    pub async fn is_settled(&self, owner: &O, key: &ObjectKey<O>) -> Result<bool, Error> {
        let uid = own_uid(owner);
        let mut wait = self.expectations.wait(uid);
        if wait == Wait::Answer {
            let before = self.pods.controlled_by(uid);
            let there = self
                .client
                .namespaced::<Pod>(&key.namespace)
                .list(&ListOptions::default())
                .await?;
            let cached = self.pods.controlled_by(uid);
            // One that went while the API was asked is looked at again for that.
            if !self.expectations.learn(uid, &before, &there.items, &cached) {
                return Ok(false);
            }
            wait = self.expectations.wait(uid);
        }
        if let Wait::Events(most) = wait {
            self.queue.add_after(key.clone(), most);
        }
        Ok(wait == Wait::Over)
    }

    /// Nothing is expected of an owner that is gone, or has another in its place.
    pub fn observe_owner(&self, change: &Change<O>) {
        let now = (!change.is_deletion()).then(|| own_uid(&**change.object()));
        let before = change.old().unwrap_or(change.object());
        if now != Some(own_uid(&**before)) {
            self.expectations.forget(own_uid(&**before));
        }
    }

    /// Makes `new` and deletes `doomed`. What went wrong first, if anything did; the rest is done all the same, but after
    /// a creation that failed no further batch is tried.
    pub async fn change(&self, owner: &O, key: &ObjectKey<O>, new: &[&Pod], doomed: &[Arc<Pod>]) -> Result<(), Error> {
        if new.is_empty() && doomed.is_empty() {
            return Ok(());
        }
        self.expectations
            .expect(own_uid(owner), new.len(), doomed.iter().map(|p| uid_of(p)));
        let created = self.create_expected(owner, key, new).await.failure;
        let deleted = self.delete_expected(owner, key, doomed, |_| None).await.failure;
        created.or(deleted).map_or(Ok(()), Err)
    }

    /// Makes pods in batches that double while all goes well.
    pub async fn create(&self, owner: &O, key: &ObjectKey<O>, new: &[&Pod]) -> Done {
        self.expectations.expect(own_uid(owner), new.len(), []);
        self.create_expected(owner, key, new).await
    }

    /// Deletes pods, each after the patch that `before` gives for it.
    pub async fn delete(
        &self,
        owner: &O,
        key: &ObjectKey<O>,
        doomed: &[Arc<Pod>],
        before: impl Fn(&Pod) -> Option<Patch>,
    ) -> Done {
        self.expectations
            .expect(own_uid(owner), 0, doomed.iter().map(|p| uid_of(p)));
        self.delete_expected(owner, key, doomed, before).await
    }

    async fn create_expected(&self, owner: &O, key: &ObjectKey<O>, new: &[&Pod]) -> Done {
        let pods = self.client.namespaced::<Pod>(&key.namespace);
        let mut made = Done::default();
        let (mut tried, mut batch) = (0, 1);
        while let Some(now) = new.get(tried..(tried + batch).min(new.len())).filter(|n| !n.is_empty()) {
            let results = join_all(now.iter().map(|pod| pods.create(*pod))).await;
            tried += now.len();
            let mut failed = false;
            for result in results {
                match result {
                    Ok(pod) => {
                        made.count += 1;
                        let message = format!("Created pod: {}", name_of(&pod));
                        self.events.event(owner, EventType::Normal, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        if error.is_uncertain() {
                            self.expectations.doubt(own_uid(owner));
                        }
                        failed = true;
                        self.expectations.not_created(own_uid(owner), 1);
                        // Nothing can be made in a namespace that is going, and nothing has to be.
                        if !error.is_namespace_terminating() {
                            let message = format!("Error creating: {error}");
                            self.events.event(owner, EventType::Warning, "FailedCreate", message);
                            made.failure.get_or_insert(error.into());
                        }
                    }
                }
            }
            if failed {
                self.expectations.not_created(own_uid(owner), new.len() - tried);
                return made;
            }
            batch *= 2;
        }
        made
    }

    async fn delete_expected(
        &self,
        owner: &O,
        key: &ObjectKey<O>,
        doomed: &[Arc<Pod>],
        before: impl Fn(&Pod) -> Option<Patch>,
    ) -> Done {
        let pods = self.client.namespaced::<Pod>(&key.namespace);
        let deletions = doomed.iter().map(|pod| {
            let (pods, patch) = (&pods, before(pod));
            async move {
                let options = DeleteOptions {
                    uid: pod.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                if let Some(patch) = patch {
                    pods.patch(name_of(pod), patch).await?;
                }
                pods.delete(name_of(pod), &options).await
            }
        });
        let mut deleted = Done::default();
        for (pod, result) in doomed.iter().zip(join_all(deletions).await) {
            match result {
                Ok(_) => {
                    deleted.count += 1;
                    let message = format!("Deleted pod: {}", name_of(pod));
                    self.events.event(owner, EventType::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    if error.is_uncertain() {
                        self.expectations.doubt(own_uid(owner));
                    }
                    self.expectations.not_deleted(own_uid(owner), &uid_of(pod));
                    if error.is_not_found() {
                        continue;
                    }
                    // A conflict is no failure to tell of: there may be another pod of this name by now.
                    if !error.is_conflict() {
                        let message = format!("Error deleting: {error}");
                        self.events.event(owner, EventType::Warning, "FailedDelete", message);
                    }
                    deleted.failure.get_or_insert(error.into());
                }
            }
        }
        deleted
    }
}

/// Counts what the informer saw against what was asked for.
fn observe(expectations: &Expectations, change: &Change<Pod>) {
    let pod = change.object();
    let uid = uid_of(pod);
    let now = manager(pod);
    let before = change.old().and_then(|old| manager(old));
    if let Some(left) = before.filter(|before| Some(*before) != now) {
        expectations.observed(left, &uid, false, true);
    }
    if let Some(owner) = now {
        let is_going = change.is_deletion() || pod.metadata.deletion_timestamp.is_some();
        // A new pod may be terminating when it is first seen: then both have come true.
        let is_new = change.old().is_none() && !change.is_deletion();
        expectations.observed(owner, &uid, is_new, is_going);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn pods_of_an_earlier_owner_of_the_same_name_are_not_taken_for_what_was_asked_for() {
        let expectations = Expectations::new(Clock::system());
        let pod = |name: &str, owner: &str| -> Arc<Pod> {
            let owner =
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": owner, "controller": true});
            let meta = json!({"name": name, "uid": name, "ownerReferences": [owner]});
            Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
        };
        expectations.expect("new", 1, []);
        observe(&expectations, &Change::Added(pod("late", "old")));
        assert!(matches!(expectations.wait("new"), Wait::Events(_)));
        observe(&expectations, &Change::Added(pod("own", "new")));
        assert_eq!(expectations.wait("new"), Wait::Over);
    }
}
