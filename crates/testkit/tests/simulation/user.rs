//! What users want, and change their minds about; what is in a spec is [`spec`]'s.

mod spec;

use coracle_api::object::Object;
use coracle_api::service::{DeleteOptions, Operation, PatchKind, Propagation, WriteOptions};
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

/// Kind, group and plural of what is created, with how many of each there may be.
const KINDS: [(&str, &str, &str, u64); 7] = [
    ("Deployment", "apps", "deployments", 2),
    ("ReplicaSet", "apps", "replicasets", 1),
    ("DaemonSet", "apps", "daemonsets", 1),
    ("StatefulSet", "apps", "statefulsets", 1),
    ("Job", "batch", "jobs", 3),
    ("CronJob", "batch", "cronjobs", 1),
    ("PodDisruptionBudget", "policy", "poddisruptionbudgets", 1),
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

    async fn ask(&self, what: &str, group: &str, plural: &str, name: &str, operation: Operation) {
        let request = World::operation(group, plural, name, operation);
        let refused = self.world.ask(request).await.err();
        let refused = refused.map(|e| format!(": refused: {}", e.message)).unwrap_or_default();
        self.world
            .history
            .note(format!("user: {what} {plural} {name}{refused}"));
    }

    async fn create(&self, group: &str, plural: &str, object: Value) {
        let operation = Operation::Create {
            object: Object::from_value(object.clone()).unwrap(),
            options: WriteOptions::default(),
        };
        let what = format!("creates {}", object["spec"]);
        // The name is the object's, and no part of the path.
        let request = World::operation(group, plural, "", operation);
        let refused = self.world.ask(request).await.err();
        let refused = refused.map(|e| format!(": refused: {}", e.message)).unwrap_or_default();
        let name = json::name(&object);
        self.world
            .history
            .note(format!("user: {what} {plural} {name}{refused}"));
    }

    async fn merge(&self, group: &str, plural: &str, name: &str, patch: Value) {
        let what = format!("changes {patch}");
        let operation = Operation::Patch {
            kind: PatchKind::Merge,
            patch,
            options: WriteOptions::default(),
        };
        self.ask(&what, group, plural, name, operation).await;
    }

    async fn delete(&self, group: &str, plural: &str, name: &str, options: DeleteOptions) {
        let what = format!(
            "deletes ({:?}, {:?})",
            options.propagation, options.grace_period_seconds
        );
        self.ask(&what, group, plural, name, Operation::Delete(options)).await;
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let names = |model: &crate::model::Model| model.all(kind).map(|o| json::name(o).to_owned()).collect();
        self.world.history.read(|model, _| names(model))
    }

    /// What all seeds need.
    pub async fn prepare(&mut self) {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000});
        self.create("scheduling.k8s.io", "priorityclasses", class).await;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "de0", "namespace": "default"},
            "spec": {"selector": {"app": "de0"}, "ports": [{"port": 80}]},
        });
        self.create("", "services", service).await;
        if self.below(2) == 0 {
            let quota = json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": "default"},
                "spec": {"hard": {"pods": self.pick(&["8", "14", "60"])}},
            });
            self.create("", "resourcequotas", quota).await;
        }
    }

    /// One change of mind.
    pub async fn act(&mut self) {
        match self.below(100) {
            0..=29 => self.declare().await,
            30..=69 => self.change().await,
            70..=77 => self.drop_something().await,
            78..=87 => self.touch_pod().await,
            _ => self.touch_node().await,
        }
    }

    async fn declare(&mut self) {
        let (kind, group, plural, most) = self.pick(&KINDS);
        let name = format!("{}{}", &plural[..2], self.below(most));
        let version = format!("{group}/v1");
        let spec = match kind {
            "CronJob" => self.cron_job(&name),
            "PodDisruptionBudget" => {
                json!({"minAvailable": self.below(3), "selector": {"matchLabels": {"app": "de0"}}})
            }
            "Job" => self.job(&name),
            _ => self.workload(kind, &name),
        };
        let name = match kind {
            // A finished Job keeps its name taken.
            "Job" => format!("{name}-{}", self.count),
            _ => name,
        };
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.create(group, plural, object).await;
    }

    async fn change(&mut self) {
        let (kind, group, plural, _) = self.pick(&KINDS);
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
            "Deployment" if self.below(4) == 0 => json!({"strategy": self.strategy()}),
            "Deployment" if self.below(6) == 0 => json!({"paused": self.pick(&[true, false])}),
            "DaemonSet" if self.below(3) == 0 => json!({"updateStrategy": self.daemon_strategy()}),
            "StatefulSet" if self.below(4) == 0 => {
                json!({"updateStrategy": {"rollingUpdate": {"partition": self.below(4)}}})
            }
            "Deployment" | "StatefulSet" | "ReplicaSet" if self.below(2) == 0 => json!({"replicas": self.below(6)}),
            _ => json!({"template": self.template(&name, false)}),
        };
        self.merge(group, plural, &name, json!({"spec": spec})).await;
    }

    async fn drop_something(&mut self) {
        let (_, group, plural, _) = self.pick(&KINDS);
        let names = self.names(plural);
        if names.is_empty() {
            return;
        }
        let name = self.pick(&names);
        let propagation = self.pick(&[
            Propagation::Background,
            Propagation::Background,
            Propagation::Foreground,
            Propagation::Orphan,
        ]);
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        self.delete(group, plural, &name, options).await;
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
            return self.ask("evicts", "", "pods/eviction", &name, operation).await;
        }
        let options = DeleteOptions {
            grace_period_seconds: self.pick(&[None, None, Some(0), Some(1)]),
            ..DeleteOptions::default()
        };
        self.delete("", "pods", &name, options).await;
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
            _ => return self.delete("", "nodes", &name, DeleteOptions::default()).await,
        };
        self.merge("", "nodes", &name, patch).await;
    }

    async fn join(&mut self) {
        self.count += 1;
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": format!("joined-{}", self.count),
                "labels": {coracle_fake_node::FLEET_LABEL: "fake", "disk": self.pick(&["fast", "slow"])},
            },
        });
        self.create("", "nodes", node).await;
    }

    /// Makes what has been declared possible, so that it must come to rest: nodes enough, none barred; nothing paused, held
    /// back or without end.
    pub async fn settle(&mut self) {
        for node in self.names("minions") {
            let patch =
                json!({"spec": {"unschedulable": null, "taints": null}, "metadata": {"labels": {"disk": "fast"}}});
            self.merge("", "nodes", &node, patch).await;
        }
        while self.names("minions").len() < 5 {
            let before = self.names("minions").len();
            self.join().await;
            if self.names("minions").len() == before {
                break;
            }
        }
        for node in self.names("minions") {
            self.merge("", "nodes", &node, json!({"metadata": {"labels": {"disk": "fast"}}}))
                .await;
        }
        for name in self.names("resourcequotas") {
            self.merge("", "resourcequotas", &name, json!({"spec": {"hard": {"pods": "200"}}}))
                .await;
        }
        for name in self.names("deployments") {
            self.merge("apps", "deployments", &name, json!({"spec": {"paused": false}}))
                .await;
        }
        for name in self.names("statefulsets") {
            let patch = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
            self.merge("apps", "statefulsets", &name, patch).await;
        }
        for name in self.names("cronjobs") {
            self.merge("batch", "cronjobs", &name, json!({"spec": {"suspend": true}}))
                .await;
        }
        for name in self.names("jobs") {
            self.merge(
                "batch",
                "jobs",
                &name,
                json!({"spec": {"suspend": false, "parallelism": 2}}),
            )
            .await;
        }
    }
}
