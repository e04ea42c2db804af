//! A cluster in virtual time with nodes that only say that they run pods, and what tests wait for: changes, never time.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{DeleteOptions, Kind, Patch, TypedKind};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_testkit::{Options, TestCluster};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// In virtual time, which passes at once when nothing else happens.
const LONG: Duration = Duration::from_secs(3600);

pub struct World {
    pub cluster: TestCluster,
    informers: InformerFactory,
    shutdown: CancellationToken,
}

impl World {
    /// Nodes with these names. Pods run where they are pinned, or else on the first.
    pub async fn new(nodes: &[&str]) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let cluster = TestCluster::with(Options {
            clock,
            scheduler: false,
            ..Options::default()
        })
        .await
        .unwrap();
        let shutdown = CancellationToken::new();
        let informers = InformerFactory::new(cluster.client.clone(), clock, shutdown.clone());
        let world = Self {
            cluster,
            informers,
            shutdown,
        };
        for node in nodes {
            world.node(node).await;
        }
        world.run_pods(nodes.first().copied().unwrap_or_default().to_owned());
        world
    }

    pub async fn node(&self, name: &str) {
        self.create::<Node>(json!({"metadata": {"name": name}})).await;
    }

    pub async fn create<K: TypedKind + serde::de::DeserializeOwned>(&self, object: Value) -> Arc<K> {
        let object: K = serde_json::from_value(object).unwrap();
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        self.cluster
            .client
            .namespaced::<K>(&namespace)
            .create(&object)
            .await
            .unwrap()
    }

    pub async fn merge<K: TypedKind>(&self, name: &str, patch: Value) -> Arc<K> {
        let api = self.cluster.client.namespaced::<K>("default");
        api.patch(name, Patch::Merge(patch)).await.unwrap()
    }

    /// What the nodes do: they bind what waits, run it, and let go of it when it is deleted.
    fn run_pods(&self, first: String) {
        let pods = self.informers.informer::<Pod>();
        let (client, clock) = (self.cluster.client.clone(), self.cluster.clock);
        pods.add_handler(move |change| {
            if change.is_deletion() {
                return;
            }
            let (pod, client, first) = (change.object().clone(), client.clone(), first.clone());
            tokio::spawn(async move {
                let meta = &pod.metadata;
                let name = meta.name.as_deref().unwrap();
                let api = client.namespaced::<Pod>(meta.namespace.as_deref().unwrap());
                let spec = pod.spec.as_ref().unwrap();
                let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
                // Whatever is refused was about a pod that is no more.
                if meta.deletion_timestamp.is_some() {
                    let options = DeleteOptions {
                        uid: meta.uid.clone(),
                        grace_period_seconds: Some(0),
                        ..DeleteOptions::default()
                    };
                    let _ = api.delete(name, &options).await;
                } else if spec.node_name.is_none() {
                    let node = coracle_api::placement::pinned_node(spec).unwrap_or(&first);
                    let _ = api.bind(name, meta.uid.as_deref(), node).await;
                } else if phase == "Pending" && image(&pod) != "broken" {
                    let status =
                        json!({"metadata": {"uid": meta.uid}, "status": end_of(image(&pod), &clock.now().to_string())});
                    let _ = api.status().patch(name, Patch::Strategic(status)).await;
                }
            });
        });
    }

    /// Waits until what there is of a kind in the default namespace is as wanted.
    pub async fn until<K: TypedKind>(&self, what: &str, wanted: impl Fn(&[Arc<K>]) -> bool) -> Vec<Arc<K>> {
        self.until_in("default", what, wanted).await
    }

    /// Waits until a cluster-scoped object is as wanted, or gone.
    pub async fn until_cluster<K: TypedKind>(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> Option<Arc<K>> {
        let is = |o: &&Arc<K>| o.meta().name.as_deref() == Some(name);
        let all = self
            .until_in::<K>("", what, |all| all.iter().find(is).is_none_or(|o| wanted(o)))
            .await;
        all.iter().find(is).cloned()
    }

    /// Waits until what there is of a kind in a namespace (empty: in all) is as wanted.
    pub async fn until_in<K: TypedKind>(
        &self,
        namespace: &str,
        what: &str,
        wanted: impl Fn(&[Arc<K>]) -> bool,
    ) -> Vec<Arc<K>> {
        let informer = self.informers.informer::<K>();
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let handler = informer.add_handler(move |_| tell.notify_one());
        informer.synced().await;
        let lister = informer.lister();
        let waiting = async {
            loop {
                let mut all = lister.select(namespace, |_| true);
                all.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
                if wanted(&all) {
                    return all;
                }
                changed.notified().await;
            }
        };
        let found = self.cluster.clock.timeout(LONG, waiting).await;
        informer.remove_handler(handler);
        match found {
            Ok(found) => found,
            Err(_) => {
                let names: Vec<_> = lister.list().iter().map(|o| o.meta().name.clone()).collect();
                panic!("waited for: {what}; there is {names:?}")
            }
        }
    }

    /// Waits until one object is as wanted.
    pub async fn until_one<K: TypedKind>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> Arc<K> {
        let is = |o: &&Arc<K>| o.meta().name.as_deref() == Some(name);
        let all = self
            .until::<K>(what, |all| all.iter().find(is).is_some_and(|o| wanted(o)))
            .await;
        all.iter().find(is).unwrap().clone()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.cluster.stop().await;
    }
}

/// What becomes of a pod: tasks end at once, well or not; everything else runs and is ready.
fn end_of(image: &str, now: &str) -> Value {
    let ended = |phase: &str, code: i32| {
        json!({"phase": phase, "containerStatuses": [{
            "name": "c", "image": image, "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": now}},
        }]})
    };
    match image {
        "task" => ended("Succeeded", 0),
        "failing" => ended("Failed", 1),
        _ => {
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]})
        }
    }
}

pub fn names<K: Kind>(all: &[Arc<K>]) -> Vec<&str> {
    all.iter().filter_map(|o| o.meta().name.as_deref()).collect()
}

pub fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub fn image(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.containers[0].image.as_deref())
        .unwrap()
}

pub fn label<'p>(pod: &'p Pod, key: &str) -> &'p str {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(key))
        .map_or("", String::as_str)
}

pub fn from<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}
