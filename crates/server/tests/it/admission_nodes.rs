//! What the agent of a node may read and write: authorization and admission together.

use coracle_api::service::{Answer, ListOptions, Operation, UserInfo};
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

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn an_agent_asks_for_tokens_for_whom_the_pods_volumes_present_them_to() {
    let cluster = cluster().await;
    let driver = json!({"metadata": {"name": "d.example.com"}, "spec": {"tokenRequests": [{"audience": "driver"}]}});
    cluster
        .create(at("/storage.k8s.io/v1/csidrivers"), driver)
        .await
        .unwrap();
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "csi": {"driver": "d.example.com", "volumeHandle": "h"}}});
    cluster.create(at("/persistentvolumes"), volume).await.unwrap();
    let claim = json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.create(at("persistentvolumeclaims"), claim).await.unwrap();
    let token = json!({"serviceAccountToken": {"path": "t", "audience": "vault"}});
    for (name, volumes) in [
        ("plain", json!([])),
        ("projected", json!([{"name": "v", "projected": {"sources": [token]}}])),
        ("inline", json!([{"name": "v", "csi": {"driver": "d.example.com"}}])),
        (
            "claimed",
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
        ),
    ] {
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = "a".into();
        pod["spec"]["serviceAccountName"] = "a".into();
        pod["spec"]["volumes"] = volumes;
        cluster.create(at("pods"), pod).await.unwrap();
    }
    let ask = async |pod: &str, audiences: &[&str]| {
        let uid = cluster.get(named("pods", pod)).await.unwrap().uid().to_owned();
        let request = create(json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid},
            },
        }));
        let target = sub("serviceaccounts", "a", "token");
        cluster.call_as(&agent("a"), target, request).await.map(|_| ())
    };
    for (pod, audience) in [("projected", "vault"), ("inline", "driver"), ("claimed", "driver")] {
        ask(pod, &[audience]).await.unwrap_or_else(|e| panic!("{pod}: {e}"));
        ask(pod, &[]).await.unwrap_or_else(|e| panic!("{pod}: {e}"));
        let refused = ask("plain", &[audience]).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.message),
            (
                403,
                format!(
                    "serviceaccounts \"a\" is forbidden: audience {audience:?} not found in pod spec volume, \
                     system:node:a is not authorized to request tokens for this audience"
                )
            )
        );
    }
    let several = ask("projected", &["vault", "driver"]).await.unwrap_err();
    assert!(
        several.message.ends_with("node may only request 0 or 1 audiences"),
        "{several}"
    );
    // Pulling images with tokens takes audiences that no volume has.
    let rules = json!([{"verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""],
        "resources": ["vault"], "resourceNames": ["a"]}]);
    crate::admission_defaults::grant(&cluster, "system:node:a", rules).await;
    ask("plain", &["vault"]).await.unwrap();
}

#[tokio::test]
async fn an_agent_asks_for_certificates_of_its_own_node_only() {
    let cluster = cluster().await;
    let request = |signer: &str, name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        create(json!({"metadata": {"generateName": "r-"}, "spec": {
            "request": encoded(pem.as_bytes()), "signerName": signer, "usages": ["client auth"]}}))
    };
    let requests = || at("/certificates.k8s.io/v1/certificatesigningrequests");
    for signer in [
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/kube-apiserver-client-kubelet",
    ] {
        let own = request(signer, "system:node:a");
        cluster.call_as(&agent("a"), requests(), own).await.unwrap();
        let status = refused(&cluster, requests(), request(signer, "system:node:b")).await;
        let why = "can only create a node CSR with CN=system:node:a";
        assert!(status.message.ends_with(why), "{}", status.message);
    }
    let other = request("example.com/any", "system:node:b");
    cluster.call_as(&agent("a"), requests(), other).await.unwrap();
}

#[tokio::test]
async fn an_agent_asks_for_the_certificates_of_its_pods_and_sees_its_own_requests() {
    const REQUESTS: &str = "certificates.k8s.io/v1/podcertificaterequests";
    let cluster = cluster().await;
    let source = json!({"podCertificate": {"signerName": "example.com/pod", "keyType": "ED25519", "keyPath": "k",
        "certificateChainPath": "c"}});
    for name in ["mine", "mirror"] {
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = "a".into();
        if name == "mirror" {
            pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        } else {
            pod["spec"]["serviceAccountName"] = "a".into();
            pod["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [source]}}]);
        }
        cluster.create(at("pods"), pod).await.unwrap();
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let stub = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let uid = async |target| cluster.get(target).await.unwrap().uid().to_owned();
    let (node, other_node) = (uid(named("/nodes", "a")).await, uid(named("/nodes", "b")).await);
    let account = uid(named("serviceaccounts", "a")).await;
    let (pod, other_pod) = (uid(named("pods", "mine")).await, uid(named("pods", "b")).await);
    let spec = json!({
        "signerName": "example.com/pod", "podName": "mine", "podUID": pod, "serviceAccountName": "a",
        "serviceAccountUID": account, "nodeName": "a", "nodeUID": node, "maxExpirationSeconds": 86_400,
        "stubPKCS10Request": encoded(stub.der()),
    });
    let with = |changes: Value| {
        let mut spec = spec.clone();
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        create(json!({"metadata": {"generateName": "r-"}, "spec": spec}))
    };
    let mirrored = uid(named("pods", "mirror")).await;
    let own_b = uid(named("serviceaccounts", "b")).await;
    for (changes, why) in [
        (
            json!({"nodeName": "b", "nodeUID": other_node}),
            "PodCertificateRequest.Spec.NodeName=\"b\", which is not the requesting node \"a\"",
        ),
        (json!({"nodeUID": "other"}), "inconsistent with the running node"),
        (json!({"podUID": "other"}), "which differs from running pod"),
        (
            json!({"podName": "b", "podUID": other_pod, "serviceAccountName": "b", "serviceAccountUID": own_b}),
            "pod \"default/b\" is not running on node \"a\" named in the PodCertificateRequest",
        ),
        (
            json!({"podName": "mirror", "podUID": mirrored}),
            "pod \"default/mirror\" is a mirror pod",
        ),
        (
            json!({"serviceAccountName": "b", "serviceAccountUID": own_b}),
            "contains serviceAccountName (\"b\") that differs from running pod (\"a\")",
        ),
        (
            json!({"serviceAccountUID": "other"}),
            "which differs from the running service account",
        ),
        (
            json!({"signerName": "example.com/other"}),
            "has no podCertificate volume of signer \"example.com/other\"",
        ),
    ] {
        let status = refused(&cluster, at(REQUESTS), with(changes)).await;
        assert!(status.message.contains(why), "{}", status.message);
    }
    let missing = cluster
        .call_as(&agent("a"), at(REQUESTS), with(json!({"podName": "none"})))
        .await
        .err()
        .unwrap();
    assert_eq!(missing.message, "pods \"none\" not found");
    cluster
        .call_as(&agent("a"), at(REQUESTS), with(json!({})))
        .await
        .unwrap();
    let rules = json!([{"verbs": ["request-serviceaccounts-podcertificate-signer"],
        "apiGroups": ["certificates.k8s.io"], "resources": ["example.com:other"], "resourceNames": ["a"]}]);
    crate::admission_defaults::grant(&cluster, "system:node:a", rules).await;
    let granted = with(json!({"signerName": "example.com/other"}));
    let Answer::Object { object, .. } = cluster.call_as(&agent("a"), at(REQUESTS), granted).await.unwrap() else {
        panic!("not an object");
    };
    let made = object.to_object();
    let (a, b) = (agent("a"), agent("b"));
    let one = || named(REQUESTS, made.name());
    cluster.call_as(&a, one(), get()).await.unwrap();
    cluster
        .call_as(
            &a,
            at("/certificates.k8s.io/v1/podcertificaterequests"),
            list("spec.nodeName=a"),
        )
        .await
        .unwrap();
    assert_eq!(cluster.call_as(&b, one(), get()).await.err().unwrap().code, 403);
    for (target, fields) in [(at(REQUESTS), ""), (at(REQUESTS), "spec.nodeName=b")] {
        refused(&cluster, target, list(fields)).await;
    }
    // Nobody's status, and no change: a node asks, others answer.
    for target in [one(), sub(REQUESTS, made.name(), "status")] {
        let update = Operation::Update {
            object: made.clone(),
            options: options(),
        };
        refused(&cluster, target, update).await;
    }
}
