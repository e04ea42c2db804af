//! Node: a machine that runs pods.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, has_condition, name, str_of, str_or, text};
use super::row::{PROXY, cluster};
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
    use super::*;
    use serde_json::json;

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
