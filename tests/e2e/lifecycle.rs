//! `up`, `down`, `status`: a cluster's life on a machine, and what is said when it cannot start.

use super::harness::{Cluster, coracle};

#[test]
fn up_makes_a_ready_node_and_down_delete_leaves_nothing() {
    let cluster = Cluster::with_node();
    let ready = r#".items[0].status.conditions[?(@.type=="Ready")].status"#;
    assert_eq!(cluster.field("nodes", ready), "True");
    let status = cluster.coracle(&["status"]).expect_ok();
    assert!(status.contains("running"), "{status}");
    cluster.coracle(&["down", "--delete"]).expect_ok();
    assert!(!cluster.data_dir().exists());
    assert!(!cluster.kubeconfig().exists());
    cluster.up(&[]).expect_ok();
}

#[test]
fn objects_survive_down_and_up() {
    let cluster = Cluster::without_node();
    cluster.k(&["create", "configmap", "kept", "--from-literal=a=b"]);
    cluster.coracle(&["down"]).expect_ok();
    assert!(cluster.coracle(&["status"]).out.contains("stopped"));
    cluster.up(&["--no-node"]).expect_ok();
    assert_eq!(cluster.field("configmap/kept", ".data.a"), "b");
}

#[test]
fn a_second_up_says_that_the_cluster_runs_and_what_to_do() {
    let cluster = Cluster::without_node();
    let said = cluster.up(&["--no-node"]).expect_error();
    assert!(said.contains("already runs"), "{said}");
    assert!(said.contains("coracle down"), "{said}");
    assert_eq!(
        cluster.field("namespace/default", ".metadata.name"),
        "default",
        "the running cluster is untouched"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let said = coracle(&["up", "--no-node", "--port", &port, "--data-dir", data.to_str().unwrap()]).expect_error();
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
    assert!(!data.exists(), "nothing is made");
}

#[test]
fn two_clusters_live_side_by_side() {
    let (one, two) = (Cluster::with_node(), Cluster::with_node());
    for cluster in [&one, &two] {
        cluster.k(&[
            "run",
            "p",
            "--image=demo/web:v1",
            "--restart=Never",
            "--",
            "sh",
            "-c",
            "echo hello; sleep 100",
        ]);
    }
    for cluster in [&one, &two] {
        cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    }
    let ips = [one.field("pod/p", ".status.podIP"), two.field("pod/p", ".status.podIP")];
    assert_ne!(ips[0], ips[1]);
    drop(one);
    assert_eq!(two.follow(&["p"]).line(), "hello");
}

#[test]
fn a_damaged_data_directory_is_named_and_left_as_it_is() {
    let cluster = Cluster::without_node();
    cluster.k(&["create", "configmap", "kept"]);
    cluster.coracle(&["down"]).expect_ok();
    let file = store_file(&cluster);
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    for byte in damaged.iter_mut().take(8192) {
        *byte ^= 0x5a;
    }
    std::fs::write(&file, &damaged).unwrap();
    let said = cluster.up(&["--no-node"]).expect_error();
    assert!(said.contains("store"), "{said}");
    assert_eq!(
        std::fs::read(&file).unwrap(),
        damaged,
        "what cannot be read is not written over"
    );
    std::fs::write(&file, whole).unwrap();
    cluster.up(&["--no-node"]).expect_ok();
    cluster.k(&["get", "configmap", "kept"]);
}

/// The file that the embedded store keeps its data in.
fn store_file(cluster: &Cluster) -> std::path::PathBuf {
    let files = std::fs::read_dir(cluster.data_dir().join("store")).unwrap();
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().unwrap().len())
        .expect("the store has no file")
}

#[test]
fn a_data_directory_of_a_newer_version_is_left_as_it_is() {
    let cluster = Cluster::without_node();
    cluster.coracle(&["down"]).expect_ok();
    let file = store_file(&cluster);
    {
        let database = redb::Database::open(&file).unwrap();
        let txn = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        txn.open_table(meta).unwrap().insert("format", 99).unwrap();
        txn.commit().unwrap();
    }
    let before = std::fs::read(&file).unwrap();
    let said = cluster.up(&["--no-node"]).expect_error();
    assert!(
        said.contains("format 99") && said.contains("use the version that wrote it"),
        "{said}"
    );
    assert!(std::fs::read(&file).unwrap() == before, "nothing changed on the disk");
}

#[test]
fn a_data_directory_that_another_process_holds_is_named_with_the_process() {
    let cluster = Cluster::without_node();
    let directory = cluster.data_dir();
    let second = [
        "server",
        "--no-node",
        "--port",
        "0",
        "--data-dir",
        directory.to_str().unwrap(),
    ];
    let said = coracle(&second).expect_error();
    assert!(said.contains(&cluster.pid().to_string()), "{said}");
    assert_eq!(
        cluster.field("namespace/default", ".metadata.name"),
        "default",
        "the first goes on"
    );
}

#[test]
fn an_image_is_exported_removed_and_imported_again() {
    let cluster = Cluster::with_node();
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("web.tar");
    let archive = archive.to_str().unwrap();
    let export = ["image", "export", "demo/web:v1", "demo/web:v2", "--output", archive];
    assert_eq!(cluster.coracle(&export).expect_ok(), "demo/web:v1\ndemo/web:v2\n");
    for image in ["demo/web:v1", "demo/web:v2"] {
        cluster.coracle(&["image", "rm", image]).expect_ok();
    }
    assert!(!cluster.coracle(&["image", "ls"]).expect_ok().contains("demo/web"));
    let imported = cluster.coracle(&["image", "import", archive]).expect_ok();
    assert_eq!(imported, "docker.io/demo/web:v1\ndocker.io/demo/web:v2\n");
    cluster.k(&["run", "p", "--image=demo/web:v2", "--", "sleep", "1000"]);
    cluster.k(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(cluster.k(&["exec", "p", "--", "cat", "/etc/version"]).trim(), "v2");
    let error = cluster
        .coracle(&["image", "export", "absent:1", "-o", archive])
        .expect_error();
    assert!(error.contains("image \"absent:1\" is not on this node"), "{error}");
}
