//! EndpointSlice: the addresses of the pods that a service selects, in slices of a hundred. Watches Services, Pods (by
//! what services select), Nodes (by the pods on them) and its own EndpointSlices. Services without a selector are left
//! to whoever writes their endpoints.

pub mod endpoint;
mod hints;
pub mod metrics;
pub mod plan;
pub mod slices;
#[cfg(test)]
mod tests;
pub mod topology;
pub mod tracker;
pub mod trigger;

use std::collections::HashSet;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey};
use coracle_clock::Timestamp;
use coracle_informer::{Action, Change, Error, Lister};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use crate::Context;
use crate::members::Members;
use crate::pace::Pace;
use crate::pods::{BY_NODE, index_by_node};
use metrics::{ServiceMetrics, Sync};
use plan::{CONTROLLER, Plan, plan};
use slices::{execute, fresh, index_by_service, key_of, label};
use tracker::{PATIENCE, Tracker};
use trigger::Triggers;

const NAME: &str = "endpointslice-controller";
const WORKERS: usize = 5;
const ZONE: &str = "topology.kubernetes.io/zone";

struct Slices {
    client: Client,
    events: EventRecorder,
    services: Lister<Service>,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    slices: Lister<EndpointSlice>,
    members: Members<Service>,
    pace: Pace<ObjectKey<Service>>,
    tracker: Arc<Tracker>,
    triggers: Triggers,
    metrics: ServiceMetrics,
    /// Services of which it was told that topology mode works.
    enabled: Mutex<HashSet<ObjectKey<Service>>>,
}

pub async fn run(cx: Context) {
    let services = cx.informers.informer::<Service>();
    let pods = cx.informers.informer::<Pod>();
    let nodes = cx.informers.informer::<Node>();
    let slices = cx.informers.informer::<EndpointSlice>();
    index_by_node(&pods);
    index_by_service(&slices);
    let members = Members::new(|_| true);
    pods.observe(members.observer());
    let tracker = Arc::new(Tracker::new(cx.clock));
    let context = Slices {
        client: cx.client_of(NAME),
        events: cx.recorder(NAME),
        services: services.lister(),
        pods: pods.lister(),
        nodes: nodes.lister(),
        slices: slices.lister(),
        members: members.clone(),
        pace: Pace::new(cx.clock),
        tracker: tracker.clone(),
        triggers: Triggers::default(),
        metrics: cx.metrics.endpoint_slices.clone(),
        enabled: Mutex::default(),
    };
    let (of_pod, of_pod_on, of_node, pods_of_node) = (members.clone(), members, services.lister(), pods.lister());
    cx.controller(NAME, WORKERS)
        .watches(&services, |service| [ObjectKey::of(service)])
        .watches_changes(&pods, move |change| services_of_change(change, &of_pod))
        .watches_changes(&nodes, move |change| {
            let mut keys = Vec::new();
            if node_matters(change) {
                let name = change.object().metadata.name.as_deref().unwrap_or_default();
                let pods = pods_of_node.by_index(BY_NODE, name);
                keys.extend(pods.iter().flat_map(|pod| of_pod_on.selecting(pod)));
            }
            let capacity = |n: &Node| topology::capacity(n);
            if change
                .old()
                .is_none_or(|old| capacity(old) != capacity(change.object()))
            {
                // The zones' shares may have changed.
                let asking = of_node.select("", topology::is_asked_for);
                keys.extend(asking.iter().map(|s| ObjectKey::of(&**s)));
            }
            keys
        })
        .watches_changes(&slices, move |change| key_of(change, CONTROLLER, &tracker))
        .run(
            context,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

/// The service's selector; one without any selects nothing.
pub(crate) fn selector(service: &Service) -> Option<LabelSelector> {
    let labels = service.spec.as_ref().and_then(|s| s.selector.as_ref())?;
    let selector = LabelSelector::from_labels(labels).ok()?;
    (!selector.is_everything()).then_some(selector)
}

/// The services to which a pod's change can matter.
pub(crate) fn services_of_change(change: &Change<Pod>, members: &Members<Service>) -> Vec<ObjectKey<Service>> {
    let now = change.object();
    let Some(old) = change.old() else {
        return members.selecting(now);
    };
    if !endpoint::changed(old, now) {
        return Vec::new();
    }
    let mut keys = members.selecting(now);
    if old.metadata.labels != now.metadata.labels {
        keys.extend(members.selecting(old));
    }
    keys
}

/// Nodes matter by being there and by their zone.
fn node_matters(change: &Change<Node>) -> bool {
    let zone = |n: &Node| label(&n.metadata, ZONE).map(str::to_owned);
    change.old().is_none_or(|old| zone(old) != zone(change.object()))
}

impl Slices {
    async fn reconcile(&self, key: ObjectKey<Service>) -> Result<Action, Error> {
        let name = key.to_string();
        let Some(service) = self.services.get(&key) else {
            self.triggers.forget(&name);
            self.tracker.forget(&name);
            self.metrics.forget(&name);
            self.enabled.lock().remove(&key);
            self.members.forget(&key);
            self.pace.forget(&key);
            return Ok(Action::Done);
        };
        let Some(selector) = selector(&service) else {
            self.members.forget(&key);
            return Ok(Action::Done);
        };
        if let Some(left) = self.pace.rest(&key) {
            return Ok(Action::After(left));
        }
        let Some(slices) = fresh(&self.slices, &key, CONTROLLER, &self.tracker) else {
            self.metrics.ended("stale");
            // The change that is waited for comes with this key again.
            return Ok(Action::After(PATIENCE));
        };
        let pods = self.members.of(&key, &selector, &self.pods);
        self.pace.looked(&key, pods.len());
        let trigger = self.triggers.observe(&name, &service, &pods);
        let ratios = if topology::is_asked_for(&service) {
            let nodes = self.nodes.list();
            topology::ratios(nodes.iter().map(|n| &**n))
        } else {
            topology::Ratios::new()
        };
        let plan = plan(&service, &pods, &slices, |node| self.nodes.find("", node), &ratios);
        self.tell(&key, &service, &plan.told);
        let sync = Sync::of(&slices, &plan);
        let done = self.execute(&name, &key.namespace, plan, trigger).await;
        match &done {
            Ok(()) => {
                let spec = service.spec.as_ref();
                let distribution = spec.and_then(|s| s.traffic_distribution.as_deref());
                let topology = topology::is_asked_for(&service);
                self.metrics.synced(&name, &sync, topology, distribution);
                self.metrics.ended("success");
            }
            Err(_) => self.metrics.ended("error"),
        }
        if let Err(error) = &done
            && !error.is_conflict()
        {
            let message = format!(
                "Error updating Endpoint Slices for Service {}/{}: {error}",
                key.namespace, key.name
            );
            self.events
                .event(&*service, EventType::Warning, "FailedToUpdateEndpointSlices", message);
        }
        done.map(|()| Action::Done)
    }

    /// Tells whether topology mode works: that it does once, that it does not each time.
    fn tell(&self, key: &ObjectKey<Service>, service: &Service, told: &[(bool, String)]) {
        let mut enabled = self.enabled.lock();
        for (works, message) in told {
            let (kind, reason) = if *works {
                if !enabled.insert(key.clone()) {
                    continue;
                }
                (EventType::Normal, "TopologyAwareHintsEnabled")
            } else {
                enabled.remove(key);
                (EventType::Warning, "TopologyAwareHintsDisabled")
            };
            self.events.event(service, kind, reason, message.clone());
        }
        if told.is_empty() && enabled.remove(key) {
            let message = "Topology Aware Hints has been disabled";
            self.events
                .event(service, EventType::Warning, "TopologyAwareHintsDisabled", message);
        }
    }

    async fn execute(&self, key: &str, namespace: &str, plan: Plan, trigger: Option<Timestamp>) -> Result<(), Error> {
        execute(&self.client, &self.tracker, key, namespace, plan, |meta| {
            let annotations = meta.annotations.get_or_insert_default();
            match trigger {
                Some(at) => annotations.insert(trigger::ANNOTATION.to_owned(), trigger::text(at)),
                None => annotations.remove(trigger::ANNOTATION),
            };
        })
        .await
    }
}
