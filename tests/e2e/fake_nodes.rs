//! Fake nodes as a user has them: flags and files, kubectl, and the end of a bad file.

use super::harness::{Cluster, Kubectl, coracle};

#[test]
fn fake_nodes_run_pods_for_kubectl_and_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (template, stages) = (dir.path().join("node.yaml"), dir.path().join("stages.yaml"));
    std::fs::write(&template, "metadata: {labels: {zone: 'z{index%2}'}}\n").unwrap();
    std::fs::write(&stages, "rules:\n- {create: 0, terminate: 0}\n").unwrap();
    let cluster = Cluster::start(&[
        "--no-node",
        "--fake-nodes",
        "3",
        "--node-template",
        template.to_str().unwrap(),
        "--fake-stages",
        stages.to_str().unwrap(),
    ]);
    let nodes = cluster.k(&["get", "nodes", "-l", "zone=z0", "--no-headers"]);
    assert_eq!(nodes.lines().filter(|l| l.contains(" Ready ")).count(), 2, "{nodes}");

    cluster.k(&["create", "deployment", "web", "--image=web:v1", "--replicas=6"]);
    cluster.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let name = cluster.field("pods", ".items[0].metadata.name");
    let log = cluster.k(&["logs", &name]);
    assert!(log.starts_with("this is the fake node fake-"), "{log}");
    let refused = cluster
        .kubectl(Kubectl::V37, &["exec", &name, "--", "true"])
        .expect_error();
    assert!(refused.contains("is on the fake node fake-"), "{refused}");
    cluster.k(&["delete", "deployment", "web", "--timeout=60s"]);
    cluster.k(&["wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s"]);
}

#[test]
fn a_bad_file_for_fake_nodes_is_told_by_line_and_field_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let stages = dir.path().join("stages.yaml");
    std::fs::write(&stages, "seed: 1\nrules:\n- {run: soon}\n").unwrap();
    let data = dir.path().join("data");
    let said = coracle(&[
        "up",
        "--no-node",
        "--port",
        "0",
        "--data-dir",
        data.to_str().unwrap(),
        "--fake-nodes",
        "1",
        "--fake-stages",
        stages.to_str().unwrap(),
    ])
    .expect_error();
    assert!(
        said.contains("stages.yaml") && said.contains("line 3: rules[0].run: \"soon\""),
        "{said}"
    );
    assert!(!data.exists(), "nothing was made");
}
