//! Pods scheduled in a second, on clusters of several sizes: plain ones, ones that must spread over zones, ones that must be
//! apart, and ones that must evict others. The nodes are objects and no more: nothing runs on them, so that what is measured
//! is the scheduler, the API server and its store. From the first pod created until the last one bound, as upstream's
//! `scheduler_perf` measures.

use std::collections::HashSet;

use coracle_client::{DeleteOptions, ListOptions};
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

use crate::figure::Measured;
use crate::load::{Events, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, name};
use crate::server::{Nodes, Server, Unavailable};
use crate::view;
use crate::workload::{count, within};

pub const ROW: Row = Row {
    name: "schedule",
    about: "pods scheduled in a second on 100, 1,000 and 5,000 nodes: plain, spread, apart, evicting others (takes minutes)",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

/// The label of the nodes of a run.
const LABEL: &str = "bench.coracle.io/run";
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const ZONES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Over zones, differing by no more than one.
    Spread,
    /// No two on one node.
    Apart,
    /// On full nodes: each evicts a pod of lower priority.
    Preempting,
}

const KINDS: [Kind; 4] = [Kind::Plain, Kind::Spread, Kind::Apart, Kind::Preempting];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Spread => "spread",
            Self::Apart => "anti-affinity",
            Self::Preempting => "preemption",
        }
    }

    /// The spec that makes a pod of this kind.
    fn spec(self, class: &str) -> Value {
        let measured = json!({"matchLabels": {"app": "measured"}});
        match self {
            Self::Plain => json!({}),
            Self::Spread => json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": ZONE,
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": measured}]}),
            Self::Apart => json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": HOST, "labelSelector": measured}]}}}),
            Self::Preempting => {
                let mut spec = filler();
                spec["priorityClassName"] = class.into();
                spec
            }
        }
    }

    /// How many of so many pods can have a place.
    fn limit(self, pods: usize, nodes: usize) -> usize {
        match self {
            Self::Plain | Self::Spread => pods.min(nodes * 20),
            Self::Apart | Self::Preempting => pods.min(nodes),
        }
    }
}

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    for &nodes in &bench.options.schedule_nodes {
        for kind in KINDS {
            let server = bench.serve(Nodes::Any).await?;
            let there = server.client()?.all::<Node>().list(&ListOptions::default()).await?;
            if !there.items.is_empty() {
                return Unavailable::because("needs a cluster that has no nodes of its own");
            }
            let scratch = Scratch::make(&server).await?;
            let done = one(bench, &server, &scratch, nodes, kind, &mut measured).await;
            if !bench.target.is_own() {
                clean_up(&server, &scratch.name).await?;
            }
            scratch.drop_from(&server, bench.target.is_own()).await?;
            server.close().await?;
            done?;
        }
    }
    Ok(measured)
}

async fn one(
    bench: &Bench,
    server: &Server,
    scratch: &Scratch,
    nodes: usize,
    kind: Kind,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let run = &scratch.name;
    let mut workers = server.workers(bench.options.workers).await?;
    let made = (0..nodes).map(|n| Prepared::post("/api/v1/nodes", &node(run, n)));
    workers.send_all(made.collect()).await?;
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": run}, "value": 1000,
    });
    let class = Prepared::post("/apis/scheduling.k8s.io/v1/priorityclasses", &class);
    workers.send_all(vec![class]).await?;
    if kind == Kind::Preempting {
        // A pod that leaves no room for another on every node.
        let fillers = (0..nodes).map(|n| pod("filler", n, &filler()));
        schedule(bench, server, scratch, "filler", fillers.collect()).await?;
    }
    let pods = kind.limit(bench.options.schedule_pods, nodes);
    let spec = kind.spec(run);
    let meter = server.meter()?;
    let all = (0..pods).map(|n| pod("measured", n, &spec)).collect();
    let took = schedule(bench, server, scratch, "measured", all).await?;
    let (load, spent) = meter.stop()?;
    let (pods, nodes) = (pods as u64, nodes as u64);
    let what = format!(
        "schedule {} pods, {}, on {} nodes",
        count(pods),
        kind.name(),
        count(nodes)
    );
    measured.gain(&what, pods as f64 / took, "/s");
    if let Some(spent) = spent {
        let each = spent.cpu_seconds * 1e6 / pods.max(1) as f64;
        measured.cost(format!("{what}, server CPU"), each, "µs each");
    }
    measured.load(&what, load);
    Ok(())
}

/// Creates pods and waits until all are bound: the seconds that took.
async fn schedule(
    bench: &Bench,
    server: &Server,
    scratch: &Scratch,
    app: &str,
    pods: Vec<Value>,
) -> anyhow::Result<f64> {
    let path = scratch.path("pods");
    let mut events = Events::open(server.endpoint()?, &path, &format!("labelSelector=app%3D{app}")).await?;
    let mut workers = server.workers(bench.options.workers).await?;
    let requests: Vec<Prepared> = pods.iter().map(|p| Prepared::post(&path, p)).collect();
    let wanted = requests.len();
    let started = Clock::system().instant();
    let binding = within("pods to be bound", async {
        let mut bound = HashSet::new();
        while bound.len() < wanted {
            let pod = events.next::<view::Pod>().await?.object;
            if pod.is_bound() {
                bound.insert(pod.metadata.name);
            }
        }
        Ok(started.elapsed().as_secs_f64())
    });
    let (took, _) = tokio::try_join!(binding, workers.send_all(requests))?;
    Ok(took)
}

fn filler() -> Value {
    json!({"containers": [{"name": "c", "image": "demo/web:v1", "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}]})
}

/// A node as upstream's benchmark has them.
fn node(run: &str, number: usize) -> Value {
    let name = name(run, number);
    let room = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: run, HOST: name, ZONE: format!("zone-{}", number % ZONES)}},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn pod(app: &str, number: usize, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name(app, number), "labels": {"app": app}},
        "spec": {
            // No agent would end it.
            "terminationGracePeriodSeconds": 0,
            // Nor renew its node's lease.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "demo/web:v1",
                "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}],
        },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

async fn clean_up(server: &Server, run: &str) -> anyhow::Result<()> {
    let client = server.client()?;
    let delete = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    let pods = client.namespaced::<Pod>(run);
    pods.delete_collection(&ListOptions::default(), &delete).await?;
    let own = ListOptions {
        label_selector: format!("{LABEL}={run}"),
        ..ListOptions::default()
    };
    client.all::<Node>().delete_collection(&own, &delete).await?;
    client.all::<PriorityClass>().delete(run, &delete).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_pods_are_asked_for_than_can_have_a_place() {
        assert_eq!(Kind::Plain.limit(2000, 50), 1000);
        assert_eq!(Kind::Spread.limit(2000, 100), 2000);
        assert_eq!(Kind::Apart.limit(2000, 100), 100);
        assert_eq!(Kind::Preempting.limit(10, 100), 10);
    }

    #[test]
    fn a_pod_that_evicts_asks_for_the_room_of_a_filler_and_outranks_it() {
        let made = pod("measured", 1, &Kind::Preempting.spec("high"));
        assert_eq!(made["spec"]["priorityClassName"], "high");
        assert_eq!(made["spec"]["containers"], filler()["containers"]);
        assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 0);
    }
}
