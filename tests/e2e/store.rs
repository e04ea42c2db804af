//! Where objects are kept: snapshots of a running cluster, etcd instead of the data directory, and the way from one to
//! the other. Needs Debian's `etcd-server` and `etcd-client`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::harness::{Cluster, Disk, Kubectl};

/// An etcd of one member.
struct Etcd {
    url: String,
    process: Child,
    _directory: TempDir,
}

impl Etcd {
    fn start() -> Self {
        let held: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let url = |l: &TcpListener| format!("http://{}", l.local_addr().unwrap());
        let (client, peer) = (url(&held[0]), url(&held[1]));
        drop(held);
        let directory = tempfile::tempdir().unwrap();
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is not installed: apt-get install etcd-server");
        let etcd = Self {
            url: client,
            process,
            _directory: directory,
        };
        // etcdctl waits for its answer as long as it is told to.
        etcd.ctl(&["--dial-timeout=30s", "--command-timeout=30s", "get", "ready"]);
        etcd
    }

    fn ctl(&self, args: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .args(["--endpoints", &self.url])
            .args(args)
            .env("ETCDCTL_API", "3")
            .output()
            .expect("etcdctl is not installed: apt-get install etcd-client");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_snapshot_of_a_running_cluster_brings_back_what_was_deleted_since() {
    let cluster = Cluster::without_node();
    cluster.k(&["create", "configmap", "kept", "--from-literal=a=1"]);
    let file = cluster.data_dir().join("before");
    let file = file.to_str().unwrap();
    let saved = cluster.coracle(&["snapshot", "save", file]).expect_ok();
    assert!(saved.contains("keys at revision"), "{saved}");
    cluster.k(&["delete", "configmap", "kept"]);
    cluster.k(&["create", "configmap", "later"]);

    let refused = cluster.coracle(&["snapshot", "restore", file]).expect_error();
    assert!(refused.contains("coracle down"), "{refused}");
    cluster.coracle(&["down"]).expect_ok();

    // A snapshot cut short changes nothing.
    let whole = std::fs::read(file).unwrap();
    let cut = cluster.data_dir().join("cut");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    cluster
        .coracle(&["snapshot", "restore", cut.to_str().unwrap()])
        .expect_error();
    cluster.up(&["--no-node"]).expect_ok();
    cluster.k(&["get", "configmap", "later"]);
    cluster.coracle(&["down"]).expect_ok();

    cluster.coracle(&["snapshot", "verify", file]).expect_ok();
    let restored = cluster.coracle(&["snapshot", "restore", file]).expect_ok();
    assert!(restored.contains("what was there before is in"), "{restored}");
    cluster.up(&["--no-node"]).expect_ok();
    assert_eq!(cluster.field("configmap/kept", ".data.a"), "1");
    cluster
        .kubectl(Kubectl::V37, &["get", "configmap", "later"])
        .expect_error();
}

#[test]
fn a_cluster_whose_disk_was_full_goes_on_once_there_is_space() {
    let cluster = Cluster::not_started();
    let disk = Disk::over(&cluster.data_dir().join("store"), "24m");
    cluster.up(&["--no-node", "--fake-nodes", "1"]).expect_ok();
    let pid = cluster.pid();
    cluster.k(&["create", "configmap", "before", "--from-literal=a=1"]);
    let mut watch = cluster.watch(&["configmaps"]);
    watch.until("before");

    let fill = disk.fill();
    // What is free inside the store's file can still be written; that is less than the disk.
    let data = format!("--from-literal=a={}", "x".repeat(100_000));
    let create = |name: &str| cluster.kubectl(Kubectl::V37, &["create", "configmap", name, &data]);
    let mut created = (0..240).map(|n| create(&format!("filler-{n}")));
    let error = created.find(|said| !said.ok).expect("all fit").expect_error();
    assert!(error.contains("is full"), "{error}");
    assert_eq!(cluster.field("configmap/before", ".data.a"), "1", "reads go on");
    let unready = cluster
        .kubectl(Kubectl::V37, &["get", "--raw", "/readyz"])
        .expect_error();
    assert!(unready.contains("etcd"), "{unready}");

    let mut lease = cluster.watch(&["lease", "fake-0", "--namespace=kube-node-lease"]);
    lease.until("ADDED");
    std::fs::remove_file(fill).unwrap();
    // The node tries to renew its lease all the while.
    lease.until("MODIFIED");
    create("after").expect_ok();
    watch.until("after");
    assert_eq!(cluster.k(&["get", "--raw", "/readyz"]), "ok");
    assert_eq!(cluster.pid(), pid, "it is the same process");
    cluster.coracle(&["down"]).expect_ok();
    drop(disk);
}

#[test]
fn a_cluster_on_etcd_is_a_cluster_and_moves_between_engines() {
    let etcd = Etcd::start();
    let cluster = Cluster::start(&["--no-node", "--store", &etcd.url]);
    cluster.k(&["create", "deployment", "web", "--image=demo/web:v1", "--replicas=2"]);
    cluster.wait_for("deployment/web", ".status.replicas", "2");
    let keys = etcd.ctl(&["get", "/registry/deployments/default", "--prefix", "--keys-only"]);
    assert_eq!(keys.trim(), "/registry/deployments/default/web");
    // Upstream's layout: etcdctl shows what people expect to find.
    for key in [
        "/registry/namespaces/default",
        "/registry/services/specs/default/kubernetes",
        "/registry/services/endpoints/default/kubernetes",
        "/registry/serviceaccounts/default/default",
        "/registry/clusterroles/cluster-admin",
        "/registry/leases/kube-system/kube-controller-manager",
    ] {
        let value = etcd.ctl(&["get", key, "--print-value-only"]);
        let object: serde_json::Value = serde_json::from_str(&value).unwrap_or_else(|e| panic!("{key}: {e}: {value}"));
        let name = key.rsplit('/').next().unwrap();
        assert_eq!(object["metadata"]["name"], name, "{key}");
        assert!(object["kind"].is_string(), "{key}: {value}");
    }
    let pods = etcd.ctl(&["get", "/registry/pods/default/web-", "--prefix", "--keys-only"]);
    assert_eq!(pods.matches("/registry/pods/default/web-").count(), 2, "{pods}");
    cluster.coracle(&["down"]).expect_ok();

    let dir = cluster.data_dir();
    let dir = dir.to_str().unwrap();
    cluster
        .coracle(&["store", "copy", "--from", &etcd.url, "--to", dir])
        .expect_ok();
    cluster.up(&["--no-node"]).expect_ok();
    assert_eq!(cluster.field("deployment/web", ".status.replicas"), "2");
    cluster.k(&["scale", "deployment/web", "--replicas=3"]);
    cluster.wait_for("deployment/web", ".status.replicas", "3");
    cluster.coracle(&["down"]).expect_ok();

    let full = cluster
        .coracle(&["store", "copy", "--from", dir, "--to", &etcd.url])
        .expect_error();
    assert!(full.contains("has objects already"), "{full}");
    let empty = Etcd::start();
    cluster
        .coracle(&["store", "copy", "--from", dir, "--to", &empty.url])
        .expect_ok();
    cluster.up(&["--no-node", "--store", &empty.url]).expect_ok();
    cluster.wait_for("deployment/web", ".status.replicas", "3");
}

#[test]
fn two_servers_share_an_etcd_and_one_may_be_killed() {
    let etcd = Etcd::start();
    let first = Cluster::start(&["--no-node", "--store", &etcd.url]);
    let second = Cluster::not_started();
    // Both trust the same certificates and tokens.
    std::fs::create_dir_all(second.data_dir()).unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(first.data_dir().join("pki"))
        .arg(second.data_dir())
        .status();
    assert!(copied.unwrap().success());
    second.up(&["--no-node", "--store", &etcd.url]).expect_ok();

    first.k(&["create", "configmap", "written-here"]);
    second.k(&["get", "configmap", "written-here"]);
    let leader = second.k(&[
        "get",
        "lease",
        "-n",
        "kube-system",
        "kube-controller-manager",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ]);
    assert!(leader.ends_with(&format!("_{}", first.pid())), "{leader}");

    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(first.pid()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    second.k(&["create", "deployment", "web", "--image=demo/web:v1"]);
    second.wait_for("deployment/web", ".status.replicas", "1");
}

#[test]
fn an_etcd_that_is_not_there_is_named() {
    let cluster = Cluster::not_started();
    let said = cluster
        .up(&["--no-node", "--store", "http://127.0.0.1:1"])
        .expect_error();
    assert!(said.contains("etcd at http://127.0.0.1:1"), "{said}");
}
