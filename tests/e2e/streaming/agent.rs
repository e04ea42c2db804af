//! The node's own API: behind the API server's proxy, and by itself.

use std::process::Command;

use super::super::harness::{Cluster, JoinedNode, Kubectl, Said};
use super::{ready, web};

#[test]
fn pods_and_services_are_reached_through_the_server() {
    let cluster = Cluster::with_node();
    web(&cluster, "mkdir -p /www/a; echo page > /www/a/page", "8080", "a/page");
    for path in [
        "pods/web/proxy/a/page",
        "pods/web:8080/proxy/a/page",
        "pods/http:web:8080/proxy/a/page",
    ] {
        let raw = cluster.k(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
        assert_eq!(raw, "page\n", "{path}");
    }
    // Without a selector the endpoints are the user's own.
    let ip = cluster.field("pod/web", ".status.podIP");
    cluster.apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{ports: [{{name: main, port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-own, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: main, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: ["{ip}"], conditions: {{ready: true}}}}]
"#
    ));
    for name in ["web", "web:main", "web:80"] {
        let path = format!("/api/v1/namespaces/default/services/{name}/proxy/a/page");
        assert_eq!(cluster.k(&["get", "--raw", &path]), "page\n", "{path}");
    }
}

/// The status code and the body that the node's agent answers with.
fn ask_agent(cluster: &Cluster, path: &str, token: Option<&str>) -> String {
    let node = cluster.field("nodes", ".items[0].metadata.name");
    let node = format!("node/{node}");
    let ip = cluster.field(&node, ".status.addresses[0].address");
    let port = cluster.field(&node, ".status.daemonEndpoints.kubeletEndpoint.Port");
    let mut curl = Command::new("curl");
    curl.args(["-sk", "-o", "-", "-w", " %{http_code}"]);
    if let Some(token) = token {
        curl.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let said: Said = curl.arg(format!("https://{ip}:{port}{path}")).output().unwrap().into();
    said.expect_ok()
}

#[test]
fn the_agent_answers_nobody_without_a_name_and_a_right() {
    let cluster = Cluster::with_node();
    assert_eq!(ask_agent(&cluster, "/pods", None), "Unauthorized 401");
    assert_eq!(ask_agent(&cluster, "/healthz", Some("nonsense")), "Unauthorized 401");
    cluster.k(&["create", "serviceaccount", "reader"]);
    let token = cluster.k(&["create", "token", "reader"]);
    let token = Some(token.trim());
    let refused = ask_agent(&cluster, "/stats/summary", token);
    assert!(
        refused.ends_with("403") && refused.contains("subresource=stats"),
        "{refused}"
    );
    cluster.k(&[
        "create",
        "clusterrole",
        "stats",
        "--verb=get",
        "--resource=nodes/stats,nodes/proxy",
    ]);
    cluster.k(&[
        "create",
        "clusterrolebinding",
        "s",
        "--clusterrole=stats",
        "--serviceaccount=default:other",
    ]);
    cluster.k(&["create", "serviceaccount", "other"]);
    let token = cluster.k(&["create", "token", "other"]);
    let token = Some(token.trim());
    assert!(ask_agent(&cluster, "/stats/summary", token).ends_with("200"));
    assert!(ask_agent(&cluster, "/metrics", token).ends_with("403"));
    // What only reads must not run commands, though WebSockets ask by GET.
    assert!(ask_agent(&cluster, "/exec/default/p/c?command=id&output=1", token).ends_with("403"));
    assert!(ask_agent(&cluster, "/pods", token).ends_with("200"));
}

#[test]
fn a_node_that_joined_serves_logs_and_commands_with_a_certificate_of_its_own() {
    let cluster = Cluster::without_node();
    let dir = tempfile::tempdir().unwrap();
    let _node = JoinedNode::start(&cluster, "far", dir.path(), &[]);
    cluster.k(&[
        "run",
        "p",
        "--image=demo/web:v1",
        "--",
        "sh",
        "-c",
        "echo said; trap 'exit 0' TERM; sleep 1000 & wait",
    ]);
    ready(&cluster, "p");
    assert_eq!(cluster.follow(&["p"]).line(), "said");
    assert_eq!(cluster.k(&["exec", "p", "--", "echo", "done"]), "done\n");
    let published = cluster.field(
        "node/far",
        r".metadata.annotations.node\.coracle\.io/serving-certificate",
    );
    assert!(published.starts_with("sha256:"), "{published}");
    // Another certificate than the published one is not trusted.
    cluster.k(&[
        "annotate",
        "--overwrite",
        "node/far",
        "node.coracle.io/serving-certificate=sha256:00",
    ]);
    let error = cluster.kubectl(Kubectl::V37, &["logs", "p"]).expect_error();
    assert!(error.contains("not the one that the node has published"), "{error}");
    let annotation = format!("node.coracle.io/serving-certificate={published}");
    cluster.k(&["annotate", "--overwrite", "node/far", &annotation]);
    cluster.k(&["delete", "pod", "p"]);
}
