//! Roles for people: what they may do everywhere (cluster-admin) or in a namespace (admin, edit, view). One line a rule.

use serde_json::{Value, json};

use super::{AGGREGATE, ALL, ANY, RBAC, READ, WRITE, aggregated_into, bind, cluster_role, metadata, rule, sum};

/// cluster-admin, admin, edit, view.
pub(super) fn for_people() -> Vec<Value> {
    let view = vec![
        rule(
            READ,
            "",
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
            ],
        ),
        rule(
            READ,
            "",
            &[
                "bindings",
                "events",
                "limitranges",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
        ),
        rule(READ, "", &["namespaces"]),
        rule(READ, "discovery.k8s.io", &["endpointslices"]),
        rule(
            READ,
            "apps",
            &[
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
        ),
        rule(
            READ,
            "autoscaling",
            &["horizontalpodautoscalers", "horizontalpodautoscalers/status"],
        ),
        rule(READ, "batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
        rule(READ, "policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        rule(
            READ,
            "networking.k8s.io",
            &["ingresses", "ingresses/status", "networkpolicies"],
        ),
        rule(
            READ,
            "resource.k8s.io",
            &["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"],
        ),
    ];
    let edit = vec![
        rule(
            READ,
            "",
            &[
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
                "secrets",
                "services/proxy",
            ],
        ),
        rule(&["impersonate"], "", &["serviceaccounts"]),
        rule(
            WRITE,
            "",
            &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"],
        ),
        rule(&["create"], "", &["pods/eviction"]),
        rule(
            WRITE,
            "",
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
        ),
        rule(&["create"], "", &["serviceaccounts/token"]),
        rule(
            WRITE,
            "apps",
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
        ),
        rule(WRITE, "autoscaling", &["horizontalpodautoscalers"]),
        rule(WRITE, "batch", &["cronjobs", "jobs"]),
        rule(WRITE, "policy", &["poddisruptionbudgets"]),
        rule(WRITE, "networking.k8s.io", &["ingresses", "networkpolicies"]),
        rule(ALL, "coordination.k8s.io", &["leases"]),
        rule(WRITE, "resource.k8s.io", &["resourceclaims", "resourceclaimtemplates"]),
    ];
    let admin = vec![
        rule(&["create"], "authorization.k8s.io", &["localsubjectaccessreviews"]),
        rule(ALL, RBAC, &["rolebindings", "roles"]),
    ];
    let metrics = vec![rule(READ, "metrics.k8s.io", &["pods", "nodes"])];
    let join = |lists: &[&Vec<Value>]| lists.iter().flat_map(|l| l.iter().cloned()).collect::<Vec<Value>>();
    vec![
        cluster_role(
            "cluster-admin",
            vec![
                rule(ANY, "*", &["*"]),
                json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
            ],
        ),
        sum("admin", join(&[&admin, &edit, &view, &metrics]), None),
        sum("edit", join(&[&edit, &view, &metrics]), Some("admin")),
        sum("view", join(&[&view, &metrics]), Some("edit")),
        aggregated_into("system:aggregate-to-admin", "admin", admin),
        aggregated_into("system:aggregate-to-edit", "edit", edit),
        aggregated_into("system:aggregate-to-view", "view", view),
        metrics_reader(),
        bind("cluster-admin", "cluster-admin", &[("Group", crate::authz::SUPERUSERS)]),
    ]
}

/// Who may view may see what is used: the role that comes with metrics-server.
fn metrics_reader() -> Value {
    let mut role = cluster_role(
        "system:aggregated-metrics-reader",
        vec![rule(READ, "metrics.k8s.io", &["pods", "nodes"])],
    );
    let into = |name: &str| (format!("{AGGREGATE}{name}"), Value::from("true"));
    role["metadata"] = metadata(
        "system:aggregated-metrics-reader",
        Value::Object(["admin", "edit", "view"].map(into).into_iter().collect()),
    );
    role
}
