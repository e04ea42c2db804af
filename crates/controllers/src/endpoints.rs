//! Endpoints: the addresses of the pods that a service selects, in one object, for those who do not read slices.
//! Watches Services, Pods (by what services select) and Endpoints. Made from the same answers about pods as slices are.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, gone_is_done};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use parking_lot::Mutex;

use crate::Context;
use crate::endpoint_slice::slices::label;
use crate::endpoint_slice::trigger::Triggers;
use crate::endpoint_slice::{selector, services_of_change};
use crate::members::Members;
use crate::pace::Pace;
use plan::{CONTROLLER, MANAGED_BY, plan};

const NAME: &str = "endpoints-controller";
const ACCOUNT: &str = "endpoint-controller";
const WORKERS: usize = 5;

struct State {
    client: Client,
    events: EventRecorder,
    services: Lister<Service>,
    pods: Lister<Pod>,
    endpoints: Lister<Endpoints>,
    members: Members<Service>,
    pace: Pace<ObjectKey<Service>>,
    triggers: Triggers,
    /// Services that have been there: what has their name goes with them.
    seen: Mutex<HashSet<ObjectKey<Service>>>,
}

pub async fn run(cx: Context) {
    let services = cx.informers.informer::<Service>();
    let pods = cx.informers.informer::<Pod>();
    let endpoints = cx.informers.informer::<Endpoints>();
    let members = Members::new(|_| true);
    pods.observe(members.observer());
    let context = State {
        client: cx.client_of(ACCOUNT),
        events: cx.recorder(ACCOUNT),
        services: services.lister(),
        pods: pods.lister(),
        endpoints: endpoints.lister(),
        members: members.clone(),
        pace: Pace::new(cx.clock),
        triggers: Triggers::default(),
        seen: Mutex::default(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&services, |service| [ObjectKey::of(service)])
        .watches_changes(&pods, move |change| services_of_change(change, &members))
        .watches(&endpoints, |endpoints: &Endpoints| {
            let meta = &endpoints.metadata;
            Some(ObjectKey::<Service>::new(
                meta.namespace.as_deref()?,
                meta.name.as_deref()?,
            ))
        })
        .run(
            context,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

impl State {
    async fn reconcile(&self, key: ObjectKey<Service>) -> Result<Action, Error> {
        let current = self.endpoints.find(&key.namespace, &key.name);
        let api = self.client.namespaced::<Endpoints>(&key.namespace);
        let Some(service) = self.services.get(&key) else {
            self.triggers.forget(&key.to_string());
            // Those of a service that is gone go, but not those that someone keeps without one.
            let was_there = self.seen.lock().contains(&key);
            let goes = |e: &Endpoints| was_there || label(&e.metadata, MANAGED_BY) == Some(CONTROLLER);
            if let Some(left) = current.filter(|c| goes(c)) {
                let options = DeleteOptions {
                    uid: left.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                gone_is_done(api.delete(&key.name, &options).await)?;
            }
            self.seen.lock().remove(&key);
            self.members.forget(&key);
            self.pace.forget(&key);
            return Ok(Action::Done);
        };
        self.seen.lock().insert(key.clone());
        let living = Some(&*service).filter(|s| s.metadata.deletion_timestamp.is_none());
        let Some(selector) = living.and_then(selector) else {
            self.members.forget(&key);
            return Ok(Action::Done);
        };
        if let Some(left) = self.pace.rest(&key) {
            return Ok(Action::After(left));
        }
        let pods = self.members.of(&key, &selector, &self.pods);
        self.pace.looked(&key, pods.len());
        let trigger = self.triggers.observe(&key.to_string(), &service, &pods);
        let Some(wanted) = plan(&service, &pods, current.as_deref(), trigger) else {
            return Ok(Action::Done);
        };
        let (written, reason, what) = if current.is_some() {
            (api.update(&wanted).await, "FailedToUpdateEndpoint", "update endpoint")
        } else {
            let what = "create endpoint for service";
            (api.create(&wanted).await, "FailedToCreateEndpoint", what)
        };
        match written {
            Ok(_) => Ok(Action::Done),
            Err(error) if error.is_namespace_terminating() => Ok(Action::Done),
            // The cache is behind; its next change comes with this key.
            Err(error) if error.is_conflict() || error.is_already_exists() => Err(error.into()),
            Err(error) => {
                let message = format!("Failed to {what} {}/{}: {error}", key.namespace, key.name);
                self.events.event(&wanted, EventType::Warning, reason, message);
                Err(error.into())
            }
        }
    }
}
