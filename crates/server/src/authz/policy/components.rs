//! The control plane's own roles, and those that others are given by its side. One line a rule.

use serde_json::Value;

use super::node::node_rules;
use super::{ANY, READ, READ_UPDATE, UPDATE, bind, cluster_role, events, named, rule};

/// The control plane's own, and nodes.
pub(super) fn for_components() -> Vec<Value> {
    let mut scheduler = events();
    scheduler.extend([
        rule(
            &["create", "get", "list", "update", "watch"],
            "coordination.k8s.io",
            &["leases"],
        ),
        rule(
            &["get", "list", "watch"],
            "",
            &[
                "namespaces",
                "nodes",
                "persistentvolumeclaims",
                "persistentvolumes",
                "replicationcontrollers",
                "services",
            ],
        ),
        rule(&["delete", "get", "list", "watch"], "", &["pods"]),
        rule(&["create"], "", &["bindings", "pods/binding"]),
        rule(UPDATE, "", &["pods/status"]),
        rule(UPDATE, "", &["persistentvolumeclaims", "persistentvolumes"]),
        rule(READ, "apps", &["replicasets", "statefulsets"]),
        rule(READ, "policy", &["poddisruptionbudgets"]),
        rule(READ, "scheduling.k8s.io", &["priorityclasses"]),
        rule(
            READ,
            "storage.k8s.io",
            &[
                "csidrivers",
                "csinodes",
                "csistoragecapacities",
                "storageclasses",
                "volumeattachments",
            ],
        ),
        rule(
            READ_UPDATE,
            "resource.k8s.io",
            &[
                "deviceclasses",
                "resourceclaims",
                "resourceclaims/status",
                "resourceslices",
            ],
        ),
        rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
        rule(&["create"], "authorization.k8s.io", &["subjectaccessreviews"]),
    ]);
    // The manager watches for all its controllers; what they write, each writes as its own service account.
    let mut controllers = events();
    controllers.extend([
        rule(&["create"], "coordination.k8s.io", &["leases"]),
        named(
            &["get", "update"],
            "coordination.k8s.io",
            &["leases"],
            &["kube-controller-manager"],
        ),
        rule(&["create"], "", &["secrets", "serviceaccounts"]),
        rule(&["delete"], "", &["secrets"]),
        rule(
            &["get"],
            "",
            &["configmaps", "namespaces", "secrets", "serviceaccounts"],
        ),
        rule(&["update"], "", &["secrets", "serviceaccounts"]),
        rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
        rule(&["create"], "authorization.k8s.io", &["subjectaccessreviews"]),
        rule(&["list", "watch"], "*", ANY),
        rule(&["create"], "", &["serviceaccounts/token"]),
    ]);
    // One user for all fake nodes of a process: what a node may do, for every node and the pods on them.
    let mut fake_node = events();
    fake_node.extend([
        rule(&["create", "get", "list", "patch", "watch"], "", &["nodes"]),
        rule(UPDATE, "", &["nodes/status"]),
        rule(&["delete", "get", "list", "watch"], "", &["pods"]),
        rule(UPDATE, "", &["pods/status"]),
        rule(
            &["create", "get", "patch", "update"],
            "coordination.k8s.io",
            &["leases"],
        ),
    ]);
    let mut proxier = events();
    proxier.extend([
        rule(&["list", "watch"], "", &["endpoints", "services"]),
        rule(READ, "", &["nodes"]),
        rule(&["list", "watch"], "discovery.k8s.io", &["endpointslices"]),
        rule(&["list", "watch"], "networking.k8s.io", &["servicecidrs"]),
    ]);
    let kubelet_admin = vec![
        rule(READ, "", &["nodes"]),
        rule(&["proxy"], "", &["nodes"]),
        rule(
            ANY,
            "",
            &[
                "nodes/configz",
                "nodes/healthz",
                "nodes/log",
                "nodes/metrics",
                "nodes/pods",
                "nodes/proxy",
                "nodes/stats",
            ],
        ),
    ];
    vec![
        cluster_role("system:kube-scheduler", scheduler),
        cluster_role("system:kube-controller-manager", controllers),
        cluster_role("system:node", node_rules()),
        cluster_role("system:node-proxier", proxier),
        cluster_role("system:coracle:fake-node", fake_node),
        cluster_role("system:kubelet-api-admin", kubelet_admin),
        // A node sees to the directories of its own node-local volumes; which they are is checked when it writes.
        cluster_role(
            "coracle:node-local-volumes",
            vec![rule(&["get", "list", "patch", "watch"], "", &["persistentvolumes"])],
        ),
        bind(
            "coracle:node-local-volumes",
            "coracle:node-local-volumes",
            &[("Group", "system:nodes")],
        ),
        cluster_role(
            "system:volume-scheduler",
            vec![
                rule(READ_UPDATE, "", &["persistentvolumes"]),
                rule(READ, "storage.k8s.io", &["storageclasses"]),
                rule(READ_UPDATE, "", &["persistentvolumeclaims"]),
            ],
        ),
        cluster_role(
            "system:kube-dns",
            vec![
                rule(&["list", "watch"], "", &["endpoints", "services"]),
                rule(&["list", "watch"], "discovery.k8s.io", &["endpointslices"]),
                rule(READ, "", &["namespaces", "pods"]),
            ],
        ),
        cluster_role(
            "system:node-bootstrapper",
            vec![rule(
                &["create", "get", "list", "watch"],
                "certificates.k8s.io",
                &["certificatesigningrequests"],
            )],
        ),
        cluster_role("system:node-problem-detector", {
            let mut rules = events();
            rules.push(rule(&["get"], "", &["nodes"]));
            rules.push(rule(&["patch"], "", &["nodes/status"]));
            rules
        }),
        cluster_role(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![rule(
                &["create"],
                "certificates.k8s.io",
                &["certificatesigningrequests/nodeclient"],
            )],
        ),
        cluster_role(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![rule(
                &["create"],
                "certificates.k8s.io",
                &["certificatesigningrequests/selfnodeclient"],
            )],
        ),
        cluster_role(
            "system:certificates.k8s.io:kube-apiserver-client-approver",
            vec![named(
                &["approve"],
                "certificates.k8s.io",
                &["signers"],
                &["kubernetes.io/kube-apiserver-client"],
            )],
        ),
        cluster_role(
            "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
            vec![named(
                &["approve"],
                "certificates.k8s.io",
                &["signers"],
                &["kubernetes.io/kube-apiserver-client-kubelet"],
            )],
        ),
        cluster_role(
            "system:certificates.k8s.io:kubelet-serving-approver",
            vec![named(
                &["approve"],
                "certificates.k8s.io",
                &["signers"],
                &["kubernetes.io/kubelet-serving"],
            )],
        ),
        cluster_role(
            "system:certificates.k8s.io:legacy-unknown-approver",
            vec![named(
                &["approve"],
                "certificates.k8s.io",
                &["signers"],
                &["kubernetes.io/legacy-unknown"],
            )],
        ),
        bind(
            "system:kube-scheduler",
            "system:kube-scheduler",
            &[("User", "system:kube-scheduler")],
        ),
        bind(
            "system:volume-scheduler",
            "system:volume-scheduler",
            &[("User", "system:kube-scheduler")],
        ),
        bind(
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            &[("User", "system:kube-controller-manager")],
        ),
        // Agents are allowed this, and no more than their own pods need, by the node authorizer.
        bind("system:node", "system:node", &[]),
        bind(
            "system:coracle:fake-node",
            "system:coracle:fake-node",
            &[("User", "system:coracle:fake-node")],
        ),
        bind(
            "system:node-proxier",
            "system:node-proxier",
            &[("User", "system:kube-proxy")],
        ),
    ]
}

pub(super) fn for_extensions() -> Vec<Value> {
    vec![
        cluster_role(
            "system:auth-delegator",
            vec![
                rule(&["create"], "authentication.k8s.io", &["tokenreviews"]),
                rule(&["create"], "authorization.k8s.io", &["subjectaccessreviews"]),
            ],
        ),
        cluster_role(
            "system:kube-aggregator",
            vec![rule(READ, "", &["endpoints", "services"])],
        ),
        cluster_role("system:persistent-volume-provisioner", {
            let mut rules = events();
            rules.extend([
                rule(
                    &["create", "delete", "get", "list", "watch"],
                    "",
                    &["persistentvolumes"],
                ),
                rule(&["get", "list", "update", "watch"], "", &["persistentvolumeclaims"]),
                rule(READ, "storage.k8s.io", &["storageclasses"]),
                rule(&["watch"], "", &["events"]),
            ]);
            rules
        }),
    ]
}
