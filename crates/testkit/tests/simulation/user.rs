//! What users want, and change their minds about; what is in a spec is [`spec`]'s, what custom resources there are
//! [`custom`]'s, and how peace is made [`peace`]'s.

mod custom;
mod peace;
mod spec;

use coracle_api::object::Object;
use coracle_api::service::{DeleteOptions, Operation, PatchKind, Propagation, WriteOptions};
pub use custom::TARGET;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::json;
use crate::world::World;

pub struct User {
    world: World,
    random: StdRng,
    /// Makes templates and names differ.
    count: u64,
}

/// Kind, API version and plural of what is created, with how many of each there may be.
const KINDS: [(&str, &str, &str, u64); 8] = [
    ("Deployment", "apps/v1", "deployments", 2),
    ("ReplicaSet", "apps/v1", "replicasets", 1),
    ("DaemonSet", "apps/v1", "daemonsets", 1),
    ("StatefulSet", "apps/v1", "statefulsets", 1),
    ("Job", "batch/v1", "jobs", 3),
    ("CronJob", "batch/v1", "cronjobs", 1),
    ("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", 1),
    (
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        "horizontalpodautoscalers",
        1,
    ),
];

impl User {
    pub fn new(world: World, seed: u64) -> Self {
        Self {
            world,
            random: StdRng::seed_from_u64(seed),
            count: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.random_range(0..n)
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        let at = self.random.random_range(0..choices.len());
        choices[at].clone()
    }

    async fn ask(&self, what: &str, api_version: &str, plural: &str, name: &str, operation: Operation) {
        let request = World::operation(api_version, plural, name, operation);
        let refused = self.world.ask(request).await.err();
        let refused = refused.map(|e| format!(": refused: {}", e.message)).unwrap_or_default();
        self.world
            .history
            .note(format!("user: {what} {plural} {name}{refused}"));
    }

    async fn create(&self, api_version: &str, plural: &str, object: Value) {
        let operation = Operation::Create {
            object: Object::from_value(object.clone()).unwrap(),
            options: WriteOptions::default(),
        };
        let what = format!("creates {}", object["spec"]);
        // The name is the object's, and no part of the path.
        let request = World::operation(api_version, plural, "", operation);
        let refused = self.world.ask(request).await.err();
        let refused = refused.map(|e| format!(": refused: {}", e.message)).unwrap_or_default();
        let name = json::name(&object);
        self.world
            .history
            .note(format!("user: {what} {plural} {name}{refused}"));
    }

    async fn merge(&self, api_version: &str, plural: &str, name: &str, patch: Value) {
        let what = format!("changes {patch}");
        let operation = Operation::Patch {
            kind: PatchKind::Merge,
            patch,
            options: WriteOptions::default(),
        };
        self.ask(&what, api_version, plural, name, operation).await;
    }

    async fn delete(&self, api_version: &str, plural: &str, name: &str, options: DeleteOptions) {
        let what = format!(
            "deletes ({:?}, {:?})",
            options.propagation, options.grace_period_seconds
        );
        self.ask(&what, api_version, plural, name, Operation::Delete(options))
            .await;
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let names = |model: &crate::model::Model| model.all(kind).map(|o| json::name(o).to_owned()).collect();
        self.world.history.read(|model, _| names(model))
    }

    /// What all seeds need.
    pub async fn prepare(&mut self) {
        for (name, value, preempts) in [
            ("high", 1000, "PreemptLowerPriority"),
            ("middle", 500, "PreemptLowerPriority"),
            ("patient", 800, "Never"),
            ("daemon", 2000, "PreemptLowerPriority"),
        ] {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": value, "preemptionPolicy": preempts});
            self.create("scheduling.k8s.io/v1", "priorityclasses", class).await;
        }
        if self.world.chaos.profile.custom {
            self.define().await;
        }
        if self.world.chaos.profile.claims {
            self.offer_volumes().await;
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "de0", "namespace": "default"},
            "spec": {"selector": {"app": "de0"}, "ports": [{"port": 80}]},
        });
        self.create("v1", "services", service).await;
        if self.below(2) == 0 {
            let quota = json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": "default"},
                "spec": {"hard": {"pods": self.pick(&["8", "14", "60"])}},
            });
            self.create("v1", "resourcequotas", quota).await;
        }
    }

    /// One change of mind.
    pub async fn act(&mut self) {
        if self.world.chaos.profile.custom && self.below(4) == 0 {
            return self.touch_custom().await;
        }
        match self.below(100) {
            0..=29 => self.declare().await,
            30..=69 => self.change().await,
            70..=77 => self.drop_something().await,
            78..=87 => self.touch_pod().await,
            _ => self.touch_node().await,
        }
    }

    fn kind(&mut self) -> (&'static str, &'static str, &'static str, u64) {
        // Without custom resources there is no metric to scale by.
        let all = KINDS.len() - usize::from(!self.world.chaos.profile.custom);
        self.pick(&KINDS[..all])
    }

    async fn declare(&mut self) {
        let (kind, api_version, plural, most) = self.kind();
        let name = format!("{}{}", &plural[..2], self.below(most));
        let spec = match kind {
            "CronJob" => self.cron_job(&name),
            "PodDisruptionBudget" => {
                json!({"minAvailable": self.below(3), "selector": {"matchLabels": {"app": "de0"}}})
            }
            "HorizontalPodAutoscaler" => self.autoscaler(),
            "Job" => self.job(&name),
            _ => self.workload(kind, &name),
        };
        let name = match kind {
            // A finished Job keeps its name taken.
            "Job" => format!("{name}-{}", self.count),
            _ => name,
        };
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.create(api_version, plural, object).await;
    }

    async fn change(&mut self) {
        let (kind, api_version, plural, _) = self.kind();
        let names = self.names(plural);
        if names.is_empty() {
            return self.declare().await;
        }
        let name = self.pick(&names);
        let spec = match kind {
            "Job" if self.below(2) == 0 => json!({"parallelism": self.below(4)}),
            "Job" => json!({"suspend": self.pick(&[true, false])}),
            "CronJob" => {
                json!({"suspend": self.pick(&[true, false]), "concurrencyPolicy": self.pick(&["Allow", "Forbid", "Replace"])})
            }
            "PodDisruptionBudget" => json!({"minAvailable": self.below(3)}),
            "HorizontalPodAutoscaler" => {
                let min = 1 + self.below(3);
                json!({"minReplicas": min, "maxReplicas": min + self.below(4)})
            }
            "Deployment" if self.below(4) == 0 => json!({"strategy": self.strategy()}),
            "Deployment" if self.below(6) == 0 => json!({"paused": self.pick(&[true, false])}),
            "DaemonSet" if self.below(3) == 0 => json!({"updateStrategy": self.daemon_strategy()}),
            "StatefulSet" if self.below(4) == 0 => {
                json!({"updateStrategy": {"rollingUpdate": {"partition": self.below(4), "maxUnavailable": 1 + self.below(2)}}})
            }
            "StatefulSet" if self.below(6) == 0 => json!({"persistentVolumeClaimRetentionPolicy": self.retention()}),
            "Deployment" | "StatefulSet" | "ReplicaSet" if self.below(2) == 0 => {
                json!({"replicas": self.below(if self.world.chaos.profile.tight { 4 } else { 6 })})
            }
            _ => json!({"template": self.template(&name, false)}),
        };
        self.merge(api_version, plural, &name, json!({"spec": spec})).await;
    }

    async fn drop_something(&mut self) {
        let (_, api_version, plural, _) = self.pick(&KINDS);
        let names = self.names(plural);
        if names.is_empty() {
            return;
        }
        let name = self.pick(&names);
        let options = self.how_to_delete();
        self.delete(api_version, plural, &name, options).await;
    }

    fn how_to_delete(&mut self) -> DeleteOptions {
        let propagation = self.pick(&[
            Propagation::Background,
            Propagation::Background,
            Propagation::Foreground,
            Propagation::Orphan,
        ]);
        DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        }
    }

    async fn touch_pod(&mut self) {
        let names = self.names("pods");
        if names.is_empty() {
            return;
        }
        let name = self.pick(&names);
        if self.below(3) == 0 {
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}});
            let operation = Operation::Create {
                object: Object::from_value(eviction).unwrap(),
                options: WriteOptions::default(),
            };
            return self.ask("evicts", "v1", "pods/eviction", &name, operation).await;
        }
        let options = DeleteOptions {
            grace_period_seconds: self.pick(&[None, None, Some(0), Some(1)]),
            ..DeleteOptions::default()
        };
        self.delete("v1", "pods", &name, options).await;
    }

    async fn touch_node(&mut self) {
        let names = self.names("minions");
        if names.is_empty() || self.below(6) == 0 {
            return self.join().await;
        }
        let name = self.pick(&names);
        let patch = match self.below(7) {
            0 | 1 => json!({"spec": {"unschedulable": self.pick(&[true, false])}}),
            2 | 3 => json!({"metadata": {"labels": {"disk": self.pick(&[json!("fast"), Value::Null])}}}),
            4 => {
                let effect = self.pick(&["NoSchedule", "NoExecute"]);
                json!({"spec": {"taints": [{"key": "trouble", "effect": effect}]}})
            }
            5 => json!({"spec": {"taints": null}}),
            _ => return self.delete("v1", "nodes", &name, DeleteOptions::default()).await,
        };
        self.merge("v1", "nodes", &name, patch).await;
    }

    async fn join(&mut self) {
        self.count += 1;
        let name = format!("joined-{}", self.count);
        let disk = self.pick(&["fast", "slow"]);
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {coracle_fake_node::FLEET_LABEL: "fake", "kubernetes.io/hostname": name, "disk": disk},
                "annotations": {"coracle.dev/local-volumes": "/volumes"},
            },
        });
        self.create("v1", "nodes", node).await;
    }
}
