//! What agents of nodes may do. One line a rule.

use serde_json::Value;

use super::{READ, UPDATE, events, rule};

/// What agents may do; where objects belong to pods, the node authorizer says which.
pub(crate) fn node_rules() -> Vec<Value> {
    let mut node = events();
    node.extend([
        rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
        rule(
            &["create"],
            "authorization.k8s.io",
            &["localsubjectaccessreviews", "subjectaccessreviews"],
        ),
        rule(READ, "", &["services"]),
        rule(&["create", "get", "list", "watch"], "", &["nodes"]),
        rule(UPDATE, "", &["nodes", "nodes/status"]),
        rule(READ, "", &["pods"]),
        rule(&["create", "delete"], "", &["pods"]),
        rule(UPDATE, "", &["pods/status"]),
        rule(&["create"], "", &["pods/eviction"]),
        rule(READ, "", &["configmaps", "secrets"]),
        rule(&["get"], "", &["persistentvolumeclaims", "persistentvolumes"]),
        rule(&["get"], "", &["endpoints"]),
        rule(
            &["create", "get", "list", "watch"],
            "certificates.k8s.io",
            &["certificatesigningrequests", "podcertificaterequests"],
        ),
        rule(READ, "certificates.k8s.io", &["clustertrustbundles"]),
        rule(
            &["create", "delete", "get", "patch", "update"],
            "coordination.k8s.io",
            &["leases"],
        ),
        rule(READ, "storage.k8s.io", &["csidrivers", "volumeattachments"]),
        rule(
            &["create", "delete", "get", "patch", "update"],
            "storage.k8s.io",
            &["csinodes"],
        ),
        rule(&["create"], "", &["serviceaccounts/token"]),
        rule(READ, "node.k8s.io", &["runtimeclasses"]),
        rule(READ, "", &["namespaces"]),
        rule(READ, "discovery.k8s.io", &["endpointslices"]),
        rule(READ, "networking.k8s.io", &["networkpolicies", "servicecidrs"]),
        rule(&["get"], "resource.k8s.io", &["resourceclaims"]),
        rule(
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
            "resource.k8s.io",
            &["resourceslices"],
        ),
    ]);
    node
}
