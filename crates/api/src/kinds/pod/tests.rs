//! The pod's defaults and each of its rules, with upstream's message and path.

use serde_json::{Value, json};

use super::super::check::tests::{created, defaulted, refuses, with};
use super::*;

mod status;
mod subresource;
mod update;

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

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn the_spec_is_checked() {
    refuses(
        &row(),
        &full(),
        &[
            (
                "/spec/restartPolicy",
                json!("Sometimes"),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
                 \"Never\"",
            ),
            (
                "/spec/dnsPolicy",
                json!("X"),
                "spec.dnsPolicy: Unsupported value: \"X\": supported values: \
                 \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(0),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
            (
                "/spec/hostname",
                json!("a.b"),
                "spec.hostname: Invalid value: \"a.b\": must not contain dots",
            ),
            (
                "/spec/nodeName",
                json!("n1"),
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ),
            (
                "/spec/priorityClassName",
                json!("X"),
                &format!("spec.priorityClassName: Invalid value: \"X\": {SUBDOMAIN}"),
            ),
            (
                "/spec/preemptionPolicy",
                json!("X"),
                "spec.preemptionPolicy: Unsupported value: \"X\": supported values: \
                 \"PreemptLowerPriority\", \"Never\"",
            ),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "e", "image": "x"}]),
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ),
            (
                "/spec/schedulingGates/1",
                json!({"name": "example.com/wait"}),
                "spec.schedulingGates[1]: Duplicate value: \"example.com/wait\"",
            ),
            (
                "/spec/dnsConfig/nameservers/0",
                json!("x"),
                "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            ),
            (
                "/spec/os/name",
                json!("plan9"),
                "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
            ),
            (
                "/spec/tolerations/0/effect",
                json!("NoSchedule"),
                "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when \
                 `tolerationSeconds` is set",
            ),
            (
                "/spec/topologySpreadConstraints/0/maxSkew",
                json!(0),
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ),
            (
                "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight",
                json!(101),
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: \
                 101: must be in the range 1-100",
            ),
            (
                "/spec/securityContext/sysctls/0/name",
                json!("X"),
                "spec.securityContext.sysctls[0].name: Invalid value: \"X\": must have at most 253 characters and \
                 match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ),
            (
                "/spec/securityContext/windowsOptions",
                json!({}),
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ),
        ],
    );
}

#[test]
fn containers_are_checked() {
    refuses(
        &row(),
        &full(),
        &[
            ("/spec/containers", json!([]), "spec.containers: Required value"),
            (
                "/spec/containers/0/name",
                json!("a.b"),
                "spec.containers[0].name: Invalid value: \"a.b\": must not contain dots",
            ),
            (
                "/spec/containers/0/image",
                json!(""),
                "spec.containers[0].image: Required value",
            ),
            (
                "/spec/containers/0/image",
                json!(" x"),
                "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
            ),
            (
                "/spec/containers/1",
                json!({"name": "a", "image": "y"}),
                "spec.containers[1].name: Duplicate value: \"a\"",
            ),
            (
                "/spec/initContainers/0/name",
                json!("a"),
                "spec.initContainers[0].name: Duplicate value: \"a\"",
            ),
            (
                "/spec/initContainers/0/readinessProbe",
                json!({"exec": {"command": ["x"]}}),
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ),
            (
                "/spec/containers/0/ports/0/containerPort",
                json!(70000),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, \
                 inclusive",
            ),
            (
                "/spec/containers/0/ports/0/protocol",
                json!("ICMP"),
                "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \
                 \"TCP\", \"UDP\"",
            ),
            (
                "/spec/containers/0/ports/0/hostPort",
                json!(8081),
                "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//8081\"",
            ),
            (
                "/spec/containers/0/env/0/name",
                json!("a=b"),
                "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must \
                 consist only of printable ASCII characters other than '='",
            ),
            (
                "/spec/containers/0/env/0/valueFrom",
                json!({}),
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                 `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ),
            (
                "/spec/containers/0/env/1/value",
                json!("x"),
                "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not \
                 empty",
            ),
            (
                "/spec/containers/0/env/1/valueFrom/fieldRef/fieldPath",
                json!("metadata.labels"),
                "spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": \
                 supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \
                 \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \
                 \"status.podIPs\"",
            ),
            (
                "/spec/containers/0/env/1/valueFrom/fieldRef/fieldPath",
                json!("spec.x"),
                "spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting \
                 fieldPath: field label not supported: spec.x",
            ),
            (
                "/spec/containers/0/env/4/valueFrom/configMapKeyRef/key",
                json!(""),
                "spec.containers[0].env[4].valueFrom.configMapKeyRef.key: Required value",
            ),
            (
                "/spec/containers/0/volumeMounts/0/name",
                json!("other"),
                "spec.containers[0].volumeMounts[0].name: Not found: \"other\"",
            ),
            (
                "/spec/containers/0/volumeMounts/0/mountPath",
                json!("/all"),
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/all\": must be unique",
            ),
            (
                "/spec/containers/0/volumeMounts/0/subPath",
                json!("../x"),
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
            ),
            (
                "/spec/containers/0/volumeMounts/0/mountPropagation",
                json!("Bidirectional"),
                "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is \
                 available only to privileged containers",
            ),
            (
                "/spec/containers/0/volumeDevices/0/name",
                json!("host"),
                "spec.containers[0].volumeDevices[0].name: Invalid value: \"host\": can only use volume source type \
                 of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            (
                "/spec/containers/0/resources/requests/cpu",
                json!("2"),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit \
                 of 1",
            ),
            (
                "/spec/overhead/pods",
                json!("1"),
                "spec.overhead.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ),
            (
                "/spec/containers/0/imagePullPolicy",
                json!("Often"),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \
                 \"IfNotPresent\", \"Never\"",
            ),
            (
                "/spec/containers/0/livenessProbe/successThreshold",
                json!(2),
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                "/spec/containers/0/livenessProbe/exec",
                json!({"command": ["x"]}),
                "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
            ),
            (
                "/spec/containers/0/startupProbe/exec",
                json!(null),
                "spec.containers[0].startupProbe: Required value: must specify a handler type",
            ),
            (
                "/spec/containers/0/lifecycle/preStop/sleep/seconds",
                json!(31),
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
                 terminationGracePeriodSeconds (30)",
            ),
            (
                "/spec/containers/0/securityContext/runAsUser",
                json!(-1),
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, \
                 inclusive",
            ),
            (
                "/spec/containers/0/securityContext/seccompProfile/type",
                json!("Localhost"),
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when \
                 seccomp type is Localhost",
            ),
        ],
    );
}

#[test]
fn volumes_are_checked() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume
            .as_object_mut()
            .unwrap()
            .extend(source.as_object().unwrap().clone());
        let errors = created(&row(), with(&full(), "/spec/volumes/5", volume));
        let [one] = &errors[..] else {
            panic!("{errors:?}");
        };
        one.clone()
    };
    for (source, expected) in [
        (
            json!({"emptyDir": {}, "hostPath": {"path": "/x"}}),
            "spec.volumes[5].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"hostPath": {"path": ""}}),
            "spec.volumes[5].hostPath.path: Required value",
        ),
        (
            json!({"hostPath": {"path": "/a/../b"}}),
            "spec.volumes[5].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            json!({"secret": {}}),
            "spec.volumes[5].secret.secretName: Required value",
        ),
        (
            json!({"secret": {"secretName": "s", "defaultMode": 512}}),
            "spec.volumes[5].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both \
             inclusive",
        ),
        (
            json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "/p"}]}}),
            "spec.volumes[5].secret.items[0].path: Invalid value: \"/p\": must be a relative path",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": ""}}),
            "spec.volumes[5].persistentVolumeClaim.claimName: Required value",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "web-disk"}}),
            "spec.volumes[5].persistentVolumeClaim.claimName: Invalid value: \"web-disk\": must not reference a PVC \
             that gets created for an ephemeral volume",
        ),
        (
            json!({"nfs": {"server": "s", "path": "p"}}),
            "spec.volumes[5].nfs.path: Invalid value: \"p\": must be an absolute path",
        ),
        (
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}),
            "spec.volumes[5].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not \
             specify a duration less than 10 minutes",
        ),
        (
            json!({"projected": {"sources": [{"secret": {"name": "a", "items": [{"key": "k", "path": "p"}]}},
                {"configMap": {"name": "b", "items": [{"key": "k", "path": "p"}]}}]}}),
            "spec.volumes[5].projected: Invalid value: \"b\": conflicting duplicate paths",
        ),
        (
            json!({"csi": {"driver": "X_"}}),
            &format!("spec.volumes[5].csi.driver: Invalid value: \"X_\": {SUBDOMAIN}"),
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "x"}]}}),
            "spec.volumes[5].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
        ),
    ] {
        assert_eq!(volume(source), expected);
    }
    assert_eq!(
        created(&row(), with(&full(), "/spec/volumes/4/name", json!("host"))),
        ["spec.volumes[4].name: Duplicate value: \"host\""]
    );
}

#[test]
fn tokens_need_an_account() {
    let object = with(&full(), "/spec/serviceAccountName", json!(null));
    assert_eq!(
        created(&row(), object),
        [
            "spec.volumes[1].projected.sources[1].serviceAccountToken: Forbidden: must not be specified when \
             serviceAccountName is not set"
        ]
    );
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

/// concepts/workloads/pods/user-namespaces: limitations.
#[test]
fn with_user_namespaces_no_host_namespace_and_no_container_s_volume_devices_are_allowed() {
    let valid = with(&pod(), "/spec/hostUsers", json!(false));
    let claim = json!([{"name": "disk", "persistentVolumeClaim": {"claimName": "c"}}]);
    let valid = with(&valid, "/spec/volumes", claim);
    let valid = with(&valid, "/spec/initContainers", json!([{"name": "i", "image": "i:1"}]));
    let device = json!([{"name": "disk", "devicePath": "/dev/x"}]);
    let why = "Forbidden: when `hostUsers` is false";
    refuses(
        &row(),
        &valid,
        &[
            ("/spec/hostNetwork", json!(true), &format!("spec.hostNetwork: {why}")),
            ("/spec/hostPID", json!(true), &format!("spec.HostPID: {why}")),
            ("/spec/hostIPC", json!(true), &format!("spec.HostIPC: {why}")),
            (
                "/spec/containers/0/volumeDevices",
                device.clone(),
                &format!("spec.containers[0].volumeDevices: {why}"),
            ),
            (
                "/spec/initContainers/0/volumeDevices",
                device,
                &format!("spec.initContainers[0].volumeDevices: {why}"),
            ),
        ],
    );
}
