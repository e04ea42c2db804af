//! Small random clusters, in plain words: both the scheduler's objects and the model's facts come from these.

use std::sync::Arc;

use coracle_scheduler::shape::PodInfo;
use coracle_scheduler::testing::{node, pod_requesting};
use k8s_openapi::api::core::v1::Node;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    Host,
    Zone,
}

impl Topology {
    pub fn key(self) -> &'static str {
        match self {
            Self::Host => "kubernetes.io/hostname",
            Self::Zone => "topology.kubernetes.io/zone",
        }
    }
}

#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub name: String,
    pub zone: Option<u8>,
    pub cpu: i64,
    pub memory: i64,
    pub max_pods: i64,
    /// Keys of taints, each with whether it only asks to keep away.
    pub taints: Vec<(u8, bool)>,
    pub cordoned: bool,
    pub fast_disk: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Affinity {
    /// Apart from, rather than with.
    pub anti: bool,
    /// Required, or preferred with this weight.
    pub weight: Option<i64>,
    pub app: u8,
    pub topology: Topology,
}

#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub topology: Topology,
    pub hard: bool,
    pub max_skew: i64,
}

#[derive(Clone, Debug)]
pub struct PodFacts {
    pub name: String,
    pub app: u8,
    pub cpu: i64,
    pub memory: i64,
    pub priority: i32,
    pub tolerates: Vec<u8>,
    pub zone: Option<u8>,
    pub prefers_fast_disk: Option<i64>,
    pub port: Option<u16>,
    pub spread: Option<Spread>,
    pub affinity: Option<Affinity>,
}

impl NodeFacts {
    pub fn object(&self) -> Arc<Node> {
        let mut labels = json!({});
        if let Some(zone) = self.zone {
            labels[Topology::Zone.key()] = format!("z{zone}").into();
        }
        if self.fast_disk {
            labels["disk"] = "fast".into();
        }
        let allocatable = json!({"cpu": format!("{}m", self.cpu), "memory": self.memory.to_string(),
            "pods": self.max_pods.to_string()});
        let mut object = (*node(&self.name, labels, json!({"allocatable": allocatable}))).clone();
        let effect = |soft: bool| if soft { "PreferNoSchedule" } else { "NoSchedule" };
        let taints: Vec<Value> = self
            .taints
            .iter()
            .map(|(key, soft)| json!({"key": format!("t{key}"), "effect": effect(*soft)}))
            .collect();
        let spec = json!({"unschedulable": self.cordoned, "taints": taints});
        object.spec = Some(serde_json::from_value(spec).unwrap());
        Arc::new(object)
    }
}

impl PodFacts {
    pub fn object(&self) -> PodInfo {
        let tolerations: Vec<Value> = self
            .tolerates
            .iter()
            .map(|key| json!({"key": format!("t{key}"), "operator": "Exists"}))
            .collect();
        let mut spec = json!({"priority": self.priority, "tolerations": tolerations});
        if let Some(zone) = self.zone {
            spec["nodeSelector"] = json!({Topology::Zone.key(): format!("z{zone}")});
        }
        let labels = json!({"matchLabels": {"app": format!("a{}", self.app)}});
        if let Some(spread) = self.spread {
            let when = if spread.hard { "DoNotSchedule" } else { "ScheduleAnyway" };
            spec["topologySpreadConstraints"] = json!([{"maxSkew": spread.max_skew, "whenUnsatisfiable": when,
                "topologyKey": spread.topology.key(), "labelSelector": labels}]);
        }
        let mut affinity = json!({});
        if let Some(Affinity {
            anti,
            weight,
            app,
            topology,
        }) = self.affinity
        {
            let kind = if anti { "podAntiAffinity" } else { "podAffinity" };
            let labels = json!({"matchLabels": {"app": format!("a{app}")}});
            let term = json!({"topologyKey": topology.key(), "labelSelector": labels});
            affinity[kind] = match weight {
                None => json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]}),
                Some(weight) => json!({"preferredDuringSchedulingIgnoredDuringExecution":
                    [{"weight": weight, "podAffinityTerm": term}]}),
            };
        }
        if let Some(weight) = self.prefers_fast_disk {
            let preference = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]});
            affinity["nodeAffinity"] = json!({"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": weight, "preference": preference}]});
        }
        spec["affinity"] = affinity;
        let mut whole = json!({"metadata": {"labels": {"app": format!("a{}", self.app)}}, "spec": spec});
        if let Some(port) = self.port {
            let requests = json!({"cpu": format!("{}m", self.cpu), "memory": self.memory.to_string()});
            whole["spec"]["containers"] = json!([{"name": "c", "image": "web:v1", "resources": {"requests": requests},
                "ports": [{"containerPort": 1, "hostPort": port}]}]);
        }
        pod_requesting(&self.name, &format!("{}m", self.cpu), &self.memory.to_string(), whole)
    }
}

fn one_in<T: std::fmt::Debug + Clone>(n: u32, some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::weighted(1.0 / f64::from(n), some)
}

fn topology() -> impl Strategy<Value = Topology> {
    prop_oneof![Just(Topology::Host), Just(Topology::Zone)]
}

fn a_node() -> impl Strategy<Value = NodeFacts> {
    (
        proptest::option::weighted(0.85, 0_u8..3),
        (1_i64..5).prop_map(|n| n * 1000),
        (1_i64..5).prop_map(|n| n << 30),
        prop_oneof![4 => Just(10_i64), 1 => 1_i64..4],
        proptest::collection::vec((0_u8..3, any::<bool>()), 0..2),
        proptest::bool::weighted(0.1),
        any::<bool>(),
    )
        .prop_map(|(zone, cpu, memory, max_pods, taints, cordoned, fast_disk)| NodeFacts {
            name: String::new(),
            zone,
            cpu,
            memory,
            max_pods,
            taints,
            cordoned,
            fast_disk,
        })
}

fn a_pod() -> impl Strategy<Value = PodFacts> {
    let affinity =
        (any::<bool>(), one_in(2, 1_i64..100), 0_u8..3, topology()).prop_map(|(anti, weight, app, topology)| {
            Affinity {
                anti,
                weight,
                app,
                topology,
            }
        });
    let spread = (topology(), any::<bool>(), 1_i64..3).prop_map(|(topology, hard, max_skew)| Spread {
        topology,
        hard,
        max_skew,
    });
    (
        (
            0_u8..3,
            (1_i64..15).prop_map(|n| n * 100),
            (1_i64..15).prop_map(|n| n << 27),
            0_i32..4,
        ),
        proptest::collection::vec(0_u8..3, 0..2),
        one_in(6, 0_u8..3),
        one_in(4, 1_i64..100),
        one_in(6, 80_u16..83),
        one_in(3, spread),
        one_in(3, affinity),
    )
        .prop_map(
            |((app, cpu, memory, priority), tolerates, zone, prefers_fast_disk, port, spread, affinity)| PodFacts {
                name: String::new(),
                app,
                cpu,
                memory,
                priority,
                tolerates,
                zone,
                prefers_fast_disk,
                port,
                spread,
                affinity,
            },
        )
}

/// Up to this many nodes, and pods to come one after another.
pub fn cluster(nodes: usize, pods: usize) -> impl Strategy<Value = (Vec<NodeFacts>, Vec<PodFacts>)> {
    let nodes = proptest::collection::vec(a_node(), 1..=nodes);
    let pods = proptest::collection::vec(a_pod(), 1..=pods);
    (nodes, pods).prop_map(|(mut nodes, mut pods)| {
        for (i, node) in nodes.iter_mut().enumerate() {
            node.name = format!("n{i}");
        }
        for (i, pod) in pods.iter_mut().enumerate() {
            pod.name = format!("p{i}");
        }
        (nodes, pods)
    })
}
