//! The in-process road: what is shared, and what is sent.

use std::sync::Arc;

use coracle_api::status::Status;
use coracle_client::{DeleteOptions, DynamicObject, Kind, ListOptions, Patch, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use crate::memory::Memory;

pub fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": name}})).unwrap()
}

#[tokio::test]
async fn all_readers_of_a_revision_share_one_decoded_object() {
    let memory = Memory::new();
    let maps = memory.client().namespaced::<ConfigMap>("default");
    let created = maps.create(&config_map("a")).await.unwrap();
    let got = maps.get("a").await.unwrap();
    let listed = maps.list(&ListOptions::default()).await.unwrap();
    assert!(Arc::ptr_eq(&created, &got));
    assert!(Arc::ptr_eq(&created, &listed.items[0]));
    let stored = memory.objects("configmaps");
    let stored = stored.values().next().unwrap();
    assert!(Arc::ptr_eq(&created, &ConfigMap::decode(stored).unwrap()));
}

#[tokio::test]
async fn an_object_goes_where_its_metadata_says_when_the_api_has_no_namespace() {
    let memory = Memory::new();
    let maps = memory.client().all::<ConfigMap>();
    let created = maps.create(&config_map("a")).await.unwrap();
    let mut changed = (*created).clone();
    changed.data = Some([("k".to_owned(), "v".to_owned())].into());
    let updated = maps.update(&changed).await.unwrap();
    assert_eq!(updated.data, changed.data);
    let error = maps.update(&changed).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
}

#[tokio::test]
async fn errors_say_what_they_are() {
    let memory = Memory::new();
    let maps = memory.client().namespaced::<ConfigMap>("default");
    assert!(maps.get("a").await.unwrap_err().is_not_found());
    assert!(maps.find("a").await.unwrap().is_none());
    maps.create(&config_map("a")).await.unwrap();
    assert!(maps.create(&config_map("a")).await.unwrap_err().is_already_exists());
    memory.fail(1, &Status::expired("too old"));
    assert!(maps.list(&ListOptions::default()).await.unwrap_err().is_expired());
    memory.fail(1, &Status::too_many_requests("later", 7));
    let error = maps.get("a").await.unwrap_err();
    assert_eq!(error.retry_after().map(|d| d.as_secs()), Some(7));
}

#[tokio::test]
async fn an_object_of_another_shape_is_a_decode_error_that_names_it() {
    let memory = Memory::new();
    let client = memory.client();
    let resource = coracle_client::ApiResource::of::<ConfigMap>();
    let mut odd = DynamicObject::new(&resource, "odd");
    odd.data.insert("data".into(), json!(7));
    client
        .dynamic::<DynamicObject>(&resource)
        .within("default")
        .create(&odd)
        .await
        .unwrap();
    let error = client
        .all::<ConfigMap>()
        .list(&ListOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot decode configmaps default/odd");
}

#[tokio::test]
async fn a_watch_gives_changes_as_they_happen() {
    let memory = Memory::new();
    let maps = memory.client().namespaced::<ConfigMap>("default");
    let mut events = maps.watch(&ListOptions::default()).await.unwrap();
    maps.create(&config_map("a")).await.unwrap();
    maps.patch("a", Patch::Merge(json!({"data": {"k": "v"}})))
        .await
        .unwrap();
    maps.delete("a", &DeleteOptions::default()).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
    let Some(Ok(WatchEvent::Modified(changed))) = events.next().await else {
        panic!("not a change");
    };
    assert_eq!(changed.data.as_ref().unwrap()["k"], "v");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Deleted(_)))));
    memory.compact();
    memory.cut(true);
    assert!(events.next().await.unwrap().is_err());
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn what_needs_http_says_so() {
    let memory = Memory::new();
    let pods = memory.client().namespaced::<Pod>("default");
    let error = pods.logs("a", &Default::default()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "streaming needs a client that is connected over HTTP"
    );
}

#[tokio::test]
async fn binding_creates_at_the_pods_subresource() {
    let memory = Memory::new();
    let pods = memory.client().namespaced::<Pod>("default");
    pods.bind("a", Some("u"), "n").await.unwrap();
    assert_eq!(memory.calls(), ["create pods/a"]);
    let bound = memory.objects("pods").into_values().next().unwrap().to_object();
    assert_eq!((bound.kind(), bound.str(&["target", "name"])), ("Binding", Some("n")));
}
