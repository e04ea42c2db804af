//! The roles and bindings that every cluster has, by upstream's names and with upstream's rights: here is how they are
//! written, and below, one file for each whom they are for.

mod components;
mod controllers;
mod everybody;
mod namespaces;
mod node;
mod people;

use serde_json::{Value, json};

pub(crate) use node::node_rules;

pub(crate) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const RBAC: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_UPDATE: &[&str] = &["get", "list", "patch", "update", "watch"];
const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const ANY: &[&str] = &["*"];
const UPDATE: &[&str] = &["patch", "update"];
const EVENTS: &[&str] = &["create", "patch", "update"];

/// A rule about resources of one group.
fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

fn named(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names})
}

fn paths(paths: &[&str]) -> Value {
    json!({"verbs": ["get"], "nonResourceURLs": paths})
}

fn events() -> Vec<Value> {
    vec![
        rule(EVENTS, "", &["events"]),
        rule(EVENTS, "events.k8s.io", &["events"]),
    ]
}

fn metadata(name: &str, labels: Value) -> Value {
    let mut all = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    if let (Value::Object(all), Value::Object(more)) = (&mut all, labels) {
        all.extend(more);
    }
    json!({"name": name, "labels": all, "annotations": {AUTOUPDATE: "true"}})
}

fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(name, json!({})),
        "rules": rules,
    })
}

/// A role whose rules others take over by its label.
fn aggregated_into(name: &str, into: &str, rules: Vec<Value>) -> Value {
    let mut role = cluster_role(name, rules);
    role["metadata"] = metadata(name, json!({format!("{AGGREGATE}{into}"): "true"}));
    role
}

/// A role that is the sum of those with its label. The controller keeps it so; it begins with what they are now.
fn sum(name: &str, rules: Vec<Value>, also: Option<&str>) -> Value {
    let mut role = cluster_role(name, rules);
    role["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{name}"): "true"}}]});
    if let Some(into) = also {
        role["metadata"] = metadata(name, json!({format!("{AGGREGATE}{into}"): "true"}));
    }
    role
}

fn bind(name: &str, role: &str, subjects: &[(&str, &str)]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| json!({"apiGroup": RBAC, "kind": kind, "name": name}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata(name, json!({})),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

fn role(namespace: &str, name: &str, rules: Vec<Value>) -> Value {
    let mut role = cluster_role(name, rules);
    role["kind"] = "Role".into();
    role["metadata"]["namespace"] = namespace.into();
    role
}

fn bind_in(namespace: &str, name: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut binding = bind(name, role, &[]);
    binding["kind"] = "RoleBinding".into();
    binding["metadata"]["namespace"] = namespace.into();
    binding["roleRef"]["kind"] = "Role".into();
    binding["subjects"] = subjects.into();
    binding
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": name})
}

fn user(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "User", "name": name})
}

/// All of them.
pub(crate) fn objects() -> Vec<Value> {
    let mut all = people::for_people();
    all.extend(everybody::for_everybody());
    all.extend(components::for_components());
    all.extend(controllers::objects());
    all.extend(components::for_extensions());
    all.extend(namespaces::in_namespaces());
    all
}
