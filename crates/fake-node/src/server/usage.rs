//! What pods use by their configuration, told as a kubelet tells it: counters that grow at the rate of now. Nothing is kept of
//! a node that nobody asks about, and nothing runs in between.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;

use super::View;
use crate::config::Stages;
use crate::draw::Draw;
use crate::status::millis;

/// Indices of pods, made when the first metrics are asked for.
const BY_NODE: &str = "node";
const BY_OWNER: &str = "owner";

/// What was told of each node that was asked about.
#[derive(Default)]
pub(crate) struct Usages(Mutex<HashMap<String, Counters>>);

/// A node's counters.
#[derive(Default)]
struct Counters {
    cpu_seconds: f64,
    /// By pod uid and container.
    containers: HashMap<(String, String), Counter>,
}

/// What a run of a container has used up to a moment, in milliseconds.
#[derive(Clone, Copy)]
struct Counter {
    began: i64,
    at: i64,
    cpu_seconds: f64,
}

/// A container that runs, and how much it uses now.
struct Running {
    pod: Arc<Pod>,
    container: String,
    began: i64,
    cores: f64,
    bytes: f64,
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn owner_of(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .find(|o| o.controller == Some(true))
        .map(|o| o.uid.clone())
}

/// When the container began, if it runs.
fn began(pod: &Pod, container: &str) -> Option<i64> {
    let status = pod.status.as_ref()?;
    let main = status.container_statuses.iter().flatten();
    let all = main.chain(status.init_container_statuses.iter().flatten());
    let running = all
        .filter(|s| s.name == container)
        .find_map(|s| s.state.as_ref()?.running.as_ref())?;
    Some(millis(running.started_at.as_ref()?.0))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    spec.into_iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
}

/// Whether one of its main containers runs.
fn runs(pod: &Pod) -> bool {
    let main = pod.spec.iter().flat_map(|s| &s.containers);
    main.into_iter().any(|c| began(pod, &c.name).is_some())
}

fn request(container: &Container, resource: &str) -> f64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let text = requests.and_then(|r| r.get(resource));
    text.and_then(|q| q.0.parse().ok())
        .map_or(0.0, |q: coracle_api::quantity::Quantity| q.as_f64())
}

/// The containers of a pod that run. Its share of what the pods of its controller use together is its first container's.
fn running(pod: &Arc<Pod>, stages: &Stages, draw: Draw, alike: usize) -> Vec<Running> {
    let share = stages.shared_cpu.draw(draw, "shared cpu", 0.0) / alike.max(1) as f64;
    let first = pod
        .spec
        .as_ref()
        .and_then(|s| s.containers.first())
        .map(|c| c.name.as_str());
    let each = containers(pod).filter_map(|container| {
        let own = draw.of_container(&container.name);
        let share = if first == Some(container.name.as_str()) {
            share
        } else {
            0.0
        };
        Some(Running {
            pod: pod.clone(),
            container: container.name.clone(),
            began: began(pod, &container.name)?,
            cores: stages.cpu.draw(own, "cpu", request(container, "cpu")) + share,
            bytes: stages.memory.draw(own, "memory", request(container, "memory")),
        })
    });
    each.collect()
}

impl Counters {
    /// The counters at `now`, of these containers; those of others are let go of.
    fn advance(&mut self, all: &[Running], now: i64) -> Vec<f64> {
        let mut next = HashMap::with_capacity(all.len());
        let mut told = Vec::with_capacity(all.len());
        for running in all {
            let uid = running.pod.metadata.uid.clone().unwrap_or_default();
            let key = (uid, running.container.clone());
            let known = self.containers.get(&key).filter(|c| c.began == running.began);
            let (since, used) = known.map_or((running.began, 0.0), |c| (c.at, c.cpu_seconds));
            let more = running.cores * now.saturating_sub(since).max(0) as f64 / 1000.0;
            self.cpu_seconds += more;
            told.push(used + more);
            let counter = Counter {
                began: running.began,
                at: now.max(since),
                cpu_seconds: used + more,
            };
            next.insert(key, counter);
        }
        self.containers = next;
        told
    }
}

/// `/metrics/resource` of a node; none if it is not of this fleet.
pub(super) fn resource(view: &View, node: &str) -> Option<String> {
    view.nodes.find("", node)?;
    view.pods.add_index(BY_NODE, node_of);
    view.pods.add_index(BY_OWNER, owner_of);
    let pods = view.pods.lister();
    let mut alike: HashMap<String, usize> = HashMap::new();
    let mut all = Vec::new();
    for pod in pods.by_index(BY_NODE, node) {
        let Some((stages, draw)) = (view.lives)(&pod) else {
            continue;
        };
        let count = owner_of(&pod).map_or(1, |owner| {
            let count = || pods.by_index(BY_OWNER, &owner).iter().filter(|p| runs(p)).count();
            *alike.entry(owner.clone()).or_insert_with(count)
        });
        all.extend(running(&pod, &stages, draw, count));
    }
    let now = millis(view.clock.now());
    let mut usages = view.usages.0.lock();
    // Of nodes that are no more nothing is kept.
    if !usages.contains_key(node) {
        usages.retain(|name, _| view.nodes.find("", name).is_some());
    }
    let counters = usages.entry(node.to_owned()).or_default();
    let told = counters.advance(&all, now);
    Some(text(&all, &told, counters.cpu_seconds, now))
}

/// In Prometheus' text format, by the kubelet's names. Names of objects need no quoting.
fn text(all: &[Running], cpu_seconds: &[f64], node_cpu_seconds: f64, now: i64) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut family = |name: &str, kind: &str, help: &str, samples: &mut dyn Iterator<Item = (String, f64, bool)>| {
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value, timed) in samples {
            let _ = match timed {
                true => writeln!(text, "{name}{labels} {value} {now}"),
                false => writeln!(text, "{name}{labels} {value}"),
            };
        }
    };
    let labels = |r: &Running| {
        let meta = &r.pod.metadata;
        let (namespace, pod) = (meta.namespace.as_deref(), meta.name.as_deref());
        format!(
            "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
            r.container,
            namespace.unwrap_or_default(),
            pod.unwrap_or_default()
        )
    };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        &mut all.iter().zip(cpu_seconds).map(|(r, used)| (labels(r), *used, true)),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        &mut all.iter().map(|r| (labels(r), r.bytes.round(), true)),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        &mut all.iter().map(|r| (labels(r), r.began as f64 / 1000.0, false)),
    );
    let one = |value: f64| std::iter::once((String::new(), value, true));
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
        &mut one(node_cpu_seconds),
    );
    let bytes: f64 = all.iter().map(|r| r.bytes.round()).sum();
    family(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
        &mut one(bytes),
    );
    family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        &mut std::iter::once((String::new(), 0.0, false)),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Amount;
    use serde_json::json;

    fn pod(uid: &str, began: &str) -> Arc<Pod> {
        let value = json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"nodeName": "fake-0", "containers": [
                {"name": "web", "resources": {"requests": {"cpu": "500m", "memory": "1Mi"}}}, {"name": "proxy"},
            ]},
            "status": {"containerStatuses": [
                {"name": "web", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "state": {"running": {"startedAt": began}}},
                {"name": "proxy", "image": "", "imageID": "", "ready": false, "restartCount": 0},
            ]},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn stages(cpu: &str, shared: &str) -> Stages {
        Stages {
            cpu: Amount::parse(cpu).unwrap(),
            shared_cpu: Amount::parse(shared).unwrap(),
            memory: Amount::parse("50%").unwrap(),
            ..Stages::default()
        }
    }

    fn uses(pod: &Arc<Pod>, stages: &Stages, alike: usize) -> Vec<Running> {
        running(pod, stages, Draw::of_pod(1, 1, 0), alike)
    }

    #[test]
    fn what_runs_uses_its_share_of_what_it_requests_and_of_what_all_use_together() {
        let pod = pod("a", "1970-01-01T00:00:01Z");
        let all = uses(&pod, &stages("50%", "3"), 4);
        assert_eq!(all.len(), 1, "one that does not run uses nothing");
        assert_eq!((all[0].cores, all[0].bytes), (1.0, 524_288.0));
    }

    #[test]
    fn counters_grow_at_the_rate_of_now_and_never_shrink() {
        let (a, b) = (pod("a", "1970-01-01T00:00:00Z"), pod("b", "1970-01-01T00:00:05Z"));
        let (busy, idle) = (stages("1", "0"), stages("0", "0"));
        let mut counters = Counters::default();
        let mut all = uses(&a, &busy, 1);
        assert_eq!(counters.advance(&all, 10_000), [10.0]);
        all.extend(uses(&b, &busy, 1));
        assert_eq!(counters.advance(&all, 10_000), [10.0, 5.0]);
        assert_eq!(counters.advance(&uses(&a, &idle, 1), 20_000), [10.0]);
        assert_eq!(counters.cpu_seconds, 15.0, "what a pod has used the node has used");
        let again = pod("a", "1970-01-01T00:00:19Z");
        assert_eq!(counters.advance(&uses(&again, &busy, 1), 20_000), [1.0], "another run");
    }

    #[test]
    fn metrics_are_told_by_the_kubelets_names() {
        let all = uses(&pod("a", "1970-01-01T00:00:01.5Z"), &stages("250m", "0"), 1);
        let text = text(&all, &[0.5], 7.25, 3500);
        for line in [
            "container_cpu_usage_seconds_total{container=\"web\",namespace=\"default\",pod=\"a\"} 0.5 3500",
            "container_memory_working_set_bytes{container=\"web\",namespace=\"default\",pod=\"a\"} 524288 3500",
            "container_start_time_seconds{container=\"web\",namespace=\"default\",pod=\"a\"} 1.5",
            "node_cpu_usage_seconds_total 7.25 3500",
            "node_memory_working_set_bytes 524288 3500",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
