//! What containers have said.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::super::harness::{Cluster, Kubectl};
use super::{ALL, ready};

#[test]
fn logs_are_cut_marked_and_joined_as_kubectl_asks() {
    logs_are_cut(&Cluster::with_node());
}

/// Every flag of `kubectl logs`.
pub fn logs_are_cut(cluster: &Cluster) {
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: OnFailure
  initContainers: [{name: first, image: "demo/web:v1", command: [echo, before]}]
  containers:
  - {name: a, image: "demo/web:v1", command: [sh, -c, "for i in 1 2 3 4 5; do echo a $i; done; sleep 1000"]}
  - {name: b, image: "demo/web:v1", command: [sh, -c, "echo b out; echo b err >&2"]}
---
apiVersion: v1
kind: Pod
metadata: {name: q, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: demo/web:v1
    command: [sh, -c, "if [ -e /data/x ]; then echo second; sleep 1000; else echo first; touch /data/x; exit 1; fi"]
    volumeMounts: [{name: d, mountPath: /data}]
  volumes: [{name: d, emptyDir: {}}]
"#,
    );
    cluster.wait_for("pod/q", ".status.containerStatuses[0].restartCount", "1");
    ready(cluster, "q");
    cluster.wait_for(
        "pod/p",
        r#".status.containerStatuses[?(@.name=="b")].state.terminated.reason"#,
        "Completed",
    );
    cluster.follow(&["p", "-c", "a"]).until("a 5");
    cluster.follow(&["q"]).until("second");
    for which in ALL {
        let logs = |args: &[&str]| {
            let mut all = vec!["logs"];
            all.extend(args);
            cluster.kubectl(which, &all).expect_ok()
        };
        assert_eq!(logs(&["p", "-c", "a", "--tail=2"]), "a 4\na 5\n");
        assert_eq!(logs(&["p", "-c", "a", "--limit-bytes=6"]), "a 1\na ");
        assert_eq!(logs(&["p", "-c", "first"]), "before\n");
        assert_eq!(logs(&["p", "-c", "a", "--since=1h"]).lines().count(), 5);
        assert_eq!(logs(&["p", "-c", "a", "--since-time=2100-01-01T00:00:00Z"]), "");
        let stamped = logs(&["p", "-c", "a", "--timestamps", "--tail=1"]);
        assert!(stamped.ends_with("Z a 5\n") && stamped.starts_with("20"), "{stamped}");
        let all = logs(&["p", "--all-containers", "--prefix"]);
        for line in [
            "[pod/p/first] before",
            "[pod/p/a] a 1",
            "[pod/p/b] b out",
            "[pod/p/b] b err",
        ] {
            assert!(all.lines().any(|l| l == line), "{line} is missing in {all}");
        }
        assert_eq!(logs(&["q", "-p"]), "first\n");
        assert_eq!(logs(&["q"]), "second\n");
        let joined = logs(&["-l", "app=p", "--all-containers", "--tail=-1"]);
        assert!(joined.contains("a 5") && joined.contains("second"), "{joined}");
        let error = cluster
            .kubectl(
                which,
                &["logs", "-f", "-l", "app=p", "--all-containers", "--max-log-requests=2"],
            )
            .expect_error();
        assert!(error.contains("maximum allowed concurrency is 2"), "{error}");
        let error = cluster.kubectl(which, &["logs", "p", "-c", "a", "-p"]).expect_error();
        assert!(
            error.contains("previous terminated container \"a\" in pod \"p\" not found"),
            "{error}"
        );
    }
}

#[test]
fn a_log_that_is_rotated_while_it_is_followed_loses_and_doubles_nothing() {
    let cluster = Cluster::with_node();
    // About 35 MB, so that it is put aside three times.
    cluster.k(&[
        "run",
        "p",
        "--image=demo/web:v1",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "until [ -e /tmp/go ]; do usleep 10000; done; awk 'BEGIN { for (i = 1; i <= 600000; i++) printf \"line %09d and some more to make it longer\\n\", i }'",
    ]);
    ready(&cluster, "p");
    let mut followed = cluster
        .kubectl_command(Kubectl::V37, &["logs", "-f", "p"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.k(&["exec", "p", "--", "touch", "/tmp/go"]);
    let mut next = 1;
    for line in BufReader::new(followed.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        assert!(
            line.starts_with(&format!("line {next:09} ")),
            "{line} instead of {next}"
        );
        next += 1;
    }
    assert!(followed.wait().unwrap().success());
    assert_eq!(next, 600_001);
    let logs = cluster.data_dir().join("node/logs");
    let pod = std::fs::read_dir(logs).unwrap().next().unwrap().unwrap().path();
    let files: Vec<_> = std::fs::read_dir(pod.join("p")).unwrap().flatten().collect();
    assert!(files.len() > 2 && files.len() <= 5, "{files:?}");
    assert!(files.iter().all(|f| f.metadata().unwrap().len() < 11 << 20));
    // All of it is still there to be read from its beginning, and its end is found across files.
    let all = cluster.k(&["logs", "p"]);
    assert_eq!(all.lines().count(), 600_000);
    let tail = cluster.k(&["logs", "p", "--tail=300000"]);
    assert_eq!(tail.lines().count(), 300_000);
    assert!(tail.starts_with("line 000300001 "));
}
