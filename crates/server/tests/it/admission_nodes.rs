//! What the agent of a node may read and write: authorization and admission together.

use coracle_api::service::{ListOptions, Operation, UserInfo};
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::admission_pods::pod;
use crate::harness::{Cluster, at, named, object, options, sub, user};

fn agent(node: &str) -> UserInfo {
    user(
        &format!("system:node:{node}"),
        &["system:nodes", "system:authenticated"],
    )
}

/// Two nodes with a pod each, which refers to objects of its name.
async fn cluster() -> Cluster {
    let cluster = crate::admission_pods::with_account().await;
    for name in ["a", "b"] {
        cluster
            .create(at("/nodes"), json!({"metadata": {"name": name}}))
            .await
            .unwrap();
        let kept = |data: Value| json!({"metadata": {"name": name}, "data": data});
        cluster.create(at("secrets"), kept(json!({"k": "dg=="}))).await.unwrap();
        cluster.create(at("configmaps"), kept(json!({"k": "v"}))).await.unwrap();
        cluster
            .create(at("serviceaccounts"), json!({"metadata": {"name": name}}))
            .await
            .unwrap();
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = name.into();
        pod["spec"]["serviceAccountName"] = name.into();
        pod["spec"]["imagePullSecrets"] = json!([{"name": name}]);
        pod["spec"]["volumes"] = json!([{"name": "m", "configMap": {"name": name}}]);
        cluster.create(at("pods"), pod).await.unwrap();
    }
    // Rights follow the cache, which a consistent list waits for.
    cluster.list(at("pods"), ListOptions::default()).await.unwrap();
    cluster
}

fn get() -> Operation {
    Operation::Get {
        resource_version: String::new(),
    }
}

fn list(fields: &str) -> Operation {
    Operation::List(ListOptions {
        field_selector: fields.into(),
        ..ListOptions::default()
    })
}

fn create(value: Value) -> Operation {
    Operation::Create {
        object: object(value),
        options: options(),
    }
}

async fn refused(cluster: &Cluster, target: coracle_api::service::Target, operation: Operation) -> Status {
    let status = cluster.call_as(&agent("a"), target, operation).await.err();
    let status = status.expect("it was allowed");
    assert_eq!(status.code, 403, "{}", status.message);
    status
}

#[tokio::test]
async fn an_agent_reads_what_its_pods_refer_to_and_nothing_of_others() {
    let cluster = cluster().await;
    let a = agent("a");
    for kind in ["secrets", "configmaps", "pods", "serviceaccounts"] {
        cluster
            .call_as(&a, named(kind, "a"), get())
            .await
            .unwrap_or_else(|e| panic!("{kind}: {e}"));
        let status = refused(&cluster, named(kind, "b"), get()).await;
        assert!(
            status
                .message
                .ends_with("no relationship found between node 'a' and this object"),
            "{}",
            status.message
        );
    }
    cluster.call_as(&a, named("/nodes", "a"), get()).await.unwrap();
    refused(&cluster, named("/nodes", "b"), get()).await;
    cluster.call_as(&a, at("/pods"), list("spec.nodeName=a")).await.unwrap();
    cluster
        .call_as(&a, at("secrets"), list("metadata.name=a"))
        .await
        .unwrap();
    for (target, fields) in [
        (at("/pods"), ""),
        (at("/pods"), "spec.nodeName=b"),
        (at("/pods"), "spec.nodeName!=a"),
        (at("secrets"), ""),
        (at("secrets"), "metadata.name=b"),
        (at("/secrets"), "metadata.name=a"),
        (at("/nodes"), ""),
    ] {
        refused(&cluster, target, list(fields)).await;
    }
    cluster.call_as(&a, at("/services"), list("")).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_goes_takes_its_nodes_rights_with_it() {
    let cluster = cluster().await;
    let now = coracle_api::service::DeleteOptions {
        grace_period_seconds: Some(0),
        ..Default::default()
    };
    cluster.delete(named("pods", "a"), now).await.unwrap();
    cluster.list(at("pods"), ListOptions::default()).await.unwrap();
    refused(&cluster, named("secrets", "a"), get()).await;
}

#[tokio::test]
async fn an_agent_asks_for_tokens_of_its_pods_only() {
    let cluster = cluster().await;
    let request = |pod: &str, uid: &str| {
        create(json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}},
        }))
    };
    let uid = cluster.get(named("pods", "a")).await.unwrap().uid().to_owned();
    cluster
        .call_as(&agent("a"), sub("serviceaccounts", "a", "token"), request("a", &uid))
        .await
        .unwrap();
    let status = refused(&cluster, sub("serviceaccounts", "a", "token"), request("a", "")).await;
    assert!(
        status.message.ends_with("a pod binding without a uid"),
        "{}",
        status.message
    );
    refused(&cluster, sub("serviceaccounts", "b", "token"), request("b", &uid)).await;
    let unbound = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let status = refused(&cluster, sub("serviceaccounts", "a", "token"), create(unbound)).await;
    assert!(
        status.message.ends_with("node requested token not bound to a pod"),
        "{}",
        status.message
    );
}

#[tokio::test]
async fn an_agent_writes_its_own_node_and_lease() {
    let cluster = cluster().await;
    let a = agent("a");
    let lease = |name: &str| create(json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}}));
    let leases = || {
        let mut target = at("coordination.k8s.io/v1/leases");
        target.namespace = "kube-node-lease".into();
        target
    };
    cluster.call_as(&a, leases(), lease("a")).await.unwrap();
    refused(&cluster, leases(), lease("b")).await;
    let mut tainted = cluster.get(named("/nodes", "a")).await.unwrap();
    tainted.remove(&["spec", "taints"]);
    let update = |object| Operation::Update {
        object,
        options: options(),
    };
    let status = refused(&cluster, named("/nodes", "a"), update(tainted)).await;
    assert_eq!(
        status.message,
        "nodes \"a\" is forbidden: node \"a\" is not allowed to modify taints"
    );
    let mut labelled = cluster.get(named("/nodes", "a")).await.unwrap();
    labelled.set(&["metadata", "labels", "node-role.kubernetes.io/control-plane"], "");
    let status = refused(&cluster, named("/nodes", "a"), update(labelled)).await;
    assert!(
        status
            .message
            .ends_with("is not allowed to modify labels: node-role.kubernetes.io/control-plane"),
        "{}",
        status.message
    );
}

#[tokio::test]
async fn an_agent_mirrors_and_evicts_the_pods_of_its_node() {
    let cluster = cluster().await;
    let status = refused(&cluster, at("pods"), create(pod("x"))).await;
    assert!(
        status.message.contains("can only create mirror pods"),
        "{}",
        status.message
    );
    let uid = cluster.get(named("/nodes", "a")).await.unwrap().uid().to_owned();
    let mirror = |owner: &str| {
        create(json!({
            "metadata": {
                "name": "m",
                "annotations": {"kubernetes.io/config.mirror": "x"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "a", "uid": owner, "controller": true},
                ],
            },
            "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "i"}]},
        }))
    };
    let status = refused(&cluster, at("pods"), mirror("other")).await;
    assert!(status.message.contains("UID mismatch"), "{}", status.message);
    cluster.call_as(&agent("a"), at("pods"), mirror(&uid)).await.unwrap();
    let evict = |name: &str| create(json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}));
    refused(&cluster, sub("pods", "b", "eviction"), evict("b")).await;
    cluster
        .call_as(&agent("a"), sub("pods", "a", "eviction"), evict("a"))
        .await
        .unwrap();
}
