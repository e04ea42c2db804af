//! What admission does to pods: limits, security standards, runtime classes.

use coracle_api::service::{Answer, Operation, PatchKind};
use serde_json::{Value, json};

use crate::harness::{Cluster, admin, at, named, object, options};

pub async fn with_account() -> Cluster {
    let cluster = Cluster::start().await;
    cluster
        .create(at("serviceaccounts"), json!({"metadata": {"name": "default"}}))
        .await
        .unwrap();
    cluster
}

pub fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_limit_range_fills_and_bounds_what_containers_ask_for() {
    let cluster = with_account().await;
    let range = json!({
        "metadata": {"name": "r"},
        "spec": {"limits": [{
            "type": "Container",
            "default": {"cpu": "500m", "memory": "512Mi"},
            "defaultRequest": {"cpu": "100m"},
            "max": {"cpu": "1"},
        }]},
    });
    cluster.create(at("limitranges"), range).await.unwrap();
    let made = cluster.create(at("pods"), pod("a")).await.unwrap();
    let resources = &made.array(&["spec", "containers"])[0]["resources"];
    assert_eq!(resources["limits"], json!({"cpu": "500m", "memory": "512Mi"}));
    assert_eq!(resources["requests"]["cpu"], "100m");
    let mut greedy = pod("b");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let refused = cluster.create(at("pods"), greedy).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

async fn label(cluster: &Cluster, labels: Value) -> Result<Vec<String>, coracle_api::status::Status> {
    use coracle_api::service::{Request, Service};
    let operation = Operation::Patch {
        kind: PatchKind::Merge,
        patch: json!({"metadata": {"labels": labels}}),
        options: options(),
    };
    let target = named("/namespaces", "default");
    let service = cluster.server.service();
    Ok(service.call(&admin(), Request { target, operation }).await?.warnings)
}

#[tokio::test]
async fn a_namespaces_labels_say_what_pods_may_do() {
    let cluster = with_account().await;
    cluster.create(at("pods"), pod("before")).await.unwrap();
    let wrong = label(&cluster, json!({"pod-security.kubernetes.io/enforce": "strict"}))
        .await
        .unwrap_err();
    assert_eq!(
        wrong.message,
        "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \
         \"strict\": must be one of privileged, baseline, restricted"
    );
    let warned = label(&cluster, json!({"pod-security.kubernetes.io/enforce": "restricted"}))
        .await
        .unwrap();
    assert_eq!(
        warned,
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:latest\"",
            "before: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
        ]
    );
    let refused = cluster.create(at("pods"), pod("after")).await.unwrap_err();
    assert!(
        refused.message.starts_with(
            "pods \"after\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
             (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities"
        ),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn a_workload_is_warned_of_what_its_pods_will_not_be_allowed() {
    let cluster = with_account().await;
    label(&cluster, json!({"pod-security.kubernetes.io/warn": "baseline"}))
        .await
        .unwrap();
    let mut template = pod("x");
    template["metadata"] = json!({"labels": {"a": "b"}});
    template["spec"]["hostNetwork"] = true.into();
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    let (_, warnings) = cluster
        .create_as(&admin(), at("apps/v1/deployments"), deployment)
        .await
        .unwrap();
    let expected = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    assert!(warnings.iter().any(|w| w == expected), "{warnings:?}");
}

#[tokio::test]
async fn a_runtime_class_costs_and_places_its_pods() {
    let cluster = with_account().await;
    let class = json!({
        "metadata": {"name": "kata"},
        "handler": "kata",
        "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
    });
    cluster
        .create(at("/node.k8s.io/v1/runtimeclasses"), class)
        .await
        .unwrap();
    let with = |name: &str, class: &str| {
        let mut pod = pod(name);
        pod["spec"]["runtimeClassName"] = class.into();
        pod
    };
    let made = cluster.create(at("pods"), with("a", "kata")).await.unwrap();
    assert_eq!(made.str(&["spec", "overhead", "cpu"]), Some("250m"));
    assert_eq!(made.str(&["spec", "nodeSelector", "kata"]), Some("yes"));
    assert!(made.array(&["spec", "tolerations"]).iter().any(|t| t["key"] == "k"));
    let missing = cluster.create(at("pods"), with("b", "gone")).await.unwrap_err();
    assert_eq!(
        missing.message,
        "pods \"b\" is forbidden: pod rejected: RuntimeClass \"gone\" not found"
    );
    let mut elsewhere = with("c", "kata");
    elsewhere["spec"]["nodeSelector"] = json!({"kata": "no"});
    let conflict = cluster.create(at("pods"), elsewhere).await.unwrap_err();
    assert!(
        conflict
            .message
            .contains("runtimeClass.scheduling.nodeSelector[kata] = yes"),
        "{}",
        conflict.message
    );
    let mut own = pod("d");
    own["spec"]["overhead"] = json!({"cpu": "1"});
    let refused = cluster.create(at("pods"), own).await.unwrap_err();
    assert!(
        refused.message.contains("Pod Overhead set without corresponding"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn a_plugin_that_is_off_by_default_works_when_it_is_switched_on() {
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::start_with(store, |options| {
        options.admission.enable = vec!["AlwaysPullImages".into(), "ExtendedResourceToleration".into()];
        options.admission.disable = vec!["ServiceAccount".into()];
    })
    .await;
    let mut wanted = pod("a");
    wanted["spec"]["containers"][0]["imagePullPolicy"] = "Never".into();
    wanted["spec"]["containers"][0]["resources"] = json!({"limits": {"example.com/gpu": "1"}});
    let made = cluster.create(at("pods"), wanted).await.unwrap();
    assert_eq!(made.array(&["spec", "containers"])[0]["imagePullPolicy"], "Always");
    assert!(
        made.array(&["spec", "tolerations"])
            .iter()
            .any(|t| t["key"] == "example.com/gpu")
    );
    assert_eq!(made.str(&["spec", "serviceAccountName"]), None);
}

#[tokio::test]
async fn only_an_update_that_changes_security_is_judged_again() {
    let cluster = with_account().await;
    cluster.create(at("pods"), pod("a")).await.unwrap();
    label(&cluster, json!({"pod-security.kubernetes.io/enforce": "restricted"}))
        .await
        .unwrap();
    let patch = json!({"metadata": {"labels": {"x": "y"}}});
    cluster
        .patch(named("pods", "a"), PatchKind::Merge, patch)
        .await
        .unwrap();
    let target = crate::harness::sub("pods", "a", "ephemeralcontainers");
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}});
    let operation = Operation::Patch {
        kind: PatchKind::Strategic,
        patch: debug,
        options: options(),
    };
    let refused = cluster.call(target, operation).await.err().unwrap();
    assert!(refused.message.contains("violates PodSecurity"), "{}", refused.message);
    let got = cluster
        .call(
            named("pods", "a"),
            Operation::Get {
                resource_version: String::new(),
            },
        )
        .await
        .unwrap();
    let Answer::Object { object: got, .. } = got else {
        panic!("no object")
    };
    assert_eq!(got.to_object().label("x"), Some("y"));
    let _ = object(json!({}));
}
