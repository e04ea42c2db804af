//! Root CA: keeps the config map `kube-root-ca.crt` in every namespace, so that pods can verify the API server. Watches
//! Namespaces and ConfigMaps of that name.

use std::sync::Arc;

use coracle_client::{Client, ObjectKey, Patch};
use coracle_informer::{Action, Error, InformerOptions, Lister};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

use crate::Context;

const NAME: &str = "root-ca-certificate-publisher-controller";
const CONFIG_MAP: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const NOTE: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                           endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                           guaranteed across distributions of Kubernetes clusters.";

struct RootCa {
    client: Client,
    namespaces: Lister<Namespace>,
    maps: Lister<ConfigMap>,
    ca: Arc<str>,
}

pub async fn run(cx: Context) {
    let namespaces = cx.informers.informer::<Namespace>();
    let only = InformerOptions {
        field_selector: format!("metadata.name={CONFIG_MAP}"),
        ..InformerOptions::default()
    };
    let maps = cx.informers.informer_of::<ConfigMap>(only);
    let context = RootCa {
        client: cx.client_of("root-ca-cert-publisher"),
        namespaces: namespaces.lister(),
        maps: maps.lister(),
        ca: cx.cluster_ca.clone(),
    };
    cx.controller(NAME, 1)
        .watches(&namespaces, |namespace| [ObjectKey::of(namespace)])
        .watches(&maps, |map: &ConfigMap| {
            map.metadata
                .namespace
                .as_deref()
                .map(|namespace| ObjectKey::<Namespace>::new("", namespace))
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<RootCa>, key: ObjectKey<Namespace>) -> Result<Action, Error> {
    let Some(namespace) = cx.namespaces.get(&key) else {
        return Ok(Action::Done);
    };
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Done);
    }
    let maps = cx.client.namespaced::<ConfigMap>(&key.name);
    match cx.maps.find(&key.name, CONFIG_MAP) {
        None => {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(CONFIG_MAP.into());
            map.metadata.annotations = Some([(NOTE.to_owned(), DESCRIPTION.to_owned())].into());
            map.data = Some([(KEY.to_owned(), cx.ca.to_string())].into());
            match maps.create(&map).await {
                Err(error) if error.is_already_exists() => {}
                // The namespace began to go: it needs no map any more.
                Err(error) if error.is_namespace_terminating() || error.is_not_found() => {}
                other => drop(other?),
            }
        }
        Some(map) => {
            let right = map
                .data
                .as_ref()
                .is_some_and(|d| d.len() == 1 && d.get(KEY).is_some_and(|ca| **ca == *cx.ca));
            if !right {
                let mut whole = (*map).clone();
                whole.data = Some([(KEY.to_owned(), cx.ca.to_string())].into());
                maps.update(&whole).await?;
            } else if map.metadata.annotations.as_ref().is_none_or(|a| !a.contains_key(NOTE)) {
                let patch = json!({"metadata": {"annotations": {NOTE: DESCRIPTION}}});
                maps.patch(CONFIG_MAP, Patch::Merge(patch)).await?;
            }
        }
    }
    Ok(Action::Done)
}
