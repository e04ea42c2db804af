//! What of a quota is used, as things come and go.

use coracle_client::{DeleteOptions, Patch};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::world::World;

fn used(quota: &ResourceQuota) -> Value {
    let used = quota.status.as_ref().and_then(|s| s.used.clone());
    serde_json::to_value(used).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_quota_follows_what_it_counts() {
    let world = World::start().await;
    world.node("n", "z").await;
    let hard = json!({"pods": "10", "requests.cpu": "2", "count/configmaps": "9", "services.nodeports": "5"});
    world
        .create::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}))
        .await;
    let quotas = world.api::<ResourceQuota>();
    // The root CA's map is there.
    let expect = |pods: &str, cpu: &str, maps: &str, ports: &str| json!({"pods": pods, "requests.cpu": cpu, "count/configmaps": maps, "services.nodeports": ports});
    let wanted = expect("0", "0", "1", "0");
    world.wait(&quotas, "q", |q| used(q) == wanted).await;
    world.pod("a", "n", "10.1.0.1", json!({}), json!({})).await;
    world.pod("b", "n", "10.1.0.2", json!({}), json!({})).await;
    world.create::<ConfigMap>(json!({"metadata": {"name": "m"}})).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    world.create::<Service>(service).await;
    let wanted = expect("2", "200m", "2", "1");
    world.wait(&quotas, "q", |q| used(q) == wanted).await;

    let finished = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    world.api::<Pod>().status().patch("a", finished).await.unwrap();
    world
        .api::<ConfigMap>()
        .delete("m", &DeleteOptions::default())
        .await
        .unwrap();
    let wanted = expect("1", "100m", "1", "1");
    world.wait(&quotas, "q", |q| used(q) == wanted).await;

    let raised = Patch::Merge(json!({"spec": {"hard": {"pods": "20", "services.nodeports": null}}}));
    quotas.patch("q", raised).await.unwrap();
    let changed = world
        .wait(&quotas, "q", |q| used(q).get("services.nodeports").is_none())
        .await;
    let hard = changed.status.as_ref().unwrap().hard.as_ref().unwrap();
    assert_eq!(hard["pods"].0, "20");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_counted_from_the_moment_they_are_served() {
    let world = World::start().await;
    let hard = json!({"count/widgets.example.com": "5"});
    world
        .create::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}))
        .await;
    let quotas = world.api::<ResourceQuota>();
    world
        .wait(&quotas, "q", |q| q.status.as_ref().is_some_and(|s| s.hard.is_some()))
        .await;
    world
        .create::<CustomResourceDefinition>(json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
        }))
        .await;
    world
        .wait(&quotas, "q", |q| used(q) == json!({"count/widgets.example.com": "0"}))
        .await;
    let widgets = world.dynamic("example.com", "v1", "Widget", "widgets");
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    world.create_in(&widgets, widget).await;
    world
        .wait(&quotas, "q", |q| used(q) == json!({"count/widgets.example.com": "1"}))
        .await;
    world.stop().await;
}
