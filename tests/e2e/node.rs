//! What a node does for its pods and for itself, with real containers: static pods, debugging, resizing, eviction, and a
//! machine that goes down.

use super::harness::{Cluster, Kubectl};

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

fn write(dir: &std::path::Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn configuration(dir: &std::path::Path, fields: &str) -> String {
    let header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    write(dir, "kubelet.yaml", &format!("{header}{fields}\n"))
}

fn manifest(words: &str) -> String {
    let script = format!("echo {words}; {IDLE}");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: own}}\nspec:\n  terminationGracePeriodSeconds: 2\n  containers:\n  \
         - name: c\n    image: demo/web:v1\n    command: [sh, -c, {script:?}]\n"
    )
}

#[test]
fn a_static_pod_is_mirrored_outlives_its_mirror_and_follows_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = dir.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let cluster = Cluster::start_with_image(&["--node-name", "n1", "--pod-manifest-path", manifests.to_str().unwrap()]);
    write(&manifests, "own.yaml", &manifest("first"));
    let ready = |words: &str| {
        cluster.k(&["wait", "pod/own-n1", "--for=create", "--timeout=60s"]);
        cluster.k(&["wait", "pod/own-n1", "--for=condition=Ready", "--timeout=60s"]);
        assert_eq!(cluster.follow(&["own-n1"]).line(), words);
    };
    ready("first");
    let container = cluster.field("pod/own-n1", ".status.containerStatuses[0].containerID");
    let mirror = cluster.field("pod/own-n1", ".metadata.uid");
    assert_eq!(
        cluster.field("pod/own-n1", r".metadata.annotations.kubernetes\.io/config\.source"),
        "file"
    );
    assert_eq!(cluster.k(&["exec", "own-n1", "--", "cat", "/etc/version"]).trim(), "v1");
    cluster.k(&["delete", "pod", "own-n1", "--wait=true"]);
    ready("first");
    assert_ne!(cluster.field("pod/own-n1", ".metadata.uid"), mirror);
    assert_eq!(
        cluster.field("pod/own-n1", ".status.containerStatuses[0].containerID"),
        container,
        "the container has not noticed"
    );
    // A wait for the deletion might begin when the next mirror is there already, and then wait for that one's.
    let mut watch = cluster.watch(&["pod", "own-n1"]);
    watch.until("ADDED");
    write(&manifests, "own.yaml", &manifest("second"));
    watch.until("DELETED");
    watch.until("ADDED");
    ready("second");
    std::fs::remove_file(manifests.join("own.yaml")).unwrap();
    cluster.k(&["wait", "pod/own-n1", "--for=delete", "--timeout=60s"]);
}

fn bound(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: n1\n  terminationGracePeriodSeconds: 1\n  {spec}\n  \
         containers: [{{name: c, image: \"demo/web:v1\", command: [sleep, \"1000\"], ports: [{{containerPort: 80, hostPort: 8080}}]}}]\n"
    )
}

#[test]
fn a_node_refuses_what_was_bound_to_it_by_mistake_and_allows_the_sysctls_that_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "allowedUnsafeSysctls: [net.core.somaxconn]");
    let cluster = Cluster::start_with_image(&["--node-name", "n1", "--kubelet-config", &config]);
    let sysctl = |name: &str| format!("securityContext: {{sysctls: [{{name: {name}, value: \"123\"}}]}}");
    cluster.k(&["label", "node", "n1", "disk=ssd"]);
    cluster.apply(&bound("first", "nodeSelector: {disk: ssd}"));
    cluster.k(&["wait", "pod/first", "--for=condition=Ready", "--timeout=60s"]);
    for (name, spec, reason) in [
        ("elsewhere", "nodeSelector: {disk: hdd}".to_owned(), "NodeAffinity"),
        ("second", "hostIPC: false".to_owned(), "NodePorts"),
        ("unsafe", sysctl("net.core.netdev_max_backlog"), "SysctlForbidden"),
    ] {
        if name == "unsafe" {
            cluster.k(&["delete", "pod", "first"]);
        }
        cluster.apply(&bound(name, &spec));
        cluster.wait_for(&format!("pod/{name}"), ".status.phase", "Failed");
        assert_eq!(cluster.field(&format!("pod/{name}"), ".status.reason"), reason);
    }
    cluster.apply(&bound("allowed", &sysctl("net.core.somaxconn")));
    cluster.k(&["wait", "pod/allowed", "--for=condition=Ready", "--timeout=60s"]);
    let value = cluster.k(&["exec", "allowed", "--", "cat", "/proc/sys/net/core/somaxconn"]);
    assert_eq!(value.trim(), "123");
}

const SIZED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sized}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: c
    image: demo/web:v1
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}
"#;

fn resize(cluster: &Cluster, resources: &str) {
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
    cluster.k(&["patch", "pod", "sized", "--subresource", "resize", "-p", &patch]);
}

#[test]
fn a_running_pod_is_resized_without_a_restart_and_told_when_it_cannot_be() {
    let cluster = Cluster::start_with_image(&[]);
    cluster.apply(SIZED);
    cluster.k(&["wait", "pod/sized", "--for=condition=Ready", "--timeout=60s"]);
    let container = cluster.field("pod/sized", ".status.containerStatuses[0].containerID");
    let memory = || {
        let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        cluster
            .k(&["exec", "sized", "--", "sh", "-c", script])
            .trim()
            .to_owned()
    };
    assert_eq!(memory(), (64 << 20).to_string());
    for (amount, bytes) in [("128Mi", 128 << 20), ("32Mi", 32 << 20)] {
        resize(
            &cluster,
            &format!(
                r#"{{"requests":{{"cpu":"150m","memory":"{amount}"}},"limits":{{"cpu":"300m","memory":"{amount}"}}}}"#
            ),
        );
        cluster.wait_for(
            "pod/sized",
            ".status.containerStatuses[0].resources.limits.memory",
            amount,
        );
        assert_eq!(memory(), bytes.to_string());
    }
    assert_eq!(
        cluster.field("pod/sized", ".status.containerStatuses[0].resources.requests.cpu"),
        "150m"
    );
    resize(&cluster, r#"{"requests":{"cpu":"1000"},"limits":{"cpu":"1001"}}"#);
    let reason = r#".status.conditions[?(@.type=="PodResizePending")].reason"#;
    cluster.wait_for("pod/sized", reason, "Infeasible");
    resize(&cluster, r#"{"requests":{"cpu":"150m"},"limits":{"cpu":"300m"}}"#);
    let generation = cluster.field("pod/sized", ".metadata.generation");
    cluster.wait_for("pod/sized", ".status.observedGeneration", &generation);
    assert_eq!(cluster.field("pod/sized", reason), "");
    assert_eq!(
        cluster.field("pod/sized", ".status.containerStatuses[0].containerID"),
        container
    );
}

#[test]
fn an_exit_code_restarts_all_of_a_pod_in_its_place() {
    let cluster = Cluster::start_with_image(&[]);
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: once, image: "demo/web:v1", command: [sh, -c, "echo init >> /data/rounds"], volumeMounts: [{name: d, mountPath: /data}]}
  containers:
  - name: fails
    image: demo/web:v1
    command: [sh, -c, "[ $(wc -l < /data/rounds) -gt 1 ] && exec sleep 1000; until [ -e /data/go ]; do usleep 10000; done; exit 42"]
    restartPolicy: Never
    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]
    volumeMounts: [{name: d, mountPath: /data}]
  - name: other
    image: demo/web:v1
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]
    volumeMounts: [{name: d, mountPath: /data}]
  volumes: [{name: d, emptyDir: {}}]
"#,
    );
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    let ip = cluster.field("pod/p", ".status.podIP");
    cluster.k(&["exec", "p", "-c", "other", "--", "touch", "/data/go"]);
    for name in ["fails", "other"] {
        let count = format!(r#".status.containerStatuses[?(@.name=="{name}")].restartCount"#);
        cluster.wait_for("pod/p", &count, "1");
    }
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    let rounds = cluster.k(&["exec", "p", "-c", "other", "--", "cat", "/data/rounds"]);
    assert_eq!(rounds, "init\ninit\n", "volumes stay, and init containers run again");
    assert_eq!(cluster.field("pod/p", ".status.podIP"), ip);
    assert_eq!(
        cluster.field("pod/p", ".status.initContainerStatuses[0].restartCount"),
        "1"
    );
}

#[test]
fn kubectl_debug_sees_the_processes_of_its_target() {
    let cluster = Cluster::start_with_image(&[]);
    cluster.k(&["run", "p", "--image=demo/web:v1", "--", "sh", "-c", IDLE]);
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    let look = "tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/root/etc/version";
    for (name, which) in [("old", Kubectl::V27), ("new", Kubectl::V37)] {
        let said = cluster.kubectl(
            which,
            &[
                "debug",
                "p",
                "--image=demo/web:v1",
                "--target=p",
                "-c",
                name,
                "--",
                "sh",
                "-c",
                look,
            ],
        );
        said.expect_ok();
        let exit = format!(r#".status.ephemeralContainerStatuses[?(@.name=="{name}")].state.terminated.exitCode"#);
        cluster.wait_for("pod/p", &exit, "0");
        let seen = cluster.k(&["logs", "p", "-c", name]);
        assert!(seen.starts_with("sh -c trap"), "{seen}");
    }
    assert_eq!(cluster.field("pod/p", ".status.containerStatuses[0].restartCount"), "0");
}

#[test]
fn a_node_short_of_memory_evicts_a_pod_and_takes_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let threshold = configuration(dir.path(), "evictionHard: {memory.available: 1000Ti}");
    let cluster = Cluster::start_with_image(&["--node-name", "n1", "--kubelet-config", &threshold]);
    cluster.wait_for(
        "node/n1",
        r#".status.conditions[?(@.type=="MemoryPressure")].status"#,
        "True",
    );
    let pod = |name: &str, resources: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: n1\n  \
             terminationGracePeriodSeconds: 2\n  containers:\n  - {{name: c, image: 'demo/web:v1', command: [sleep, '1000'], \
             resources: {resources}}}\n"
        )
    };
    cluster.apply(&pod("idle", "{}"));
    cluster.wait_for("pod/idle", ".status.reason", "Evicted");
    assert_eq!(
        cluster.field("pod/idle", ".status.message"),
        "Pod was rejected: The node had condition: [MemoryPressure]. "
    );
    cluster.apply(&pod("busy", "{requests: {memory: 1Mi}}"));
    cluster.wait_for("pod/busy", ".status.reason", "Evicted");
    let message = cluster.field("pod/busy", ".status.message");
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: 1000Ti"),
        "{message}"
    );
    let why = r#".status.conditions[?(@.type=="DisruptionTarget")].reason"#;
    assert_eq!(cluster.field("pod/busy", why), "TerminationByKubelet");
}

#[test]
fn a_machine_that_goes_down_ends_its_pods_first() {
    let dir = tempfile::tempdir().unwrap();
    let periods = configuration(
        dir.path(),
        "shutdownGracePeriod: 20s\nshutdownGracePeriodCriticalPods: 5s",
    );
    let cluster = Cluster::start_with_image(&["--kubelet-config", &periods]);
    cluster.k(&[
        "run",
        "p",
        "--image=demo/web:v1",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        IDLE,
    ]);
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    let pid = nix::unistd::Pid::from_raw(cluster.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGPWR).unwrap();
    let ended = std::process::Command::new("timeout")
        .args(["30", "tail", "-f", "/dev/null", "--pid"])
        .arg(pid.to_string())
        .status();
    assert!(ended.unwrap().success(), "the server does not end");
    cluster.up(&["--no-node"]).expect_ok();
    assert_eq!(cluster.field("pod/p", ".status.phase"), "Failed");
    assert_eq!(cluster.field("pod/p", ".status.reason"), "Terminated");
    assert_eq!(
        cluster.field("pod/p", ".status.message"),
        "Pod was terminated in response to imminent node shutdown."
    );
}
