//! The pod's defaults and each of its rules, with upstream's message and path.

mod validation;

use serde_json::{Value, json};

use super::super::check::tests::{created, defaulted, refuses, refuses_update, texts, updated, with};
use super::*;

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "nginx:1.27"}]},
    })
}

/// A pod with one of nearly everything.
fn full() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "serviceAccountName": "builder",
            "initContainers": [
                {"name": "setup", "image": "busybox", "command": ["true"]},
                {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always",
                 "readinessProbe": {"tcpSocket": {"port": 80}}},
            ],
            "containers": [{
                "name": "a", "image": "nginx",
                "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81, "hostPort": 8081}],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                    {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                ],
                "envFrom": [{"secretRef": {"name": "s"}, "prefix": "S_"}],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]}},
                "startupProbe": {"exec": {"command": ["true"]}},
                "readinessProbe": {"grpc": {"port": 9000}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}, "postStart": {"httpGet": {"port": 80}}},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/config", "subPath": "x/y"},
                    {"name": "all", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "IfPossible"},
                ],
                "volumeDevices": [{"name": "disk", "devicePath": "/dev/x"}],
                "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
            }],
            "volumes": [
                {"name": "config", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
                {"name": "all", "projected": {"sources": [
                    {"secret": {"name": "s"}},
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]}},
                {"name": "disk", "ephemeral": {"volumeClaimTemplate": {"spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
                {"name": "host", "hostPath": {"path": "/tmp"}},
                {"name": "scratch"},
            ],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "preference": {"matchFields": [
                            {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}}],
                },
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
                    "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app": "web"}}}}]},
            },
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}}],
            "dnsConfig": {"nameservers": ["10.0.0.10"], "searches": ["a.b."], "options": [{"name": "ndots"}]},
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x.y"]}],
            "readinessGates": [{"conditionType": "example.com/ok"}],
            "securityContext": {"fsGroup": 1, "sysctls": [{"name": "net.core.somaxconn", "value": "1"}]},
            "schedulingGates": [{"name": "example.com/wait"}],
            "overhead": {"cpu": "10m"},
            "os": {"name": "linux"},
        },
    })
}

#[test]
fn a_pod_gets_its_defaults() {
    assert_eq!(
        defaulted(&row(), pod())["spec"],
        json!({
            "containers": [{
                "name": "a", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30, "enableServiceLinks": true,
        })
    );
}

#[test]
fn every_part_of_a_spec_gets_its_defaults() {
    let spec = &defaulted(&row(), full())["spec"];
    for (pointer, value) in [
        ("/serviceAccount", json!("builder")),
        ("/containers/0/imagePullPolicy", json!("Always")),
        ("/containers/0/ports/0/protocol", json!("TCP")),
        ("/containers/0/env/1/valueFrom/fieldRef/apiVersion", json!("v1")),
        (
            "/containers/0/resources/requests",
            json!({"cpu": "500m", "memory": "64Mi"}),
        ),
        (
            "/containers/0/livenessProbe",
            json!({"httpGet": {"port": "http", "path": "/", "scheme": "HTTP",
                "httpHeaders": [{"name": "X-A", "value": "b"}]},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
        ),
        ("/containers/0/readinessProbe/grpc/service", json!("")),
        ("/containers/0/lifecycle/postStart/httpGet/path", json!("/")),
        ("/initContainers/1/readinessProbe/periodSeconds", json!(10)),
        ("/volumes/0/configMap/defaultMode", json!(420)),
        ("/volumes/1/projected/defaultMode", json!(420)),
        (
            "/volumes/1/projected/sources/1/serviceAccountToken/expirationSeconds",
            json!(3600),
        ),
        (
            "/volumes/1/projected/sources/2/downwardAPI/items/0/fieldRef/apiVersion",
            json!("v1"),
        ),
        (
            "/volumes/2/ephemeral/volumeClaimTemplate/spec/volumeMode",
            json!("Filesystem"),
        ),
        ("/volumes/3/hostPath/type", json!("")),
        ("/volumes/4/emptyDir", json!({})),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&value), "{pointer}");
    }
}

#[test]
fn on_the_hosts_network_ports_are_the_hosts() {
    let mut object = full();
    object["spec"]["hostNetwork"] = json!(true);
    let spec = &defaulted(&row(), object)["spec"];
    assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
}

#[test]
fn a_pods_own_resources_follow_its_containers() {
    let mut object = with(
        &pod(),
        "/spec/resources",
        json!({"limits": {"cpu": "2", "memory": "1Gi"}}),
    );
    object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "250m"}});
    object["spec"]["initContainers"] = json!([
        {"name": "b", "image": "x", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
        {"name": "c", "image": "x", "resources": {"requests": {"cpu": "50m"}}},
    ]);
    assert_eq!(
        defaulted(&row(), object)["spec"]["resources"]["requests"],
        json!({"cpu": "350m", "memory": "1Gi"})
    );
}

#[test]
fn a_new_pod_is_pending_with_its_class() {
    let mut object = Object::from_value(full()).unwrap();
    Pod.set_defaults(&mut object);
    Pod.prepare_for_create(&mut object);
    assert_eq!(
        object.get(&["status"]),
        Some(&json!({
            "phase": "Pending", "qosClass": "Burstable",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}],
        }))
    );
}

#[test]
fn a_pod_with_one_of_everything_is_fine() {
    assert_eq!(created(&row(), full()), [""; 0]);
}

const MAY_CHANGE: &str = "spec: Forbidden: pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)\nchanged: ";

#[test]
fn an_update_changes_little() {
    let valid = full();
    for (pointer, value) in [
        ("/spec/containers/0/image", json!("nginx:2")),
        ("/spec/initContainers/0/image", json!("busybox:2")),
        ("/spec/activeDeadlineSeconds", json!(5)),
        ("/spec/tolerations/0/tolerationSeconds", json!(5)),
        ("/spec/tolerations/1", json!({"key": "k2", "operator": "Exists"})),
        ("/spec/schedulingGates", json!([])),
        ("/spec/nodeSelector", json!({"a": "b"})),
        ("/spec/hostNetwork", json!(false)),
        ("/spec/containers/0/resources/limits/cpu", json!("1000m")),
        ("/metadata/labels/x", json!("y")),
    ] {
        // The defaults of the changed image differ; a client sends back what it read.
        let mut object = with(&defaulted(&row(), valid.clone()), pointer, value);
        object.as_object_mut().unwrap().remove("status");
        assert_eq!(updated(&row(), valid.clone(), object), [""; 0], "{pointer}");
    }
    refuses_update(
        &row(),
        &valid,
        &[
            (
                "/spec/containers/1",
                json!({"name": "b", "image": "x"}),
                "spec.containers: Forbidden: pod updates may not add or remove containers",
            ),
            (
                "/spec/containers/0/command",
                json!(["x"]),
                &format!("{MAY_CHANGE}containers"),
            ),
            ("/spec/hostUsers", json!(false), &format!("{MAY_CHANGE}hostUsers")),
            (
                "/spec/tolerations",
                json!([]),
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ),
            (
                "/spec/schedulingGates/1",
                json!({"name": "example.com/more"}),
                "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate \
                 'example.com/more'",
            ),
            (
                "/metadata/annotations",
                json!({"container.apparmor.security.beta.kubernetes.io/a": "x"}),
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: Forbidden: may not add \
                 AppArmor annotations",
            ),
        ],
    );
    let ungated = with(&valid, "/spec/schedulingGates", json!(null));
    assert_eq!(
        updated(
            &row(),
            ungated.clone(),
            with(&ungated, "/spec/nodeSelector", json!({"a": "b"}))
        ),
        [format!("{MAY_CHANGE}nodeSelector")]
    );
}

#[test]
fn a_deadline_only_comes_nearer() {
    let object = with(&pod(), "/spec/activeDeadlineSeconds", json!(10));
    let with_deadline = |value: Value| {
        updated(
            &row(),
            object.clone(),
            with(&object, "/spec/activeDeadlineSeconds", value),
        )
    };
    assert_eq!(with_deadline(json!(5)), [""; 0]);
    assert_eq!(
        with_deadline(json!(11)),
        ["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"]
    );
    assert_eq!(
        with_deadline(json!(null)),
        ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"]
    );
}

#[test]
fn status_follows_the_rules_of_restarting() {
    let status = |state: Value| {
        json!({
            "metadata": {"name": "web"},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "a"}]},
            "status": {"containerStatuses": [{"name": "a", "state": state}],
                "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
        })
    };
    let check = |old: Value, new: Value| {
        let mut errors = ErrorList::new();
        Pod.validate_status_update(
            &Cursor::root(&new, Some(row().schema())),
            &Cursor::root(&old, None),
            &mut errors,
        );
        texts(&errors)
    };
    let (ended, running) = (
        status(json!({"terminated": {"exitCode": 0}})),
        status(json!({"running": {}})),
    );
    assert_eq!(check(running.clone(), ended.clone()), [""; 0]);
    assert_eq!(
        check(ended.clone(), running.clone()),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    let two = with(
        &running,
        "/status/podIPs",
        json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
    );
    assert_eq!(
        check(running, two),
        [
            "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one \
             IP for each IP family"
        ]
    );
}

#[test]
fn status_keeps_both_forms_of_the_address() {
    let old = Object::from_value(pod()).unwrap();
    for (status, expected) in [
        (json!({"podIP": "10.0.0.1"}), json!([{"ip": "10.0.0.1"}])),
        (json!({"podIPs": [{"ip": "10.0.0.1"}]}), json!([{"ip": "10.0.0.1"}])),
        (
            json!({"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}]}),
            json!([{"ip": "10.0.0.2"}]),
        ),
    ] {
        let mut new = old.clone();
        new.set(&["status"], status);
        Pod.prepare_for_status_update(&mut new, &old);
        assert_eq!(new.get(&["status", "podIPs"]), Some(&expected));
        assert_eq!(new.str(&["status", "podIP"]), expected[0]["ip"].as_str());
    }
}

#[test]
fn deletion_gives_time_to_pods_that_run() {
    let with_spec = |change: Value| {
        let mut object =
            json!({"spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        object
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        Object::from_value(object).unwrap()
    };
    let running = with_spec(json!({}));
    assert_eq!(Pod.deletion_grace(&running, None), Some(30));
    assert_eq!(Pod.deletion_grace(&running, Some(5)), Some(5));
    assert_eq!(Pod.deletion_grace(&running, Some(0)), Some(0));
    assert_eq!(Pod.deletion_grace(&running, Some(-1)), Some(1));
    assert_eq!(Pod.deletion_grace(&with_spec(json!({"spec": {}})), Some(5)), Some(0));
    assert_eq!(
        Pod.deletion_grace(&with_spec(json!({"status": {"phase": "Failed"}})), None),
        Some(0)
    );
}

#[test]
fn ephemeral_containers_come_and_stay() {
    let row = row();
    let old = Object::from_value(defaulted(&row, pod())).unwrap();
    let check = |old: &Object, change: &[(&str, Value)]| {
        let mut new = old.clone().into_value();
        for (pointer, value) in change {
            new = with(&new, pointer, value.clone());
        }
        let mut new = Object::from_value(new).unwrap();
        Pod.set_defaults(&mut new);
        Pod.prepare_for_subresource_update("ephemeralcontainers", &mut new, old);
        let (value, old) = (new.clone().into_value(), old.clone().into_value());
        let mut errors = ErrorList::new();
        Pod.validate_subresource_update(
            "ephemeralcontainers",
            &Cursor::root(&value, Some(row.schema())),
            &Cursor::root(&old, Some(row.schema())),
            &mut errors,
        );
        (new, texts(&errors))
    };
    let debugger = json!([{"name": "debug", "image": "busybox", "targetContainerName": "a"}]);
    let (new, errors) = check(
        &old,
        &[
            ("/spec/ephemeralContainers", debugger.clone()),
            ("/spec/hostNetwork", json!(true)),
        ],
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(new.get(&["spec", "hostNetwork"]), None, "only the containers are taken");
    assert_eq!(new.str(&["metadata", "name"]), Some("web"));
    assert_eq!(
        check(&new, &[("/spec/ephemeralContainers", json!([]))]).1,
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"]
    );
    for (field, value, expected) in [
        (
            "ports",
            json!([{"containerPort": 1}]),
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            "targetContainerName",
            json!("b"),
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"b\"",
        ),
        (
            "name",
            json!("a"),
            "spec.ephemeralContainers[0].name: Duplicate value: \"a\"",
        ),
    ] {
        let list = with(&debugger, &format!("/0/{field}"), value);
        assert_eq!(check(&old, &[("/spec/ephemeralContainers", list)]).1, [expected]);
    }
}

#[test]
fn a_resize_changes_cpu_and_memory_within_the_class() {
    let row = row();
    let valid = with(
        &pod(),
        "/spec/containers/0/resources",
        json!({"requests": {"cpu": "1", "memory": "1Gi"}}),
    );
    let old = Object::from_value(defaulted(&row, valid)).unwrap();
    let check = |resources: Value| {
        let changed = with(&old.clone().into_value(), "/spec/containers/0/resources", resources);
        let mut new = Object::from_value(changed).unwrap();
        new.set(&["spec", "nodeName"], "elsewhere");
        Pod.prepare_for_subresource_update("resize", &mut new, &old);
        assert_eq!(new.get(&["spec", "nodeName"]), None);
        let (new, old) = (new.into_value(), old.clone().into_value());
        let mut errors = ErrorList::new();
        Pod.validate_subresource_update(
            "resize",
            &Cursor::root(&new, Some(row.schema())),
            &Cursor::root(&old, Some(row.schema())),
            &mut errors,
        );
        errors
            .as_slice()
            .iter()
            .map(|e| format!("{}: {}", e.path, e.detail))
            .collect::<Vec<_>>()
    };
    assert_eq!(check(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), [""; 0]);
    assert_eq!(
        check(json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}})),
        ["spec: Pod QOS Class may not change as a result of resizing"]
    );
    assert_eq!(
        check(json!({"requests": {"cpu": "2"}})),
        ["spec.containers[0].resources.requests: resource requests cannot be removed"]
    );
    assert_eq!(
        check(json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}})),
        ["spec.containers[0].resources.requests[ephemeral-storage]: only cpu and memory resources are mutable"]
    );
}
