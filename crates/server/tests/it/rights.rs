//! Who may do what.

use coracle_api::service::{ListOptions, Operation};
use serde_json::{Value, json};

use crate::harness::{Cluster, at, config_map, named, object, options, sub, user};

async fn grant(cluster: &Cluster, rules: Value, subject: Value) {
    let group = "rbac.authorization.k8s.io/v1";
    cluster
        .create(
            at(&format!("{group}/roles")),
            json!({"metadata": {"name": "r"}, "rules": rules}),
        )
        .await
        .unwrap();
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"});
    cluster
        .create(
            at(&format!("{group}/rolebindings")),
            json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]}),
        )
        .await
        .unwrap();
    // Rights follow the cache, which a consistent list waits for.
    cluster
        .list(at(&format!("{group}/rolebindings")), ListOptions::default())
        .await
        .unwrap();
}

fn bob() -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"})
}

fn get() -> Operation {
    Operation::Get {
        resource_version: String::new(),
    }
}

#[tokio::test]
async fn what_nothing_grants_is_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let refused = cluster
        .call_as(&user("bob", &[]), at("pods"), Operation::List(ListOptions::default()))
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.message,
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn a_role_grants_in_its_namespace_and_for_its_subject_only() {
    let cluster = Cluster::start().await;
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    grant(
        &cluster,
        json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]}]),
        bob(),
    )
    .await;
    let bob = user("bob", &[]);
    cluster.call_as(&bob, named("configmaps", "a"), get()).await.unwrap();
    let mut elsewhere = at("configmaps");
    elsewhere.namespace = "kube-system".into();
    assert_eq!(
        cluster
            .call_as(&bob, elsewhere, Operation::List(ListOptions::default()))
            .await
            .err()
            .unwrap()
            .code,
        403
    );
    let namesake = user("eve", &["bob"]);
    assert_eq!(
        cluster
            .call_as(&namesake, named("configmaps", "a"), get())
            .await
            .err()
            .unwrap()
            .code,
        403
    );
}

#[tokio::test]
async fn a_named_right_is_for_that_name_and_a_subresource_needs_its_own() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        cluster
            .create(at("serviceaccounts"), json!({"metadata": {"name": name}}))
            .await
            .unwrap();
    }
    let rules = json!([
        {"verbs": ["get", "create"], "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["a"]},
    ]);
    grant(&cluster, rules, bob()).await;
    let bob = user("bob", &[]);
    cluster
        .call_as(&bob, named("serviceaccounts", "a"), get())
        .await
        .unwrap();
    assert_eq!(
        cluster
            .call_as(&bob, named("serviceaccounts", "b"), get())
            .await
            .err()
            .unwrap()
            .code,
        403
    );
    let list = Operation::List(ListOptions::default());
    assert_eq!(
        cluster
            .call_as(&bob, at("serviceaccounts"), list)
            .await
            .err()
            .unwrap()
            .code,
        403
    );
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let token = Operation::Create {
        object: object(request),
        options: options(),
    };
    let refused = cluster
        .call_as(&bob, sub("serviceaccounts", "a", "token"), token)
        .await
        .err()
        .unwrap();
    assert!(refused.message.contains("serviceaccounts/token"), "{}", refused.message);
}

#[tokio::test]
async fn everybody_who_is_somebody_may_ask_who_they_are_and_what_they_may() {
    let cluster = Cluster::start().await;
    let bob = user("bob", &["system:authenticated"]);
    let ask = |spec: Value| Operation::Create {
        object: object(json!({"spec": spec})),
        options: options(),
    };
    let spec = json!({"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}});
    let target = at("/authorization.k8s.io/v1/selfsubjectaccessreviews");
    let coracle_api::service::Answer::Object { object: answer, .. } =
        cluster.call_as(&bob, target, ask(spec)).await.unwrap()
    else {
        panic!("no object")
    };
    assert_eq!(answer.to_object().bool(&["status", "allowed"]), Some(false));
}

#[tokio::test]
async fn the_components_have_the_rights_that_their_work_needs() {
    let cluster = Cluster::start().await;
    let list = || Operation::List(ListOptions::default());
    let scheduler = user("system:kube-scheduler", &["system:authenticated"]);
    cluster.call_as(&scheduler, at("/pods"), list()).await.unwrap();
    assert_eq!(
        cluster
            .call_as(&scheduler, at("/secrets"), list())
            .await
            .err()
            .unwrap()
            .code,
        403
    );
    let controllers = user("system:kube-controller-manager", &["system:authenticated"]);
    cluster
        .call_as(&controllers, at("/apps/v1/deployments"), list())
        .await
        .unwrap();
    let write = Operation::Create {
        object: object(config_map("x")),
        options: options(),
    };
    assert_eq!(
        cluster
            .call_as(&controllers, at("configmaps"), write)
            .await
            .err()
            .unwrap()
            .code,
        403
    );
    let node = user("system:node:n", &["system:nodes", "system:authenticated"]);
    let own = Operation::List(ListOptions {
        field_selector: "spec.nodeName=n".into(),
        ..ListOptions::default()
    });
    cluster.call_as(&node, at("/pods"), own).await.unwrap();
}
