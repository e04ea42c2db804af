//! A namespace for one row, and objects to fill it with. The namespace is deleted, and gone, before the next row begins.

use std::time::Duration;

use anyhow::Context;
use coracle_client::{Client, Error, ListOptions, WatchEvent};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::{Value, json};

use crate::load::Prepared;
use crate::server::Server;

/// What a namespace with thousands of objects may take to vanish.
const GONE_WITHIN: Duration = Duration::from_secs(600);

pub struct Scratch {
    pub name: String,
}

impl Scratch {
    pub async fn make(server: &Server) -> anyhow::Result<Self> {
        let client = server.client()?;
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some("bench-".into());
        let made = client.all::<Namespace>().create(&namespace).await?;
        let name = made.metadata.name.clone().unwrap_or_default();
        // Pods need the namespace's default account.
        let made = account(client, &name);
        let made = Clock::system().timeout(Duration::from_secs(60), made).await;
        made.context("the namespace's default service account was not made")??;
        Ok(Self { name })
    }

    /// The path of a core resource in the namespace.
    pub fn path(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.name)
    }

    /// Creates objects of a core resource from many workers; nothing of it is measured.
    pub async fn fill(
        &self,
        server: &Server,
        plural: &str,
        count: usize,
        object: fn(usize) -> Value,
    ) -> anyhow::Result<()> {
        let path = self.path(plural);
        let requests = (0..count).map(|n| Prepared::post(&path, &object(n))).collect();
        server.workers(16).await?.send_all(requests).await?;
        Ok(())
    }

    /// Deletes the namespace and waits until it is gone. A server of our own goes with its namespaces.
    pub async fn drop_from(self, server: &Server, own: bool) -> anyhow::Result<()> {
        if own {
            return Ok(());
        }
        let namespaces = server.client()?.all::<Namespace>();
        namespaces.delete(&self.name, &Default::default()).await?;
        let gone = async {
            loop {
                match namespaces.get(&self.name).await {
                    Err(error) if error.is_not_found() => return Ok::<_, Error>(()),
                    Err(error) => return Err(error),
                    Ok(_) => Clock::system().sleep(Duration::from_millis(500)).await,
                }
            }
        };
        let gone = Clock::system().timeout(GONE_WITHIN, gone).await;
        gone.context("the namespace is still there")??;
        Ok(())
    }
}

async fn account(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let accounts = client.namespaced::<ServiceAccount>(namespace);
    loop {
        let list = accounts.list(&ListOptions::default()).await?;
        let is_default = |a: &ServiceAccount| a.metadata.name.as_deref() == Some("default");
        if list.items.iter().any(|a| is_default(a)) {
            return Ok(());
        }
        let options = ListOptions {
            resource_version: list.revision.to_string(),
            ..ListOptions::default()
        };
        let mut events = accounts.watch(&options).await?;
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(account) = event
                && is_default(&account)
            {
                return Ok(());
            }
        }
    }
}

/// About 700 bytes, as configuration is.
pub fn config_map(n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name("map", n), "labels": {"bench": "yes"}},
        "data": {"key": "value ".repeat(100)},
    })
}

/// A pod that no scheduler takes.
pub fn idle_pod(n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name("pod", n), "labels": {"bench": "yes"}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "none"}]},
    })
}

pub fn name(prefix: &str, n: usize) -> String {
    format!("{prefix}-{n:05}")
}
