//! How long one scheduling cycle takes, on clusters of 100, 1,000 and 5,000 nodes: for plain pods, with topology spread,
//! with anti-affinity, and with preemption, where the pods evicted go at once or are still there. Everything is in memory: what is measured is finding a node and noting it. Each
//! is measured twice: with what pods alike share, and with a plugin in the profile that lets nothing be shared.
//!
//! ```sh
//! cargo run --release -p coracle-scheduler --example cycle [KIND...]
//! ```

use std::sync::Arc;

use coracle_clock::Clock;
use coracle_scheduler::cache::Cache;
use coracle_scheduler::cycle::Search;
use coracle_scheduler::framework::{Plugin, Point, Reuse};
use coracle_scheduler::listers::Listers;
use coracle_scheduler::nominator::Nominator;
use coracle_scheduler::plugins::default_plugins;
use coracle_scheduler::profile::Profile;
use coracle_scheduler::shape::{PodInfo, Shapes};
use coracle_scheduler::testing::{node, pod_requesting};
use serde_json::{Value, json};

/// Pods on each node before, of this many Deployments together.
const PODS_PER_NODE: usize = 20;
const DEPLOYMENTS: usize = 50;

/// Has nothing to say, and lets nothing be used again.
struct Forgetful;

impl Plugin for Forgetful {
    fn name(&self) -> &'static str {
        "Forgetful"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Nothing
    }
}

struct Bench {
    cache: Cache,
    shapes: Shapes,
    profile: Profile,
    search: Search,
    nominator: Nominator,
}

fn replica(app: &str, number: usize, cpu: &str, spec: Value) -> PodInfo {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app, "controller": true}]);
    let name = format!("{app}-{number}");
    pod_requesting(
        &name,
        cpu,
        "100Mi",
        json!({"metadata": {"labels": {"app": app}, "ownerReferences": owner}, "spec": spec}),
    )
}

impl Bench {
    fn new(nodes: usize, cpu_there: &str, shares: bool) -> Self {
        let listers = Arc::new(Listers::holding());
        let apps = (0..DEPLOYMENTS).map(|i| format!("app{i}")).chain(["new".to_owned()]);
        listers.replica_sets.hold(apps.filter_map(|app| {
            let set = json!({"metadata": {"namespace": "default", "name": app},
                "spec": {"selector": {"matchLabels": {"app": app}}}});
            serde_json::from_value(set).ok()
        }));
        let mut plugins = default_plugins(&listers);
        if !shares {
            plugins.push((Arc::new(Forgetful), 0));
        }
        let bench = Self {
            cache: Cache::default(),
            shapes: Shapes::default(),
            profile: Profile::new("default-scheduler", plugins),
            search: Search::new(1, 0),
            nominator: Nominator::default(),
        };
        for key in bench.profile.topology_keys() {
            bench.cache.cycle().need_topology(&key);
        }
        for i in 0..nodes {
            let name = format!("node-{i:04}");
            let labels = json!({"topology.kubernetes.io/zone": format!("zone-{}", i % 3)});
            bench.cache.set_node(node(&name, labels, json!({})));
            for j in 0..PODS_PER_NODE {
                let pod = replica(
                    &format!("app{}", (i + j) % DEPLOYMENTS),
                    i * PODS_PER_NODE + j,
                    cpu_there,
                    json!({}),
                );
                let pod = bench.shapes.info(&pod.pod, None);
                bench.cache.set_pod(pod, &name);
            }
        }
        bench
    }

    /// Seconds that each of these pods took, and how many found no node. Who is evicted goes at once, unless it `lingers`.
    fn run(&mut self, pods: &[PodInfo], lingers: bool) -> (Vec<f64>, usize) {
        let clock = Clock::system();
        let (mut took, mut without) = (Vec::new(), 0);
        for pod in pods {
            let pod = self.shapes.info(&pod.pod, None);
            let started = clock.instant();
            let outcome = {
                let mut view = self.cache.cycle();
                for key in pod.shape.topology_keys() {
                    view.need_topology(key);
                }
                self.search
                    .schedule(&self.profile, &pod, &view, &self.nominator.current())
            };
            match outcome {
                Ok(found) => self.cache.assume(pod, &found.node),
                Err(not_found) => {
                    let action = not_found.action;
                    match action.nominate {
                        Some(node) if !action.victims.is_empty() && lingers => self.nominator.nominate(pod, &node),
                        Some(node) if !action.victims.is_empty() => {
                            action.victims.iter().for_each(|v| self.cache.remove_pod(v.uid()));
                            self.cache.assume(pod, &node);
                        }
                        _ => without += 1,
                    }
                }
            }
            took.push(started.elapsed().as_secs_f64());
        }
        (took, without)
    }
}

fn spec(kind: &str) -> Value {
    let labels = json!({"matchLabels": {"app": "new"}});
    let constraint = |key: &str| json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": labels});
    match kind {
        "spread" => json!({"topologySpreadConstraints":
            [constraint("topology.kubernetes.io/zone"), constraint("kubernetes.io/hostname")]}),
        "anti-affinity" => json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": labels}]}}}),
        "preemption" | "lingering" => json!({"priority": 1000}),
        _ => json!({}),
    }
}

/// Pods in a second, the slowest of a hundred in microseconds, and how many found no node.
fn measure(kind: &str, nodes: usize, shares: bool) -> (f64, f64, usize) {
    // Full nodes for preemption: 20 pods of a fifth of a CPU.
    let (there, wanted) = match kind {
        "preemption" | "lingering" => ("200m", "500m"),
        _ => ("50m", "50m"),
    };
    let mut bench = Bench::new(nodes, there, shares);
    let count = nodes.min(500);
    let pods: Vec<PodInfo> = (0..count).map(|i| replica("new", i, wanted, spec(kind))).collect();
    let (mut took, without) = bench.run(&pods, kind == "lingering");
    took.sort_by(f64::total_cmp);
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    (1.0 / mean, took[(took.len() - 1) * 99 / 100] * 1e6, without)
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    println!("                       each by itself             sharing");
    println!(
        "{:>14} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}",
        "pods", "nodes", "pods/s", "p99 µs", "pods/s", "p99 µs", "ratio", "no node"
    );
    for kind in ["plain", "spread", "anti-affinity", "preemption", "lingering"] {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == kind) {
            continue;
        }
        for nodes in [100, 1000, 5000] {
            let ((alone, alone_p99, _), (sharing, p99, without)) =
                (measure(kind, nodes, false), measure(kind, nodes, true));
            println!(
                "{kind:>14} {nodes:>7} {alone:>9.0} {alone_p99:>9.1} {sharing:>9.0} {p99:>9.1} {:>7.1} {without:>8}",
                sharing / alone
            );
        }
    }
}
