//! What nodes and pods use.

use super::super::harness::{Cluster, Kubectl};
use super::{ALL, idle, ready};

#[test]
fn usage_is_shown_by_top_and_by_the_node_s_own_pages() {
    let cluster = Cluster::with_node();
    // It asks for a share of the processors, and so has one on however busy a machine.
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: busy
    image: demo/web:v1
    command: [sh, -c, "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done; touch /tmp/burnt; while :; do :; done"]
    resources: {requests: {cpu: 500m}}
"#,
    );
    idle(&cluster, "quiet");
    ready(&cluster, "busy");
    // What it has used by then is much.
    let burnt = "until [ -e /tmp/burnt ]; do usleep 10000; done";
    cluster.k(&["exec", "busy", "--", "sh", "-c", burnt]);
    for which in ALL {
        let top = cluster.kubectl(which, &["top", "pod", "--no-headers"]).expect_ok();
        let millicores = |name: &str| -> u64 {
            let line = top
                .lines()
                .find(|l| l.starts_with(name))
                .unwrap_or_else(|| panic!("{name}: {top}"));
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .trim_end_matches('m')
                .parse()
                .unwrap()
        };
        assert!(millicores("busy") > 0, "{top}");
        assert!(top.lines().any(|line| line.starts_with("quiet")), "{top}");
        let node = cluster.kubectl(which, &["top", "node"]).expect_ok();
        assert!(node.contains("CPU(cores)") && node.lines().count() == 2, "{node}");
        let one = cluster
            .kubectl(which, &["top", "pod", "-l", "app=busy", "--containers", "--no-headers"])
            .expect_ok();
        assert_eq!(one.lines().count(), 1, "{one}");
    }
    let node = cluster.field("nodes", ".items[0].metadata.name");
    let page = |path: &str| cluster.k(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")]);
    let resource = page("metrics/resource");
    let seconds = |name: &str| -> f64 {
        let start = format!("container_cpu_usage_seconds_total{{container=\"{name}\"");
        let line = resource.lines().find(|line| line.starts_with(&start));
        line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    };
    assert!(seconds("busy") > seconds("quiet"), "{resource}");
    let summary = page("stats/summary");
    for key in [
        "usageNanoCores",
        "workingSetBytes",
        "ephemeral-storage",
        "imageFs",
        "rxBytes",
    ] {
        assert!(summary.contains(key), "{key} is missing in {summary}");
    }
    for (path, line) in [
        (
            "metrics/resource",
            "container_cpu_usage_seconds_total{container=\"busy\",namespace=\"default\",pod=\"busy\"}",
        ),
        (
            "metrics/cadvisor",
            "container_memory_working_set_bytes{container=\"busy\"",
        ),
        ("metrics", "kubelet_running_pods 2"),
        ("configz", "containerLogMaxSize"),
        ("pods", "\"PodList\""),
        ("healthz", "ok"),
    ] {
        assert!(page(path).contains(line), "{line} is missing in {path}");
    }
    let resources = cluster.k(&["api-resources", "--api-group=metrics.k8s.io"]);
    assert!(
        resources.contains("NodeMetrics") && resources.contains("PodMetrics"),
        "{resources}"
    );
    // Who may view may see it; who may not, may not.
    cluster.k(&["create", "serviceaccount", "viewer"]);
    cluster.k(&[
        "create",
        "rolebinding",
        "v",
        "--clusterrole=view",
        "--serviceaccount=default:viewer",
    ]);
    let can = |what: &str| {
        let asked = [
            "auth",
            "can-i",
            "list",
            what,
            "--as=system:serviceaccount:default:viewer",
        ];
        cluster.kubectl(Kubectl::V37, &asked).out.trim().to_owned()
    };
    assert_eq!(
        (can("pods.metrics.k8s.io").as_str(), can("secrets").as_str()),
        ("yes", "no")
    );
}
