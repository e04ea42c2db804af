//! Roles that hold in kube-system and kube-public only. One line a rule.

use serde_json::Value;

use super::{READ, UPDATE, account, bind_in, events, named, role, rule, user};

/// Roles that hold in kube-system and kube-public only.
pub(super) fn in_namespaces() -> Vec<Value> {
    let leader = |name: &str| {
        vec![
            rule(&["watch"], "", &["configmaps"]),
            named(&["get", "update"], "", &["configmaps"], &[name]),
            rule(&["create", "get", "update"], "coordination.k8s.io", &["leases"]),
        ]
    };
    vec![
        role(
            "kube-system",
            "extension-apiserver-authentication-reader",
            vec![named(
                READ,
                "",
                &["configmaps"],
                &["extension-apiserver-authentication"],
            )],
        ),
        role(
            "kube-system",
            "system::leader-locking-kube-controller-manager",
            leader("kube-controller-manager"),
        ),
        role(
            "kube-system",
            "system::leader-locking-kube-scheduler",
            leader("kube-scheduler"),
        ),
        role(
            "kube-system",
            "system:controller:bootstrap-signer",
            vec![rule(READ, "", &["secrets"])],
        ),
        role("kube-system", "system:controller:token-cleaner", {
            let mut rules = events();
            rules.push(rule(&["delete", "get", "list", "watch"], "", &["secrets"]));
            rules
        }),
        role(
            "kube-system",
            "system:controller:cloud-provider",
            vec![rule(
                &["create", "get", "list", "patch", "update", "watch"],
                "",
                &["configmaps"],
            )],
        ),
        role(
            "kube-public",
            "system:controller:bootstrap-signer",
            vec![
                rule(READ, "", &["configmaps"]),
                named(UPDATE, "", &["configmaps"], &["cluster-info"]),
            ],
        ),
        bind_in(
            "kube-system",
            "system::extension-apiserver-authentication-reader",
            "extension-apiserver-authentication-reader",
            vec![user("system:kube-controller-manager"), user("system:kube-scheduler")],
        ),
        bind_in(
            "kube-system",
            "system::leader-locking-kube-controller-manager",
            "system::leader-locking-kube-controller-manager",
            vec![
                user("system:kube-controller-manager"),
                account("kube-controller-manager"),
            ],
        ),
        bind_in(
            "kube-system",
            "system::leader-locking-kube-scheduler",
            "system::leader-locking-kube-scheduler",
            vec![user("system:kube-scheduler"), account("kube-scheduler")],
        ),
        bind_in(
            "kube-system",
            "system:controller:bootstrap-signer",
            "system:controller:bootstrap-signer",
            vec![account("bootstrap-signer")],
        ),
        bind_in(
            "kube-system",
            "system:controller:token-cleaner",
            "system:controller:token-cleaner",
            vec![account("token-cleaner")],
        ),
        bind_in(
            "kube-system",
            "system:controller:cloud-provider",
            "system:controller:cloud-provider",
            vec![account("cloud-provider")],
        ),
        bind_in(
            "kube-public",
            "system:controller:bootstrap-signer",
            "system:controller:bootstrap-signer",
            vec![account("bootstrap-signer")],
        ),
    ]
}
