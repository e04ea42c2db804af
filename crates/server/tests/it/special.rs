//! Subresources and kinds that do more than keep an object.

use coracle_api::service::{DeleteOptions, ListOptions, Operation, PatchKind};
use serde_json::{Value, json};

use crate::harness::{Cluster, at, named, object, options, sub};

async fn with_account() -> Cluster {
    let cluster = Cluster::start().await;
    cluster
        .create(at("serviceaccounts"), json!({"metadata": {"name": "default"}}))
        .await
        .unwrap();
    cluster
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    })
}

#[tokio::test]
async fn a_pod_gets_the_account_the_token_and_the_tolerations_that_upstream_gives_it() {
    let cluster = with_account().await;
    let made = cluster.create(at("pods"), pod("a")).await.unwrap();
    assert_eq!(made.str(&["spec", "serviceAccountName"]), Some("default"));
    assert_eq!(made.array(&["spec", "tolerations"]).len(), 2);
    assert_eq!(made.i64(&["spec", "priority"]), Some(0));
    let volume = made.array(&["spec", "volumes"])[0]["name"].as_str().unwrap().to_owned();
    assert!(volume.starts_with("kube-api-access-"), "{volume}");
    let mut other = pod("b");
    other["spec"]["serviceAccountName"] = "nobody".into();
    let refused = cluster.create(at("pods"), other).await.unwrap_err();
    assert!(
        refused.message.contains("serviceaccount \"nobody\" not found"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let cluster = with_account().await;
    cluster.create(at("pods"), pod("a")).await.unwrap();
    let binding = |node: &str| json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": node}});
    cluster
        .create(sub("pods", "a", "binding"), binding("n1"))
        .await
        .unwrap();
    let bound = cluster.get(named("pods", "a")).await.unwrap();
    assert_eq!(bound.str(&["spec", "nodeName"]), Some("n1"));
    let condition = bound
        .array(&["status", "conditions"])
        .iter()
        .find(|c| c["type"] == "PodScheduled")
        .unwrap();
    assert_eq!(condition["status"], "True");
    let refused = cluster
        .create(sub("pods", "a", "binding"), binding("n2"))
        .await
        .unwrap_err();
    assert_eq!(refused.code, 409);
    assert!(
        refused.message.contains("already assigned to node \"n1\""),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn a_bound_pod_takes_its_grace_and_a_second_delete_may_shorten_it() {
    let cluster = with_account().await;
    cluster.create(at("pods"), pod("a")).await.unwrap();
    let binding = json!({"metadata": {"name": "a"}, "target": {"name": "n1"}});
    cluster.create(sub("pods", "a", "binding"), binding).await.unwrap();
    let marked = cluster
        .delete(named("pods", "a"), DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(marked.i64(&["metadata", "deletionGracePeriodSeconds"]), Some(30));
    let grace = |seconds| DeleteOptions {
        grace_period_seconds: Some(seconds),
        ..DeleteOptions::default()
    };
    let shorter = cluster.delete(named("pods", "a"), grace(5)).await.unwrap();
    assert_eq!(shorter.i64(&["metadata", "deletionGracePeriodSeconds"]), Some(5));
    let longer = cluster.delete(named("pods", "a"), grace(60)).await.unwrap();
    assert_eq!(longer.i64(&["metadata", "deletionGracePeriodSeconds"]), Some(5));
    cluster.delete(named("pods", "a"), grace(0)).await.unwrap();
    assert!(cluster.get(named("pods", "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let cluster = with_account().await;
    cluster.create(at("pods"), pod("a")).await.unwrap();
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster
        .patch(sub("pods", "a", "status"), PatchKind::Merge, running)
        .await
        .unwrap();
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    });
    cluster
        .create(at("policy/v1/poddisruptionbudgets"), budget)
        .await
        .unwrap();
    let status = |allowed: i64| json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    let budgets = "policy/v1/poddisruptionbudgets";
    cluster
        .patch(sub(budgets, "b", "status"), PatchKind::Merge, status(0))
        .await
        .unwrap();
    let evict = || json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let refused = cluster.create(sub("pods", "a", "eviction"), evict()).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.details.unwrap().causes[0].reason.as_str()),
        (429, "DisruptionBudget")
    );
    cluster
        .patch(sub(budgets, "b", "status"), PatchKind::Merge, status(1))
        .await
        .unwrap();
    cluster.create(sub("pods", "a", "eviction"), evict()).await.unwrap();
    assert!(cluster.get(named("pods", "a")).await.is_err());
    let budget = cluster.get(named(budgets, "b")).await.unwrap();
    assert_eq!(budget.i64(&["status", "disruptionsAllowed"]).unwrap_or(0), 0);
    assert!(budget.get(&["status", "disruptedPods", "a"]).is_some());
}

#[tokio::test]
async fn an_evicted_pod_says_so_of_its_generation_and_since_when_it_goes() {
    let cluster = with_account().await;
    cluster.create(at("pods"), pod("a")).await.unwrap();
    let binding = json!({"metadata": {"name": "a"}, "target": {"name": "n1"}});
    cluster.create(sub("pods", "a", "binding"), binding).await.unwrap();
    let image = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}});
    cluster
        .patch(named("pods", "a"), PatchKind::Strategic, image)
        .await
        .unwrap();
    let since = "2020-01-01T00:00:00Z";
    let before = json!({"status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "lastTransitionTime": since,
    }]}});
    cluster
        .patch(sub("pods", "a", "status"), PatchKind::Strategic, before)
        .await
        .unwrap();
    let evict = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    cluster.create(sub("pods", "a", "eviction"), evict).await.unwrap();
    let gone = cluster.get(named("pods", "a")).await.unwrap();
    assert!(gone.is_terminating());
    let conditions = gone.array(&["status", "conditions"]);
    let target: Vec<&Value> = conditions.iter().filter(|c| c["type"] == "DisruptionTarget").collect();
    assert_eq!(target.len(), 1);
    assert_eq!(
        *target[0],
        json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": since, "observedGeneration": 2,
        })
    );
}

#[tokio::test]
async fn an_eviction_is_of_the_pod_and_the_version_that_it_names() {
    let cluster = with_account().await;
    let made = cluster.create(at("pods"), pod("a")).await.unwrap();
    let evict = |preconditions: Value| {
        let options = json!({"preconditions": preconditions});
        let eviction =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}, "deleteOptions": options});
        cluster.create(sub("pods", "a", "eviction"), eviction)
    };
    for other in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let refused = evict(other).await.unwrap_err();
        assert!(refused.is_conflict(), "{refused}");
    }
    // Nothing says that the pod goes, because it does not.
    assert_eq!(cluster.get(named("pods", "a")).await.unwrap(), made);
    evict(json!({"uid": made.uid(), "resourceVersion": made.resource_version()}))
        .await
        .unwrap();
    assert!(cluster.get(named("pods", "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_scale_reads_and_writes_the_replica_count() {
    let cluster = Cluster::start().await;
    cluster.create(at("apps/v1/deployments"), deployment()).await.unwrap();
    let scale = cluster.get(sub("apps/v1/deployments", "web", "scale")).await.unwrap();
    assert_eq!((scale.kind(), scale.i64(&["spec", "replicas"])), ("Scale", Some(2)));
    assert_eq!(scale.str(&["status", "selector"]), Some("a=b"));
    let mut more = scale.clone();
    more.set(&["spec", "replicas"], 5);
    cluster
        .update(sub("apps/v1/deployments", "web", "scale"), more.clone())
        .await
        .unwrap();
    let web = cluster.get(named("apps/v1/deployments", "web")).await.unwrap();
    assert_eq!((web.i64(&["spec", "replicas"]), web.generation()), (Some(5), 2));
    assert_eq!(
        cluster
            .update(sub("apps/v1/deployments", "web", "scale"), more)
            .await
            .unwrap_err()
            .code,
        409
    );
    let patch = json!({"spec": {"replicas": 1}});
    let patched = cluster
        .patch(sub("apps/v1/deployments", "web", "scale"), PatchKind::Merge, patch)
        .await
        .unwrap();
    assert_eq!(patched.i64(&["spec", "replicas"]), Some(1));
    let wrong = json!({"spec": {"replicas": -1}});
    let refused = cluster
        .patch(sub("apps/v1/deployments", "web", "scale"), PatchKind::Merge, wrong)
        .await
        .unwrap_err();
    assert_eq!(refused.code, 422);
}

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["ports"] = json!([{"port": 80, "protocol": "TCP"}]);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_service_holds_its_address_and_port_until_it_goes() {
    let cluster = Cluster::start().await;
    let made = cluster
        .create(at("services"), service("a", json!({"type": "NodePort"})))
        .await
        .unwrap();
    let ip = made.str(&["spec", "clusterIP"]).unwrap().to_owned();
    let port = made.array(&["spec", "ports"])[0]["nodePort"].as_i64().unwrap();
    assert!(
        ip.starts_with("10.96.") && (30_000..=32_767).contains(&port),
        "{ip} {port}"
    );
    cluster
        .get(named("/networking.k8s.io/v1/ipaddresses", &ip))
        .await
        .unwrap();
    let same_ip = cluster
        .create(
            at("services"),
            service("b", json!({"type": "ClusterIP", "clusterIP": ip})),
        )
        .await;
    assert!(
        same_ip
            .unwrap_err()
            .message
            .contains("provided IP is already allocated")
    );
    let mut same_port = service("b", json!({"type": "NodePort"}));
    same_port["spec"]["ports"][0]["nodePort"] = port.into();
    let refused = cluster.create(at("services"), same_port.clone()).await.unwrap_err();
    assert!(
        refused.message.contains("provided port is already allocated"),
        "{}",
        refused.message
    );
    // An update keeps what it does not name.
    let mut update = made.clone();
    update.remove(&["spec", "clusterIP"]);
    update.remove(&["spec", "clusterIPs"]);
    update.set(&["metadata", "labels", "x"], "y");
    let kept = cluster.update(named("services", "a"), update).await.unwrap();
    assert_eq!(kept.str(&["spec", "clusterIP"]), Some(ip.as_str()));
    cluster
        .delete(named("services", "a"), DeleteOptions::default())
        .await
        .unwrap();
    cluster.create(at("services"), same_port).await.unwrap();
    cluster
        .create(
            at("services"),
            service("c", json!({"type": "ClusterIP", "clusterIP": ip})),
        )
        .await
        .unwrap();
    let kubernetes = cluster.get(named("services", "kubernetes")).await.unwrap();
    assert_eq!(kubernetes.str(&["spec", "clusterIP"]), Some("10.96.0.1"));
}

#[tokio::test]
async fn a_service_asks_for_the_families_that_there_are() {
    let cluster = Cluster::start().await;
    let families = |made: &coracle_api::object::Object| {
        (
            made.str(&["spec", "ipFamilyPolicy"]).unwrap().to_owned(),
            Value::from(made.array(&["spec", "ipFamilies"])),
        )
    };
    let make = async |name: &str, spec: Value| cluster.create(at("services"), service(name, spec)).await;
    let plain = make("plain", json!({"selector": {"a": "b"}})).await.unwrap();
    assert_eq!(families(&plain), ("SingleStack".into(), json!(["IPv4"])));
    let preferring = make(
        "preferring",
        json!({"selector": {"a": "b"}, "ipFamilyPolicy": "PreferDualStack"}),
    )
    .await;
    assert_eq!(families(&preferring.unwrap()).1, json!(["IPv4"]));
    // Whoever writes its endpoints chooses their families.
    let headless = make("headless", json!({"clusterIP": "None"})).await.unwrap();
    assert_eq!(
        families(&headless),
        ("RequireDualStack".into(), json!(["IPv4", "IPv6"]))
    );
    for (spec, expected) in [
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "Service \"x\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not \
             configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "Service \"x\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
    ] {
        let refused = make("x", spec).await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (422, expected));
    }
}

#[tokio::test]
async fn a_request_for_a_token_is_refused_under_its_own_kind() {
    let cluster = with_account().await;
    for (seconds, why) in [
        (1_i64, "may not specify a duration less than 10 minutes"),
        (1 << 33, "may not specify a duration larger than 2^32 seconds"),
    ] {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds}});
        let refused = cluster
            .create(sub("serviceaccounts", "default", "token"), request)
            .await
            .unwrap_err();
        let expected = format!(
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {seconds}: {why}"
        );
        assert_eq!((refused.code, refused.message.as_str()), (422, expected.as_str()));
    }
}

#[tokio::test]
async fn a_token_is_its_account_as_long_as_that_lives() {
    let cluster = with_account().await;
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let made = cluster
        .create(sub("serviceaccounts", "default", "token"), request)
        .await
        .unwrap();
    let token = made.str(&["status", "token"]).unwrap().to_owned();
    let review = |token: &str| {
        let object = object(json!({"spec": {"token": token}}));
        Operation::Create {
            object,
            options: options(),
        }
    };
    let ask = async |token: &str| {
        let target = at("/authentication.k8s.io/v1/tokenreviews");
        match cluster.call(target, review(token)).await.unwrap() {
            coracle_api::service::Answer::Object { object, .. } => object.to_object(),
            _ => panic!("no object"),
        }
    };
    let known = ask(&token).await;
    assert_eq!(
        known.str(&["status", "user", "username"]),
        Some("system:serviceaccount:default:default")
    );
    let auth = format!("Bearer {token}");
    let mut http = cluster.http(false).await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [("authorization", auth.as_str()), ("content-type", "application/json")];
    let me = http.send(http::Method::POST, path, &headers, "{}").await;
    assert_eq!(me.code, 201, "{}", me.text());
    assert_eq!(
        me.json()["status"]["userInfo"]["username"],
        "system:serviceaccount:default:default"
    );
    cluster
        .delete(named("serviceaccounts", "default"), DeleteOptions::default())
        .await
        .unwrap();
    assert_ne!(ask(&token).await.bool(&["status", "authenticated"]), Some(true));
    assert_eq!(http.send(http::Method::POST, path, &headers, "{}").await.code, 401);
}

#[tokio::test]
async fn the_objects_of_flow_control_are_there_and_get_their_specs_back() {
    const LEVELS: &str = "/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
    const SCHEMAS: &str = "/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    const LENT: [&str; 3] = ["spec", "limited", "lendablePercent"];
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::with(store.clone()).await;
    for (path, count) in [(LEVELS, 8), (SCHEMAS, 13)] {
        let list = cluster.list(at(path), ListOptions::default()).await.unwrap();
        assert_eq!(list.items.len(), count, "{path}");
    }
    let fixed = json!({"spec": {"matchingPrecedence": 9999}});
    let refused = cluster
        .patch(named(SCHEMAS, "catch-all"), PatchKind::Merge, fixed)
        .await;
    assert!(
        refused
            .unwrap_err()
            .message
            .contains("spec of 'catch-all' must equal the fixed value")
    );
    let lent = json!({"spec": {"limited": {"lendablePercent": 1}}});
    let own = json!({
        "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}},
        "spec": {"limited": {"lendablePercent": 1}},
    });
    for (name, patch) in [("system", lent), ("workload-low", own)] {
        cluster
            .patch(named(LEVELS, name), PatchKind::Merge, patch)
            .await
            .unwrap();
    }
    cluster.server.shutdown().await;
    let cluster = Cluster::with(store).await;
    for (name, lent) in [("system", 33), ("workload-low", 1)] {
        let level = cluster.get(named(LEVELS, name)).await.unwrap();
        assert_eq!(level.i64(&LENT), Some(lent), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_objects_of_flow_control_come_back() {
    const GROUP: &str = "/flowcontrol.apiserver.k8s.io/v1";
    let cluster = Cluster::start().await;
    for (kind, name) in [
        ("flowschemas", "exempt"),
        ("flowschemas", "probes"),
        ("prioritylevelconfigurations", "catch-all"),
        ("prioritylevelconfigurations", "system"),
    ] {
        let target = named(&format!("{GROUP}/{kind}"), name);
        let old = cluster.get(target.clone()).await.unwrap();
        cluster.delete(target.clone(), DeleteOptions::default()).await.unwrap();
        let again = cluster.wait(target, |found| found.uid() != old.uid()).await;
        assert_eq!(again.get(&["spec"]), old.get(&["spec"]), "{name}");
    }
    // What is changed is set right.
    let level = named(&format!("{GROUP}/prioritylevelconfigurations"), "system");
    let lent = json!({"spec": {"limited": {"lendablePercent": 1}}});
    let patched = cluster.patch(level.clone(), PatchKind::Merge, lent).await.unwrap();
    let path = ["spec", "limited", "lendablePercent"];
    assert_eq!(patched.i64(&path), Some(1));
    cluster.wait(level, |found| found.i64(&path) == Some(33)).await;
}
