//! Garbage collector: objects whose owners are all gone go too; foreground deletion waits for dependents; orphaning lets
//! them be. Watches the metadata of every resource that the server serves, custom ones as they come and go. Its key is a
//! uid.

pub mod graph;

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_client::discovery::Discovered;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Api, ApiResource, Client, DeleteOptions, PartialObject, Patch, Propagation, gone_is_done};
use coracle_informer::{Action, Change, Error, InformerFactory, InformerOptions, WorkQueue};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde_json::json;

use crate::Context;
use graph::{FOREGROUND, Followed, Graph, Node, ORPHAN, Owners};

const NAME: &str = "garbage-collector-controller";
const WORKERS: usize = 20;

/// Kinds that are not collected: they live for an hour, and there are many.
const IGNORED: [&str; 1] = ["events"];

struct Collector {
    client: Client,
    events: EventRecorder,
    graph: Arc<Mutex<Graph>>,
    resources: Arc<Resources>,
}

pub async fn run(cx: Context) {
    let controller = cx.controller::<String>(NAME, WORKERS);
    let resources = Arc::new(Resources {
        client: cx.client_of("generic-garbage-collector"),
        undiscovered: cx.metrics.undiscovered.clone(),
        informers: cx.informers.clone(),
        queue: controller.queue(),
        graph: Arc::default(),
        known: Mutex::default(),
    });
    if let Err(error) = resources.refresh().await {
        tracing::error!(%error, "the resources to collect cannot be discovered; trying again when definitions change");
    }
    let definitions = cx.informers.informer::<CustomResourceDefinition>();
    let follower = cx
        .controller::<()>("garbage-collector-resources", 1)
        .watches(&definitions, |_| [()])
        .run(
            resources.clone(),
            |resources: Arc<Arc<Resources>>, ()| async move {
                resources.refresh().await?;
                Ok(Action::Done)
            },
            cx.shutdown.clone(),
        );
    let client = cx.client_of("generic-garbage-collector");
    let collector = Collector {
        events: EventRecorder::start(&client, NAME, None, cx.clock, cx.shutdown.clone()),
        client,
        graph: resources.graph.clone(),
        resources,
    };
    let collect = controller.run(
        collector,
        |this, uid| async move { this.reconcile(&uid).await },
        cx.shutdown.clone(),
    );
    // Nothing is judged before every owner that exists has been seen.
    let synced = cx.shutdown.run_until_cancelled(cx.informers.synced());
    if synced.await.is_some() {
        tokio::join!(follower, collect);
    }
}

/// The resources that are followed, by informers of their metadata.
struct Resources {
    client: Client,
    /// Counts how often it could not be found out what is served.
    undiscovered: Counter,
    informers: InformerFactory,
    queue: WorkQueue<String>,
    graph: Arc<Mutex<Graph>>,
    /// By (group, kind): in which version each is followed.
    known: Mutex<BTreeMap<(String, String), Arc<ApiResource>>>,
}

fn collectable(found: &Discovered) -> bool {
    found.preferred
        && ["delete", "list", "watch"].iter().all(|verb| found.has_verb(verb))
        && !IGNORED.contains(&found.resource.plural.as_ref())
}

impl Resources {
    /// Follows what is served now and was not before, and lets go of what is served no longer.
    async fn refresh(&self) -> Result<(), coracle_client::Error> {
        let found = self.client.discover().await.inspect_err(|_| {
            self.undiscovered.inc();
        })?;
        let mut served: BTreeMap<(String, String), Arc<ApiResource>> = BTreeMap::new();
        for discovered in found.iter().filter(|d| collectable(d)) {
            let r = &discovered.resource;
            served.insert((r.group.to_string(), r.kind.to_string()), Arc::new(r.clone()));
        }
        let (gone, new) = {
            let mut known = self.known.lock();
            let gone: Vec<_> = known
                .values()
                .filter(|r| !served.values().any(|s| s == *r))
                .cloned()
                .collect();
            let new: Vec<_> = served
                .values()
                .filter(|s| !known.values().any(|k| k == *s))
                .cloned()
                .collect();
            *known = served;
            (gone, new)
        };
        for resource in gone {
            self.informers.forget::<Followed>(&resource);
            let uids = self.graph.lock().of_resource(&resource);
            for uid in uids {
                self.removed(&uid);
            }
        }
        for resource in new {
            self.follow(&resource);
            // They may have waited for somebody to be asked about their owners.
            let naming = self.graph.lock().naming(&resource.group, &resource.kind);
            for uid in naming {
                self.queue.forget(&uid);
                self.queue.add(uid);
            }
        }
        Ok(())
    }

    fn follow(&self, resource: &Arc<ApiResource>) {
        let informer = self.informers.dynamic::<Followed>(resource, InformerOptions::default());
        let (graph, queue, resource) = (self.graph.clone(), self.queue.clone(), resource.clone());
        informer.add_handler(move |change: &Change<Followed>| {
            let node = Node::new(resource.clone(), change.object().clone());
            let look = if change.is_deletion() {
                graph.lock().deleted(node.uid())
            } else {
                graph.lock().set(node)
            };
            for uid in look {
                queue.add(uid);
            }
        });
    }

    fn removed(&self, uid: &str) {
        let look = self.graph.lock().remove(uid);
        for uid in look {
            self.queue.add(uid);
        }
    }

    fn of(&self, reference: &OwnerReference) -> Option<Arc<ApiResource>> {
        let group = reference.api_version.split_once('/').map_or("", |(g, _)| g).to_owned();
        self.known.lock().get(&(group, reference.kind.clone())).cloned()
    }
}

impl Collector {
    async fn reconcile(&self, uid: &str) -> Result<Action, Error> {
        let Some(node) = self.graph.lock().node(uid).cloned() else {
            return Ok(Action::Done);
        };
        if node.orphans() {
            return self.orphan_dependents(&node).await;
        }
        if node.waits_for_dependents() {
            return self.finish_foreground(&node).await;
        }
        if node.is_terminating() || node.owners().is_empty() {
            return Ok(Action::Done);
        }
        self.collect(&node).await
    }

    fn api(&self, node: &Node) -> Api<PartialObject> {
        self.client
            .dynamic::<PartialObject>(&node.resource)
            .within(node.namespace())
    }

    /// The object as it is now, if it is still the same.
    async fn latest(&self, node: &Node) -> Result<Option<Arc<PartialObject>>, Error> {
        let found = self.api(node).find(node.name()).await?;
        let same = found.filter(|o| o.metadata.uid.as_deref() == Some(node.uid()));
        if same.is_none() {
            self.resources.removed(node.uid());
        }
        Ok(same)
    }

    /// An object with owners: is any of them still there?
    async fn collect(&self, node: &Node) -> Result<Action, Error> {
        let Some(found) = self.latest(node).await? else {
            return Ok(Action::Done);
        };
        let latest = &found.metadata;
        if latest.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let fresh = Node::new(node.resource.clone(), Arc::new(Followed::of(latest)));
        // It was let go of since the graph last heard of it.
        if fresh.owners().is_empty() {
            return Ok(Action::Done);
        }
        let mut owners = self.graph.lock().owners_of(&fresh);
        let mut dangling = Vec::new();
        for reference in std::mem::take(&mut owners.unknown) {
            match self.look_up(&fresh, &reference).await? {
                Found::Absent => dangling.push(reference),
                Found::Waiting => owners.waiting.push(reference),
                Found::Solid => owners.solid.push(reference),
                Found::Unreachable => return Ok(Action::Done),
            }
        }
        self.judge(&fresh, latest, owners, dangling).await
    }

    async fn judge(
        &self,
        node: &Node,
        latest: &ObjectMeta,
        owners: Owners,
        dangling: Vec<OwnerReference>,
    ) -> Result<Action, Error> {
        if !owners.solid.is_empty() {
            let gone: Vec<&str> = dangling.iter().chain(&owners.waiting).map(|o| o.uid.as_str()).collect();
            if !gone.is_empty() {
                self.drop_owners(node, latest, &gone).await?;
            }
            return Ok(Action::Done);
        }
        if !owners.waiting.is_empty() && !self.graph.lock().dependents_of(node.uid()).is_empty() {
            // The owner waits for this one, which has dependents itself: they go first too. Two that wait for each
            // other in a circle would wait for ever: this one then blocks its owners no longer.
            let circular = {
                let graph = self.graph.lock();
                let dependents = graph.dependents_of(node.uid());
                dependents
                    .iter()
                    .any(|d| graph.node(d).is_some_and(Node::waits_for_dependents))
            };
            if circular {
                self.unblock_owners(node, latest).await?;
            }
            return self.delete(node, latest, Propagation::Foreground).await;
        }
        let policy = if node.has_finalizer(ORPHAN) {
            Propagation::Orphan
        } else if node.has_finalizer(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        self.delete(node, latest, policy).await
    }

    async fn delete(&self, node: &Node, latest: &ObjectMeta, policy: Propagation) -> Result<Action, Error> {
        let options = DeleteOptions {
            uid: latest.uid.clone(),
            resource_version: latest.resource_version.clone(),
            propagation: Some(policy),
            ..DeleteOptions::default()
        };
        tracing::info!(
            kind = %node.resource.kind,
            namespace = node.namespace(),
            name = node.name(),
            ?policy,
            "deleting an object whose owners are gone"
        );
        let deleted = self.api(node).delete(node.name(), &options).await;
        if gone_is_done(deleted)?.is_none() {
            self.resources.removed(node.uid());
        }
        Ok(Action::Done)
    }

    /// Asks the API for an owner that the graph does not know.
    async fn look_up(&self, node: &Node, reference: &OwnerReference) -> Result<Found, Error> {
        if self.graph.lock().is_absent(&reference.uid) {
            return Ok(Found::Absent);
        }
        let Some(resource) = self.resources.of(reference) else {
            return Err(Error::message(format!(
                "the owner's kind {} of {} is not served; install its definition or remove the owner reference",
                reference.kind, reference.api_version
            )));
        };
        if resource.namespaced && node.namespace().is_empty() {
            tracing::warn!(
                name = node.name(),
                owner = reference.name,
                "a cluster-scoped object names a namespaced owner, which can never be found; it is left alone"
            );
            self.tell_of_other_namespace(node, reference);
            return Ok(Found::Unreachable);
        }
        let api = self.client.dynamic::<PartialObject>(&resource);
        let api = if resource.namespaced {
            api.within(node.namespace())
        } else {
            api
        };
        let found = api.find(&reference.name).await?;
        let Some(owner) = found.filter(|o| o.metadata.uid.as_deref() == Some(reference.uid.as_str())) else {
            self.tell_of_other_namespace(node, reference);
            return Ok(Found::Absent);
        };
        let waiting = Node::new(resource, Arc::new(Followed::of(&owner.metadata))).waits_for_dependents();
        Ok(if waiting { Found::Waiting } else { Found::Solid })
    }

    /// An owner that exists, but in another namespace, is as good as absent. Whoever wrote the reference ought to know.
    fn tell_of_other_namespace(&self, node: &Node, reference: &OwnerReference) {
        let elsewhere = |owner: &Node| owner.namespace() != node.namespace();
        if !self.graph.lock().node(&reference.uid).is_some_and(elsewhere) {
            return;
        }
        let about = ObjectReference {
            api_version: Some(node.resource.api_version()),
            kind: Some(node.resource.kind.to_string()),
            namespace: Some(node.namespace().to_owned()).filter(|n| !n.is_empty()),
            name: Some(node.name().to_owned()),
            uid: Some(node.uid().to_owned()),
            ..ObjectReference::default()
        };
        let message = format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            reference.api_version,
            reference.kind,
            node.namespace(),
            reference.name,
            reference.uid,
            node.namespace()
        );
        self.events
            .event_on(about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    async fn drop_owners(&self, node: &Node, latest: &ObjectMeta, uids: &[&str]) -> Result<(), Error> {
        let mut references = latest.owner_references.clone().unwrap_or_default();
        references.retain(|r| !uids.contains(&r.uid.as_str()));
        let patch = json!({"metadata": {
            "uid": latest.uid,
            "resourceVersion": latest.resource_version,
            "ownerReferences": references,
        }});
        self.patch(node, patch).await
    }

    async fn unblock_owners(&self, node: &Node, latest: &ObjectMeta) -> Result<(), Error> {
        let mut references = latest.owner_references.clone().unwrap_or_default();
        for reference in &mut references {
            reference.block_owner_deletion = Some(false);
        }
        self.patch(
            node,
            json!({"metadata": {"uid": latest.uid, "ownerReferences": references}}),
        )
        .await
    }

    async fn patch(&self, node: &Node, patch: serde_json::Value) -> Result<(), Error> {
        gone_is_done(self.api(node).patch(node.name(), Patch::Merge(patch)).await)?;
        Ok(())
    }

    /// Takes the owner out of its dependents, then lets it go.
    async fn orphan_dependents(&self, owner: &Node) -> Result<Action, Error> {
        let uid = owner.uid();
        let dependents: Vec<Node> = {
            let graph = self.graph.lock();
            graph
                .dependents_of(uid)
                .iter()
                .filter_map(|d| graph.node(d).cloned())
                .collect()
        };
        for dependent in dependents {
            if let Some(latest) = self.latest(&dependent).await? {
                self.drop_owners(&dependent, &latest.metadata, &[uid]).await?;
            }
        }
        self.remove_finalizer(owner, ORPHAN).await
    }

    /// Lets the owner go when no dependent blocks it; otherwise sees that the dependents go.
    async fn finish_foreground(&self, owner: &Node) -> Result<Action, Error> {
        let (mut blocked, mut staying) = (false, Vec::new());
        for node in self.graph.lock().blocking_dependents(owner.uid()) {
            blocked = true;
            // One that is going already is waited for.
            if !node.is_terminating() {
                staying.push(node.uid().to_owned());
            }
        }
        if !blocked {
            return self.remove_finalizer(owner, FOREGROUND).await;
        }
        for uid in staying {
            self.resources.queue.add(uid);
        }
        Ok(Action::Done)
    }

    async fn remove_finalizer(&self, node: &Node, name: &str) -> Result<Action, Error> {
        let Some(found) = self.latest(node).await? else {
            return Ok(Action::Done);
        };
        let latest = &found.metadata;
        let mut finalizers = latest.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|f| f == name) {
            return Ok(Action::Done);
        }
        finalizers.retain(|f| f != name);
        let patch = json!({"metadata": {"resourceVersion": latest.resource_version, "finalizers": finalizers}});
        self.patch(node, patch).await?;
        Ok(Action::Done)
    }
}

enum Found {
    Solid,
    Waiting,
    Absent,
    Unreachable,
}
