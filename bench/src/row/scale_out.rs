//! A Deployment from none to many replicas: until all exist, and until all are bound. Needs nodes with room.

use anyhow::Context;
use coracle_client::{Client, ListOptions, Patch, WatchEvent};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::measure::Scratch;
use crate::report::Report;

pub async fn run(client: &Client, replicas: i32) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let scratch = Scratch::make(client).await?;
    let deployments = client.namespaced::<Deployment>(&scratch.name);
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "many"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "many"}},
            "template": {
                "metadata": {"labels": {"app": "many"}},
                "spec": {"containers": [{"name": "c", "image": "demo/web:v1", "command": ["sleep", "100000"]}]},
            },
        },
    }))?;
    deployments.create(&deployment).await?;
    let pods = client.namespaced::<Pod>(&scratch.name);
    let list = pods.list(&ListOptions::default()).await?;
    let options = ListOptions {
        resource_version: list.revision.to_string(),
        ..ListOptions::default()
    };
    let mut events = pods.watch(&options).await?;

    let started = clock.instant();
    deployments
        .patch("many", Patch::Merge(json!({"spec": {"replicas": replicas}})))
        .await?;
    let wanted = usize::try_from(replicas)?;
    let (mut created, mut bound) = (0, std::collections::HashSet::new());
    let mut all_created = None;
    while bound.len() < wanted {
        match events.next().await.context("the watch ended early")?? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let placed = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some();
                let first = pod.metadata.resource_version.is_some()
                    && pod.status.as_ref().is_none_or(|s| s.conditions.is_none());
                if first {
                    created += 1;
                    if created == wanted {
                        all_created = Some(started.elapsed());
                    }
                }
                if placed {
                    bound.insert(pod.metadata.uid.clone());
                }
            }
            _ => {}
        }
    }
    let took = started.elapsed();
    let mut report = Report::default();
    if let Some(created) = all_created {
        report.add(
            format!("Deployment 0 to {replicas}, all created"),
            created.as_secs_f64(),
            "s",
        );
    }
    report.add(
        format!("Deployment 0 to {replicas}, all bound"),
        took.as_secs_f64(),
        "s",
    );
    scratch.drop_namespace().await?;
    Ok(report)
}
