//! exec, attach, port-forward, cp, logs, proxies and top, by kubectl from the oldest to the newest that is supported: 1.27 and
//! 1.30 speak SPDY, 1.33 and 1.37 WebSockets.

pub mod agent;
pub mod command;
pub mod copy;
pub mod log;
pub mod port_forward;
pub mod usage;

use std::io::Write;
use std::process::Stdio;

use super::harness::{Cluster, Kubectl, Said};

const ALL: [Kubectl; 4] = [Kubectl::V27, Kubectl::V30, Kubectl::V33, Kubectl::V37];

/// A pod that does nothing, and ends at once when told to.
pub fn idle(cluster: &Cluster, name: &str) {
    cluster.k(&[
        "run",
        name,
        "--image=demo/web:v1",
        "--",
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    ]);
    ready(cluster, name);
}

/// A pod `web` that serves `/www`, which the script fills, at an address of port 8080; it is ready once it serves the page.
pub fn web(cluster: &Cluster, script: &str, listen: &str, page: &str) {
    cluster.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: demo/web:v1
    command: [sh, -c, "{script}; exec httpd -f -p {listen} -h /www"]
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe: {{exec: {{command: [wget, -qO-, "http://127.0.0.1:8080/{page}"]}}, periodSeconds: 1}}
"#
    ));
    ready(cluster, "web");
}

pub fn ready(cluster: &Cluster, name: &str) {
    cluster.k(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]);
}

/// kubectl's exit code besides what it said.
pub fn exec(cluster: &Cluster, which: Kubectl, args: &[&str], input: &[u8]) -> (Option<i32>, Said) {
    let mut child = cluster
        .kubectl_command(which, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    (output.status.code(), output.into())
}
