//! EndpointSlice mirroring: Endpoints that people write for a service without a selector appear as slices too. Watches
//! Endpoints, Services and the EndpointSlices it made.

pub mod metrics;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Context;
use crate::endpoint_slice::metrics::Sync;
use crate::endpoint_slice::plan::Plan;
use crate::endpoint_slice::selector;
use crate::endpoint_slice::slices::{execute, fresh, index_by_service, key_of, label};
use crate::endpoint_slice::tracker::{PATIENCE, Tracker};
use metrics::MirrorMetrics;
use plan::{CAPACITY, CONTROLLER, plan};

const NAME: &str = "endpointslice-mirroring-controller";
const ACCOUNT: &str = "endpointslicemirroring-controller";
const WORKERS: usize = 5;
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Mirrors {
    client: Client,
    events: EventRecorder,
    endpoints: Lister<Endpoints>,
    services: Lister<Service>,
    slices: Lister<EndpointSlice>,
    tracker: Arc<Tracker>,
    metrics: MirrorMetrics,
    clock: Clock,
}

pub async fn run(cx: Context) {
    let endpoints = cx.informers.informer::<Endpoints>();
    let services = cx.informers.informer::<Service>();
    let slices = cx.informers.informer::<EndpointSlice>();
    index_by_service(&slices);
    let tracker = Arc::new(Tracker::new(cx.clock));
    let context = Mirrors {
        client: cx.client_of(ACCOUNT),
        events: cx.recorder(ACCOUNT),
        endpoints: endpoints.lister(),
        services: services.lister(),
        slices: slices.lister(),
        tracker: tracker.clone(),
        metrics: cx.metrics.mirrored_slices.clone(),
        clock: cx.clock,
    };
    cx.controller(NAME, WORKERS)
        .watches(&endpoints, |endpoints| [ObjectKey::of(endpoints)])
        .watches(&services, |service: &Service| {
            let meta = &service.metadata;
            Some(ObjectKey::<Endpoints>::new(
                meta.namespace.as_deref()?,
                meta.name.as_deref()?,
            ))
        })
        .watches_changes(&slices, move |change| key_of(change, CONTROLLER, &tracker))
        .run(
            context,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

/// Not the object of another controller, of a leader election, or one that asks to be left alone.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let annotations = endpoints.metadata.annotations.as_ref();
    label(&endpoints.metadata, SKIP) != Some("true")
        && label(&endpoints.metadata, crate::endpoints::plan::MANAGED_BY) != Some(crate::endpoints::plan::CONTROLLER)
        && !annotations.is_some_and(|a| a.contains_key(LEADER))
}

impl Mirrors {
    async fn reconcile(&self, key: ObjectKey<Endpoints>) -> Result<Action, Error> {
        let started = self.clock.instant();
        let done = self.sync(key).await;
        let took = self.clock.instant().saturating_duration_since(started);
        self.metrics.took(took);
        done
    }

    async fn sync(&self, key: ObjectKey<Endpoints>) -> Result<Action, Error> {
        let name = key.to_string();
        let Some(slices) = fresh(&self.slices, &key, CONTROLLER, &self.tracker) else {
            return Ok(Action::After(PATIENCE));
        };
        let endpoints = self.endpoints.get(&key).filter(|e| is_mirrored(e));
        let service = self.services.find(&key.namespace, &key.name);
        let Some(endpoints) = endpoints.filter(|_| service.is_some_and(|s| selector(&s).is_none())) else {
            let plan = Plan {
                delete: slices,
                ..Plan::default()
            };
            execute(&self.client, &self.tracker, &name, &key.namespace, plan, |_| {}).await?;
            self.metrics.forget(&name);
            return Ok(Action::Done);
        };
        let mirror = plan(&endpoints, &slices);
        if !mirror.plan.is_empty() {
            self.tell(&endpoints, mirror.invalid, mirror.skipped);
        }
        let sync = Sync::of(&slices, &mirror.plan);
        execute(&self.client, &self.tracker, &name, &key.namespace, mirror.plan, |_| {}).await?;
        self.metrics.synced(&name, &sync, mirror.skipped);
        Ok(Action::Done)
    }

    fn tell(&self, endpoints: &Endpoints, invalid: usize, skipped: usize) {
        let warn = |reason: &str, message: String| {
            self.events.event(endpoints, EventType::Warning, reason, message);
        };
        if invalid > 0 {
            warn(
                "InvalidIPAddress",
                format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices"),
            );
        }
        if skipped > invalid {
            let message = format!(
                "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} \
                 addresses were skipped"
            );
            warn("TooManyAddressesToMirror", message);
        }
    }
}
