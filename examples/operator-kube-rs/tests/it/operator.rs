//! The example operator.

use coracle_testkit::TestCluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use operator_kube_rs::{Website, WebsiteSpec};
use serde_json::json;

use crate::{client, define_websites, in_time};

#[tokio::test]
async fn a_website_has_a_page_and_a_server_and_takes_them_along_when_it_goes() {
    let cluster = TestCluster::start().await.unwrap();
    let client = client(&cluster).await;
    define_websites(&cluster, &client).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let operator = tokio::spawn(operator_kube_rs::run(client.clone(), async move {
        let _ = stopped.await;
    }));

    let sites = Api::<Website>::default_namespaced(client.clone());
    let spec = WebsiteSpec {
        html: "<p>one</p>".into(),
        image: String::new(),
        replicas: Some(2),
    };
    let bad = WebsiteSpec {
        html: "text".into(),
        ..spec.clone()
    };
    let refused = sites
        .create(&PostParams::default(), &Website::new("bad", bad))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("must be HTML"), "{refused}");
    let made = sites
        .create(&PostParams::default(), &Website::new("home", spec))
        .await
        .unwrap();
    assert_eq!(made.spec.image, "nginx");

    let counted = await_condition(sites.clone(), "home", |site: Option<&Website>| {
        site.and_then(|s| s.status.as_ref()).is_some_and(|s| s.replicas == 2)
    });
    in_time(&cluster, counted).await.unwrap();

    let change = Patch::Merge(json!({"spec": {"html": "<p>two</p>"}}));
    sites.patch("home", &PatchParams::default(), &change).await.unwrap();
    let pages = Api::<ConfigMap>::default_namespaced(client.clone());
    let changed = await_condition(pages.clone(), "home", |page: Option<&ConfigMap>| {
        let text = page.and_then(|p| p.data.as_ref()?.get("index.html"));
        text.is_some_and(|text| text == "<p>two</p>")
    });
    in_time(&cluster, changed).await.unwrap();

    let servers = Api::<Deployment>::default_namespaced(client.clone());
    let uid = servers.get("home").await.unwrap().metadata.uid.unwrap();
    sites.delete("home", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(servers, "home", conditions::is_deleted(&uid));
    in_time(&cluster, gone).await.unwrap();
    let _ = stop.send(());
    in_time(&cluster, operator).await.unwrap();
    cluster.stop().await;
}
