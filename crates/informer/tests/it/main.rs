//! Informers and controllers against a scripted server that fails as it is told, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod controller;
mod convergence;
#[path = "../../../client/tests/it/front.rs"]
mod front;
#[path = "../../../client/tests/it/memory.rs"]
mod memory;
mod over_http;
mod sharing;

use std::sync::Arc;

use coracle_client::{Client, DeleteOptions};
use k8s_openapi::api::core::v1::ConfigMap;

/// A ConfigMap in `default` whose data says `text`.
fn config_map(name: &str, text: &str) -> ConfigMap {
    let value = serde_json::json!({"metadata": {"namespace": "default", "name": name}, "data": {"text": text}});
    serde_json::from_value(value).unwrap()
}

async fn create(client: &Client, name: &str, text: &str) -> Arc<ConfigMap> {
    client.all().create(&config_map(name, text)).await.unwrap()
}

async fn delete(client: &Client, name: &str) {
    let maps = client.namespaced::<ConfigMap>("default");
    maps.delete(name, &DeleteOptions::default()).await.unwrap();
}
