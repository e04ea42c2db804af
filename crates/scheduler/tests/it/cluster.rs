//! The scheduler against a real API server, over HTTPS, with leader election: as `coracle scheduler` runs it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::leader::{LeaderConfig, LeaderElector};
use coracle_client::{Api, Client, Config, DeleteOptions, ListOptions, Patch, TypedKind, WatchEvent};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Scheduler, SchedulerConfiguration, SchedulerOptions};
use coracle_testkit::{Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(20);

/// A cluster with an API server, and what pods need to be created; nothing else runs.
pub struct Bare {
    pub cluster: TestCluster,
    client: Client,
}

impl Bare {
    pub async fn start() -> Self {
        let options = Options {
            controllers: false,
            scheduler: false,
            ..Options::default()
        };
        let cluster = TestCluster::with(options).await.unwrap();
        let client = cluster.client.clone();
        let bare = Self { cluster, client };
        let account = json!({"metadata": {"namespace": "default", "name": "default"}});
        let _ = bare
            .client
            .namespaced::<ServiceAccount>("default")
            .create(&typed(account))
            .await;
        for (name, value) in [("low", 1), ("high", 1000)] {
            let class = json!({"metadata": {"name": name}, "value": value});
            bare.client.all::<PriorityClass>().create(&typed(class)).await.unwrap();
        }
        bare
    }

    pub async fn node(&self, name: &str, cpu: &str, spec: Value) {
        let status = json!({"capacity": {"cpu": cpu, "memory": "8Gi", "pods": "10"},
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}});
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": spec.clone(), "status": status});
        self.client.all::<Node>().create(&typed(node)).await.unwrap();
        // A new node is tainted until a controller has seen that it is ready; there is none here.
        let untainted = json!({"spec": {"taints": spec.get("taints")}});
        let nodes = self.client.all::<Node>();
        nodes.patch(name, Patch::Merge(untainted)).await.unwrap();
        let nodes = self.client.all::<Node>().status();
        nodes
            .patch(name, Patch::Merge(json!({"status": status})))
            .await
            .unwrap();
    }

    pub fn pods(&self) -> Api<Pod> {
        self.client.namespaced("default")
    }

    pub async fn pod(&self, name: &str, cpu: &str, spec: Value) {
        let mut pod = json!({"metadata": {"namespace": "default", "name": name, "labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:v1",
                "resources": {"requests": {"cpu": cpu}}}]}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        self.pods().create(&typed(pod)).await.unwrap();
    }

    pub async fn until<K: TypedKind + serde::Serialize>(
        &self,
        api: &Api<K>,
        name: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> Arc<K> {
        // Without a revision a watch tells of what is there first.
        self.until_after(api, name, "", wanted).await
    }

    /// The first that is as wanted of those that it has been since that revision.
    async fn until_after<K: TypedKind + serde::Serialize>(
        &self,
        api: &Api<K>,
        name: &str,
        revision: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> Arc<K> {
        let options = ListOptions {
            field_selector: format!("metadata.name={name}"),
            resource_version: revision.into(),
            ..ListOptions::default()
        };
        let mut last = None;
        let find = async {
            let mut events = api.watch(&options).await.unwrap();
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event.unwrap() {
                    if wanted(&object) {
                        return object;
                    }
                    last = serde_json::to_string(&*object).ok();
                }
            }
            panic!("the watch on {name} ended");
        };
        match self.cluster.clock.timeout(LIMIT, find).await {
            Ok(object) => object,
            Err(_) => panic!("{name} did not come to what was waited for; last: {last:?}"),
        }
    }

    pub async fn bound(&self, name: &str) -> String {
        let pod = self.until(&self.pods(), name, |p| !node_of(p).is_empty()).await;
        node_of(&pod).to_owned()
    }

    /// The message of the condition that says why the pod has no node.
    pub async fn refused(&self, name: &str) -> String {
        let pod = self.until(&self.pods(), name, |p| refusal(p).is_some()).await;
        refusal(&pod).unwrap().to_owned()
    }

    /// Waits until the pod says that it is going to be on that node.
    pub async fn nominated(&self, name: &str, node: &str) -> Arc<Pod> {
        self.until(&self.pods(), name, |p| nominated(p) == node).await
    }

    /// The message of the condition when that node was taken back.
    pub async fn taken_back(&self, pod: &Pod) -> String {
        let revision = pod.metadata.resource_version.as_deref().unwrap();
        let so = |p: &Pod| nominated(p).is_empty();
        let (api, name) = (self.pods(), pod.metadata.name.as_deref().unwrap());
        let pod = self.until_after(&api, name, revision, so).await;
        refusal(&pod).unwrap_or_default().to_owned()
    }

    /// Waits until the condition says this among others.
    async fn refused_by(&self, name: &str, reason: &str) {
        let so = |p: &Pod| refusal(p).is_some_and(|message| message.contains(reason));
        self.until(&self.pods(), name, so).await;
    }

    fn scheduler(&self, identity: &str, configuration: SchedulerConfiguration) -> Running {
        let options = SchedulerOptions {
            configuration,
            ..SchedulerOptions::default()
        };
        self.scheduler_with(identity, options)
    }

    /// A scheduler in a process of its own, as far as the API server can tell.
    pub fn scheduler_with(&self, identity: &str, options: SchedulerOptions) -> Running {
        let (kubeconfig, identity) = (self.cluster.kubeconfig(), identity.to_owned());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(run(kubeconfig, identity, options, stop));
        Running { shutdown, task }
    }
}

pub struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn run(kubeconfig: PathBuf, identity: String, options: SchedulerOptions, shutdown: CancellationToken) {
    let clock = Clock::system();
    let config = Config::from_kubeconfig(&kubeconfig, None).unwrap();
    let client = Client::connect(config, clock).unwrap();
    let election = LeaderConfig::new("kube-system", "kube-scheduler", &identity);
    let elector = LeaderElector::new(client.clone(), election, clock);
    let lead = |led: CancellationToken| async move {
        let informers = InformerFactory::new(client.clone(), clock, led.clone());
        let scheduler = Scheduler::new(&client, clock, led.clone(), options);
        scheduler.run(&informers, led).await;
    };
    elector.run(shutdown, lead).await;
}

fn typed<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub fn node_of(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

fn nominated(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|s| s.nominated_node_name.as_deref())
        .unwrap_or_default()
}

fn refusal(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    (condition.reason.as_deref() == Some("Unschedulable")).then_some(condition.message.as_deref()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_schedulers_leads_and_the_other_takes_over() {
    let bare = Bare::start().await;
    bare.node("n1", "4", json!({})).await;
    let first = bare.scheduler("first", SchedulerConfiguration::default());
    bare.pod("a", "1", json!({})).await;
    assert_eq!(bare.bound("a").await, "n1");
    let leases = bare.client.namespaced::<Lease>("kube-system");
    let lease = leases.get("kube-scheduler").await.unwrap();
    assert_eq!(lease.spec.as_ref().unwrap().holder_identity.as_deref(), Some("first"));
    let second = bare.scheduler("second", SchedulerConfiguration::default());
    first.stop().await;
    bare.pod("b", "1", json!({})).await;
    assert_eq!(bare.bound("b").await, "n1");
    let told = bare.client.namespaced::<Event>("default");
    let options = ListOptions {
        field_selector: "reason=Scheduled,involvedObject.name=b".into(),
        ..ListOptions::default()
    };
    let mut events = told.watch(&options).await.unwrap();
    let event = bare.cluster.clock.timeout(LIMIT, events.next()).await.unwrap();
    let WatchEvent::Added(event) = event.unwrap().unwrap() else {
        panic!("another event than the first")
    };
    assert_eq!(event.message.as_deref(), Some("Successfully assigned default/b to n1"));
    second.stop().await;
    bare.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_what_is_wrong_leads_to_scheduling_at_once() {
    let bare = Bare::start().await;
    let scheduler = bare.scheduler("only", SchedulerConfiguration::default());
    let patch = |node: &'static str, patch: Value| {
        let nodes = bare.client.all::<Node>();
        async move { nodes.patch(node, Patch::Merge(patch)).await.unwrap() }
    };
    // Faults are there before the scheduler has heard of the node: what it hears first of two changes nobody knows.
    let on = |node: &str| json!({"nodeSelector": {"kubernetes.io/hostname": node}});

    bare.pod("early", "1", json!({})).await;
    assert_eq!(bare.refused("early").await, "no nodes available to schedule pods");
    bare.node("n1", "4", json!({})).await;
    assert_eq!(bare.bound("early").await, "n1");

    bare.node("n2", "4", json!({"unschedulable": true})).await;
    bare.pod("cordoned", "1", on("n2")).await;
    bare.refused_by("cordoned", "1 node(s) were unschedulable").await;
    patch("n2", json!({"spec": {"unschedulable": null}})).await;
    assert_eq!(bare.bound("cordoned").await, "n2");

    bare.node("n3", "4", json!({"taints": [{"key": "x", "effect": "NoSchedule"}]}))
        .await;
    bare.pod("tainted", "1", on("n3")).await;
    bare.refused_by("tainted", "1 node(s) had untolerated taint(s)").await;
    patch("n3", json!({"spec": {"taints": null}})).await;
    assert_eq!(bare.bound("tainted").await, "n3");

    bare.pod("picky", "100m", json!({"nodeSelector": {"disk": "fast"}}))
        .await;
    bare.refused_by("picky", "3 node(s) didn't match Pod's node affinity/selector")
        .await;
    patch("n1", json!({"metadata": {"labels": {"disk": "fast"}}})).await;
    assert_eq!(bare.bound("picky").await, "n1");

    bare.pod("large", "3", on("n1")).await;
    assert_eq!(
        bare.refused("large").await,
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector. preemption: \
         0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for \
         scheduling."
    );
    bare.pods().delete("early", &DeleteOptions::default()).await.unwrap();
    bare.bound("large").await;

    bare.pod(
        "gated",
        "100m",
        json!({"schedulingGates": [{"name": "example.com/wait"}]}),
    )
    .await;
    bare.pods()
        .patch("gated", Patch::Merge(json!({"spec": {"schedulingGates": null}})))
        .await
        .unwrap();
    bare.bound("gated").await;

    scheduler.stop().await;
    bare.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_more_important_pod_takes_the_place_of_a_less_important_one() {
    let bare = Bare::start().await;
    let scheduler = bare.scheduler("only", SchedulerConfiguration::default());
    bare.node("n1", "4", json!({})).await;
    bare.pod("low", "3", json!({"priorityClassName": "low"})).await;
    bare.bound("low").await;
    bare.pod("polite", "3", json!({"priorityClassName": "low"})).await;
    assert!(
        bare.refused("polite")
            .await
            .contains("No preemption victims found for incoming pod")
    );
    bare.pod("high", "3", json!({"priorityClassName": "high"})).await;
    assert_eq!(bare.bound("high").await, "n1");
    assert!(bare.pods().find("low").await.unwrap().is_none(), "it was evicted");
    let events = bare.client.namespaced::<Event>("default");
    let told = |e: &Event| e.reason.as_deref() == Some("Preempted") && e.involved_object.name.as_deref() == Some("low");
    let listed = events.list(&ListOptions::default()).await.unwrap();
    let mut watched = events
        .watch(&ListOptions {
            resource_version: listed.revision.to_string(),
            ..ListOptions::default()
        })
        .await
        .unwrap();
    if !listed.items.iter().any(|e| told(e)) {
        let find = async {
            while let Some(Ok(event)) = watched.next().await {
                if let WatchEvent::Added(event) | WatchEvent::Modified(event) = event
                    && told(&event)
                {
                    return;
                }
            }
        };
        bare.cluster.clock.timeout(LIMIT, find).await.unwrap();
    }
    scheduler.stop().await;
    bare.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_once_its_volume_is_made_on_the_node_chosen() {
    let bare = Bare::start().await;
    let scheduler = bare.scheduler("only", SchedulerConfiguration::default());
    bare.node("n1", "4", json!({})).await;
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "csi.example.com",
        "volumeBindingMode": "WaitForFirstConsumer"});
    let spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    bare.pod("a", "1", spec).await;
    assert!(
        bare.refused("a")
            .await
            .contains("persistentvolumeclaim \"data\" not found")
    );
    bare.client.all::<StorageClass>().create(&typed(class)).await.unwrap();
    let claims = bare.client.namespaced::<PersistentVolumeClaim>("default");
    let claim = json!({"metadata": {"namespace": "default", "name": "data"}, "spec": {"storageClassName": "fast",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    claims.create(&typed(claim)).await.unwrap();
    let selected = |c: &PersistentVolumeClaim| {
        let annotations = c.metadata.annotations.as_ref();
        annotations.is_some_and(|a| a.get("volume.kubernetes.io/selected-node").is_some_and(|n| n == "n1"))
    };
    bare.until(&claims, "data", selected).await;
    assert!(
        node_of(&bare.pods().get("a").await.unwrap()).is_empty(),
        "not before the volume is there"
    );
    bare.nominated("a", "n1").await;
    // What the driver and the volume controller do.
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "fast", "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "csi": {"driver": "csi.example.com", "volumeHandle": "v"},
        "claimRef": {"namespace": "default", "name": "data"}}});
    bare.client
        .all::<PersistentVolume>()
        .create(&typed(volume))
        .await
        .unwrap();
    let bound =
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
    claims.patch("data", Patch::Merge(bound)).await.unwrap();
    assert_eq!(bare.bound("a").await, "n1");
    let pod = bare.pods().get("a").await.unwrap();
    assert_eq!(nominated(&pod), "", "it is there");
    scheduler.stop().await;
    bare.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_profile_schedules_the_pods_that_name_it() {
    let bare = Bare::start().await;
    let configuration = SchedulerConfiguration::parse(
        "apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated}}
  plugins:
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit}]
",
        &[],
    )
    .unwrap();
    let scheduler = bare.scheduler("only", configuration);
    bare.node("n1", "4", json!({})).await;
    bare.pod("first", "1", json!({})).await;
    bare.bound("first").await;
    bare.node("n2", "4", json!({})).await;
    bare.pod("packed", "1", json!({"schedulerName": "packer"})).await;
    assert_eq!(bare.bound("packed").await, "n1", "where there is something already");
    bare.pod("spread", "1", json!({})).await;
    assert_eq!(bare.bound("spread").await, "n2", "where there is nothing yet");
    bare.pod("foreign", "1", json!({"schedulerName": "other"})).await;
    bare.pod("last", "1", json!({})).await;
    bare.bound("last").await;
    assert!(node_of(&bare.pods().get("foreign").await.unwrap()).is_empty());
    scheduler.stop().await;
    bare.cluster.stop().await;
}
