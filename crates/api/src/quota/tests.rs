//! What objects count for, by tables.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

fn counted(group: &str, plural: &str, object: Value) -> (Evaluator, Counted) {
    let evaluator = Evaluator::of(group, plural);
    let stored = StoredObject::from_bytes(Bytes::from(object.to_string()), 1).unwrap();
    let counted = evaluator.counted(&stored).unwrap();
    (evaluator, counted)
}

fn usage(group: &str, plural: &str, object: Value) -> Vec<String> {
    let (evaluator, counted) = counted(group, plural, object);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let usage = evaluator.usage(&counted, now);
    for name in usage.keys() {
        assert!(evaluator.tracks(name), "{name} is counted and not tracked");
    }
    usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "x"}, "spec": spec})
}

#[test]
fn a_pod_counts_for_what_it_requests_and_may_use() {
    let spec = json!({
        "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}}},
            {"name": "b", "resources": {"requests": {"cpu": "200m", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1G"}}},
        ],
        "initContainers": [
            {"name": "i", "resources": {"requests": {"cpu": "1"}}},
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
            {"name": "j", "resources": {"requests": {"cpu": "2"}}},
        ],
        "overhead": {"cpu": "10m", "memory": "1Mi"},
    });
    assert_eq!(
        usage("", "pods", pod(spec)),
        [
            "count/pods=1",
            "cpu=2060m",
            "ephemeral-storage=1G",
            "hugepages-2Mi=4Mi",
            "limits.memory=1025Mi",
            "memory=1Mi",
            "pods=1",
            "requests.cpu=2060m",
            "requests.ephemeral-storage=1G",
            "requests.example.com/gpu=2",
            "requests.hugepages-2Mi=4Mi",
            "requests.memory=1Mi",
        ]
    );
}

#[test]
fn pod_level_resources_replace_the_sum_of_containers() {
    let spec = json!({
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}],
        "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
    });
    assert_eq!(
        usage("", "pods", pod(spec)),
        [
            "count/pods=1",
            "cpu=1",
            "limits.cpu=2",
            "memory=1Mi",
            "pods=1",
            "requests.cpu=1",
            "requests.memory=1Mi"
        ]
    );
}

#[test]
fn a_resize_counts_the_larger_of_old_and_new_unless_it_cannot_be() {
    let mut it = pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}]}));
    it["status"] = json!({"containerStatuses": [{
        "name": "a", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "resources": {"requests": {"cpu": "1"}}, "allocatedResources": {"cpu": "1500m"},
    }]});
    assert!(usage("", "pods", it.clone()).contains(&"cpu=2".to_owned()));
    it["status"]["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    assert!(usage("", "pods", it).contains(&"cpu=1500m".to_owned()));
}

#[test]
fn a_pod_that_is_over_counts_as_an_object_only() {
    let of = |meta: Value, phase: &str| {
        let mut it = pod(json!({"containers": [{"name": "a"}]}));
        for (key, value) in meta.as_object().unwrap() {
            it["metadata"][key] = value.clone();
        }
        it["status"] = json!({"phase": phase});
        usage("", "pods", it)
    };
    let (counts, gone) = (vec!["count/pods=1", "pods=1"], vec!["count/pods=1"]);
    let going = |at: &str| json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": 30});
    for (meta, phase, expected) in [
        (json!({}), "Running", &counts),
        (json!({}), "Succeeded", &gone),
        (json!({}), "Failed", &gone),
        (going("2025-12-31T23:59:50Z"), "Running", &counts),
        (going("2025-12-31T23:59:20Z"), "Running", &gone),
    ] {
        assert_eq!(&of(meta.clone(), phase), expected, "{phase} {meta}");
    }
}

#[test]
fn services_count_ports_and_balancers_by_intent() {
    let service = |spec: Value| {
        usage(
            "",
            "services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": spec}),
        )
    };
    let ports = json!([{"port": 1, "nodePort": 30000}, {"port": 2}]);
    for (spec, balancers, node_ports) in [
        (json!({"type": "ClusterIP", "ports": ports}), 0, 0),
        (json!({"type": "NodePort", "ports": ports}), 0, 2),
        (json!({"type": "LoadBalancer", "ports": ports}), 1, 2),
        (
            json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}),
            1,
            1,
        ),
    ] {
        assert_eq!(
            service(spec),
            [
                "count/services=1".to_owned(),
                "services=1".to_owned(),
                format!("services.loadbalancers={balancers}"),
                format!("services.nodeports={node_ports}")
            ]
        );
    }
}

#[test]
fn volume_claims_count_by_storage_class_in_whole_bytes() {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": {
        "storageClassName": "gold", "resources": {"requests": {"storage": "1.5"}}},
        "status": {"allocatedResources": {"storage": "1"}}});
    assert_eq!(
        usage("", "persistentvolumeclaims", claim.clone()),
        [
            "count/persistentvolumeclaims=1",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims=1",
            "gold.storageclass.storage.k8s.io/requests.storage=2",
            "persistentvolumeclaims=1",
            "requests.storage=2",
        ]
    );
    let mut shrunk = claim;
    shrunk["status"]["allocatedResources"]["storage"] = json!("1Gi");
    assert!(usage("", "persistentvolumeclaims", shrunk).contains(&"requests.storage=1Gi".to_owned()));
}

#[test]
fn device_claims_count_by_class_and_alternatives_by_the_most() {
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {}, "spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"name": "b", "exactly": {"deviceClassName": "nic", "allocationMode": "All"}},
        {"name": "c", "firstAvailable": [
            {"name": "x", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
            {"name": "y", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 4},
        ]},
    ]}}});
    assert_eq!(
        usage("resource.k8s.io", "resourceclaims", claim),
        [
            "count/resourceclaims.resource.k8s.io=1",
            "gpu.deviceclass.resource.k8s.io/devices=6",
            "nic.deviceclass.resource.k8s.io/devices=32",
        ]
    );
}

#[test]
fn every_other_object_counts_as_one_under_its_name_and_its_old_name() {
    let one =
        |group: &str, plural: &str| usage(group, plural, json!({"apiVersion": "v1", "kind": "X", "metadata": {}}));
    assert_eq!(one("", "secrets"), ["count/secrets=1", "secrets=1"]);
    assert_eq!(one("apps", "deployments"), ["count/deployments.apps=1"]);
    assert_eq!(one("example.com", "widgets"), ["count/widgets.example.com=1"]);
}

#[test]
fn scopes_cover_pods_by_what_they_are() {
    let plain = json!({"containers": [{"name": "a"}]});
    let with = |key: &str, value: Value| {
        let mut spec = plain.clone();
        spec[key] = value;
        spec
    };
    let asking = json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]});
    let far = with(
        "affinity",
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "z", "namespaces": ["other"]}}]}}),
    );
    let high = with("priorityClassName", json!("high"));
    let class = |operator: &str, values: Value| {
        json!({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    let scope = |name: &str| json!({"scopes": [name]});
    for (spec, quota, expected) in [
        (&plain, json!({}), true),
        (&plain, scope("Terminating"), false),
        (&plain, scope("NotTerminating"), true),
        (&with("activeDeadlineSeconds", json!(5)), scope("Terminating"), true),
        (&plain, scope("BestEffort"), true),
        (&asking, scope("BestEffort"), false),
        (&asking, scope("NotBestEffort"), true),
        (&plain, scope("CrossNamespacePodAffinity"), false),
        (&far, scope("CrossNamespacePodAffinity"), true),
        (&plain, scope("PriorityClass"), false),
        (&high, scope("PriorityClass"), true),
        (&high, class("In", json!(["high", "low"])), true),
        (&high, class("In", json!(["low"])), false),
        (&high, class("NotIn", json!(["low"])), true),
        (&plain, class("NotIn", json!(["low"])), true),
        (&plain, class("DoesNotExist", json!([])), true),
        (&high, class("DoesNotExist", json!([])), false),
        (
            &high,
            json!({"scopes": ["NotTerminating"], "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}}),
            false,
        ),
    ] {
        let (evaluator, counted) = counted("", "pods", pod(spec.clone()));
        let typed: ResourceQuotaSpec = serde_json::from_value(quota.clone()).unwrap();
        assert_eq!(
            evaluator.is_covered(&typed, ["pods"].into_iter(), &counted),
            expected,
            "{spec} by {quota}"
        );
        assert!(!evaluator.is_covered(&typed, ["services"].into_iter(), &counted));
    }
}

#[test]
fn a_volume_claim_is_in_a_scope_by_any_class_it_has_or_is_getting() {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {},
        "spec": {"volumeAttributesClassName": "new"}, "status": {"currentVolumeAttributesClassName": "old"}});
    let bare = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}});
    let scope = |operator: &str, value: Option<&str>| {
        json!({"scopeSelector": {"matchExpressions": [
        {"scopeName": "VolumeAttributesClass", "operator": operator, "values": value}]}})
    };
    for (claim, operator, value, expected) in [
        (&claim, "In", Some("old"), true),
        (&claim, "In", Some("new"), true),
        (&claim, "In", Some("other"), false),
        (&claim, "Exists", None, true),
        (&bare, "Exists", None, false),
        (&bare, "DoesNotExist", None, true),
    ] {
        let (evaluator, counted) = counted("", "persistentvolumeclaims", claim.clone());
        let mut quota = scope(operator, None);
        quota["scopeSelector"]["matchExpressions"][0]["values"] = json!(value.map(|v| [v]));
        let typed: ResourceQuotaSpec = serde_json::from_value(quota).unwrap();
        let covered = evaluator.is_covered(&typed, ["requests.storage"].into_iter(), &counted);
        assert_eq!(covered, expected, "{operator} {value:?}");
    }
}

#[test]
fn containers_must_name_what_a_quota_limits() {
    let of = |spec: Value, required: &[&str]| {
        let (_, counted) = counted("", "pods", pod(spec));
        counted.missing(required.iter().copied())
    };
    let spec = json!({
        "containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [{"name": "i"}],
    });
    assert_eq!(of(spec.clone(), &["pods", "requests.ephemeral-storage"]), None);
    assert_eq!(
        of(spec.clone(), &["requests.cpu", "limits.memory", "pods"]).as_deref(),
        Some("must specify limits.memory for: a,b,i; requests.cpu for: b,i")
    );
    let mut whole = spec;
    whole["resources"] = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
    assert_eq!(of(whole, &["requests.cpu", "limits.memory"]), None);
}

#[test]
fn writes_are_charged_when_they_can_change_what_counts() {
    for (group, plural, creating, subresource, expected) in [
        ("", "pods", true, "", true),
        ("", "pods", false, "", false),
        ("", "pods", false, "resize", true),
        ("", "pods", false, "status", false),
        ("", "services", false, "", true),
        ("", "persistentvolumeclaims", false, "status", true),
        ("apps", "deployments", true, "", true),
        ("apps", "deployments", false, "", false),
        ("apps", "deployments", true, "scale", false),
    ] {
        let charged = Evaluator::of(group, plural).is_charged(creating, subresource);
        assert_eq!(charged, expected, "{plural} {creating} {subresource}");
    }
}
