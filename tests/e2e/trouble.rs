//! What goes wrong on a node is seen, and is not fatal: a fork bomb, a full disk.

use super::harness::{Cluster, Disk, JoinedNode};

fn configuration(dir: &std::path::Path, fields: &str) -> String {
    let path = dir.join("kubelet.yaml");
    let header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    std::fs::write(&path, format!("{header}{fields}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn pod(name: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  \
         containers:\n  - {{name: c, image: 'demo/web:v1', command: [sh, -c, {script:?}], resources: {{limits: {{cpu: 200m}}}}, \
         volumeMounts: [{{name: d, mountPath: /data}}]}}\n  volumes: [{{name: d, emptyDir: {{}}}}]\n"
    )
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_its_pod_and_others_do_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "podPidsLimit: 64");
    let cluster = Cluster::start_with_image(&["--kubelet-config", &config]);
    cluster.apply(&pod("calm", "sleep 1000"));
    cluster.k(&["wait", "pod/calm", "--for=condition=Ready", "--timeout=60s"]);
    cluster.apply(&pod("bomb", "bomb() { bomb | bomb & }; bomb; while :; do wait; done"));
    cluster.k(&["wait", "pod/bomb", "--for=condition=Ready", "--timeout=60s"]);
    cluster.follow(&["bomb"]).until("can't fork");
    assert_eq!(
        cluster.k(&["exec", "calm", "--", "echo", "unharmed"]).trim(),
        "unharmed"
    );
    assert_eq!(
        cluster.field("pod/calm", ".status.containerStatuses[0].restartCount"),
        "0"
    );
    let ready = r#".items[0].status.conditions[?(@.type=="Ready")].status"#;
    assert_eq!(cluster.field("nodes", ready), "True");
    cluster.k(&["delete", "pod", "bomb", "--timeout=60s"]);
}

#[test]
fn a_pod_that_fills_the_disk_is_evicted_and_the_node_recovers() {
    let cluster = Cluster::without_node();
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::small("256m"));
    let config = configuration(dir.path(), "evictionPressureTransitionPeriod: 0s");
    let node = JoinedNode::start(
        &cluster,
        "n1",
        &disk.path().join("data"),
        &["--kubelet-config", &config],
    );
    let pressure = r#"jsonpath={.object.status.conditions[?(@.type=="DiskPressure")].status}{"\n"}"#;
    let mut pressure = cluster.watch(&["node", "n1", "-o", pressure]);
    cluster.apply(&pod("hog", "dd if=/dev/zero of=/data/fill bs=1M; sleep 1000"));
    cluster.wait_for("pod/hog", ".status.phase", "Failed");
    assert_eq!(cluster.field("pod/hog", ".status.reason"), "Evicted");
    let message = cluster.field("pod/hog", ".status.message");
    assert!(
        message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity:"),
        "{message}"
    );
    let events = cluster.k(&["get", "events", "--field-selector", "involvedObject.name=hog"]);
    assert!(events.contains("Evicted"), "{events}");
    cluster.k(&["delete", "pod", "hog", "--timeout=60s"]);
    pressure.until("True");
    pressure.until("False");
    cluster.apply(&pod("next", "sleep 1000"));
    cluster.k(&["wait", "pod/next", "--for=condition=Ready", "--timeout=60s"]);
    cluster.k(&["delete", "pod", "next"]);
    drop(node);
}
