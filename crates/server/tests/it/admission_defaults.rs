//! What admission adds to storage and network objects, and who may own and approve what.

use coracle_api::service::{ListOptions, PatchKind};
use serde_json::{Value, json};

use crate::harness::{Cluster, admin, at, config_map, named, object, user};

fn claim(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    })
}

async fn class(cluster: &Cluster, name: &str, default: bool, expands: bool) {
    let mark = json!({"storageclass.kubernetes.io/is-default-class": default.to_string()});
    let class = json!({
        "metadata": {"name": name, "annotations": mark},
        "provisioner": "p",
        "allowVolumeExpansion": expands,
    });
    cluster
        .create(at("/storage.k8s.io/v1/storageclasses"), class)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_claim_gets_the_default_class_and_a_finalizer() {
    let cluster = Cluster::start().await;
    class(&cluster, "slow", false, false).await;
    class(&cluster, "fast", true, false).await;
    let made = cluster
        .create(at("persistentvolumeclaims"), claim("a", "1Gi"))
        .await
        .unwrap();
    assert_eq!(made.str(&["spec", "storageClassName"]), Some("fast"));
    assert_eq!(made.finalizers().collect::<Vec<_>>(), ["kubernetes.io/pvc-protection"]);
    let mut none = claim("b", "1Gi");
    none["spec"]["storageClassName"] = "".into();
    let made = cluster.create(at("persistentvolumeclaims"), none).await.unwrap();
    assert_eq!(made.str(&["spec", "storageClassName"]), Some(""));
}

#[tokio::test]
async fn a_claim_grows_only_when_its_class_can() {
    let cluster = Cluster::start().await;
    class(&cluster, "rigid", false, false).await;
    class(&cluster, "elastic", false, true).await;
    for (name, class) in [("a", "rigid"), ("b", "elastic")] {
        let mut wanted = claim(name, "1Gi");
        wanted["spec"]["storageClassName"] = class.into();
        wanted["spec"]["volumeName"] = "v".into();
        cluster.create(at("persistentvolumeclaims"), wanted).await.unwrap();
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        cluster
            .patch(
                crate::harness::sub("persistentvolumeclaims", name, "status"),
                PatchKind::Merge,
                bound,
            )
            .await
            .unwrap();
    }
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let refused = cluster
        .patch(named("persistentvolumeclaims", "a"), PatchKind::Merge, grow.clone())
        .await
        .unwrap_err();
    assert!(
        refused
            .message
            .contains("only dynamically provisioned pvc can be resized"),
        "{}",
        refused.message
    );
    cluster
        .patch(named("persistentvolumeclaims", "b"), PatchKind::Merge, grow)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_ingress_gets_the_default_class() {
    let cluster = Cluster::start().await;
    let class = json!({
        "metadata": {"name": "nginx", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "example.com/nginx"},
    });
    cluster
        .create(at("/networking.k8s.io/v1/ingressclasses"), class)
        .await
        .unwrap();
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let made = cluster
        .create(
            at("networking.k8s.io/v1/ingresses"),
            json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}}),
        )
        .await
        .unwrap();
    assert_eq!(made.str(&["spec", "ingressClassName"]), Some("nginx"));
}

#[tokio::test]
async fn a_new_node_is_tainted_until_it_is_seen_to_be_ready() {
    let cluster = Cluster::start().await;
    let made = cluster
        .create(at("/nodes"), json!({"metadata": {"name": "n"}}))
        .await
        .unwrap();
    assert_eq!(
        made.array(&["spec", "taints"]),
        [json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})]
    );
}

pub async fn grant(cluster: &Cluster, name: &str, rules: Value) {
    let group = "/rbac.authorization.k8s.io/v1";
    cluster
        .create(
            at(&format!("{group}/clusterroles")),
            json!({"metadata": {"name": name}, "rules": rules}),
        )
        .await
        .unwrap();
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    cluster
        .create(
            at(&format!("{group}/clusterrolebindings")),
            json!({"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}),
        )
        .await
        .unwrap();
    cluster
        .list(at(&format!("{group}/clusterrolebindings")), ListOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn who_sets_owners_must_be_allowed_to_delete_when_that_is_enforced() {
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::start_with(store, |options| {
        options.admission.enable = vec!["OwnerReferencesPermissionEnforcement".into()];
    })
    .await;
    grant(
        &cluster,
        "bob",
        json!([{"verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"]}]),
    )
    .await;
    let bob = user("bob", &["system:authenticated"]);
    let mut owned = config_map("a");
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "blockOwnerDeletion": true}]);
    let refused = cluster
        .create_as(&bob, at("configmaps"), owned.clone())
        .await
        .unwrap_err();
    assert!(
        refused
            .message
            .contains("cannot set an ownerRef on a resource you can't delete"),
        "{}",
        refused.message
    );
    cluster
        .create_as(&bob, at("configmaps"), config_map("b"))
        .await
        .unwrap();
    grant(
        &cluster,
        "eve",
        json!([{"verbs": ["create", "delete"], "apiGroups": [""], "resources": ["configmaps"]}]),
    )
    .await;
    let eve = user("eve", &["system:authenticated"]);
    let refused = cluster
        .create_as(&eve, at("configmaps"), owned.clone())
        .await
        .unwrap_err();
    assert!(
        refused
            .message
            .contains("refers to a resource you can't set finalizers on"),
        "{}",
        refused.message
    );
    cluster.create_as(&admin(), at("configmaps"), owned).await.unwrap();
}

#[tokio::test]
async fn nobody_gets_a_certificate_of_the_superusers() {
    use base64::Engine;
    let cluster = Cluster::start().await;
    let request = |organisation: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "x");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organisation);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({
            "metadata": {"name": organisation.replace(':', "-")},
            "spec": {
                "request": base64::engine::general_purpose::STANDARD.encode(pem),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        })
    };
    let requests = || at("/certificates.k8s.io/v1/certificatesigningrequests");
    let refused = cluster.create(requests(), request("system:masters")).await.unwrap_err();
    assert!(
        refused
            .message
            .ends_with("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"),
        "{}",
        refused.message
    );
    cluster.create(requests(), request("people")).await.unwrap();
    let rules = json!([
        {"verbs": ["get", "update"], "apiGroups": ["certificates.k8s.io"],
         "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"]},
    ]);
    grant(&cluster, "bob", rules).await;
    let bob = user("bob", &["system:authenticated"]);
    let mut approved = cluster
        .get(named("/certificates.k8s.io/v1/certificatesigningrequests", "people"))
        .await
        .unwrap();
    approved.set(
        &["status", "conditions"],
        json!([{"type": "Approved", "status": "True", "reason": "x"}]),
    );
    let target = crate::harness::sub(
        "/certificates.k8s.io/v1/certificatesigningrequests",
        "people",
        "approval",
    );
    let operation = coracle_api::service::Operation::Update {
        object: object(approved.into_value()),
        options: crate::harness::options(),
    };
    let refused = cluster
        .call_as(&bob, target.clone(), operation.clone())
        .await
        .err()
        .unwrap();
    assert!(
        refused.message.ends_with(
            "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
        ),
        "{}",
        refused.message
    );
    cluster.call(target, operation).await.unwrap();
}

#[tokio::test]
async fn a_pods_certificate_is_signed_by_who_may_and_goes_from_now_on() {
    use base64::Engine;
    const REQUESTS: &str = "certificates.k8s.io/v1/podcertificaterequests";
    let start: coracle_clock::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::start_with(store, |options| {
        options.clock = coracle_clock::Clock::starting_at(start);
    })
    .await;
    let key = rcgen::KeyPair::generate().unwrap();
    let stub = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = json!({"metadata": {"name": "r"}, "spec": {
        "signerName": "example.com/pod", "podName": "p", "podUID": "1", "serviceAccountName": "s",
        "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 86_400,
        "stubPKCS10Request": base64::engine::general_purpose::STANDARD.encode(stub.der()),
    }});
    let made = cluster.create(at(REQUESTS), request).await.unwrap();
    // A day's certificate, from so many seconds after the start.
    let issued = |after: i64| {
        let from = start.as_second() + after;
        let mut params = rcgen::CertificateParams::default();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(from).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(from + 86_400).unwrap();
        let time = |seconds: i64| coracle_clock::Timestamp::from_second(seconds).unwrap().to_string();
        let mut issued = made.clone();
        issued.set(
            &["status"],
            json!({
                "certificateChain": params.self_signed(&key).unwrap().pem(),
                "notBefore": time(from), "notAfter": time(from + 86_400), "beginRefreshAt": time(from + 43_200),
                "conditions": [{"type": "Issued", "status": "True", "reason": "R", "lastTransitionTime": time(from)}],
            }),
        );
        coracle_api::service::Operation::Update {
            object: issued,
            options: crate::harness::options(),
        }
    };
    let rules = json!([
        {"verbs": ["update"], "apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests/status"]},
    ]);
    grant(&cluster, "bob", rules).await;
    let target = crate::harness::sub(REQUESTS, "r", "status");
    let refusal = "PodCertificateRequest.certificates.k8s.io \"r\" is invalid: ";
    for (who, after, expected) in [
        (
            admin(),
            -301,
            "status.notBefore: Invalid value: \"2025-12-31T23:54:59Z\": must be set to within 5 minutes of kube-apiserver's \
             current time",
        ),
        (
            user("bob", &["system:authenticated"]),
            0,
            "spec.signerName: Forbidden: User \"bob\" is not permitted to \"sign\" for signer \"example.com/pod\"",
        ),
    ] {
        let refused = cluster
            .call_as(&who, target.clone(), issued(after))
            .await
            .err()
            .unwrap();
        assert_eq!((refused.code, refused.message), (422, format!("{refusal}{expected}")));
    }
    cluster.call(target, issued(0)).await.unwrap();
}

#[tokio::test]
async fn devices_are_asked_for_as_an_administrator_where_that_is_allowed() {
    let cluster = Cluster::start().await;
    let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [
        {"name": "all", "exactly": {"deviceClassName": "a", "adminAccess": true}}]}}});
    let claims = at("resource.k8s.io/v1/resourceclaims");
    let refused = cluster.create(claims.clone(), claim.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            422,
            "ResourceClaim.resource.k8s.io \"c\" is invalid: : Forbidden: admin access to devices requires the \
             `resource.kubernetes.io/admin-access: true` label on the containing namespace"
        )
    );
    let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    cluster
        .patch(named("/namespaces", "default"), PatchKind::Merge, label)
        .await
        .unwrap();
    let made = cluster.create(claims, claim).await.unwrap();
    assert_eq!(made.str(&["status", "phase"]), None);
}
