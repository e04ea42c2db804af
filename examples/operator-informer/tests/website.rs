//! The operator against a whole cluster.

// Clippy's exception for tests does not reach what tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use coracle_client::{Client, DeleteOptions, Patch};
use coracle_informer::{CancellationToken, InformerFactory, ObjectKey, SharedInformer};
use coracle_testkit::TestCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use operator_informer::website::{Website, WebsiteSpec};
use serde_json::json;

/// Waits until an object is as it should be, or (`None`) gone.
async fn until<K: coracle_client::TypedKind>(
    cluster: &TestCluster,
    informer: &SharedInformer<K>,
    key: &ObjectKey<K>,
    wanted: impl Fn(Option<&K>) -> bool,
) {
    let (told, mut changed) = tokio::sync::mpsc::channel(1);
    // One note that something changed is as good as many.
    let handler = informer.add_handler(move |_| {
        let _ = told.try_send(());
    });
    let ready = async {
        while !wanted(informer.lister().get(key).as_deref()) {
            changed.recv().await;
        }
    };
    let in_time = cluster.clock.timeout(Duration::from_secs(30), ready).await;
    assert!(
        in_time.is_ok(),
        "{key:?} never got there: {:?}",
        informer.lister().get(key).is_some()
    );
    informer.remove_handler(handler);
}

async fn define(client: &Client, informers: &InformerFactory, cluster: &TestCluster) {
    let definition: CustomResourceDefinition = serde_saphyr::from_str(include_str!("../../website.yaml")).unwrap();
    client.all().create(&definition).await.unwrap();
    let definitions = informers.informer::<CustomResourceDefinition>();
    let key = ObjectKey::new("", "websites.example.coracle.dev");
    until(cluster, &definitions, &key, |found| {
        let status = found.and_then(|d| d.status.as_ref());
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
    })
    .await;
}

#[tokio::test]
async fn a_website_has_a_page_and_a_server_and_takes_them_along_when_it_goes() {
    let cluster = TestCluster::start().await.unwrap();
    let client = cluster.client.clone();
    let shutdown = CancellationToken::new();
    let informers = InformerFactory::new(client.clone(), cluster.clock, shutdown.clone());
    define(&client, &informers, &cluster).await;
    let operator = tokio::spawn(operator_informer::run(client.clone(), cluster.clock, shutdown.clone()));

    let spec = WebsiteSpec {
        html: "<p>one</p>".into(),
        replicas: Some(2),
        ..WebsiteSpec::default()
    };
    let sites = client.namespaced::<Website>("default");
    let refused = sites
        .create(&Website::new(
            "bad",
            WebsiteSpec {
                html: "text".into(),
                ..spec.clone()
            },
        ))
        .await;
    assert!(refused.unwrap_err().to_string().contains("must be HTML"));
    sites.create(&Website::new("home", spec)).await.unwrap();

    let deployments = informers.informer::<Deployment>();
    let deployment_key = ObjectKey::new("default", "home");
    until(&cluster, &deployments, &deployment_key, |found| {
        found.is_some_and(|d| d.spec.replicas == Some(2))
    })
    .await;
    // The status follows the Deployment's, which follows its pods.
    let websites = informers.informer::<Website>();
    let site_key = ObjectKey::new("default", "home");
    until(&cluster, &websites, &site_key, |found| {
        found.and_then(|s| s.status.as_ref()).is_some_and(|s| s.replicas == 2)
    })
    .await;

    let change = Patch::Merge(json!({"spec": {"html": "<p>two</p>"}}));
    sites.patch("home", change).await.unwrap();
    let config_maps = informers.informer::<ConfigMap>();
    let page_key = ObjectKey::new("default", "home");
    until(&cluster, &config_maps, &page_key, |found| {
        let page = found.and_then(|c| c.data.as_ref()?.get("index.html"));
        page.is_some_and(|page| page == "<p>two</p>")
    })
    .await;
    // Somebody takes the page away; it is back at once.
    let maps = client.namespaced::<ConfigMap>("default");
    let uid = maps.get("home").await.unwrap().metadata.uid.clone();
    maps.delete("home", &DeleteOptions::default()).await.unwrap();
    until(&cluster, &config_maps, &page_key, |found| {
        found.is_some_and(|c| c.metadata.uid != uid)
    })
    .await;

    sites.delete("home", &DeleteOptions::default()).await.unwrap();
    until(&cluster, &deployments, &deployment_key, |found| found.is_none()).await;
    until(&cluster, &config_maps, &page_key, |found| found.is_none()).await;
    shutdown.cancel();
    operator.await.unwrap();
    cluster.stop().await;
}
