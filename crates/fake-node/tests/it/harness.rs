//! A cluster with fake nodes, and waiting for what is to become of it.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Api, Kind, ListOptions};
use coracle_testkit::{Clock, FakeNodes, Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};

pub const START: &str = "2026-01-01T00:00:00Z";

/// A cluster in virtual time.
pub async fn cluster(nodes: u32, config: &str) -> TestCluster {
    let options = Options {
        clock: Clock::starting_at(START.parse().unwrap()),
        fake_nodes: FakeNodes::configured(nodes, config).unwrap(),
        ..Options::default()
    };
    let cluster = TestCluster::with(options).await.unwrap();
    settled(&cluster).await;
    cluster
}

/// Pods can be created: their namespace has its account.
pub async fn settled(cluster: &TestCluster) {
    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    until(cluster.clock, &accounts, |all| !all.is_empty()).await;
}

/// Waits until the objects are as wanted, looking whenever one changes; an hour of the cluster's time at most.
pub async fn until<K: Kind>(clock: Clock, api: &Api<K>, wanted: impl Fn(&[Arc<K>]) -> bool) -> Vec<Arc<K>> {
    let watching = async {
        loop {
            let list = api.list(&ListOptions::default()).await.unwrap();
            let options = ListOptions {
                resource_version: list.revision.to_string(),
                ..ListOptions::default()
            };
            let mut events = std::pin::pin!(api.watch_stored(&options).await.unwrap());
            if wanted(&list.items) {
                return list.items;
            }
            // Several that have come already are one change.
            events.next().await;
        }
    };
    clock
        .timeout(Duration::from_secs(3600), watching)
        .await
        .expect("not as wanted within an hour of the cluster's time")
}

pub fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub fn pod(name: &str, node: Option<&str>, more: Value) -> Pod {
    let mut value = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "web:v1"}]},
    });
    if let Some(node) = node {
        value["spec"]["nodeName"] = node.into();
    }
    merge(&mut value, more);
    object(value)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
