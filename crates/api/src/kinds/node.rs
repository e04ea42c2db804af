//! Node: a machine that runs pods.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, has_condition, name, str_of, str_or, text};
use super::check::quantity_at;
use super::pod_spec::taint_effect;
use super::row::{PROXY, cluster};
use crate::field::{Cursor, ErrorList};
use crate::names::{self, address};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("", "v1", "Node", "nodes")
        .short(&["no"])
        .connect("proxy", PROXY, "NodeProxyOptions")
        .status()
        .prefix("minions")
        .fields(&["spec.unschedulable"])
        .columns([
            name(),
            text("Status", "The status of the node"),
            text("Roles", "The roles of the node"),
            age(),
            text("Version", "Kubelet Version reported by the node."),
            text("Internal-IP", "The node's address inside the cluster.").wide(),
            text("External-IP", "The node's address outside the cluster.").wide(),
            text("OS-Image", "The operating system the node reports.").wide(),
            text("Kernel-Version", "The kernel the node reports.").wide(),
            text("Container-Runtime", "The container runtime the node reports.").wide(),
        ])
        .strategy(Node)
        .build()
}

struct Node;

impl Strategy for Node {
    /// A node registers with what it has to offer.
    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn set_defaults(&self, object: &mut Object) {
        if object.get(&["status", "allocatable"]).is_none()
            && let Some(capacity) = object.get(&["status", "capacity"]).cloned()
        {
            object.set(&["status", "allocatable"], capacity);
        }
        // `podCIDR` is the first of `podCIDRs`; both are kept.
        let first = object.array(&["spec", "podCIDRs"]).first().cloned();
        let one = object.get(&["spec", "podCIDR"]).cloned();
        match (one, first) {
            (Some(one), None) => object.set(&["spec", "podCIDRs"], vec![one]),
            (None, Some(first)) => object.set(&["spec", "podCIDR"], first),
            _ => {}
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        taints(object, errors);
        resources(object, errors);
        let cidrs = spec.at("podCIDRs");
        let mut seen = BTreeSet::new();
        let (mut v4, mut v6) = (0, 0);
        for cidr in cidrs.items() {
            errors.faults(&cidr, address::cidr(cidr.str()));
            match address::parse_cidr(cidr.str()) {
                Some((ip, _)) if ip.is_ipv4() => v4 += 1,
                Some(_) => v6 += 1,
                None => {}
            }
            if !seen.insert(cidr.str().to_owned()) {
                errors.duplicate(&cidr);
            }
        }
        if v4 > 1 || v6 > 1 {
            errors.invalid(&cidrs, "may specify no more than one CIDR for each IP family");
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        taints(new, errors);
        resources(new, errors);
        if spec.at("externalID").str() != old_spec.at("externalID").str() {
            errors.forbidden(&spec.at("externalID"), "may not be updated");
        }
        for (field, text) in [
            (
                "podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ),
            (
                "providerID",
                "node updates may not change providerID except from \"\" to valid",
            ),
        ] {
            let (now, before) = (spec.at(field), old_spec.at(field));
            if !before.is_empty() && now.value() != before.value() {
                errors.forbidden(&now, text);
            }
        }
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        resources(new, errors);
        let status = new.at("status");
        let mut seen = BTreeSet::new();
        for entry in status.at("addresses").items() {
            let key = (entry.at("type").str().to_owned(), entry.at("address").str().to_owned());
            if !seen.insert(key) {
                errors.duplicate(&entry);
            }
        }
    }

    fn selectable_field(&self, object: &Object, path: &str) -> String {
        match path {
            "spec.unschedulable" => object.bool(&["spec", "unschedulable"]).unwrap_or_default().to_string(),
            _ => String::new(),
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let ready = match condition(object, "Ready") {
            None => "Unknown",
            Some(_) if has_condition(object, "Ready") => "Ready",
            Some(_) => "NotReady",
        };
        let status = if object.bool(&["spec", "unschedulable"]) == Some(true) {
            format!("{ready},SchedulingDisabled")
        } else {
            ready.to_owned()
        };
        let info = |field| str_or(object, &["status", "nodeInfo", field], "<unknown>");
        vec![
            object.name().into(),
            status.into(),
            roles(object).into(),
            age_of(object, now),
            str_of(object, &["status", "nodeInfo", "kubeletVersion"]),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    }
}

fn taints(node: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    let (metadata, spec) = (node.at("metadata"), node.at("spec"));
    // This is where upstream's messages have them.
    let all = metadata.said("taints");
    for (i, taint) in spec.at("taints").items().enumerate() {
        let place = all.index(i);
        let (key, value, effect) = (taint.at("key"), taint.at("value"), taint.at("effect"));
        names::label_name(&place.said("key"), key.str(), errors);
        let faults = names::label_value(value.str());
        if !faults.is_empty() {
            errors.invalid_value(&place.said("value"), &value.str().into(), faults.join(";"));
        }
        taint_effect(&place.said("effect"), effect.str(), errors);
        if !seen.insert((key.str().to_owned(), effect.str().to_owned())) {
            let shown = taint.value().cloned().unwrap_or_default();
            errors.duplicate_value(&place, &shown, "taints must be unique by key and effect pair");
        }
    }
}

/// What the node has and offers are amounts.
fn resources(node: &Cursor<'_>, errors: &mut ErrorList) {
    let status = node.at("status");
    for field in ["capacity", "allocatable"] {
        let list = status.at(field);
        for (name, amount) in list.entries() {
            // Upstream's path of a resource is that of a field.
            quantity_at(&list.said(name), name, &amount, errors);
        }
    }
}

/// Roles are labels: `node-role.kubernetes.io/<role>`, or `kubernetes.io/role=<role>`.
fn roles(node: &Object) -> String {
    let labels = node.get(&["metadata", "labels"]).and_then(Value::as_object);
    let roles: BTreeSet<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.into_iter().collect::<Vec<_>>().join(",")
    }
}

fn address<'a>(node: &'a Object, kind: &str) -> &'a str {
    node.array(&["status", "addresses"])
        .iter()
        .find(|a| a.get("type").and_then(Value::as_str) == Some(kind))
        .and_then(|a| a.get("address")?.as_str())
        .unwrap_or("<none>")
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_checked() {
        let valid = json!({
            "metadata": {"name": "n1"},
            "spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "x://1",
                "taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "4", "pods": "110"}},
        });
        assert_eq!(defaulted(&row(), valid.clone())["status"]["allocatable"]["pods"], "110");
        assert_eq!(defaulted(&row(), valid.clone())["spec"]["podCIDR"], "10.0.0.0/24");
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/taints/0/effect",
                    json!("X"),
                    "metadata.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \
                     \"PreferNoSchedule\", \"NoExecute\"",
                ),
                (
                    "/spec/taints/1",
                    json!({"key": "a", "effect": "NoSchedule"}),
                    "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be \
                     unique by key and effect pair",
                ),
                (
                    "/spec/podCIDRs/0",
                    json!("x"),
                    "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                     2001:db8::/64)",
                ),
                (
                    "/status/allocatable",
                    json!({"pods": "1500m"}),
                    "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[
                (
                    "/spec/podCIDRs",
                    json!(["10.1.0.0/24"]),
                    "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                ),
                (
                    "/spec/externalID",
                    json!("y"),
                    "spec.externalID: Forbidden: may not be updated",
                ),
                (
                    "/spec/providerID",
                    json!("y"),
                    "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                ),
            ],
        );
    }

    #[test]
    fn the_table_tells_status_roles_and_addresses() {
        let now = "2024-01-01T00:00:10Z".parse().unwrap();
        let mut node = Object::from_value(json!({
            "metadata": {
                "name": "n1", "creationTimestamp": "2024-01-01T00:00:00Z",
                "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge", "node-role.kubernetes.io/": ""},
            },
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Linux"},
            },
        }))
        .unwrap();
        assert_eq!(
            Value::from(Node.cells(&node, now)),
            json!([
                "n1",
                "Ready",
                "edge,worker",
                "10s",
                "v1.37.0",
                "10.0.0.1",
                "<none>",
                "Linux",
                "<unknown>",
                "<unknown>"
            ])
        );
        node.set(&["spec", "unschedulable"], true);
        node.set(
            &["status", "conditions"],
            json!([{"type": "Ready", "status": "Unknown"}]),
        );
        assert_eq!(Node.cells(&node, now)[1], "NotReady,SchedulingDisabled");
        assert_eq!(Node.selectable_field(&node, "spec.unschedulable"), "true");
    }
}
