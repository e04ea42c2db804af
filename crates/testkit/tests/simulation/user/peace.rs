//! How peace is made: what has been declared becomes possible, and what only people can do for it is done.

use coracle_api::service::DeleteOptions;
use serde_json::{Value, json};

use super::User;
use crate::json;
use crate::model::Model;

/// Names of the objects of a kind for which something holds.
fn those(model: &Model, kind: &str, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = model.all(kind).filter(|o| holds(o));
    all.map(|o| json::name(o).to_owned()).collect()
}

fn node_of(volume: &Value) -> &str {
    json::annotation(volume, "coracle.dev/node")
}

/// How many pods there may be at most, beside daemons.
fn wanted_pods(model: &Model) -> usize {
    let size = |o: &Value| usize::try_from(json::int(o, "spec.replicas")).unwrap_or(0);
    let of = |kind: &str| -> usize { model.all(kind).map(size).sum() };
    let alone = model.all("replicasets").filter(|s| json::controller(s).is_none());
    let scaled = model
        .all("horizontalpodautoscalers")
        .map(|a| json::int(a, "spec.maxReplicas"));
    let scaled = usize::try_from(scaled.max().unwrap_or(0)).unwrap_or(0);
    let jobs = model.all("jobs").filter(|j| !json::job_finished(j)).count();
    // With those that roll out, there are two of each for a while.
    2 * (of("deployments") + scaled) + alone.map(size).sum::<usize>() + of("statefulsets") + 2 * jobs
}

impl User {
    /// Makes what has been declared possible, so that it must come to rest: nodes enough, none barred; nothing paused, held
    /// back or without end.
    pub async fn settle(&mut self) {
        for node in self.names("minions") {
            let patch =
                json!({"spec": {"unschedulable": null, "taints": null}, "metadata": {"labels": {"disk": "fast"}}});
            self.merge("v1", "nodes", &node, patch).await;
        }
        let wanted = match self.world.chaos.profile.tight {
            // A node for each pod: whatever stands on the others, there is one with room.
            true => self.world.history.read(|model, _| wanted_pods(model)).max(5),
            false => 5,
        };
        while self.names("minions").len() < wanted {
            let before = self.names("minions").len();
            self.join().await;
            if self.names("minions").len() == before {
                break;
            }
        }
        self.label_nodes().await;
        self.define_again().await;
        for name in self.names("resourcequotas") {
            self.merge(
                "v1",
                "resourcequotas",
                &name,
                json!({"spec": {"hard": {"pods": "200"}}}),
            )
            .await;
        }
        for name in self.names("deployments") {
            self.merge("apps/v1", "deployments", &name, json!({"spec": {"paused": false}}))
                .await;
        }
        for name in self.names("statefulsets") {
            let patch = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
            self.merge("apps/v1", "statefulsets", &name, patch).await;
        }
        for name in self.names("cronjobs") {
            self.merge("batch/v1", "cronjobs", &name, json!({"spec": {"suspend": true}}))
                .await;
        }
        for name in self.names("jobs") {
            self.merge(
                "batch/v1",
                "jobs",
                &name,
                json!({"spec": {"suspend": false, "parallelism": 2}}),
            )
            .await;
        }
    }

    /// All nodes have what any template asks for.
    async fn label_nodes(&mut self) {
        let is_fast = |node: &Value| json::text(node, "metadata.labels.disk") == "fast";
        let others = |model: &Model, _: &_| those(model, "minions", |node| !is_fast(node));
        for node in self.world.history.read(others) {
            self.merge("v1", "nodes", &node, json!({"metadata": {"labels": {"disk": "fast"}}}))
                .await;
        }
    }

    /// What an administrator does again and again: nodes that come back are labelled as the others. For volumes, what the
    /// node's agent does too: directories of volumes that go are removed, what nobody claims any more is offered again, and
    /// what was kept on a node that is gone is given up.
    pub async fn tend(&mut self) {
        self.label_nodes().await;
        if !self.world.chaos.profile.claims {
            return;
        }
        let (going, released, lost) = self.world.history.read(|model, _| {
            let going = those(model, "persistentvolumes", |v| {
                json::terminating(v) && !node_of(v).is_empty() && json::text(v, "status.phase") != "Bound"
            });
            let released = those(model, "persistentvolumes", |v| {
                node_of(v).is_empty() && json::text(v, "status.phase") == "Released"
            });
            let is_lost = |v: &&Value| !node_of(v).is_empty() && model.named("minions", node_of(v)).is_none();
            let lost: Vec<String> = model
                .all("persistentvolumes")
                .filter(is_lost)
                .map(|v| json::name(v).to_owned())
                .collect();
            let claims = those(model, "persistentvolumeclaims", |c| {
                !json::terminating(c) && lost.iter().any(|v| json::text(c, "spec.volumeName") == v)
            });
            (going, released, claims)
        });
        for volume in going {
            let patch = json!({"metadata": {"finalizers": null}});
            self.merge("v1", "persistentvolumes", &volume, patch).await;
        }
        for volume in released {
            self.merge("v1", "persistentvolumes", &volume, json!({"spec": {"claimRef": null}}))
                .await;
        }
        for claim in lost {
            self.delete("v1", "persistentvolumeclaims", &claim, DeleteOptions::default())
                .await;
            // `data-st0-2` is of the pod `st0-2`.
            let pod = claim.split_once('-').map_or("", |(_, pod)| pod).to_owned();
            self.delete("v1", "pods", &pod, DeleteOptions::default()).await;
        }
    }
}
