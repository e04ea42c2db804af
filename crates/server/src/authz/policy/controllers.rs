//! The rights of the controllers' service accounts: a table, one role for each, no more than it needs.

use serde_json::{Value, json};

use super::{ANY, READ, READ_UPDATE, UPDATE, account, bind, cluster_role, events, named, rule};

const APPLY: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const FINALIZE: &[&str] = &["update"];

/// One role and one binding for each controller: the role's name (upstream's), the account's, the rules.
pub(super) fn objects() -> Vec<Value> {
    let pods = || rule(&["create", "delete", "list", "patch", "watch"], "", &["pods"]);
    let replicas = |group: &str, resource: &str| {
        vec![
            rule(READ_UPDATE, group, &[resource]),
            rule(UPDATE, group, &[&format!("{resource}/status")]),
            rule(FINALIZE, group, &[&format!("{resource}/finalizers")]),
            pods(),
        ]
    };
    let all = vec![
        (
            "deployment-controller",
            "deployment-controller",
            vec![
                rule(READ_UPDATE, "apps", &["deployments"]),
                rule(UPDATE, "apps", &["deployments/status"]),
                rule(FINALIZE, "apps", &["deployments/finalizers"]),
                rule(APPLY, "apps", &["replicasets"]),
                rule(&["get", "list", "update", "watch"], "", &["pods"]),
            ],
        ),
        (
            "replicaset-controller",
            "replicaset-controller",
            replicas("apps", "replicasets"),
        ),
        (
            "replication-controller",
            "replication-controller",
            replicas("", "replicationcontrollers"),
        ),
        (
            "daemon-set-controller",
            "daemon-set-controller",
            vec![
                rule(&["get", "list", "watch"], "apps", &["daemonsets"]),
                rule(UPDATE, "apps", &["daemonsets/status"]),
                rule(FINALIZE, "apps", &["daemonsets/finalizers"]),
                rule(&["list", "watch"], "", &["nodes"]),
                rule(&["create", "delete", "list", "patch", "watch"], "", &["pods"]),
                rule(&["create"], "", &["pods/binding"]),
                rule(APPLY, "apps", &["controllerrevisions"]),
            ],
        ),
        (
            "statefulset-controller",
            "statefulset-controller",
            vec![
                rule(&["list", "watch"], "", &["pods"]),
                rule(&["get", "list", "watch"], "apps", &["statefulsets"]),
                rule(UPDATE, "apps", &["statefulsets/status"]),
                rule(FINALIZE, "apps", &["statefulsets/finalizers"]),
                rule(&["create", "delete", "get", "patch", "update"], "", &["pods"]),
                rule(APPLY, "apps", &["controllerrevisions"]),
                rule(&["create", "get"], "", &["persistentvolumeclaims"]),
                // Owners are written to claims as the retention policy wants it.
                rule(
                    &["delete", "list", "patch", "update", "watch"],
                    "",
                    &["persistentvolumeclaims"],
                ),
            ],
        ),
        (
            "job-controller",
            "job-controller",
            vec![
                rule(READ_UPDATE, "batch", &["jobs"]),
                rule(UPDATE, "batch", &["jobs/status"]),
                rule(FINALIZE, "batch", &["jobs/finalizers"]),
                pods(),
            ],
        ),
        (
            "cronjob-controller",
            "cronjob-controller",
            vec![
                rule(&["get", "list", "update", "watch"], "batch", &["cronjobs"]),
                rule(APPLY, "batch", &["jobs"]),
                rule(UPDATE, "batch", &["cronjobs/status"]),
                rule(FINALIZE, "batch", &["cronjobs/finalizers"]),
                rule(&["delete", "list"], "", &["pods"]),
            ],
        ),
        (
            "ttl-after-finished-controller",
            "ttl-after-finished-controller",
            vec![rule(&["delete", "get", "list", "watch"], "batch", &["jobs"])],
        ),
        (
            "pod-garbage-collector",
            "pod-garbage-collector-controller",
            vec![
                rule(&["delete", "list", "watch"], "", &["pods"]),
                rule(&["patch"], "", &["pods/status"]),
                rule(&["get", "list"], "", &["nodes"]),
            ],
        ),
        (
            "generic-garbage-collector",
            "generic-garbage-collector-controller",
            vec![rule(&["delete", "get", "list", "patch", "update", "watch"], "*", ANY)],
        ),
        (
            "namespace-controller",
            "namespace-controller",
            vec![
                rule(&["delete", "get", "list", "watch"], "", &["namespaces"]),
                rule(&["update"], "", &["namespaces/finalize", "namespaces/status"]),
                rule(&["delete", "deletecollection", "get", "list"], "*", ANY),
            ],
        ),
        (
            "disruption-controller",
            "disruption-controller",
            vec![
                rule(READ, "apps", &["deployments", "replicasets", "statefulsets"]),
                rule(READ, "", &["replicationcontrollers", "pods"]),
                rule(READ, "policy", &["poddisruptionbudgets"]),
                rule(&["update"], "policy", &["poddisruptionbudgets/status"]),
                rule(UPDATE, "", &["pods/status"]),
                rule(&["get"], "*", &["*/scale"]),
            ],
        ),
        (
            "endpoint-controller",
            "endpoint-controller",
            vec![
                rule(READ, "", &["pods", "services"]),
                rule(&["create", "delete", "get", "list", "update"], "", &["endpoints"]),
                rule(&["create"], "", &["endpoints/restricted"]),
            ],
        ),
        (
            "endpointslice-controller",
            "endpointslice-controller",
            vec![
                rule(READ, "", &["nodes", "pods", "services"]),
                rule(FINALIZE, "", &["services/finalizers"]),
                rule(
                    &["create", "delete", "get", "list", "update"],
                    "discovery.k8s.io",
                    &["endpointslices"],
                ),
            ],
        ),
        (
            "endpointslicemirroring-controller",
            "endpointslicemirroring-controller",
            vec![
                rule(READ, "", &["endpoints", "services"]),
                rule(FINALIZE, "", &["endpoints/finalizers", "services/finalizers"]),
                rule(
                    &["create", "delete", "get", "list", "update"],
                    "discovery.k8s.io",
                    &["endpointslices"],
                ),
            ],
        ),
        (
            "horizontal-pod-autoscaler",
            "horizontal-pod-autoscaler-controller",
            vec![
                rule(READ, "autoscaling", &["horizontalpodautoscalers"]),
                rule(&["update"], "autoscaling", &["horizontalpodautoscalers/status"]),
                rule(&["get", "update"], "*", &["*/scale"]),
                rule(&["list"], "", &["pods"]),
                rule(&["list"], "metrics.k8s.io", &["pods"]),
                rule(&["get", "list"], "custom.metrics.k8s.io", ANY),
                rule(&["get", "list"], "external.metrics.k8s.io", ANY),
            ],
        ),
        (
            "node-controller",
            "node-controller",
            vec![
                rule(&["delete", "get", "list", "patch", "update"], "", &["nodes"]),
                rule(UPDATE, "", &["nodes/status", "pods/status"]),
                rule(&["delete", "get", "list"], "", &["pods"]),
            ],
        ),
        (
            "resourcequota-controller",
            "resourcequota-controller",
            vec![
                rule(&["list", "watch"], "*", ANY),
                rule(&["update"], "", &["resourcequotas/status"]),
            ],
        ),
        (
            "root-ca-cert-publisher",
            "root-ca-cert-publisher-controller",
            vec![rule(&["create", "get", "patch", "update"], "", &["configmaps"])],
        ),
        (
            "service-account-controller",
            "service-account-controller",
            vec![rule(&["create"], "", &["serviceaccounts"])],
        ),
    ];
    let mut objects = Vec::new();
    for (name, user, mut rules) in all.into_iter().chain(volumes()).chain(identities()) {
        let name = format!("system:controller:{name}");
        rules.extend(events());
        objects.push(cluster_role(&name, rules));
        let mut binding = bind(&name, &name, &[]);
        binding["subjects"] = json!([account(user)]);
        objects.push(binding);
    }
    objects
}

type Rights = (&'static str, &'static str, Vec<Value>);

/// Controllers of storage.
fn volumes() -> Vec<Rights> {
    vec![
        (
            "persistent-volume-binder",
            "persistent-volume-binder",
            vec![
                rule(
                    &["create", "delete", "get", "list", "patch", "update", "watch"],
                    "",
                    &["persistentvolumes"],
                ),
                rule(READ_UPDATE, "", &["persistentvolumeclaims"]),
                rule(
                    UPDATE,
                    "",
                    &["persistentvolumeclaims/status", "persistentvolumes/status"],
                ),
                rule(READ, "", &["nodes", "pods"]),
                rule(READ, "storage.k8s.io", &["storageclasses"]),
            ],
        ),
        (
            "pvc-protection-controller",
            "pvc-protection-controller",
            vec![
                rule(READ_UPDATE, "", &["persistentvolumeclaims"]),
                rule(READ, "", &["pods"]),
            ],
        ),
        (
            "pv-protection-controller",
            "pv-protection-controller",
            vec![rule(READ_UPDATE, "", &["persistentvolumes"])],
        ),
        (
            "ephemeral-volume-controller",
            "ephemeral-volume-controller",
            vec![
                rule(READ, "", &["pods"]),
                rule(FINALIZE, "", &["pods/finalizers"]),
                rule(&["create", "get", "list", "watch"], "", &["persistentvolumeclaims"]),
            ],
        ),
        (
            "local-path-provisioner",
            "local-path-provisioner-controller",
            vec![
                rule(
                    &["create", "delete", "get", "list", "patch", "watch"],
                    "",
                    &["persistentvolumes"],
                ),
                rule(&["get", "list", "patch", "watch"], "", &["persistentvolumeclaims"]),
                rule(&["patch"], "", &["persistentvolumeclaims/status"]),
                rule(READ, "", &["nodes"]),
                rule(READ, "storage.k8s.io", &["storageclasses"]),
            ],
        ),
    ]
}

/// Controllers of certificates, tokens and roles.
fn identities() -> Vec<Rights> {
    let signers = [
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/legacy-unknown",
    ];
    let group = "certificates.k8s.io";
    vec![
        (
            "certificate-controller",
            "certificate-controller",
            vec![
                rule(
                    &["delete", "get", "list", "watch"],
                    group,
                    &["certificatesigningrequests"],
                ),
                rule(
                    &["update"],
                    group,
                    &[
                        "certificatesigningrequests/approval",
                        "certificatesigningrequests/status",
                    ],
                ),
                named(&["approve"], group, &["signers"], &signers[1..2]),
                named(&["sign"], group, &["signers"], &signers),
                rule(&["create"], "authorization.k8s.io", &["subjectaccessreviews"]),
            ],
        ),
        (
            "clusterrole-aggregation-controller",
            "clusterrole-aggregation-controller",
            vec![rule(
                &["escalate", "get", "list", "patch", "update", "watch"],
                super::RBAC,
                &["clusterroles"],
            )],
        ),
        (
            "legacy-service-account-token-cleaner",
            "legacy-service-account-token-cleaner",
            vec![
                named(
                    &["get"],
                    "",
                    &["configmaps"],
                    &["kube-apiserver-legacy-service-account-token-tracking"],
                ),
                rule(&["delete", "patch"], "", &["secrets"]),
            ],
        ),
    ]
}
