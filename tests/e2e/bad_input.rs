//! Wrong input: a clear error, an event or a status, and the server goes on.

use super::harness::{Cluster, EVERY_KUBECTL, Kubectl};

#[test]
fn what_is_wrong_with_a_manifest_is_said() {
    let cluster = Cluster::without_node();
    let rejects = |manifest: &str, words: &[&str]| {
        for which in EVERY_KUBECTL {
            let said = cluster
                .kubectl_stdin(which, &["create", "-f", "-"], manifest)
                .expect_error();
            for word in words {
                assert!(said.contains(word), "{manifest}\nsaid {said}\nwithout {word}");
            }
        }
    };
    rejects("{\"apiVersion\": \"v1\", \"kind\": ", &["error"]);
    rejects("apiVersion: v1\nkind: Poodle\nmetadata: {name: a}\n", &["Poodle"]);
    rejects(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n",
        &["lowercase RFC 1123 subdomain"],
    );
    let deployment = |extra: &str, labels: &str, replicas: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  replicas: {replicas}\n  selector: \
             {{matchLabels: {{app: d}}}}\n{extra}  template:\n    metadata: {{labels: {{app: {labels}}}}}\n    spec: \
             {{containers: [{{name: c, image: i}}]}}\n"
        )
    };
    rejects(
        &deployment("", "other", "1"),
        &["selector", "does not match template `labels`"],
    );
    rejects(
        &deployment(
            "  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}\n",
            "d",
            "1",
        ),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable",
            "may not be 0 when `maxSurge` is 0",
        ],
    );
    rejects(&deployment("", "d", "many"), &["replicas"]);
    rejects(
        &deployment("  paosed: true\n", "d", "1"),
        &["unknown field \"spec.paosed\""],
    );
    cluster.k(&["get", "--raw", "/readyz"]);
}

#[test]
fn raw_nonsense_gets_a_status_and_no_credentials_get_401() {
    let cluster = Cluster::without_node();
    let said = cluster.kubectl_stdin(
        Kubectl::V37,
        &["create", "--raw", "/api/v1/namespaces/default/pods", "-f", "-"],
        "{{{",
    );
    assert!(said.expect_error().contains("BadRequest"));
    let huge = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"a\"}},\"data\":{{\"a\":\"{}\"}}}}",
        "x".repeat(4 << 20)
    );
    let said = cluster.kubectl_stdin(
        Kubectl::V37,
        &["create", "--raw", "/api/v1/namespaces/default/configmaps", "-f", "-"],
        &huge,
    );
    assert!(said.expect_error().contains("RequestEntityTooLarge"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let said = cluster.kubectl_stdin(
        Kubectl::V37,
        &["create", "--raw", "/api/v1/namespaces/default/pods", "-f", "-"],
        &deep,
    );
    assert!(said.expect_error().contains("BadRequest"));
    let server = cluster.k(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let anonymous = [
        "--insecure-skip-tls-verify",
        "--kubeconfig=/dev/null",
        "-s",
        &server,
        "--token=forged",
        "get",
        "pods",
    ];
    let said = cluster.kubectl(Kubectl::V37, &anonymous).expect_error();
    assert!(said.contains("Unauthorized") || said.contains("logged in"), "{said}");
    cluster.k(&["get", "--raw", "/readyz"]);
}

#[test]
fn an_image_that_does_not_exist_and_a_command_that_does_not_exist_are_told_on_the_pod() {
    let cluster = Cluster::with_node();
    cluster.k(&["run", "noimage", "--image=127.0.0.1:1/absent:v1"]);
    cluster.k(&[
        "run",
        "nocommand",
        "--image=demo/web:v1",
        "--restart=Never",
        "--command",
        "--",
        "/no/such/program",
    ]);
    let waiting = ".status.containerStatuses[0].state.waiting.reason";
    cluster.wait_for("pod/noimage", waiting, "ImagePullBackOff");
    let described = cluster.k(&["describe", "pod", "noimage"]);
    assert!(
        described.contains("Failed to pull image \"127.0.0.1:1/absent:v1\""),
        "{described}"
    );
    cluster.wait_for("pod/nocommand", ".status.phase", "Failed");
    let ended = ".status.containerStatuses[0].state.terminated";
    assert_eq!(cluster.field("pod/nocommand", &format!("{ended}.reason")), "StartError");
    assert!(
        cluster
            .field("pod/nocommand", &format!("{ended}.message"))
            .contains("/no/such/program")
    );
    assert_eq!(cluster.field("pod/nocommand", &format!("{ended}.exitCode")), "128");
}

#[test]
fn a_corrupt_archive_is_refused_whole() {
    let cluster = Cluster::with_node();
    let before = cluster.coracle(&["image", "ls"]).expect_ok();
    // An image that is not here yet: what is here already is not read again.
    let mut bytes = std::fs::read(super::harness::image_archive("v3")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let bad = cluster.data_dir().join("bad.tar");
    std::fs::write(&bad, &bytes).unwrap();
    let said = cluster
        .coracle(&["image", "import", bad.to_str().unwrap()])
        .expect_error();
    assert!(said.contains("digest") || said.contains("corrupt"), "{said}");
    std::fs::write(&bad, b"this is no archive").unwrap();
    cluster
        .coracle(&["image", "import", bad.to_str().unwrap()])
        .expect_error();
    assert_eq!(cluster.coracle(&["image", "ls"]).expect_ok(), before);
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let cluster = Cluster::with_node();
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec:\n  containers:\n  - {name: c, image: demo/web:v1, \
         resources: {requests: {cpu: \"4000\"}}}\n",
    );
    cluster.k(&["wait", "pod/big", "--for=condition=PodScheduled=false", "--timeout=30s"]);
    let message = r#".status.conditions[?(@.type=="PodScheduled")].message"#;
    assert!(
        cluster
            .field("pod/big", message)
            .starts_with("0/1 nodes are available: 1 Insufficient cpu.")
    );
    let described = cluster.k(&["describe", "pod", "big"]);
    assert!(described.contains("FailedScheduling"), "{described}");
}
