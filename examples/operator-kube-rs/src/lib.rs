//! The operator of `examples/operator-informer` written with kube-rs, as a foreign client: it knows nothing of Coracle
//! and runs against any Kubernetes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A page on the network; `examples/website.yaml` defines the kind.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "example.coracle.dev",
    version = "v1",
    kind = "Website",
    namespaced,
    status = "WebsiteStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct WebsiteSpec {
    pub html: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WebsiteStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub ready_replicas: i32,
}

/// Why a website could not be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a call to the cluster failed")]
    Call(#[from] kube::Error),
    #[error("the website has no place yet")]
    Unplaced,
}

const MANAGER: &str = "website-operator";

/// Works until `shutdown` is done.
pub async fn run(client: Client, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let config = watcher::Config::default;
    Controller::new(Api::<Website>::all(client.clone()), config())
        .owns(Api::<Deployment>::all(client.clone()), config())
        .owns(Api::<ConfigMap>::all(client.clone()), config())
        .graceful_shutdown_on(shutdown)
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::warn!(%error, "a website could not be reconciled");
            }
        })
        .await;
}

async fn reconcile(site: Arc<Website>, client: Arc<Client>) -> Result<Action, Error> {
    if site.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = site.namespace().ok_or(Error::Unplaced)?;
    let name = site.name_any();
    let apply = PatchParams::apply(MANAGER).force();
    let (page, server) = wanted(&site).ok_or(Error::Unplaced)?;
    let pages = Api::<ConfigMap>::namespaced((*client).clone(), &namespace);
    pages.patch(&name, &apply, &Patch::Apply(page)).await?;
    let servers = Api::<Deployment>::namespaced((*client).clone(), &namespace);
    let deployment = servers.patch(&name, &apply, &Patch::Apply(server)).await?;

    let seen = deployment.status.unwrap_or_default();
    let status = WebsiteStatus {
        observed_generation: site.meta().generation.unwrap_or_default(),
        replicas: seen.replicas.unwrap_or_default(),
        ready_replicas: seen.ready_replicas.unwrap_or_default(),
    };
    if site.status.as_ref() != Some(&status) {
        let sites = Api::<Website>::namespaced((*client).clone(), &namespace);
        let patch = Patch::Merge(json!({"status": status}));
        sites.patch_status(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(Action::await_change())
}

/// The page and who serves it, as they are applied.
fn wanted(site: &Website) -> Option<(Value, Value)> {
    let name = site.name_any();
    let labels = json!({"app.kubernetes.io/name": "website", "app.kubernetes.io/instance": name});
    let metadata = json!({
        "name": name,
        "namespace": site.namespace(),
        "labels": labels,
        "ownerReferences": [site.controller_owner_ref(&())?],
    });
    let page = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": {"index.html": site.spec.html},
    });
    let server = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": site.spec.replicas.unwrap_or(1),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{
                        "name": "web", "image": site.spec.image,
                        "ports": [{"containerPort": 80}],
                        "volumeMounts": [{"name": "page", "mountPath": "/usr/share/nginx/html"}],
                    }],
                    "volumes": [{"name": "page", "configMap": {"name": name}}],
                },
            },
        },
    });
    Some((page, server))
}
