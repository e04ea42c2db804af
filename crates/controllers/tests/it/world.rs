//! A cluster in virtual time with the built-in controllers. Without nodes the test is the kubelet and says of each pod what
//! a node would; with them fake ones do. Every row of a table has a world of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Api, ApiResource, DeleteOptions, DynamicObject, ListOptions, Patch, TypedKind, Whole};
use coracle_informer::{CancellationToken, Change, InformerFactory};
use coracle_testkit::TestCluster;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{cluster, cluster_with_nodes, from, watched};

/// Longer than anything here is waited for.
const HOUR: Duration = Duration::from_secs(3600);

pub struct World {
    pub cluster: TestCluster,
}

/// A pod's template, with labels `app: APP`.
pub fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "v1"}], "terminationGracePeriodSeconds": 5},
    })
}

/// The one with changes, as a merge patch.
pub fn with(mut base: Value, changes: Value) -> Value {
    json_patch::merge(&mut base, &changes);
    base
}

pub fn name<K: TypedKind>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

pub fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|p| name(&**p)).collect()
}

impl World {
    /// Without nodes: the test is the kubelet.
    pub async fn new() -> Self {
        Self::of(cluster().await).await
    }

    /// With fake nodes that run pods as the configuration says.
    pub async fn with_nodes(count: u32, config: &str) -> Self {
        Self::of(cluster_with_nodes(count, config).await).await
    }

    /// Of a cluster that runs already, with controllers.
    pub async fn of(cluster: TestCluster) -> Self {
        let world = Self { cluster };
        // Without it no pod can be made.
        world.until::<ServiceAccount>("default", |_| true).await;
        world
    }

    pub async fn stop(self) {
        self.cluster.stop().await;
    }

    /// Objects of a kind: those of the default namespace if it has namespaces.
    pub fn api<K: TypedKind>(&self) -> Api<K> {
        match K::resource().namespaced {
            true => self.cluster.client.namespaced("default"),
            false => self.cluster.client.all(),
        }
    }

    /// Makes an object, in the default namespace.
    pub async fn make<K: TypedKind + Whole + DeserializeOwned>(&self, object: Value) -> Arc<K> {
        self.api::<K>().create(&from::<K>(object)).await.unwrap()
    }

    pub async fn merge<K: TypedKind>(&self, name: &str, patch: Value) -> Arc<K> {
        self.api::<K>().patch(name, Patch::Merge(patch)).await.unwrap()
    }

    pub async fn status<K: TypedKind>(&self, name: &str, status: Value) -> Arc<K> {
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<K>().status().patch(name, patch).await.unwrap()
    }

    pub async fn get<K: TypedKind>(&self, name: &str) -> Arc<K> {
        self.api::<K>().get(name).await.unwrap()
    }

    pub async fn find<K: TypedKind>(&self, name: &str) -> Option<Arc<K>> {
        self.api::<K>().find(name).await.unwrap()
    }

    pub async fn list<K: TypedKind>(&self) -> Vec<Arc<K>> {
        self.api::<K>().list(&ListOptions::default()).await.unwrap().items
    }

    pub async fn delete<K: TypedKind>(&self, name: &str) {
        self.api::<K>().delete(name, &DeleteOptions::default()).await.unwrap();
    }

    /// Deletes without grace, as a node does when a pod has ended.
    pub async fn kill(&self, pod: &str) {
        let now = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        match self.api::<Pod>().delete(pod, &now).await {
            Err(error) if !error.is_not_found() => panic!("{error}"),
            _ => {}
        }
    }

    pub async fn until<K: TypedKind>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> Arc<K> {
        let wanted = |found: Option<&K>| found.is_some_and(&wanted);
        watched(&self.cluster, self.api::<K>(), name, HOUR, wanted)
            .await
            .unwrap()
    }

    pub async fn until_gone<K: TypedKind>(&self, name: &str) {
        watched(&self.cluster, self.api::<K>(), name, HOUR, |found| found.is_none()).await;
    }

    /// Waits until everybody has done what there was to do. Time passes only while nobody has.
    pub async fn settle(&self) {
        self.pass(Duration::from_secs(2)).await;
    }

    pub async fn pass(&self, time: Duration) {
        self.cluster.clock.sleep(time).await;
    }

    /// The pods of an app in the order of their names, when there is nothing left to do.
    pub async fn pods(&self, app: &str) -> Vec<Arc<Pod>> {
        self.settle().await;
        let options = ListOptions {
            label_selector: format!("app={app}"),
            ..ListOptions::default()
        };
        self.api::<Pod>().list(&options).await.unwrap().items
    }

    /// The pods of an app that are not being deleted and have not ended.
    pub async fn active(&self, app: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods(app).await;
        pods.retain(|p| {
            let phase = p.status.as_ref().and_then(|s| s.phase.as_deref());
            p.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
        });
        pods
    }

    /// The kubelet's word: the pod runs, ready or not.
    pub async fn run(&self, pod: &str, ready: bool) {
        let now = self.cluster.clock.now();
        let truth = if ready { "True" } else { "False" };
        let status = json!({
            "phase": "Running", "startTime": now, "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}],
            "conditions": [{"type": "Ready", "status": truth, "lastTransitionTime": now}],
            "containerStatuses": [{"name": "c", "image": "v1", "imageID": "", "ready": ready, "restartCount": 0,
                "state": {"running": {"startedAt": now}}}],
        });
        self.status::<Pod>(pod, status).await;
    }

    pub async fn ready(&self, pods: &[Arc<Pod>]) {
        for pod in pods {
            self.run(&name(&**pod), true).await;
        }
        self.settle().await;
    }

    /// The kubelet's word: the pod's container has ended.
    pub async fn end(&self, pod: &str, code: i32) {
        self.status::<Pod>(pod, ended(self.cluster.clock.now(), code)).await;
    }

    /// From now on every pod ends by itself, so long after it was made.
    pub fn end_after(&self, time: Duration, code: i32) {
        let (pods, clock) = (self.cluster.client.namespaced::<Pod>("default"), self.cluster.clock);
        let stop = CancellationToken::new();
        let informers = InformerFactory::new(self.cluster.client.clone(), clock, stop);
        informers.informer::<Pod>().add_handler(move |change| {
            let Change::Added(pod) = change else { return };
            let (pods, pod) = (pods.clone(), name(&**pod));
            tokio::spawn(async move {
                clock.sleep(time).await;
                let status = json!({"status": ended(clock.now(), code)});
                // It may have been deleted meanwhile.
                let _ = pods.status().patch(&pod, Patch::Merge(status)).await;
            });
        });
    }

    /// Defines a custom kind, whose version is so.
    pub async fn define_gears(&self, version: Value) -> Api<DynamicObject> {
        let base =
            json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
        let definition = json!({"metadata": {"name": "gears.example.org"}, "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": "gears", "singular": "gear", "kind": "Gear"},
            "versions": [with(base, version)],
        }});
        self.make::<CustomResourceDefinition>(definition).await;
        self.until::<CustomResourceDefinition>("gears.example.org", |d| {
            let conditions = d.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
        })
        .await;
        self.settle().await;
        let gear = ApiResource {
            group: "example.org".into(),
            version: "v1".into(),
            kind: "Gear".into(),
            plural: "gears".into(),
            namespaced: true,
        };
        self.cluster.client.dynamic::<DynamicObject>(&gear).within("default")
    }

    /// What was told of an object: reason and message of each event, by reason.
    pub async fn events(&self, about: &str) -> BTreeMap<String, String> {
        self.settle().await;
        let events = self.list::<Event>().await;
        let own = events
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(about));
        own.map(|e| {
            let kind = e.type_.clone().unwrap_or_default();
            let reason = e.reason.clone().unwrap_or_default();
            (format!("{kind} {reason}"), e.message.clone().unwrap_or_default())
        })
        .collect()
    }

    /// Fails unless the event was told of the object with exactly this message.
    pub async fn told(&self, about: &str, event: &str, message: &str) {
        let events = self.events(about).await;
        assert_eq!(events.get(event).map(String::as_str), Some(message), "{events:#?}");
    }
}

fn ended(now: Timestamp, code: i32) -> Value {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    json!({
        "phase": phase, "startTime": now,
        "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted", "lastTransitionTime": now}],
        "containerStatuses": [{"name": "c", "image": "v1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}}],
    })
}

/// Fails with both sides as JSON unless `found` has all that `wanted` says.
pub fn says(found: &(impl serde::Serialize + Debug), wanted: Value) {
    let found = serde_json::to_value(found).unwrap();
    let mut merged = found.clone();
    json_patch::merge(&mut merged, &wanted);
    assert_eq!(found, merged, "wanted at least {wanted:#}");
}
