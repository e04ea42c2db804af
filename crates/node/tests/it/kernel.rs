//! What pods ask of the kernel: users of their own, groups, parameters, devices, images as volumes.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use crate::cluster::{IMAGE, Node, Runtime};
use crate::pods::{container, ended, logs};

fn once(script: &str) -> Value {
    json!({"restartPolicy": "Never", "containers": [container("c", script)]})
}

pub async fn security_contexts_are_what_they_say() {
    let node = Node::start(Runtime::Engine).await;
    // A pod with users of its own passes through here.
    std::fs::set_permissions(node.data_dir().parent().unwrap(), PermissionsExt::from_mode(0o711)).unwrap();
    let mut own = once(
        "cat /proc/self/uid_map; id -u; echo x > /data/file; stat -c %u:%g /data/file /config/a; test -f /proc/keys && echo unmasked",
    );
    own["hostUsers"] = json!(false);
    own["securityContext"] = json!({"fsGroup": 4242});
    own["containers"][0]["securityContext"] = json!({"procMount": "Unmasked"});
    own["containers"][0]["volumeMounts"] =
        json!([{"name": "d", "mountPath": "/data"}, {"name": "c", "mountPath": "/config"}]);
    own["volumes"] = json!([{"name": "d", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "c", "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}}]);
    node.run("own", own).await;

    let mut groups = once(
        "id -G; grep Seccomp: /proc/self/status; mkdir /tmp/x 2>&1; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; df -k /data | busybox tail -1 | busybox awk '{print $2}'",
    );
    let profile =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(node.data_dir().join("seccomp/no-mkdir.json"), profile).unwrap();
    groups["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 1001, "supplementalGroups": [77], "fsGroup": 88,
        "supplementalGroupsPolicy": "Strict", "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "7"}],
        "seccompProfile": {"type": "Localhost", "localhostProfile": "no-mkdir.json"}});
    groups["containers"][0]["volumeMounts"] = json!([{"name": "d", "mountPath": "/data", "subPathExpr": "$(WHO)"}]);
    groups["containers"][0]["env"] =
        json!([{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    groups["volumes"] = json!([{"name": "d", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    node.run("groups", groups).await;

    for (name, spec, reason, message) in [
        (
            "unsafe",
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "9"}]}}),
            "SysctlForbidden",
            "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted",
        ),
        (
            "confined",
            json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "none-such"}}}),
            "AppArmor",
            "Pod was rejected: Cannot enforce AppArmor: ",
        ),
    ] {
        let mut refused = once("true");
        refused
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        node.run(name, refused).await;
        let pod = node.until(name, ended).await;
        let status = pod.status.as_ref().unwrap();
        assert_eq!(
            (status.phase.as_deref(), status.reason.as_deref()),
            (Some("Failed"), Some(reason))
        );
        assert!(
            status.message.as_deref().unwrap().starts_with(message),
            "{:?}",
            status.message
        );
        node.delete(name).await;
    }

    node.until("own", ended).await;
    let text = logs(&node, "own", "c").await;
    let lines: Vec<&str> = text.lines().collect();
    let map: Vec<&str> = lines[0].split_whitespace().collect();
    assert!(map[0] == "0" && map[1] != "0" && map[2] == "65536", "{text}");
    assert_eq!(lines[1..], ["0", "0:4242", "0:4242", "unmasked"], "{text}");
    node.until("groups", ended).await;
    let text = logs(&node, "groups", "c").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "1001 77 88", "{text}");
    assert_eq!(lines[1], "Seccomp:\t2");
    assert!(lines[2].contains("not permitted"), "{text}");
    assert_eq!(lines[3..], ["7", "1024"], "{text}");
    for name in ["own", "groups"] {
        node.delete(name).await;
    }
    node.end().await;
}

pub async fn images_and_devices_are_volumes_too() {
    let node = Node::start(Runtime::Engine).await;
    // A block device of this test's own.
    let disk = node.data_dir().join("disk");
    std::fs::write(&disk, [b'x'; 1 << 20]).unwrap();
    let attached = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&disk)
        .output()
        .unwrap();
    let device = String::from_utf8(attached.stdout).unwrap().trim().to_owned();
    assert!(
        device.starts_with("/dev/loop"),
        "{:?}",
        String::from_utf8_lossy(&attached.stderr)
    );
    let volume = json!({"metadata": {"name": "raw"}, "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Block", "local": {"path": device}, "storageClassName": "",
        "claimRef": {"namespace": "default", "name": "raw"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
            [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}}}});
    let claim = json!({"metadata": {"name": "raw", "namespace": "default"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "volumeMode": "Block", "storageClassName": "", "volumeName": "raw", "resources": {"requests": {"storage": "1Mi"}}}});
    let volumes = node.client.all::<PersistentVolume>();
    volumes.create(&serde_json::from_value(volume).unwrap()).await.unwrap();
    let claims = node.client.namespaced::<PersistentVolumeClaim>("default");
    let claim = claims.create(&serde_json::from_value(claim).unwrap()).await.unwrap();
    // What the controller would write.
    let bound = coracle_client::Patch::Merge(json!({"status": {"phase": "Bound"}}));
    claims.status().patch("raw", bound).await.unwrap();
    let uid = coracle_client::Patch::Merge(json!({"spec": {"claimRef": {"uid": claim.metadata.uid}}}));
    volumes.patch("raw", uid).await.unwrap();

    let mut spec = once(
        "cat /image/etc/passwd; touch /image/x 2>&1; busybox head -c 3 /dev/raw; echo; echo yes | busybox dd of=/dev/raw bs=3 count=1 conv=notrunc 2>/dev/null && busybox head -c 3 /dev/raw",
    );
    spec["volumes"] = json!([{"name": "i", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}},
        {"name": "raw", "persistentVolumeClaim": {"claimName": "raw"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "i", "mountPath": "/image"}]);
    spec["containers"][0]["volumeDevices"] = json!([{"name": "raw", "devicePath": "/dev/raw"}]);
    node.run("uses", spec).await;
    node.until("uses", ended).await;
    let text = logs(&node, "uses", "c").await;
    node.delete("uses").await;

    let mut missing = once("true");
    missing["volumes"] = json!([{"name": "i", "image": {"reference": "localhost/none:1", "pullPolicy": "Never"}}]);
    missing["containers"][0]["volumeMounts"] = json!([{"name": "i", "mountPath": "/image"}]);
    node.run("missing", missing).await;
    let waits = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        let mut waiting = statuses.filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
        waiting.any(|reason| reason == "ErrImageNeverPull")
    };
    node.until("missing", waits).await;
    node.delete("missing").await;
    let detached = Command::new("losetup").args(["--detach", &device]).status().unwrap();
    assert!(detached.success());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "root:x:0:0:root:/:/bin/sh", "{text}");
    assert!(lines[1].contains("Read-only"), "{text}");
    assert_eq!(lines[2..], ["xxx", "yes"], "{text}");
    node.end().await;
}
