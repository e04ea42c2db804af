//! Custom resources: gears, which own and are owned, and the metric that an autoscaler goes by.

use std::time::Duration;

use coracle_api::service::DeleteOptions;
use serde_json::{Value, json};

use super::User;
use crate::json;

pub const GEARS: &str = "example.org/v1";
pub const METRICS: &str = "external.metrics.k8s.io/v1beta1";
/// What the metric may be for each pod.
pub const TARGET: u64 = 10;

fn definition(api_version: &str, plural: &str, singular: &str, kind: &str) -> Value {
    let (group, version) = api_version.split_once('/').unwrap_or_default();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": plural, "singular": singular, "kind": kind},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

impl User {
    async fn define_gears(&self) {
        let gears = definition(GEARS, "gears", "gear", "Gear");
        self.create("apiextensions.k8s.io/v1", "customresourcedefinitions", gears)
            .await;
    }

    pub(super) async fn define(&mut self) {
        self.define_gears().await;
        let metrics = definition(METRICS, "queued", "queued", "ExternalMetricValue");
        self.create("apiextensions.k8s.io/v1", "customresourcedefinitions", metrics)
            .await;
        self.world.clock.sleep(Duration::from_secs(5)).await;
        let metric = json!({"apiVersion": METRICS, "kind": "ExternalMetricValue", "metricName": "queued",
            "metadata": {"name": "queued", "namespace": "default"}, "value": "20"});
        self.create(METRICS, "queued", metric).await;
    }

    pub(super) fn autoscaler(&mut self) -> Value {
        let min = 1 + self.below(3);
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "de0"},
            "minReplicas": min, "maxReplicas": min + self.below(4),
            "metrics": [{"type": "External", "external": {"metric": {"name": "queued"},
                "target": {"type": "AverageValue", "averageValue": TARGET.to_string()}}}],
        })
    }

    /// Changes owners, dependents or the metric.
    pub(super) async fn touch_custom(&mut self) {
        self.count += 1;
        let name = format!("own{}", self.count);
        match self.below(10) {
            0..=2 => {
                let value = self.below(70).to_string();
                self.merge(METRICS, "queued", "queued", json!({"value": value})).await;
            }
            3 | 4 => {
                let meta = self.owned(&name);
                let gear = json!({"apiVersion": GEARS, "kind": "Gear", "metadata": meta});
                self.create(GEARS, "gears", gear).await;
            }
            5 | 6 => {
                let meta = self.owned(&name);
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
                self.create("v1", "configmaps", map).await;
            }
            7 | 8 => {
                let names = self.names("example.org");
                if !names.is_empty() {
                    let (name, options) = (self.pick(&names), self.how_to_delete());
                    self.delete(GEARS, "gears", &name, options).await;
                }
            }
            _ => {
                let options = DeleteOptions::default();
                if self.names("example.org").is_empty() && self.below(2) == 0 {
                    return self.define_gears().await;
                }
                self.delete(
                    "apiextensions.k8s.io/v1",
                    "customresourcedefinitions",
                    "gears.example.org",
                    options,
                )
                .await;
            }
        }
    }

    /// Metadata of an object that is owned by up to two others, gears or config maps.
    fn owned(&mut self, name: &str) -> Value {
        let possible: Vec<Value> = self.world.history.read(|model, _| {
            let own = |o: &&Value| json::text(o, "metadata.namespace") == "default" && json::name(o).starts_with("own");
            let all = model.all("example.org").chain(model.all("configmaps").filter(own));
            all.map(|o| {
                json!({"apiVersion": o["apiVersion"], "kind": o["kind"], "name": json::name(o), "uid": json::uid(o),
                    "blockOwnerDeletion": true})
            })
            .collect()
        });
        let mut owners: Vec<Value> = Vec::new();
        for _ in 0..self.below(3).min(possible.len() as u64) {
            let owner = self.pick(&possible);
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        json!({"name": name, "namespace": "default", "ownerReferences": owners})
    }

    /// The definition that was taken away is there again: whoever waits to ask about an owner can.
    pub(super) async fn define_again(&self) {
        if self.world.chaos.profile.custom {
            self.define_gears().await;
        }
    }
}
