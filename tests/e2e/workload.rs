//! The main job: a manifest as a user would write it, real containers, and everything kubectl does to a Deployment.

use super::harness::Cluster;

#[test]
fn a_deployment_runs_init_server_and_sidecar_that_share_volume_and_localhost() {
    let cluster = Cluster::with_node();
    cluster.deploy_example();
    let pods = cluster.k(&["get", "pods", "-l", "app=web", "--no-headers"]);
    assert_eq!(
        pods.lines()
            .filter(|l| l.contains("2/2") && l.contains("Running"))
            .count(),
        3,
        "{pods}"
    );
    let name = cluster.field("pods", ".items[0].metadata.name");
    let page = format!("Hello from {name}, image v1");
    // The sidecar reads the page over localhost and logs it; the page was written by the init container.
    cluster.follow(&[&name, "-c", "watcher"]).until(&page);
    let ip = cluster.field(&format!("pod/{name}"), ".status.podIP");
    let output = std::process::Command::new("busybox")
        .args(["wget", "-qO-", &format!("http://{ip}:8080/")])
        .output();
    assert_eq!(
        String::from_utf8_lossy(&output.unwrap().stdout).trim(),
        page,
        "the pod is reachable from the host"
    );
}

#[test]
fn a_deployment_scales_rolls_out_rolls_back_and_keeps_its_history() {
    let cluster = Cluster::with_node();
    cluster.deploy_example();
    cluster.k(&["scale", "deployment/web", "--replicas=5"]);
    cluster.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(cluster.field("deployment/web", ".status.availableReplicas"), "5");

    cluster.k(&[
        "set",
        "image",
        "deployment/web",
        "server=demo/web:v2",
        "prepare=demo/web:v2",
    ]);
    cluster.k(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let images = cluster.field(
        "pods",
        r#".items[?(@.metadata.deletionTimestamp=="")].spec.containers[0].image"#,
    );
    assert!(!images.contains("v1"), "{images}");
    let history = cluster.k(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");

    cluster.k(&["rollout", "undo", "deployment/web"]);
    cluster.k(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert_eq!(
        cluster.field("deployment/web", ".spec.template.spec.containers[0].image"),
        "demo/web:v1"
    );
    assert_eq!(
        cluster.field(
            "deployment/web",
            r".metadata.annotations.deployment\.kubernetes\.io/revision"
        ),
        "3"
    );

    cluster.k(&["rollout", "pause", "deployment/web"]);
    cluster.k(&["set", "image", "deployment/web", "server=demo/web:v2"]);
    cluster.k(&["scale", "deployment/web", "--replicas=2"]);
    cluster.wait_for("deployment/web", ".status.availableReplicas", "2");
    assert_eq!(
        cluster
            .field("replicasets", ".items[*].spec.replicas")
            .matches('2')
            .count(),
        1,
        "paused: no new set"
    );
    cluster.k(&["rollout", "resume", "deployment/web"]);
    cluster.k(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert_eq!(cluster.field("deployment/web", ".status.updatedReplicas"), "2");
}

#[test]
fn a_killed_process_is_restarted_and_a_deleted_pod_replaced() {
    let cluster = Cluster::with_node();
    cluster.deploy_example();
    let name = cluster.field("pods", ".items[0].metadata.name");
    let pod = format!("pod/{name}");
    let status = r#".status.containerStatuses[?(@.name=="server")]"#;
    let victim = process_of(&name, "httpd").expect("the pod's web server does not run on this machine");
    let killed = std::process::Command::new("kill")
        .args(["-9", &victim])
        .status()
        .unwrap();
    assert!(killed.success());
    cluster.wait_for(&pod, &format!("{status}.restartCount"), "1");
    cluster.k(&["wait", &pod, "--for=condition=Ready", "--timeout=60s"]);
    cluster.k(&["delete", &pod]);
    cluster.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(cluster.field("deployment/web", ".status.readyReplicas"), "3");
}

/// The process of a pod (whose name is its containers' HOSTNAME) that runs this program.
fn process_of(pod: &str, program: &str) -> Option<String> {
    let hostname = format!("HOSTNAME={pod}");
    let processes = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|e| e.ok()?.file_name().into_string().ok());
    processes.filter(|p| p.bytes().all(|b| b.is_ascii_digit())).find(|p| {
        let has = |file: &str, wanted: &str| {
            let bytes = std::fs::read(format!("/proc/{p}/{file}")).unwrap_or_default();
            bytes.split(|b| *b == 0).any(|part| part == wanted.as_bytes())
        };
        has("environ", &hostname) && has("cmdline", program)
    })
}

#[test]
fn deletion_cascades_in_the_background_in_the_foreground_or_not_at_all() {
    let cluster = Cluster::with_node();
    let deploy = |name: &str| {
        cluster.k(&[
            "create",
            "deployment",
            name,
            "--image=demo/web:v1",
            "--replicas=2",
            "--",
            "sh",
            "-c",
            "trap 'exit 0' TERM; sleep 1000 & wait",
        ]);
        cluster.k(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
    };
    deploy("a");
    cluster.k(&["delete", "deployment", "a", "--cascade=background"]);
    cluster.k(&["wait", "pods", "-l", "app=a", "--for=delete", "--timeout=90s"]);
    assert_eq!(cluster.k(&["get", "replicasets", "-l", "app=a", "-o", "name"]), "");

    deploy("b");
    cluster.k(&["delete", "deployment", "b", "--cascade=foreground"]);
    assert_eq!(
        cluster.k(&["get", "replicasets,pods", "-l", "app=b", "-o", "name"]),
        "",
        "all were gone first"
    );

    deploy("c");
    cluster.k(&["delete", "deployment", "c", "--cascade=orphan"]);
    let set = cluster.k(&["get", "replicasets", "-l", "app=c", "-o", "name"]);
    assert_eq!(set.lines().count(), 1);
    assert_eq!(cluster.field(set.trim(), ".metadata.ownerReferences"), "");
    assert_eq!(
        cluster.k(&["get", "pods", "-l", "app=c", "-o", "name"]).lines().count(),
        2
    );
}

#[test]
fn a_container_that_fails_backs_off_and_its_logs_are_kept() {
    let cluster = Cluster::with_node();
    cluster.k(&[
        "run",
        "crash",
        "--image=demo/web:v1",
        "--",
        "sh",
        "-c",
        "echo attempt; exit 3",
    ]);
    cluster.wait_for(
        "pod/crash",
        ".status.containerStatuses[0].state.waiting.reason",
        "CrashLoopBackOff",
    );
    let last = ".status.containerStatuses[0].lastState.terminated";
    assert_eq!(cluster.field("pod/crash", &format!("{last}.exitCode")), "3");
    assert_eq!(cluster.field("pod/crash", &format!("{last}.reason")), "Error");
    assert_eq!(cluster.k(&["logs", "crash", "--previous"]), "attempt\n");
    let described = cluster.k(&["describe", "pod", "crash"]);
    assert!(
        described.contains("Back-off restarting failed container"),
        "{described}"
    );
}

#[test]
fn environment_volumes_and_arguments_are_what_the_pod_says() {
    let cluster = Cluster::with_node();
    cluster.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, file.txt: "from a map\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {tier: back}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: demo/web:v1
    command: ["sh", "-c"]
    args: ["echo $(NAME) $(NODE) $(CPU) $COLOR $PASSWORD '$$(NAME)'; cat /config/file.txt /secret/password; cat /memory/../proc/mounts | grep -c ' /memory tmpfs'; ls -l /config/ | wc -l"]
    resources: {limits: {cpu: 500m, memory: 32Mi}}
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: key, key: password}}}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: memory, mountPath: /memory}
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: key, defaultMode: 0400}}
  - {name: memory, emptyDir: {medium: Memory}}
"#,
    );
    cluster.wait_for("pod/p", ".status.phase", "Succeeded");
    let log = cluster.k(&["logs", "p"]);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "p back 500 blue hunter2 $(NAME)");
    assert_eq!(lines[1], "from a map");
    assert_eq!(
        lines[2], "hunter21",
        "the secret has no newline; then one tmpfs is mounted"
    );
}

#[test]
fn logs_follow_and_are_cut_to_what_is_asked() {
    let cluster = Cluster::with_node();
    let script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done";
    cluster.k(&[
        "run",
        "talk",
        "--image=demo/web:v1",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        script,
    ]);
    cluster.k(&[
        "wait",
        "pod/talk",
        "--for=jsonpath={.status.containerStatuses[0].started}",
        "--timeout=60s",
    ]);
    let followed = cluster.k(&["logs", "-f", "talk"]);
    assert_eq!(followed.lines().count(), 5, "{followed}");
    assert_eq!(cluster.k(&["logs", "--tail=2", "talk"]), "line 4\nline 5\n");
    assert_eq!(cluster.k(&["logs", "--since=1h", "talk"]).lines().count(), 5);
    assert!(
        cluster
            .k(&["logs", "--timestamps", "--tail=1", "talk"])
            .contains("Z line 5")
    );
}
