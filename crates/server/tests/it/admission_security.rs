//! PodSecurity by modes, versions, defaults and exemptions.

use std::sync::Arc;

use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use coracle_server::{PodSecurityConfiguration, PodSecurityDefaults, PodSecurityExemptions};
use coracle_store::Embedded;
use serde_json::{Value, json};

use crate::harness::{Cluster, admin, at};

async fn cluster(configuration: PodSecurityConfiguration) -> Cluster {
    let cluster = Cluster::start_with(Arc::new(Embedded::in_memory()), |options| {
        options.admission.pod_security = configuration;
        options.admission.disable.push("ServiceAccount".into());
    })
    .await;
    for name in ["spared", "judged"] {
        cluster
            .create(at("/namespaces"), json!({"metadata": {"name": name}}))
            .await
            .unwrap();
    }
    cluster
}

fn hostile(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}})
}

/// Makes a pod in a namespace; the warnings.
async fn make(cluster: &Cluster, user: &UserInfo, namespace: &str, pod: Value) -> Result<Vec<String>, Status> {
    let mut target = at("pods");
    target.namespace = namespace.into();
    Ok(cluster.create_as(user, target, pod).await?.1)
}

#[tokio::test]
async fn each_mode_does_its_own_at_its_own_version() {
    let cluster = cluster(PodSecurityConfiguration::default()).await;
    for (labels, refused, warned) in [
        (
            json!({"enforce": "baseline"}),
            Some("violates PodSecurity \"baseline:latest\""),
            None,
        ),
        (
            json!({"enforce": "baseline", "enforce-version": "v1.30"}),
            Some("\"baseline:v1.30\""),
            None,
        ),
        (
            json!({"warn": "baseline", "warn-version": "v1.29"}),
            None,
            Some("would violate PodSecurity \"baseline:v1.29\""),
        ),
        (json!({"audit": "restricted"}), None, None),
        (
            json!({"enforce": "privileged", "audit": "baseline", "warn": "baseline"}),
            None,
            Some("\"baseline:latest\""),
        ),
        // Who is refused is not warned as well.
        (
            json!({"enforce": "baseline", "warn": "restricted"}),
            Some("\"baseline:latest\""),
            None,
        ),
    ] {
        let keyed: serde_json::Map<String, Value> = labels
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), value.clone()))
            .collect();
        let namespace = json!({"metadata": {"generateName": "mode-", "labels": keyed}});
        let namespace = cluster.create(at("/namespaces"), namespace).await.unwrap();
        let got = make(&cluster, &admin(), namespace.name(), hostile("a")).await;
        match (refused, warned, got) {
            (Some(expected), _, Err(status)) => {
                assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
                assert!(status.message.contains(expected), "{}", status.message);
                assert!(
                    status.message.ends_with("host namespaces (hostNetwork=true)"),
                    "{}",
                    status.message
                );
            }
            (None, Some(expected), Ok(warnings)) => {
                assert!(warnings.iter().any(|w| w.contains(expected)), "{labels}: {warnings:?}");
            }
            (None, None, Ok(warnings)) => {
                assert!(
                    !warnings.iter().any(|w| w.contains("PodSecurity")),
                    "{labels}: {warnings:?}"
                );
            }
            (_, _, got) => panic!("{labels}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn namespaces_without_labels_have_the_defaults_and_the_exempt_are_not_judged() {
    let cluster = cluster(PodSecurityConfiguration {
        defaults: PodSecurityDefaults {
            enforce: "baseline".into(),
            enforce_version: "v1.31".into(),
            ..PodSecurityDefaults::default()
        },
        exemptions: PodSecurityExemptions {
            usernames: vec!["root".into()],
            namespaces: vec!["spared".into()],
            runtime_classes: vec!["kata".into()],
        },
    })
    .await;
    let refused = make(&cluster, &admin(), "judged", hostile("a")).await.unwrap_err();
    assert!(refused.message.contains("\"baseline:v1.31\""), "{}", refused.message);
    make(&cluster, &admin(), "spared", hostile("a")).await.unwrap();
    let root = UserInfo {
        name: "root".into(),
        ..admin()
    };
    make(&cluster, &root, "judged", hostile("b")).await.unwrap();
    let class = json!({"metadata": {"name": "kata"}, "handler": "kata"});
    cluster
        .create(at("/node.k8s.io/v1/runtimeclasses"), class)
        .await
        .unwrap();
    let mut walled = hostile("c");
    walled["spec"]["runtimeClassName"] = "kata".into();
    make(&cluster, &admin(), "judged", walled).await.unwrap();
}
