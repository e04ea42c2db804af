//! The pods of a node together, in virtual time: static ones and their mirrors, and a node that shuts down.

use super::*;
use crate::node_shutdown;
use crate::pod::scripted::{Scripted, Written, context};
use coracle_clock::Clock;
use serde_json::{Value, json};

struct Node {
    pods: Pods,
    runtime: Arc<Scripted>,
    api: Arc<Written>,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn new(configuration: &str) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let (runtime, api) = (Scripted::new(clock), Arc::<Written>::default());
        let dir = tempfile::tempdir().unwrap();
        let mut cx = context(&runtime, &api, clock, dir.path());
        let header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let settings = crate::settings::Settings::parse(&format!("{header}{configuration}"))
            .unwrap()
            .0;
        Arc::get_mut(&mut cx).unwrap().settings = settings;
        let pods = Pods::new(cx, CancellationToken::new()).await;
        pods.listen_to_runtime();
        Self {
            pods,
            runtime,
            api,
            _dir: dir,
        }
    }

    /// Another agent in its place.
    async fn replaced(self) -> Self {
        self.pods.shutdown.cancel();
        let pods = Pods::new(self.pods.cx.clone(), CancellationToken::new()).await;
        pods.listen_to_runtime();
        Self { pods, ..self }
    }

    async fn wait(&self, seconds: u64) {
        self.pods.cx.clock.sleep(Duration::from_secs(seconds)).await;
    }

    fn add(&self, name: &str, spec: Value) {
        let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid.{name}")}, "spec": spec});
        self.pods.take(Arc::new(serde_json::from_value(pod).unwrap()));
    }

    fn log(&self) -> Vec<String> {
        let log = self.runtime.take_log();
        log.into_iter().filter(|l| !l.contains("sandbox")).collect()
    }
}

fn of_file(name: &str, uid: &str, container: &str) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": name, "namespace": "default", "uid": uid, "annotations": {
            mirror::SOURCE: "file", mirror::HASH: uid}},
        "spec": {"terminationGracePeriodSeconds": 20, "containers": [{"name": container, "image": "image:1"}]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn mirror_of(pod: &Pod, uid: &str) -> Arc<Pod> {
    let mut mirror = pod.clone();
    let hash = pod.metadata.uid.clone().unwrap();
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.mirror".into(), hash);
    mirror.metadata.uid = Some(uid.into());
    Arc::new(mirror)
}

#[tokio::test(start_paused = true)]
async fn a_changed_manifest_is_another_pod_that_waits_for_the_end_of_the_first() {
    let node = Node::new("").await;
    node.runtime.stubborn("old");
    node.pods
        .set_static(vec![of_file("web-n1", "1", "old"), of_file("other-n1", "9", "other")]);
    node.wait(5).await;
    let mut log = node.log();
    log.sort();
    assert_eq!(log, ["0 start old", "0 start other"]);
    node.pods
        .set_static(vec![of_file("web-n1", "2", "new"), of_file("other-n1", "9", "other")]);
    node.wait(60).await;
    assert_eq!(node.log(), ["5 TERM old", "25 KILL old", "25 start new"]);
    node.pods.set_static(Vec::new());
    node.wait(60).await;
    let mut log = node.log();
    log.sort();
    assert_eq!(log, ["65 TERM new", "65 TERM other"]);
    assert_eq!(node.pods.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_is_told_of_through_its_own_mirror_only() {
    let node = Node::new("").await;
    let pod = of_file("web-n1", "1", "a");
    node.pods.set_static(vec![pod.clone()]);
    node.wait(1).await;
    let stale = mirror_of(&of_file("web-n1", "0", "a"), "stale");
    node.pods.mirror(&stale, Some(stale.clone()));
    node.wait(1).await;
    assert_eq!(node.api.statuses.borrow().len(), 0);
    let (wanted, mirrors) = node.pods.mirrors();
    assert_eq!((wanted.len(), mirrors.len()), (1, 1));
    node.pods.mirror(&stale, None);
    let own = mirror_of(&pod, "own");
    node.pods.mirror(&own, Some(own.clone()));
    node.wait(1).await;
    assert_eq!(
        node.api.statuses.borrow().last().unwrap().phase.as_deref(),
        Some("Running")
    );
    assert_eq!(node.log(), ["0 start a"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_ends_its_pods_by_priority_each_group_in_its_time() {
    let node = Node::new("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s").await;
    let spec = |container: &str, priority: i32, grace: i64| {
        json!({"priority": priority, "terminationGracePeriodSeconds": grace,
            "containers": [{"name": container, "image": "image:1"}]})
    };
    node.add("slow", spec("slow", 0, 300));
    node.add("quick", spec("quick", 1000, 5));
    node.add("critical", spec("critical", 2_000_000_000, 300));
    for container in ["slow", "quick", "critical"] {
        node.runtime.stubborn(container);
    }
    node.wait(1).await;
    node.log();
    node_shutdown::end_pods(&node.pods).await;
    let mut log = node.log();
    log.sort();
    assert_eq!(
        log,
        [
            "1 TERM quick",
            "1 TERM slow",
            "21 KILL slow",
            "21 TERM critical",
            "31 KILL critical",
            "6 KILL quick"
        ]
    );
    let statuses = node.api.statuses.borrow().clone();
    let terminated = statuses.iter().filter(|s| s.reason.as_deref() == Some("Terminated"));
    let failed: Vec<_> = terminated.filter(|s| s.phase.as_deref() == Some("Failed")).collect();
    assert_eq!(failed.len(), 3, "the API was told of all before it returned");
    let expected = "Pod was terminated in response to imminent node shutdown.";
    assert_eq!(failed[0].message.as_deref(), Some(expected));
    node.add("late", spec("late", 2_000_000_000, 1));
    node.wait(1).await;
    assert_eq!(node.log(), [""; 0]);
    let last = node.api.statuses.borrow().last().cloned().unwrap();
    assert_eq!(last.reason.as_deref(), Some("NodeShutdown"));
}

#[tokio::test(start_paused = true)]
async fn without_a_period_a_shutdown_leaves_pods_as_they_are() {
    let node = Node::new("").await;
    node.add("p", json!({"containers": [{"name": "a", "image": "image:1"}]}));
    node.wait(1).await;
    node_shutdown::end_pods(&node.pods).await;
    node.wait(60).await;
    assert_eq!(node.log(), ["0 start a"]);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_comes_up_when_its_pod_has_gone_is_removed() {
    let node = Node::new("").await;
    node.runtime.hold(Some("run_sandbox"));
    node.add("p", json!({"containers": [{"name": "a", "image": "image:1"}]}));
    node.wait(1).await;
    // Of another pod, which has gone by the time that it is up; nobody waits for it any more.
    let gone = coracle_runtime::SandboxConfig {
        id: Some("gone-0".into()),
        ..coracle_runtime::SandboxConfig::default()
    };
    let runtime = crate::pod::scripted::Shared(node.runtime.clone());
    let started = tokio::spawn(async move { coracle_runtime::PodRuntime::run_sandbox(&runtime, gone).await });
    node.wait(1).await;
    started.abort();
    node.runtime.hold(None);
    node.wait(1).await;
    let left: Vec<String> = node.runtime.all().0.iter().map(|s| s.id.to_string()).collect();
    assert_eq!(left, ["uid.p-0"]);
}

#[tokio::test(start_paused = true)]
async fn what_ends_before_an_agent_has_heard_of_its_pod_is_seen_when_it_does() {
    let node = Node::new("").await;
    node.runtime.runs("first", [(Duration::from_secs(3), 0)]);
    let container = |name: &str| json!({"name": name, "image": "image:1"});
    let spec = json!({"initContainers": [container("first")], "containers": [container("main")]});
    node.add("web", spec.clone());
    node.wait(1).await;
    let node = node.replaced().await;
    node.wait(5).await;
    node.add("web", spec);
    node.wait(1).await;
    assert_eq!(node.log(), ["0 start first", "6 start main"]);
}
