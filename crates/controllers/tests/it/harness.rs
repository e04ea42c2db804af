//! A cluster in virtual time, and waiting for what should become of an object.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Api, WatchEvent};
use coracle_client::{Client, ListOptions, TypedKind, Whole};
use coracle_clock::Clock;
use coracle_testkit::{FakeNodes, Options, TestCluster};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// When a cluster's clock begins, unless the test says otherwise.
pub const BEGINNING: &str = "2026-01-01T00:00:00Z";

/// Controllers alone: no scheduler, no node.
pub async fn cluster() -> TestCluster {
    cluster_at(BEGINNING).await
}

/// The same, at another time.
pub async fn cluster_at(beginning: &str) -> TestCluster {
    start(beginning, false, FakeNodes::default()).await
}

/// With a scheduler, and fake nodes on which pods live as the configuration says.
pub async fn cluster_with_nodes(count: u32, config: &str) -> TestCluster {
    start(BEGINNING, true, FakeNodes::configured(count, config).unwrap()).await
}

async fn start(beginning: &str, scheduler: bool, fake_nodes: FakeNodes) -> TestCluster {
    let options = Options {
        clock: Clock::starting_at(beginning.parse().unwrap()),
        scheduler,
        fake_nodes,
        ..Options::default()
    };
    TestCluster::with(options).await.unwrap()
}

pub fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub async fn create<K: TypedKind + Whole + DeserializeOwned>(client: &Client, value: Value) -> Arc<K> {
    client.all::<K>().create(&from::<K>(value)).await.unwrap()
}

/// Longer than anything waited for, in virtual time.
pub const LONG: Duration = Duration::from_secs(400 * 86_400);

/// Waits until the object of this name (or its absence) is as wanted. While nothing else is to be done the clock is turned,
/// so that a condition that never comes ends the test soon.
pub async fn watched<K: TypedKind>(
    cluster: &TestCluster,
    api: Api<K>,
    name: &str,
    limit: Duration,
    wanted: impl Fn(Option<&K>) -> bool,
) -> Option<Arc<K>> {
    let follow = async {
        loop {
            let mut options = ListOptions {
                field_selector: format!("metadata.name={name}"),
                ..ListOptions::default()
            };
            let list = api.list(&options).await.unwrap();
            let now = list.items.first().cloned();
            if wanted(now.as_deref()) {
                return now;
            }
            options.resource_version = list.revision.to_string();
            let mut changes = api.watch(&options).await.unwrap();
            while let Some(Ok(change)) = changes.next().await {
                let now = match change {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
                    WatchEvent::Deleted(_) => None,
                    WatchEvent::Bookmark { .. } => continue,
                };
                if wanted(now.as_deref()) {
                    return now;
                }
            }
        }
    };
    match cluster.clock.timeout(limit, follow).await {
        Ok(found) => found,
        Err(_) => {
            let now = api.find(name).await.unwrap();
            let shown = now.is_some();
            panic!("{name} did not become as wanted; it exists: {shown}")
        }
    }
}

pub async fn until<K: TypedKind>(
    cluster: &TestCluster,
    api: Api<K>,
    name: &str,
    wanted: impl Fn(&K) -> bool,
) -> Arc<K> {
    watched(cluster, api, name, LONG, |found| found.is_some_and(&wanted))
        .await
        .unwrap()
}

pub async fn until_gone<K: TypedKind>(cluster: &TestCluster, api: Api<K>, name: &str) {
    watched(cluster, api, name, LONG, |found| found.is_none()).await;
}
