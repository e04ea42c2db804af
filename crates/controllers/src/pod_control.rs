//! Makes and deletes pods for their owners: in batches that double while all goes well, with events, and with
//! expectations, so that nothing is done twice while the cache is behind.

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, Patch, TypedKind};
use coracle_clock::Clock;
use coracle_informer::{Change, Error};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use crate::expectations::{Expectations, is_uncertain};
use crate::owner::controller_of;

/// Cheap to clone.
#[derive(Clone)]
pub struct PodControl {
    client: Client,
    events: EventRecorder,
    expectations: Arc<Expectations>,
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

impl PodControl {
    pub fn new(client: &Client, events: &EventRecorder, clock: Clock) -> Self {
        Self {
            client: client.clone(),
            events: events.clone(),
            expectations: Arc::new(Expectations::new(clock)),
        }
    }

    /// Whether the cache has everything that was done for this key. `cached` are the owner's pods in it.
    pub async fn is_settled<O: TypedKind>(
        &self,
        owner: &O,
        key: &str,
        cached: impl Fn() -> Vec<Arc<Pod>>,
    ) -> Result<bool, Error> {
        self.expectations.settle(&self.client, owner, key, cached).await
    }

    /// The owner is gone.
    pub fn forget(&self, key: &str) {
        self.expectations.forget(key);
    }

    /// Counts what the informer saw of an owner of this kind against what was asked for.
    pub fn observe(&self, kind: &str, change: &Change<Pod>) {
        let pod = change.object();
        let Some(owner) = controller_of(&pod.metadata).filter(|o| o.kind == kind) else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let key = format!("{namespace}/{}", owner.name);
        // A new pod may be terminating when it is first seen: then both have come true.
        if change.old().is_none() && !change.is_deletion() {
            self.expectations.creation_observed(&key);
        }
        if change.is_deletion() || pod.metadata.deletion_timestamp.is_some() {
            self.expectations.deletion_observed(&key, &uid_of(pod));
        }
    }

    /// Makes `new` and deletes `doomed`. What went wrong first, if anything did; the rest is done all the same, but after
    /// a creation that failed no further batch is tried.
    pub async fn change<O: TypedKind>(
        &self,
        owner: &O,
        key: &str,
        new: &[&Pod],
        doomed: &[Arc<Pod>],
    ) -> Result<(), Error> {
        if new.is_empty() && doomed.is_empty() {
            return Ok(());
        }
        self.expectations
            .expect(key, new.len(), doomed.iter().map(|p| uid_of(p)));
        let created = self.create_expected(owner, key, new).await.failure;
        let deleted = self.delete_expected(owner, key, doomed, |_| None).await.failure;
        created.or(deleted).map_or(Ok(()), Err)
    }

    /// Makes pods in batches that double while all goes well.
    pub async fn create<O: TypedKind>(&self, owner: &O, key: &str, new: &[&Pod]) -> Done {
        self.expectations.expect(key, new.len(), []);
        self.create_expected(owner, key, new).await
    }

    /// Deletes pods, each after the patch that `before` gives for it.
    pub async fn delete<O: TypedKind>(
        &self,
        owner: &O,
        key: &str,
        doomed: &[Arc<Pod>],
        before: impl Fn(&Pod) -> Option<Patch>,
    ) -> Done {
        self.expectations.expect(key, 0, doomed.iter().map(|p| uid_of(p)));
        self.delete_expected(owner, key, doomed, before).await
    }

    async fn create_expected<O: TypedKind>(&self, owner: &O, key: &str, new: &[&Pod]) -> Done {
        let pods = self
            .client
            .namespaced::<Pod>(owner.meta().namespace.as_deref().unwrap_or_default());
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
                        if is_uncertain(&error) {
                            self.expectations.doubt(key);
                        }
                        failed = true;
                        self.expectations.creation_observed(key);
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
                for _ in tried..new.len() {
                    self.expectations.creation_observed(key);
                }
                return made;
            }
            batch *= 2;
        }
        made
    }

    async fn delete_expected<O: TypedKind>(
        &self,
        owner: &O,
        key: &str,
        doomed: &[Arc<Pod>],
        before: impl Fn(&Pod) -> Option<Patch>,
    ) -> Done {
        let pods = self
            .client
            .namespaced::<Pod>(owner.meta().namespace.as_deref().unwrap_or_default());
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
                    if is_uncertain(&error) {
                        self.expectations.doubt(key);
                    }
                    self.expectations.deletion_observed(key, &uid_of(pod));
                    // Gone already, or another pod of this name by now.
                    if !error.is_not_found() && !error.is_conflict() {
                        let message = format!("Error deleting: {error}");
                        self.events.event(owner, EventType::Warning, "FailedDelete", message);
                        deleted.failure.get_or_insert(error.into());
                    }
                }
            }
        }
        deleted
    }
}
