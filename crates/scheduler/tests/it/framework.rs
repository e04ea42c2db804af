//! Plugins of one's own in a scheduler against a real API server: what the scheduling framework's documentation says of the
//! binding cycle.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::Error;
use coracle_scheduler::framework::{Binding, CycleState, Permit, Plugin, Point, Rejection};
use coracle_scheduler::shape::PodInfo;
use coracle_scheduler::waiting::WaitingPods;
use coracle_scheduler::{SchedulerConfiguration, SchedulerOptions};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cluster::{Bare, node_of};

/// A scheduler with this plugin at these extension points besides.
fn options(plugin: Arc<dyn Plugin>, plugins: &str, waiting: Arc<WaitingPods>) -> SchedulerOptions {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    let text = format!("{head}profiles:\n- plugins: {plugins}\n");
    let plugins = vec![plugin];
    SchedulerOptions {
        configuration: SchedulerConfiguration::parse(&text, &plugins).unwrap(),
        plugins,
        waiting,
        ..SchedulerOptions::default()
    }
}

/// Pods are bound two at a time; one called `stop` goes alone, and sends away who waits.
struct InPairs {
    waiting: Arc<WaitingPods>,
    told: mpsc::Sender<String>,
}

impl InPairs {
    fn tell(&self, what: &str, pod: &PodInfo) {
        let _ = self.told.try_send(format!("{what} {}", pod.name()));
    }
}

impl Plugin for InPairs {
    fn name(&self) -> &'static str {
        "InPairs"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Reserve, Point::Permit]
    }

    fn permit(&self, _state: &CycleState, pod: &PodInfo, _node: &str) -> Result<Permit, Rejection> {
        let stops = pod.name() == "stop";
        let others = self.waiting.uids();
        for other in &others {
            assert_eq!(self.waiting.pending(other), [self.name()]);
            match stops {
                true => self.waiting.reject(other, self.name(), "not today"),
                false => self.waiting.allow(other, self.name()),
            };
        }
        self.tell("permit", pod);
        Ok(match others.is_empty() {
            true => Permit::Wait(Duration::from_secs(600)),
            false => Permit::Allow,
        })
    }

    fn unreserve(&self, _state: &CycleState, pod: &PodInfo, _node: &str) {
        self.tell("unreserve", pod);
    }
}

/// Waits until that is told, whatever else is.
async fn heard(told: &mut mpsc::Receiver<String>, what: &str) {
    while told.recv().await.unwrap() != what {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_until_it_is_permitted_and_comes_again_after_it_was_denied() {
    let bare = Bare::start().await;
    bare.node("n1", "4", json!({})).await;
    let waiting = Arc::new(WaitingPods::default());
    let (told, mut hear) = mpsc::channel(100);
    let plugin = Arc::new(InPairs {
        waiting: waiting.clone(),
        told,
    });
    let plugins = "{multiPoint: {enabled: [{name: InPairs}]}}";
    let scheduler = bare.scheduler_with("only", options(plugin, plugins, waiting));
    bare.pod("a", "1", json!({})).await;
    heard(&mut hear, "permit a").await;
    assert!(node_of(&bare.pods().get("a").await.unwrap()).is_empty());
    let waits = bare.nominated("a", "n1").await;
    bare.pod("stop", "1", json!({})).await;
    heard(&mut hear, "unreserve a").await;
    assert_eq!(bare.taken_back(&waits).await, "not today");
    // Its room is free again, which may help.
    heard(&mut hear, "permit a").await;
    assert!(node_of(&bare.pods().get("a").await.unwrap()).is_empty());
    bare.pod("b", "1", json!({})).await;
    heard(&mut hear, "permit b").await;
    assert_eq!([bare.bound("a").await, bare.bound("b").await], ["n1", "n1"]);
    bare.nominated("a", "").await;
    bare.nominated("b", "").await;
    scheduler.stop().await;
    bare.cluster.stop().await;
}

/// Binds pods of one label itself, and prepares all others in vain once.
#[derive(Default)]
struct OwnBinder {
    log: Mutex<Vec<String>>,
}

impl OwnBinder {
    fn note(&self, what: &str, pod: &PodInfo) -> usize {
        let mut log = self.log.lock();
        let line = format!("{what} {}", pod.name());
        let before = log.iter().filter(|l| **l == line).count();
        log.push(line);
        before
    }
}

impl Plugin for OwnBinder {
    fn name(&self) -> &'static str {
        "OwnBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Reserve, Point::PreBind, Point::Bind]
    }

    fn unreserve(&self, _state: &CycleState, pod: &PodInfo, _node: &str) {
        self.note("unreserve", pod);
    }

    fn pre_bind<'a>(&'a self, binding: &'a Binding<'a>) -> BoxFuture<'a, Result<(), Rejection>> {
        let before = self.note("prepare", binding.pod);
        let fails = before == 0 && binding.pod.name() == "unlucky";
        let prepared = match fails {
            true => Err(Rejection::error("not prepared")),
            false => Ok(()),
        };
        Box::pin(std::future::ready(prepared))
    }

    fn bind<'a>(&'a self, binding: &'a Binding<'a>) -> Option<BoxFuture<'a, Result<(), Error>>> {
        if binding.pod.name() != "own" {
            self.note("left", binding.pod);
            return None;
        }
        self.note("bind", binding.pod);
        let pods = binding.client.namespaced::<Pod>(binding.pod.namespace());
        Some(Box::pin(async move {
            pods.bind(binding.pod.name(), Some(binding.pod.uid()), binding.node)
                .await
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_plugin_takes_a_pod_or_leaves_it_to_the_next_and_who_is_not_prepared_comes_again() {
    let bare = Bare::start().await;
    bare.node("n1", "4", json!({})).await;
    let plugin = Arc::new(OwnBinder::default());
    let plugins = "{preBind: {enabled: [{name: OwnBinder}]}, reserve: {enabled: [{name: OwnBinder}]}, \
                   bind: {disabled: [{name: '*'}], enabled: [{name: OwnBinder}, {name: DefaultBinder}]}}";
    let scheduler = bare.scheduler_with("only", options(plugin.clone(), plugins, Arc::default()));
    for name in ["own", "other", "unlucky"] {
        bare.pod(name, "1", json!({})).await;
        assert_eq!(bare.bound(name).await, "n1");
    }
    assert_eq!(
        *plugin.log.lock(),
        [
            "prepare own",
            "bind own",
            "prepare other",
            "left other",
            "prepare unlucky",
            "unreserve unlucky",
            "prepare unlucky",
            "left unlucky"
        ]
    );
    scheduler.stop().await;
    bare.cluster.stop().await;
}
