//! An operator for Websites (`examples/website.yaml`): each gets a ConfigMap with its page and a Deployment that serves
//! it; its status says how many replicas are ready.
//!
//! The same operator written with kube-rs is in `examples/operator-kube-rs`.

mod plan;
pub mod website;

use std::sync::Arc;

use coracle_client::{Client, Patch};
use coracle_clock::Clock;
use coracle_informer::{Action, CancellationToken, Controller, Error, InformerFactory, Lister, ObjectKey};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use website::Website;

struct Context {
    client: Client,
    websites: Lister<Website>,
    deployments: Lister<Deployment>,
}

/// Works until `shutdown`.
pub async fn run(client: Client, clock: Clock, shutdown: CancellationToken) {
    let client = client.named("website-operator");
    let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
    let websites = informers.informer::<Website>();
    let deployments = informers.informer::<Deployment>();
    let config_maps = informers.informer::<ConfigMap>();
    let context = Context {
        client,
        websites: websites.lister(),
        deployments: deployments.lister(),
    };
    Controller::new("website", 2, clock)
        .watches(&websites, |site| [ObjectKey::of(site)])
        .watches_owned(&deployments)
        .watches_owned(&config_maps)
        .run(context, reconcile, shutdown)
        .await;
}

async fn reconcile(cx: Arc<Context>, key: ObjectKey<Website>) -> Result<Action, Error> {
    let Some(site) = cx.websites.get(&key) else {
        return Ok(Action::Done);
    };
    if site.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it.
        return Ok(Action::Done);
    }
    let wanted = plan::plan(&site);
    let apply = |object| Patch::Apply { object, force: true };
    let config_maps = cx.client.namespaced::<ConfigMap>(&key.namespace);
    config_maps.patch(&key.name, apply(wanted.config_map)).await?;
    let deployments = cx.client.namespaced::<Deployment>(&key.namespace);
    deployments.patch(&key.name, apply(wanted.deployment)).await?;

    let deployment = cx.deployments.find(&key.namespace, &key.name);
    let status = plan::status(&site, deployment.as_deref());
    if site.status.as_ref() != Some(&status) {
        let websites = cx.client.namespaced::<Website>(&key.namespace).status();
        let patch = Patch::Merge(json!({"status": status}));
        websites.patch(&key.name, patch).await?;
        tracing::info!(website = %key.name, ready = status.ready_replicas, "the status is up to date");
    }
    Ok(Action::Done)
}
