//! The roles and bindings that every cluster has, by upstream's names and with upstream's rights. This file is long
//! because it is a table: one line a rule, nothing else.

mod controllers;

use serde_json::{Value, json};

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
    let mut all = for_people();
    all.extend(for_everybody());
    all.extend(for_components());
    all.extend(controllers::objects());
    all.extend(for_extensions());
    all.extend(in_namespaces());
    all
}

/// cluster-admin, admin, edit, view.
fn for_people() -> Vec<Value> {
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
        bind("cluster-admin", "cluster-admin", &[("Group", super::SUPERUSERS)]),
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

fn for_everybody() -> Vec<Value> {
    vec![
        cluster_role(
            "system:basic-user",
            vec![
                rule(
                    &["create"],
                    "authorization.k8s.io",
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                ),
                rule(&["create"], "authentication.k8s.io", &["selfsubjectreviews"]),
            ],
        ),
        cluster_role(
            "system:discovery",
            vec![paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ])],
        ),
        cluster_role(
            "system:public-info-viewer",
            vec![paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"])],
        ),
        cluster_role(
            "system:service-account-issuer-discovery",
            vec![paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ])],
        ),
        cluster_role(
            "system:monitoring",
            vec![paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        bind(
            "system:basic-user",
            "system:basic-user",
            &[("Group", "system:authenticated")],
        ),
        bind(
            "system:discovery",
            "system:discovery",
            &[("Group", "system:authenticated")],
        ),
        bind(
            "system:public-info-viewer",
            "system:public-info-viewer",
            &[("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
        ),
        bind(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            &[("Group", "system:serviceaccounts")],
        ),
        bind(
            "system:monitoring",
            "system:monitoring",
            &[("Group", "system:monitoring")],
        ),
    ]
}

/// The control plane's own, and nodes.
fn for_components() -> Vec<Value> {
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
            &["certificatesigningrequests"],
        ),
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

fn for_extensions() -> Vec<Value> {
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

/// Roles that hold in kube-system and kube-public only.
fn in_namespaces() -> Vec<Value> {
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
