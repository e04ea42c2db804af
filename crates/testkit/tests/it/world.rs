//! A cluster without a scheduler, whose clock moves when nothing else does, and ways to wait for what it becomes.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Api, ApiResource, Client, DynamicObject, Kind, ListOptions, Patch, TypedKind, WatchEvent, Whole};
use coracle_clock::Clock;
use coracle_testkit::{Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub struct World {
    pub cluster: TestCluster,
    pub clock: Clock,
    beats: Mutex<JoinSet<()>>,
}

/// Renews the node's lease every ten seconds.
async fn beat(client: Client, clock: Clock, node: String) {
    let leases = client.namespaced::<Lease>("kube-node-lease");
    let lease = json!({"metadata": {"name": node, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": node}});
    leases.create(&serde_json::from_value(lease).unwrap()).await.unwrap();
    loop {
        let now = clock.now();
        let renewed = json!({"spec": {"renewTime": format!("{now:.6}")}});
        leases.patch(&node, Patch::Merge(renewed)).await.unwrap();
        clock.sleep(Duration::from_secs(10)).await;
    }
}

/// So long, in virtual time, is anything waited for.
const PATIENCE: Duration = Duration::from_secs(3600);

impl World {
    pub async fn start() -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let options = Options {
            clock,
            scheduler: false,
            ..Options::default()
        };
        let cluster = TestCluster::with(options).await.unwrap();
        let world = Self {
            cluster,
            clock,
            beats: Mutex::default(),
        };
        // Pods are refused before it is there.
        world.wait(&world.api::<ServiceAccount>(), "default", |_| true).await;
        world
    }

    /// Objects in `default`, or of the cluster.
    pub fn api<K: TypedKind>(&self) -> Api<K> {
        self.cluster.client.namespaced("default")
    }

    pub fn dynamic(
        &self,
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
        };
        self.cluster.client.dynamic(&resource).within("default")
    }

    pub async fn create<K: TypedKind + DeserializeOwned>(&self, object: Value) -> Arc<K> {
        self.api::<K>()
            .create(&serde_json::from_value(object).unwrap())
            .await
            .unwrap()
    }

    pub async fn create_in<K: Whole + DeserializeOwned>(&self, api: &Api<K>, object: Value) -> Arc<K> {
        let object: K = serde_json::from_value(object).unwrap();
        api.create(&object).await.unwrap()
    }

    /// A node that is well, and says so from now on.
    pub async fn node(&self, name: &str, zone: &str) {
        self.revive(name);
        self.silent_node(name, zone).await;
    }

    /// Has the node renew its lease.
    pub fn revive(&self, name: &str) {
        let beating = beat(self.cluster.client.clone(), self.clock, name.to_owned());
        self.beats.lock().spawn(beating);
    }

    /// A node that is well, and then is not heard of again.
    pub async fn silent_node(&self, name: &str, zone: &str) {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        self.create::<Node>(json!({"metadata": {"name": name, "labels": labels}}))
            .await;
        let ready = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
        let status = Patch::Merge(json!({"status": {"conditions": ready}}));
        self.api::<Node>().status().patch(name, status).await.unwrap();
    }

    /// A running pod on a node, ready since the beginning.
    pub async fn pod(&self, name: &str, node: &str, ip: &str, labels: Value, more: Value) {
        let mut spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.create::<Pod>(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))
            .await;
        self.run(name, ip, true).await;
    }

    pub async fn run(&self, pod: &str, ip: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let condition = json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let patch = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": "2025-12-31T00:00:00Z",
            "conditions": [condition],
        }});
        self.api::<Pod>()
            .status()
            .patch(pod, Patch::Strategic(patch))
            .await
            .unwrap();
    }

    /// Waits until the object is as wanted.
    pub async fn wait<K: Kind>(&self, api: &Api<K>, name: &str, wanted: impl Fn(&K) -> bool) -> Arc<K> {
        let found = self
            .watch(api, name, |object| object.filter(|o| wanted(o)).cloned())
            .await;
        found.unwrap_or_else(|| panic!("{name} did not become what it should within {PATIENCE:?}"))
    }

    pub async fn wait_gone<K: Kind>(&self, api: &Api<K>, name: &str) {
        let gone = self.watch(api, name, |object| object.is_none().then_some(())).await;
        gone.unwrap_or_else(|| panic!("{name} did not go within {PATIENCE:?}"));
    }

    async fn watch<K: Kind, T>(
        &self,
        api: &Api<K>,
        name: &str,
        judge: impl Fn(Option<&Arc<K>>) -> Option<T>,
    ) -> Option<T> {
        let mut options = ListOptions {
            field_selector: format!("metadata.name={name}"),
            ..ListOptions::default()
        };
        let list = api.list(&options).await.unwrap();
        if let Some(done) = judge(list.items.first()) {
            return Some(done);
        }
        options.resource_version = list.revision.to_string();
        let mut events = api.watch(&options).await.unwrap();
        let watching = async {
            while let Some(event) = events.next().await {
                let done = match event.unwrap() {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => judge(Some(&object)),
                    WatchEvent::Deleted(_) => judge(None),
                    WatchEvent::Bookmark { .. } => None,
                };
                if done.is_some() {
                    return done;
                }
            }
            None
        };
        self.clock.timeout(PATIENCE, watching).await.ok().flatten()
    }

    /// Waits until the list of a kind is as wanted.
    pub async fn wait_all<K: Kind>(
        &self,
        api: &Api<K>,
        labels: &str,
        wanted: impl Fn(&[Arc<K>]) -> bool,
    ) -> Vec<Arc<K>> {
        let options = ListOptions {
            label_selector: labels.to_owned(),
            ..ListOptions::default()
        };
        let waiting = async {
            loop {
                let list = api.list(&options).await.unwrap();
                if wanted(&list.items) {
                    return list.items;
                }
                let from = ListOptions {
                    resource_version: list.revision.to_string(),
                    ..options.clone()
                };
                let mut events = api.watch(&from).await.unwrap();
                events.next().await;
            }
        };
        let found = self.clock.timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("the list of {labels} did not become what it should"))
    }

    pub async fn stop(self) {
        self.beats.lock().abort_all();
        self.cluster.stop().await;
    }
}
