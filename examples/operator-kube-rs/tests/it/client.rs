//! Watching, reflecting, applying and evicting.

use std::pin::pin;
use std::time::Duration;

use coracle_testkit::{Options, TestCluster};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use serde_json::{Value, json};

use crate::{client, first, in_time};

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": value}})).unwrap()
}

async fn bare() -> TestCluster {
    let options = Options {
        controllers: false,
        scheduler: false,
        ..Options::default()
    };
    TestCluster::with(options).await.unwrap()
}

/// More objects than fit one page, then changes: the store ends as the server's list is.
async fn reflects(config: watcher::Config) {
    let cluster = bare().await;
    let client = client(&cluster).await;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let post = PostParams::default();
    for n in 0..60 {
        maps.create(&post, &config_map(&format!("m{n}"), "1")).await.unwrap();
    }
    let (store, writer) = reflector::store();
    let mut events = pin!(reflector(writer, watcher(maps.clone(), config)));
    let initial = async {
        let mut seen = 0;
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                Event::InitApply(_) => seen += 1,
                Event::InitDone => break,
                _ => {}
            }
        }
        seen
    };
    assert_eq!(in_time(&cluster, initial).await, 60);
    assert_eq!(store.state().len(), 60);

    maps.delete("m7", &DeleteParams::default()).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    maps.patch("m8", &PatchParams::default(), &patch).await.unwrap();
    maps.create(&post, &config_map("last", "1")).await.unwrap();
    let last = first(&mut events, |e| matches!(e, Event::Apply(m) if m.name_any() == "last"));
    in_time(&cluster, last).await;
    let mut reflected: Vec<(String, String)> = store.state().iter().map(|m| fingerprint(m)).collect();
    let listed = maps.list(&ListParams::default()).await.unwrap();
    let mut listed: Vec<(String, String)> = listed.iter().map(fingerprint).collect();
    reflected.sort();
    listed.sort();
    assert_eq!(reflected, listed);
    cluster.stop().await;
}

fn fingerprint(map: &ConfigMap) -> (String, String) {
    (map.name_any(), map.resource_version().unwrap_or_default())
}

#[tokio::test]
async fn a_reflector_that_pages_through_lists_ends_as_the_server_is() {
    reflects(watcher::Config::default().page_size(25)).await;
}

#[tokio::test]
async fn a_reflector_with_streamed_lists_ends_as_the_server_is() {
    reflects(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test]
async fn a_watch_by_label_sees_objects_come_and_go() {
    let cluster = bare().await;
    let client = client(&cluster).await;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let config = watcher::Config::default().labels("app=web");
    let mut events = watcher(maps.clone(), config).default_backoff().boxed();
    in_time(&cluster, first(&mut events, |e| matches!(e, Event::InitDone))).await;
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    maps.patch("a", &PatchParams::default(), &label("web".into()))
        .await
        .unwrap();
    in_time(
        &cluster,
        first(&mut events, |e| matches!(e, Event::Apply(m) if m.name_any() == "a")),
    )
    .await;
    maps.patch("a", &PatchParams::default(), &label(Value::Null))
        .await
        .unwrap();
    in_time(
        &cluster,
        first(&mut events, |e| matches!(e, Event::Delete(m) if m.name_any() == "a")),
    )
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn managers_share_an_object_that_they_apply() {
    let cluster = bare().await;
    let client = client(&cluster).await;
    let maps = Api::<ConfigMap>::default_namespaced(client);
    let object = |data: Value| {
        Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}))
    };
    let one = PatchParams::apply("one");
    maps.patch("m", &one, &object(json!({"a": "1", "b": "1"})))
        .await
        .unwrap();
    let two = PatchParams::apply("two");
    let refused = maps.patch("m", &two, &object(json!({"b": "2"}))).await.unwrap_err();
    match &refused {
        kube::Error::Api(status) => {
            assert_eq!(status.code, 409);
            assert!(
                status.message.contains("conflict with \"one\": .data.b"),
                "{}",
                status.message
            );
        }
        other => panic!("{other}"),
    }
    maps.patch("m", &two.clone().force(), &object(json!({"b": "2"})))
        .await
        .unwrap();
    let left = maps.patch("m", &one, &object(json!({"a": "3"}))).await.unwrap();
    let data = left.data.unwrap();
    assert_eq!((data["a"].as_str(), data["b"].as_str()), ("3", "2"));
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_is_evicted_unless_a_budget_holds_it() {
    let cluster = bare().await;
    let client = client(&cluster).await;
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let pod = |name: &str, labels: Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .unwrap()
    };
    let post = PostParams::default();
    // Otherwise a controller makes it.
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    Api::default_namespaced(client.clone())
        .create(&post, &account)
        .await
        .unwrap();
    for (name, labels) in [("free", json!({})), ("held", json!({"app": "db"}))] {
        pods.create(&post, &pod(name, labels)).await.unwrap();
    }
    let running =
        Patch::Merge(json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
    pods.patch_status("held", &PatchParams::default(), &running)
        .await
        .unwrap();
    let budget: PodDisruptionBudget = serde_json::from_value(json!({"metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}}}))
    .unwrap();
    Api::default_namespaced(client).create(&post, &budget).await.unwrap();

    pods.evict("free", &EvictParams::default()).await.unwrap();
    assert!(
        pods.get_opt("free")
            .await
            .unwrap()
            .is_none_or(|p| p.metadata.deletion_timestamp.is_some())
    );
    // kube-rs asks again and again when it is told 429, as the server's Retry-After says: so it does not come back.
    let params = EvictParams::default();
    let asked = pods.evict("held", &params);
    let answered = cluster.clock.timeout(Duration::from_secs(2), asked).await;
    if let Ok(answer) = answered {
        match answer.unwrap_err() {
            kube::Error::Api(status) => assert_eq!(status.code, 429, "{}", status.message),
            other => panic!("{other}"),
        }
    }
    let held = pods.get("held").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_none());
    cluster.stop().await;
}
