//! The Node objects, their status and leases. Pure.

use std::collections::BTreeMap;

use coracle_clock::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use serde_json::{Value, json};

use crate::config::{Cidr, Cidr6};
use crate::draw::hash;
use crate::template::{NodeTemplate, fill};

/// The label that every fake node has; its value is the fleet's name, and who has it is run by that fleet.
pub const FLEET_LABEL: &str = "fake.coracle.io/fleet";
/// Where metrics-server, and the API server here, find the metrics of one of several nodes with one endpoint.
const METRICS_PATH: &str = "metrics.k8s.io/resource-metrics-path";
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The version of Kubernetes that the nodes speak.
const KUBELET_VERSION: &str = "v1.37.0";
/// How many missed renewals a lease survives, as the kubelet's.
const LEASE_RENEWALS: u64 = 4;

/// Where the nodes' one endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    /// `None`: nobody listens.
    pub(crate) port: Option<u16>,
}

/// A node's ranges as its object tells them: its own, and the one like it among IPv6 addresses.
pub(crate) fn ranges(own: Cidr, beside: Option<Cidr6>) -> Vec<String> {
    let second = beside.map(|beside| beside.like_range(own));
    [own.to_string()].into_iter().chain(second).collect()
}

/// What every node says of itself by labels.
fn own_labels(name: &str, template: &NodeTemplate) -> BTreeMap<String, String> {
    let own = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", &template.operating_system),
        ("kubernetes.io/arch", &template.architecture),
        ("beta.kubernetes.io/os", &template.operating_system),
        ("beta.kubernetes.io/arch", &template.architecture),
    ];
    own.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Those of them that a node, perhaps somebody else's, lacks or has otherwise. What the template says of one goes for nodes
/// made by it.
pub(crate) fn labels_to_set(node: &api::Node, template: &NodeTemplate) -> BTreeMap<String, String> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let has = |key: &String, value: &String| node.metadata.labels.as_ref().and_then(|l| l.get(key)) == Some(value);
    let mut wanted = own_labels(name, template);
    wanted.retain(|key, value| !template.labels.contains_key(key) && !has(key, value));
    wanted
}

/// Where the node's metrics are, if anybody tells them.
fn own_annotation(name: &str, endpoint: &Endpoint) -> Option<(String, String)> {
    endpoint.port?;
    Some((
        METRICS_PATH.to_owned(),
        format!("/metrics/nodes/{name}/metrics/resource"),
    ))
}

/// The annotation that a node, perhaps somebody else's, lacks or has otherwise.
pub(crate) fn annotation_to_set(node: &api::Node, endpoint: &Endpoint) -> Option<(String, String)> {
    let own = own_annotation(node.metadata.name.as_deref().unwrap_or_default(), endpoint);
    own.filter(|(key, path)| node.metadata.annotations.as_ref().and_then(|a| a.get(key)) != Some(path))
}

/// The object to create.
pub(crate) fn node(
    fleet: &str,
    name: &str,
    index: u32,
    template: &NodeTemplate,
    endpoint: &Endpoint,
    pod_cidrs: Vec<String>,
    now: Timestamp,
) -> api::Node {
    let filled = |map: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        // Placeholders were checked when the template was read; one that cannot be filled stays as it is.
        let each = map
            .iter()
            .map(|(k, v)| (k.clone(), fill(v, name, index).unwrap_or_else(|_| v.clone())));
        each.collect()
    };
    let mut labels = own_labels(name, template);
    labels.extend(filled(&template.labels));
    labels.insert(FLEET_LABEL.to_owned(), fleet.to_owned());
    let mut annotations = filled(&template.annotations);
    annotations.extend(own_annotation(name, endpoint));
    api::Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            ..ObjectMeta::default()
        },
        spec: Some(api::NodeSpec {
            pod_cidr: pod_cidrs.first().cloned(),
            pod_cidrs: Some(pod_cidrs).filter(|c| !c.is_empty()),
            provider_id: Some(format!("fake://{fleet}/{name}")),
            taints: Some(template.taints.clone()).filter(|t| !t.is_empty()),
            ..api::NodeSpec::default()
        }),
        status: Some(status(name, template, endpoint, None, now)),
    }
}

/// The status. A node that somebody else made keeps the capacity it was made with.
pub(crate) fn status(
    name: &str,
    template: &NodeTemplate,
    endpoint: &Endpoint,
    before: Option<&api::NodeStatus>,
    now: Timestamp,
) -> api::NodeStatus {
    let address = |kind: &str, address: &str| api::NodeAddress {
        type_: kind.to_owned(),
        address: address.to_owned(),
    };
    let given = |amounts: Option<&BTreeMap<String, _>>| amounts.filter(|a| !a.is_empty()).cloned();
    let capacity = given(before.and_then(|b| b.capacity.as_ref()));
    let allocatable = given(before.and_then(|b| b.allocatable.as_ref()));
    // Three texts that machines tell apart by; here they follow from the name.
    let id = |what: &str| format!("{:016x}{:016x}", hash(&[what, name]), hash(&[name, what]));
    api::NodeStatus {
        addresses: Some(vec![
            address("InternalIP", &endpoint.address),
            address("Hostname", name),
        ]),
        allocatable: Some(
            allocatable
                .or_else(|| capacity.clone())
                .unwrap_or_else(|| template.allocatable.clone()),
        ),
        capacity: Some(capacity.unwrap_or_else(|| template.capacity.clone())),
        conditions: Some(conditions(before, now)),
        daemon_endpoints: endpoint.port.map(|port| api::NodeDaemonEndpoints {
            kubelet_endpoint: Some(api::DaemonEndpoint { port: port.into() }),
        }),
        images: Some(template.images.clone()).filter(|i| !i.is_empty()),
        node_info: Some(api::NodeSystemInfo {
            architecture: template.architecture.clone(),
            operating_system: template.operating_system.clone(),
            boot_id: id("boot"),
            machine_id: id("machine"),
            system_uuid: id("system"),
            container_runtime_version: format!("fake://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: "fake".into(),
            os_image: "fake node".into(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.into(),
            ..api::NodeSystemInfo::default()
        }),
        ..api::NodeStatus::default()
    }
}

fn conditions(before: Option<&api::NodeStatus>, now: Timestamp) -> Vec<api::NodeCondition> {
    let wanted = [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "fake node: nothing uses memory",
        ),
        (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "fake node: nothing uses the disk",
        ),
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "fake node: there are no processes",
        ),
        (
            "Ready",
            "True",
            "KubeletReady",
            "fake node: it is alive and runs nothing",
        ),
    ];
    let old = before.and_then(|b| b.conditions.as_deref()).unwrap_or_default();
    let each = wanted.into_iter().map(|(kind, status, reason, message)| {
        let same = old.iter().find(|c| c.type_ == kind && c.status == status);
        api::NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        }
    });
    each.collect()
}

/// The condition `Ready`, if it holds.
pub(crate) fn ready(node: &api::Node) -> Option<&api::NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether the node lacks something that this fleet says of it.
pub(crate) fn outdated(node: &api::Node, endpoint: &Endpoint) -> bool {
    let Some(status) = &node.status else { return true };
    let internal = |a: &api::NodeAddress| a.type_ == "InternalIP" && a.address == endpoint.address;
    let port = status
        .daemon_endpoints
        .as_ref()
        .and_then(|d| d.kubelet_endpoint.as_ref())
        .map(|e| e.port);
    ready(node).is_none()
        || annotation_to_set(node, endpoint).is_some()
        || !status.addresses.iter().flatten().any(internal)
        || status.capacity.is_none()
        || port.filter(|p| *p != 0) != endpoint.port.map(i32::from)
}

/// The status as a patch of the status subresource.
pub(crate) fn status_patch(status: &api::NodeStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // Addresses go away as well as come.
    if let Some(addresses) = value.get_mut("addresses").and_then(Value::as_array_mut) {
        addresses.push(json!({"$patch": "replace"}));
    }
    json!({"status": value})
}

/// The lease to create when there is none.
pub(crate) fn lease(node: &str, uid: &str, interval: std::time::Duration, now: Timestamp) -> Lease {
    let seconds = interval.as_secs().max(1).saturating_mul(LEASE_RENEWALS);
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.to_owned(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// The renewal of one that is there.
pub(crate) fn renewal(node: &str, now: Timestamp) -> Value {
    json!({"spec": {"holderIdentity": node, "renewTime": MicroTime(now)}})
}

/// When something that a node does once in `interval` is due next, so that the nodes' turns are spread over it: each has a
/// phase of its own, by its name.
pub(crate) fn next_turn(node: &str, interval: i64, now: i64) -> i64 {
    let interval = interval.max(1);
    let phase = (hash(&["turn", node]) >> 1) as i64 % interval;
    let left = (phase - now).rem_euclid(interval);
    now.saturating_add(if left == 0 { interval } else { left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            address: "127.0.0.1".into(),
            port: Some(1234),
        }
    }

    #[test]
    fn a_node_is_labelled_numbered_and_ready() {
        let mut template = NodeTemplate::default();
        template.labels.insert("zone".into(), "z{index%3}".into());
        let made = node(
            "fake",
            "fake-7",
            7,
            &template,
            &endpoint(),
            ranges(Cidr::DEFAULT, Some(Cidr6::parse("fd00::/64").unwrap())),
            at("2026-01-01T00:00:00Z"),
        );
        let labels = made.metadata.labels.as_ref().unwrap();
        assert_eq!((labels["zone"].as_str(), labels[FLEET_LABEL].as_str()), ("z1", "fake"));
        assert_eq!(labels["kubernetes.io/hostname"], "fake-7");
        let metrics = &made.metadata.annotations.as_ref().unwrap()[METRICS_PATH];
        assert_eq!(metrics, "/metrics/nodes/fake-7/metrics/resource");
        assert!(ready(&made).is_some());
        let spec = made.spec.as_ref().unwrap();
        assert_eq!(spec.pod_cidr.as_deref(), Some("10.128.0.0/9"));
        assert_eq!(spec.pod_cidrs.as_ref().unwrap()[1], "fd00::a80:0/105");
        assert!(!outdated(&made, &endpoint()));
        let moved = Endpoint {
            port: Some(1),
            ..endpoint()
        };
        assert!(outdated(&made, &moved));
    }

    #[test]
    fn a_node_of_somebody_else_gets_the_labels_that_a_kubelet_sets() {
        let mut template = NodeTemplate::default();
        let made = |labels: Value| -> api::Node {
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap()
        };
        let set =
            |node: &api::Node, template: &NodeTemplate| labels_to_set(node, template).into_keys().collect::<Vec<_>>();
        let bare = made(json!({"mine": "yes", "kubernetes.io/hostname": "other", "kubernetes.io/os": "linux"}));
        assert_eq!(
            set(&bare, &template),
            [
                "beta.kubernetes.io/arch",
                "beta.kubernetes.io/os",
                "kubernetes.io/arch",
                "kubernetes.io/hostname"
            ]
        );
        assert_eq!(labels_to_set(&bare, &template)["kubernetes.io/hostname"], "n");
        template
            .labels
            .insert("kubernetes.io/hostname".into(), "h{index}".into());
        assert!(!set(&bare, &template).contains(&"kubernetes.io/hostname".to_owned()));
        let now = at("2026-01-01T00:00:00Z");
        assert!(set(&node("fake", "n", 1, &template, &endpoint(), vec![], now), &template).is_empty());
    }

    #[test]
    fn conditions_beat_and_keep_the_time_of_their_last_change() {
        let (first, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:05:00Z"));
        let template = NodeTemplate::default();
        let mut before = status("n", &template, &endpoint(), None, first);
        let again = status("n", &template, &endpoint(), Some(&before), later);
        let ready = |s: &api::NodeStatus| {
            s.conditions
                .as_ref()
                .unwrap()
                .iter()
                .find(|c| c.type_ == "Ready")
                .unwrap()
                .clone()
        };
        assert_eq!(ready(&again).last_transition_time, Some(Time(first)));
        assert_eq!(ready(&again).last_heartbeat_time, Some(Time(later)));
        for condition in before.conditions.iter_mut().flatten() {
            condition.status = "Unknown".into();
        }
        let back = status("n", &template, &endpoint(), Some(&before), later);
        assert_eq!(ready(&back).last_transition_time, Some(Time(later)));
    }

    #[test]
    fn turns_are_spread_over_the_interval_and_come_once_in_it() {
        let mut tenths = [0; 10];
        for n in 0..1000 {
            let name = format!("fake-{n}");
            let first = next_turn(&name, 10_000, 50_000);
            assert!((50_001..=60_000).contains(&first));
            assert_eq!(next_turn(&name, 10_000, first), first + 10_000);
            tenths[usize::try_from((first - 50_001) / 1000).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|n| (60..140).contains(n)), "{tenths:?}");
    }
}
