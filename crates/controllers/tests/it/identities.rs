//! Certificates, tokens and aggregated roles.

use coracle_client::{Client, Config, DeleteOptions, Patch};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::harness::{cluster, create, from, until, until_gone};

fn request(user: &str, group: &str) -> ByteString {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params.distinguished_name.push(DnType::OrganizationName, group);
    ByteString(params.serialize_request(&key).unwrap().pem().unwrap().into_bytes())
}

fn csr(name: &str, signer: &str, request: ByteString) -> CertificateSigningRequest {
    let mut csr: CertificateSigningRequest = from(json!({
        "metadata": {"name": name},
        "spec": {"signerName": signer, "request": "", "usages": ["digital signature", "client auth"],
            "expirationSeconds": 3600, "username": "forged"},
    }));
    csr.spec.request = request;
    csr
}

fn has(csr: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = csr.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == kind)
}

#[tokio::test(start_paused = true)]
async fn an_approved_request_is_signed_and_cleaned_up() {
    let cluster = cluster().await;
    let requests = cluster.client.all::<CertificateSigningRequest>();
    let signer = "kubernetes.io/kube-apiserver-client";
    let made = requests
        .create(&csr("alice", signer, request("alice", "dev")))
        .await
        .unwrap();
    assert_eq!(made.spec.username.as_deref(), Some("kubernetes-admin"));
    assert!(made.status.as_ref().is_none_or(|s| s.certificate.is_none()));
    let mut approved = (*made).clone();
    approved.status = from(
        json!({"conditions": [{"type": "Approved", "status": "True", "reason": "ByTest",
        "lastUpdateTime": "2026-01-01T00:00:00Z"}]}),
    );
    let approval = requests.subresource::<CertificateSigningRequest>("approval");
    approval.update(&approved).await.unwrap();
    let signed = until(&cluster, requests.clone(), "alice", |c| {
        c.status.as_ref().is_some_and(|s| s.certificate.is_some())
    })
    .await;
    let pem = signed.status.as_ref().unwrap().certificate.clone().unwrap();
    let (_, block) = parse_x509_pem(&pem.0).unwrap();
    let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=alice, O=dev");
    let end = certificate.validity().not_after.timestamp() - cluster.clock.now().as_second();
    assert!((3590..=3600).contains(&end), "{end}");
    until_gone(&cluster, requests, "alice").await;
    let hour = "2026-01-01T01:00:00Z".parse().unwrap();
    assert!(cluster.clock.now() >= hour);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_renews_its_own_certificate_and_a_wrong_request_fails() {
    let cluster = cluster().await;
    let requests = cluster.client.all::<CertificateSigningRequest>();
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    let binding = json!({"metadata": {"name": "nodes-renew"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    create::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>(&cluster.client, binding).await;
    let node = cluster.client_as("system:node:n1", &["system:nodes"]);
    let own = node.all::<CertificateSigningRequest>();
    own.create(&csr("n1", kubelet, request("system:node:n1", "system:nodes")))
        .await
        .unwrap();
    let signed = until(&cluster, requests.clone(), "n1", |c| {
        c.status.as_ref().is_some_and(|s| s.certificate.is_some())
    })
    .await;
    assert!(has(&signed, "Approved"));

    let wrong = requests
        .create(&csr("wrong", kubelet, request("somebody", "dev")))
        .await
        .unwrap();
    let mut approved = (*wrong).clone();
    approved.status = from(json!({"conditions": [{"type": "Approved", "status": "True", "reason": "ByTest"}]}));
    requests
        .subresource::<CertificateSigningRequest>("approval")
        .update(&approved)
        .await
        .unwrap();
    let failed = until(&cluster, requests, "wrong", |c| has(c, "Failed")).await;
    let conditions = failed.status.as_ref().unwrap().conditions.clone().unwrap();
    let condition = conditions.iter().find(|c| c.type_ == "Failed").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("SignerValidationFailure"));
    assert_eq!(
        condition.message.as_deref(),
        Some("subject organization is not system:nodes")
    );
    cluster.stop().await;
}

/// A client that shows a token.
fn bearer(cluster: &coracle_testkit::TestCluster, token: &str) -> Client {
    let mut config = Config::from_kubeconfig(&cluster.kubeconfig(), None).unwrap();
    config.client_certificate = None;
    config.auth = coracle_client::config::auth::Auth::Token(token.to_owned());
    Client::connect(config, cluster.clock).unwrap()
}

#[tokio::test]
async fn a_token_secret_is_filled_works_and_dies_with_its_account() {
    // Over HTTP, and therefore in real time.
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, token_secret()).await.expect("not in time");
}

async fn token_secret() {
    let cluster = coracle_testkit::TestCluster::with(coracle_testkit::Options {
        scheduler: false,
        ..Default::default()
    })
    .await
    .unwrap();
    let secrets = cluster.client.namespaced::<Secret>("default");
    let accounts = cluster.client.namespaced::<ServiceAccount>("default");
    create::<ServiceAccount>(
        &cluster.client,
        json!({"metadata": {"name": "a", "namespace": "default"}}),
    )
    .await;
    let wanted = |name: &str, account: &str| -> Value {
        json!({"metadata": {"name": name, "namespace": "default",
            "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token"})
    };
    create::<Secret>(&cluster.client, wanted("s", "a")).await;
    let filled = until(&cluster, secrets.clone(), "s", |s| {
        s.data.as_ref().is_some_and(|d| d.contains_key("token"))
    })
    .await;
    let data = filled.data.clone().unwrap();
    assert_eq!(data["namespace"].0, b"default");
    assert!(data["ca.crt"].0.starts_with(b"-----BEGIN CERTIFICATE"));
    let token = String::from_utf8(data["token"].0.clone()).unwrap();
    let client = bearer(&cluster, &token);
    let review: k8s_openapi::api::authentication::v1::SelfSubjectReview = from(json!({"metadata": {}}));
    let me = client.all().create(&review).await.unwrap();
    let user = me.status.as_ref().unwrap().user_info.clone().unwrap();
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:a"));
    let used = secrets.get("s").await.unwrap();
    assert!(
        used.metadata
            .labels
            .as_ref()
            .unwrap()
            .contains_key("kubernetes.io/legacy-token-last-used")
    );

    // Marked invalid, it is refused.
    let mark = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}});
    secrets.patch("s", Patch::Merge(mark)).await.unwrap();
    assert_eq!(
        client.all().create(&review).await.unwrap_err().status().unwrap().code,
        401
    );

    accounts.delete("a", &DeleteOptions::default()).await.unwrap();
    until_gone(&cluster, secrets.clone(), "s").await;
    create::<Secret>(&cluster.client, wanted("orphan", "nobody")).await;
    until_gone(&cluster, secrets, "orphan").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cluster_info_is_signed_by_each_bootstrap_token_until_it_expires() {
    let cluster = cluster().await;
    let maps = cluster.client.namespaced::<ConfigMap>("kube-public");
    let secrets = cluster.client.namespaced::<Secret>("kube-system");
    create::<ConfigMap>(
        &cluster.client,
        json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {"kubeconfig": "x"}}),
    )
    .await;
    create::<Secret>(
        &cluster.client,
        json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef",
                "usage-bootstrap-signing": "true", "expiration": "2026-01-03T00:00:00Z"}}),
    )
    .await;
    let signature = |m: &ConfigMap| m.data.as_ref().is_some_and(|d| d.contains_key("jws-kubeconfig-abcdef"));
    until(&cluster, maps.clone(), "cluster-info", signature).await;
    until_gone(&cluster, secrets, "bootstrap-token-abcdef").await;
    assert!(cluster.clock.now() >= "2026-01-03T00:00:00Z".parse().unwrap());
    until(&cluster, maps, "cluster-info", |m| !signature(m)).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_role_with_a_label_adds_to_the_role_that_aggregates_it() {
    let cluster = cluster().await;
    let roles = cluster.client.all::<ClusterRole>();
    create::<ClusterRole>(
        &cluster.client,
        json!({"metadata": {"name": "gears-view", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
            "rules": [{"apiGroups": ["example.org"], "resources": ["gears"], "verbs": ["get"]}]}),
    )
    .await;
    let gears = |role: &ClusterRole| {
        let mut rules = role.rules.iter().flatten();
        rules.any(|r| r.resources.iter().flatten().any(|r| r == "gears"))
    };
    // view is part of edit, and edit of admin.
    for name in ["view", "edit", "admin"] {
        until(&cluster, roles.clone(), name, gears).await;
    }
    roles.delete("gears-view", &DeleteOptions::default()).await.unwrap();
    for name in ["view", "edit", "admin"] {
        until(&cluster, roles.clone(), name, |r| !gears(r)).await;
    }
    cluster.stop().await;
}
