//! The pod network in real network namespaces. Needs root; without it each test says so and passes.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use coracle_network::{Cidr, NetworkOptions, PodNetwork, free_cidr};

/// A process in a network namespace of its own; the namespace ends with it.
struct Namespace {
    child: Child,
}

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", child.id());
        while std::fs::read_link(&path).map_or(true, |ns| ns == own) {
            std::thread::yield_now();
        }
        Self { child }
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id()).into()
    }

    fn run(&self, command: &[&str]) -> (bool, String) {
        let output = Command::new("nsenter")
            .args(["--net".to_owned() + "=" + self.path().to_str().unwrap()])
            .args(command)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Whether there is an answer within so many seconds.
fn ping_from_host(address: &str, wait: &str) -> bool {
    Command::new("busybox")
        .args(["ping", "-c1", "-W", wait, address])
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn listens(ns: &Namespace, port: u16) -> Child {
    let child = Command::new("nsenter")
        .arg(format!("--net={}", ns.path().display()))
        .args(["busybox", "nc", "-ll", "-p", &port.to_string(), "-e", "echo", "hello"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let listening = || {
        ns.run(&["cat", "/proc/net/tcp", "/proc/net/tcp6"])
            .1
            .contains(&format!(":{port:04X} "))
    };
    while !listening() {
        std::thread::yield_now();
    }
    child
}

async fn open(cluster_id: &str, cidr: Cidr, dir: &std::path::Path) -> PodNetwork {
    let options = NetworkOptions {
        cluster_id: cluster_id.into(),
        pod_cidr: cidr,
        cluster_cidr: cidr,
        data_dir: dir.to_owned(),
    };
    PodNetwork::open(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_each_other_the_host_and_themselves_and_leave_nothing_behind() {
    if !root() {
        return;
    }
    let cluster = format!("test-{}-reach", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let cidr = free_cidr(&cluster, "10.201.0.0/24".parse().unwrap(), &[])
        .await
        .unwrap();
    let network = open(&cluster, cidr, dir.path()).await;
    let (a, b) = (Namespace::new(), Namespace::new());
    let at_a = network.attach("pod-a", &a.path()).await.unwrap();
    let at_b = network.attach("pod-b", &b.path()).await.unwrap();
    assert_ne!(at_a.address, at_b.address);

    let mut server = listens(&b, 8080);
    let to_b = format!("{} 8080", at_b.address);
    let fetch = |ns: &Namespace| ns.run(&["sh", "-c", &format!("busybox nc {to_b} </dev/null")]);
    assert_eq!(fetch(&a), (true, "hello\n".into()), "pod to pod");
    assert_eq!(fetch(&b), (true, "hello\n".into()), "pod to itself");
    let host = Command::new("sh")
        .args(["-c", &format!("busybox nc {to_b} </dev/null")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&host.stdout), "hello\n", "host to pod");
    let _ = server.kill();
    let _ = server.wait();
    assert!(
        a.run(&["busybox", "ping", "-c1", "-W60", &network.gateway().to_string()])
            .0,
        "pod to host"
    );
    assert!(a.run(&["busybox", "ping", "-c1", "-W60", "127.0.0.1"]).0, "loopback");

    // The same sandbox again: the same address, nothing doubled.
    assert_eq!(network.attach("pod-a", &a.path()).await.unwrap(), at_a);

    // A restart of the agent disturbs nobody and remembers the addresses.
    drop(network);
    let network = open(&cluster, cidr, dir.path()).await;
    assert_eq!(network.address_of("pod-b"), Some(at_b.address));
    assert!(ping_from_host(&at_b.address.to_string(), "60"));
    assert_eq!(
        free_cidr(&cluster, cidr, &[]).await.unwrap(),
        cidr,
        "its own bridge is no obstacle"
    );

    network.detach("pod-a").await.unwrap();
    network.detach("pod-a").await.unwrap();
    assert!(!ping_from_host(&at_a.address.to_string(), "1"));

    // pod-b went away while nobody looked.
    network.reconcile(&HashSet::new()).await.unwrap();
    assert_eq!(network.address_of("pod-b"), None);
    assert!(!b.run(&["ip", "link", "show", "eth0"]).0);

    let bridge = network.bridge_name().to_owned();
    PodNetwork::teardown(&cluster, dir.path()).await.unwrap();
    PodNetwork::teardown(&cluster, dir.path()).await.unwrap();
    assert!(!std::path::Path::new(&format!("/sys/class/net/{bridge}")).exists());
    let tables = Command::new("nft").args(["list", "tables"]).output();
    if let Ok(tables) = tables {
        let name = bridge.trim_start_matches("cor").to_owned();
        assert!(!String::from_utf8_lossy(&tables.stdout).contains(&name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_on_one_machine_take_different_ranges_and_bridges() {
    if !root() {
        return;
    }
    let names: Vec<String> = ["one", "two"]
        .iter()
        .map(|n| format!("test-{}-{n}", std::process::id()))
        .collect();
    let wanted: Cidr = "10.203.0.0/24".parse().unwrap();
    let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = free_cidr(&names[0], wanted, &[]).await.unwrap();
    let one = open(&names[0], first, dirs.0.path()).await;
    let second = free_cidr(&names[1], wanted, &[]).await.unwrap();
    let two = open(&names[1], second, dirs.1.path()).await;
    assert!(!first.overlaps(&second), "{first} and {second}");
    assert_ne!(one.bridge_name(), two.bridge_name());
    assert!(one.bridge_name().len() <= 15);
    PodNetwork::teardown(&names[0], dirs.0.path()).await.unwrap();
    PodNetwork::teardown(&names[1], dirs.1.path()).await.unwrap();
}
