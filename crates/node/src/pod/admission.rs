//! Whether a pod that has been bound to this node belongs on it: what its spec asks of the node's object, and the ports of
//! the host that it takes. Who bound it may have known less than the node does, or not have looked. Pure.

use coracle_api::placement::{meets_required, untolerated};
use coracle_runtime::Abilities;
use k8s_openapi::api::core::v1::{Container, Node, Pod};

use crate::allocation::Refusal;
use crate::mirror::is_static;
use crate::pod::plan::is_sidecar;

fn refusal(predicate: &str, why: &str) -> Refusal {
    Refusal {
        reason: predicate.to_owned(),
        message: format!("Predicate {predicate} failed: {why}"),
    }
}

/// Why the pod does not belong on the node, in upstream's words.
pub(crate) fn misfit(pod: &Pod, node: &Node) -> Option<Refusal> {
    let spec = pod.spec.as_ref()?;
    if !meets_required(spec, node) {
        return Some(refusal(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    // Others keep pods from being bound, not from running.
    if !is_static(pod) && untolerated(taints, tolerations, &["NoExecute"]).is_some() {
        return Some(refusal(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    None
}

/// Why the node's runtime cannot run the pod as it asks to be run, in upstream's words.
pub(crate) fn unsupported(pod: &Pod, abilities: &Abilities) -> Option<Refusal> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    let strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    (strict && !abilities.strict_groups).then(|| Refusal {
        reason: "SupplementalGroupsPolicyNotSupported".into(),
        message: "SupplementalGroupsPolicy=Strict is not supported in this node".into(),
    })
}

/// A port of the host that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    port: i32,
    protocol: String,
    address: String,
}

impl HostPort {
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        let same = self.address == other.address || any(&self.address) || any(&other.address);
        self.port == other.port && self.protocol == other.protocol && same
    }
}

/// Those of the pod's containers that run for as long as it does.
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let of = |container: &Container| {
        let ports = container.ports.clone().unwrap_or_default().into_iter();
        ports.filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|number| *number > 0)?,
                protocol: port.protocol.unwrap_or_else(|| "TCP".into()),
                address: port.host_ip.unwrap_or_default(),
            })
        })
    };
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    sidecars.chain(&spec.containers).flat_map(of).collect()
}

/// Another pod of the node has one of the ports.
pub(crate) fn port_taken() -> Refusal {
    refusal(
        "NodePorts",
        "node(s) didn't have free ports for the requested pod ports",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(mut spec: Value) -> Pod {
        if spec["containers"].is_null() {
            spec["containers"] = json!([]);
        }
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn node(spec: Value) -> Node {
        let node = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd"}}, "spec": spec});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_pod_that_asks_for_another_node_or_cannot_stand_a_taint_does_not_fit() {
        let evicting = json!({"taints": [{"key": "down", "effect": "NoExecute"}]});
        let unschedulable = json!({"taints": [{"key": "full", "effect": "NoSchedule"}]});
        let tolerations = json!({"tolerations": [{"key": "down", "operator": "Exists"}]});
        let elsewhere = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}]}}}});
        for (spec, of_node, reason) in [
            (json!({}), json!({}), None),
            (json!({"nodeSelector": {"disk": "ssd"}}), json!({}), None),
            (
                json!({"nodeSelector": {"disk": "hdd"}}),
                json!({}),
                Some("NodeAffinity"),
            ),
            (elsewhere, json!({}), Some("NodeAffinity")),
            (json!({}), evicting.clone(), Some("TaintToleration")),
            (tolerations, evicting.clone(), None),
            (json!({}), unschedulable, None),
        ] {
            let found = misfit(&pod(spec.clone()), &node(of_node)).map(|r| r.reason);
            assert_eq!(found.as_deref(), reason, "{spec}");
        }
        let mut own = pod(json!({}));
        own.metadata.annotations = Some([(crate::mirror::SOURCE.to_owned(), "file".to_owned())].into());
        assert_eq!(misfit(&own, &node(evicting)), None, "a static pod stays");
        let refusal = misfit(&pod(json!({"nodeSelector": {"a": "b"}})), &node(json!({}))).unwrap();
        assert_eq!(
            refusal.message,
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        );
    }

    /// tasks/configure-pod-container/security-context: fine-grained SupplementalGroups control.
    #[test]
    fn a_strict_pod_is_rejected_because_the_node_cannot_ensure_the_specified_policy() {
        let strict = pod(json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}));
        let merge = pod(json!({"securityContext": {"supplementalGroupsPolicy": "Merge"}}));
        let (able, unable) = (
            Abilities {
                strict_groups: true,
                ..Abilities::default()
            },
            Abilities::default(),
        );
        assert_eq!(unsupported(&strict, &able), None);
        assert_eq!(unsupported(&merge, &unable), None);
        let refusal = unsupported(&strict, &unable).unwrap();
        assert_eq!(refusal.reason, "SupplementalGroupsPolicyNotSupported");
        assert_eq!(
            refusal.message,
            "SupplementalGroupsPolicy=Strict is not supported in this node"
        );
    }

    #[test]
    fn ports_clash_by_number_protocol_and_address() {
        let ports = |port: Value| host_ports(&pod(json!({"containers": [{"name": "c", "ports": [port]}]})));
        let port = |address: &str, protocol: &str, number: i32| {
            ports(json!({"containerPort": 1, "hostPort": number, "hostIP": address, "protocol": protocol})).remove(0)
        };
        for (a, b, clash) in [
            (port("", "TCP", 80), port("10.0.0.1", "TCP", 80), true),
            (port("", "TCP", 80), port("", "UDP", 80), false),
            (port("", "TCP", 80), port("", "TCP", 81), false),
            (port("10.0.0.1", "TCP", 80), port("10.0.0.2", "TCP", 80), false),
            (port("0.0.0.0", "TCP", 80), port("10.0.0.2", "TCP", 80), true),
        ] {
            assert_eq!(a.clashes(&b), clash, "{a:?} {b:?}");
        }
        assert_eq!(ports(json!({"containerPort": 1})), []);
        let init = json!({"initContainers": [
            {"name": "once", "ports": [{"containerPort": 1, "hostPort": 1}]},
            {"name": "beside", "restartPolicy": "Always", "ports": [{"containerPort": 1, "hostPort": 2}]}]});
        assert_eq!(host_ports(&pod(init)).iter().map(|p| p.port).collect::<Vec<_>>(), [2]);
    }
}
