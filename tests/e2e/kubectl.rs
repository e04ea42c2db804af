//! What people type: kubectl's everyday commands, by every version we test.

use super::harness::{Cluster, EVERY_KUBECTL};

#[test]
fn everyday_commands_without_a_node() {
    let cluster = Cluster::without_node();
    for which in EVERY_KUBECTL {
        let k = |args: &[&str]| cluster.kubectl(which, args).expect_ok();
        let ns = format!("team-{which:?}").to_lowercase();
        let scoped = |args: &[&str]| {
            let mut all = vec!["-n", ns.as_str()];
            all.extend(args);
            k(&all)
        };
        k(&["create", "namespace", &ns]);
        scoped(&["wait", "serviceaccount/default", "--for=create", "--timeout=10s"]);
        scoped(&["create", "deployment", "web", "--image=demo/web:v1", "--replicas=2"]);
        scoped(&["wait", "deployment/web", "--for=condition=Progressing", "--timeout=30s"]);
        scoped(&["wait", "pods", "-l", "app=web", "--for=create", "--timeout=30s"]);
        for format in [
            "wide",
            "json",
            "yaml",
            "name",
            "jsonpath={.items[*].metadata.name}",
            "custom-columns=N:.metadata.name",
            "go-template={{len .items}}",
        ] {
            assert!(!scoped(&["get", "deployments", "-o", format]).is_empty());
        }
        let table = scoped(&["get", "deploy"]);
        assert!(
            table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE"),
            "{table}"
        );
        let all = scoped(&["get", "all"]);
        assert!(
            all.contains("deployment.apps/web") && all.contains("replicaset.apps/web-") && all.contains("pod/web-"),
            "{all}"
        );
        scoped(&["label", "deployment", "web", "tier=front"]);
        assert!(scoped(&["get", "deploy", "-l", "tier in (front,back),!absent"]).contains("web"));
        assert!(!scoped(&["get", "deploy", "-l", "tier=back"]).contains("web"));
        scoped(&["annotate", "deployment", "web", "note=hello"]);
        scoped(&["scale", "deployment", "web", "--replicas=3"]);
        assert_eq!(
            scoped(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]),
            "3"
        );
        scoped(&[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"b"}]}]}}}}"#,
        ]);
        assert_eq!(
            scoped(&[
                "get",
                "deploy",
                "web",
                "-o",
                "jsonpath={.spec.template.spec.containers[0].image}"
            ]),
            "demo/web:v1"
        );
        let described = scoped(&["describe", "deployment", "web"]);
        assert!(
            described.contains("StrategyType:") && described.contains("ScalingReplicaSet"),
            "{described}"
        );
        scoped(&["describe", "replicasets"]);
        scoped(&["describe", "pods"]);
        let server_side = ["apply", "--server-side", "-f", "-"];
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ssa, namespace: {ns}}}\ndata: {{a: \"1\"}}\n");
        cluster.kubectl_stdin(which, &server_side, &manifest).expect_ok();
        cluster
            .kubectl_stdin(which, &["apply", "-f", "-"], &manifest.replace("ssa", "csa"))
            .expect_ok();
        cluster
            .kubectl_stdin(
                which,
                &["apply", "-f", "-"],
                &manifest.replace("ssa", "csa").replace("\"1\"", "\"2\""),
            )
            .expect_ok();
        assert_eq!(scoped(&["get", "configmap", "csa", "-o", "jsonpath={.data.a}"]), "2");
        let managers = scoped(&[
            "get",
            "configmap",
            "ssa",
            "-o",
            "jsonpath={.metadata.managedFields[*].operation}",
            "--show-managed-fields",
        ]);
        assert_eq!(managers, "Apply");
        k(&["delete", "namespace", &ns, "--timeout=60s"]);
    }
}

#[test]
fn what_the_server_can_do_is_told() {
    let cluster = Cluster::without_node();
    for which in EVERY_KUBECTL {
        let k = |args: &[&str]| cluster.kubectl(which, args).expect_ok();
        let resources = k(&["api-resources"]);
        for line in [
            "deployments",
            "deploy",
            "horizontalpodautoscalers",
            "customresourcedefinitions",
            "apps/v1",
        ] {
            assert!(resources.contains(line), "{line} is missing in\n{resources}");
        }
        assert!(k(&["api-versions"]).contains("batch/v1"));
        let explained = k(&["explain", "deployment.spec.strategy.rollingUpdate"]);
        assert!(
            explained.contains("maxSurge") && explained.contains("DESCRIPTION"),
            "{explained}"
        );
        assert!(k(&["explain", "pod", "--recursive"]).contains("terminationGracePeriodSeconds"));
        assert!(k(&["version"]).contains("Server Version: v1.37"));
        assert!(k(&["cluster-info"]).contains("is running at"));
        assert_eq!(k(&["get", "--raw", "/livez"]), "ok");
        assert!(k(&["get", "namespaces", "-o", "name"]).contains("namespace/kube-node-lease"));
        assert_eq!(
            k(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.ports[0].name}"]),
            "https"
        );
        assert_eq!(k(&["auth", "can-i", "create", "pods"]).trim(), "yes");
    }
}

#[test]
fn a_watch_shows_what_comes_and_goes() {
    let cluster = Cluster::without_node();
    let mut watch = cluster.watch(&["configmaps", "-l", "watched=yes"]);
    // The watch is open once it shows the object that is already there or comes first.
    cluster.k(&["create", "configmap", "one"]);
    cluster.k(&["label", "configmap", "one", "watched=yes"]);
    let first = watch.line();
    assert!(first.starts_with("ADDED") && first.contains("one"), "{first}");
    cluster.k(&["annotate", "configmap", "one", "a=b"]);
    assert!(watch.line().starts_with("MODIFIED"));
    cluster.k(&["label", "configmap", "one", "watched-"]);
    assert!(
        watch.line().starts_with("DELETED"),
        "an object that no longer matches is gone"
    );
}

#[test]
fn describe_node_shows_what_runs_on_it() {
    let cluster = Cluster::with_node();
    cluster.k(&["run", "p", "--image=demo/web:v1", "--", "sleep", "1000"]);
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    for which in EVERY_KUBECTL {
        let described = cluster.kubectl(which, &["describe", "node"]).expect_ok();
        assert!(
            described.contains("Allocatable:") && described.contains("default  "),
            "{described}"
        );
        assert!(
            described.contains("KubeletReady") || described.contains("Ready"),
            "{described}"
        );
    }
}
