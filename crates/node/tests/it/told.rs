//! What a node tells of itself, and what it makes of objects that are the whole cluster's.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{ListOptions, Patch, WatchEvent};
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::{Value, json};

use crate::cluster::{LIMIT, Node, Runtime};
use crate::pods::{container, ended, logs, says};

async fn until_node(node: &Node, wanted: impl Fn(&ApiNode) -> bool) -> Arc<ApiNode> {
    let nodes = node.client.all::<ApiNode>();
    let find = async {
        let mut events = nodes.watch(&ListOptions::default()).await.unwrap();
        while let Some(event) = events.next().await {
            if let WatchEvent::Added(node) | WatchEvent::Modified(node) = event.unwrap()
                && wanted(&node)
            {
                return node;
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(LIMIT, find).await.expect("the node is never so")
}

pub async fn what_others_say_that_the_node_has_can_be_allocated_until_they_take_it_back() {
    let node = Node::start(Runtime::Engine).await;
    let of = |node: &ApiNode| {
        let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
        allocatable.get("example.com/dongle").map(|q| q.0.clone())
    };
    let nodes = node.client.all::<ApiNode>().status();
    for amount in [json!("4"), Value::Null] {
        let patch = Patch::Merge(json!({"status": {"capacity": {"example.com/dongle": amount}}}));
        nodes.patch("n1", patch).await.unwrap();
        until_node(&node, |n| of(n) == amount.as_str().map(str::to_owned)).await;
    }
    node.end().await;
}

pub async fn a_pod_of_a_handler_that_the_node_has_not_fails_and_says_so() {
    let node = Node::start(Runtime::Engine).await;
    let class = json!({"metadata": {"name": "safe"}, "handler": "kata"});
    let classes = node.client.all::<RuntimeClass>();
    classes.create(&serde_json::from_value(class).unwrap()).await.unwrap();
    let spec = json!({"runtimeClassName": "safe", "containers": [container("c", "true")]});
    node.run("guarded", spec).await;
    let pod = node.until("guarded", ended).await;
    let status = pod.status.clone().unwrap();
    let text = "Failed to create pod sandbox: no runtime for \"kata\" is configured";
    assert_eq!(
        (status.phase.as_deref(), status.message.as_deref()),
        (Some("Failed"), Some(text))
    );
    node.event("FailedCreatePodSandBox").await;
    node.delete("guarded").await;
    node.end().await;
}

fn authority(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().pem()
}

/// concepts/storage/projected-volumes: as their content changes, kubelet keeps the file up-to-date.
pub async fn trust_bundles_are_followed_in_a_running_pod() {
    let node = Node::start(Runtime::Engine).await;
    let (first, second) = (authority("a"), authority("b"));
    let bundle = json!({"metadata": {"name": "example.com:mine:1"}, "spec": {"signerName": "example.com/mine", "trustBundle": first}});
    let bundles = node.client.all::<ClusterTrustBundle>();
    let bundle = bundles.create(&serde_json::from_value(bundle).unwrap()).await.unwrap();
    let mut main = container(
        "c",
        "cat /trust/ca.pem; busybox cp /trust/ca.pem /tmp/old; while busybox cmp -s /tmp/old /trust/ca.pem; do busybox usleep 50000; done; cat /trust/ca.pem; busybox sleep 3600",
    );
    main["volumeMounts"] = json!([{"name": "t", "mountPath": "/trust"}]);
    let source =
        json!({"clusterTrustBundle": {"signerName": "example.com/mine", "labelSelector": {}, "path": "ca.pem"}});
    node.run(
        "trusting",
        json!({"containers": [main], "volumes": [{"name": "t", "projected": {"sources": [source]}}]}),
    )
    .await;
    node.ready("trusting").await;
    says(&node, "trusting", "c", &first).await;
    let mut changed = bundle.as_ref().clone();
    changed.spec.trust_bundle = second.clone();
    bundles.update(&changed).await.unwrap();
    says(&node, "trusting", "c", &format!("{first}{second}")).await;
    node.delete("trusting").await;
    node.end().await;
}

/// Issues what is asked for, for two hours.
async fn sign(node: &Node) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, key);
    let requests = node.client.namespaced::<PodCertificateRequest>("default");
    let mut events = requests.watch(&ListOptions::default()).await.unwrap();
    while let Some(event) = events.next().await {
        let WatchEvent::Added(request) = event.unwrap() else {
            continue;
        };
        let spec = &request.spec;
        assert_eq!(
            (spec.signer_name.as_str(), spec.pod_name.as_str()),
            ("example.com/mine", "shown")
        );
        let stub = spec.stub_pkc_s10_request.0.as_slice().into();
        let mut wanted = rcgen::CertificateSigningRequestParams::from_der(&stub).unwrap();
        let now = node.cluster.clock.now().as_second();
        let at = |hours: i64| now + hours * 3600;
        let encoded = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.unsigned_abs());
        let shown = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap().to_string();
        (wanted.params.not_before, wanted.params.not_after) = (encoded(at(0)), encoded(at(2)));
        let chain = wanted.signed_by(&issuer).unwrap().pem();
        let condition = json!({"type": "Issued", "status": "True", "reason": "Signed", "message": "here you are",
            "lastTransitionTime": shown(at(0))});
        let status = json!({"status": {"certificateChain": chain, "conditions": [condition],
            "notBefore": shown(at(0)), "beginRefreshAt": shown(at(1)), "notAfter": shown(at(2))}});
        let name = request.metadata.name.clone().unwrap();
        requests.status().patch(&name, Patch::Merge(status)).await.unwrap();
    }
}

/// concepts/storage/projected-volumes: podCertificate.
pub async fn a_pod_is_given_a_key_and_a_certificate_by_the_signer_that_it_names() {
    let node = Node::start(Runtime::Engine).await;
    let mut main = container(
        "c",
        "busybox grep -e ----- /id/all.pem; busybox stat -c %a /id/..data/all.pem",
    );
    main["volumeMounts"] = json!([{"name": "i", "mountPath": "/id"}]);
    let source = json!({"podCertificate": {"signerName": "example.com/mine", "keyType": "ED25519", "credentialBundlePath": "all.pem"}});
    let spec = json!({"restartPolicy": "Never", "serviceAccountName": "default", "containers": [main],
        "securityContext": {"runAsUser": 1000},
        "volumes": [{"name": "i", "projected": {"sources": [source]}}]});
    node.run("shown", spec).await;
    tokio::select! {
        () = sign(&node) => panic!("the watch ended"),
        pod = node.until("shown", ended) => {
            assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Succeeded"));
        }
    }
    let expected = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n\
        -----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n600\n";
    assert_eq!(logs(&node, "shown", "c").await, expected);
    node.delete("shown").await;
    node.end().await;
}
