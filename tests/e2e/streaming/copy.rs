//! Much data through one command.

use std::io::Read;
use std::process::{Command, Stdio};

use super::super::harness::{Cluster, Kubectl};
use super::idle;

fn sha256(bytes: &mut dyn Read) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::copy(bytes, child.stdin.as_mut().unwrap()).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    String::from_utf8(out).unwrap().split(' ').next().unwrap().to_owned()
}

/// A process's resident memory in KiB: now, or at most so far.
fn memory(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
}

/// How much is copied: `CORACLE_COPY_BYTES`, or what the test takes by itself.
fn size(usual: u64) -> u64 {
    std::env::var("CORACLE_COPY_BYTES").map_or(usual, |bytes| bytes.parse().unwrap())
}

#[test]
fn a_gibibyte_comes_through_intact_and_in_little_memory() {
    let cluster = Cluster::with_node();
    // Only what is needed from now on counts.
    std::fs::write(format!("/proc/{}/clear_refs", cluster.pid()), "5").unwrap();
    let before = memory(cluster.pid(), "VmRSS");
    copies_intact(&cluster, size(1 << 30));
    let most = memory(cluster.pid(), "VmHWM");
    println!("resident before {before} KiB, at most {most} KiB");
    assert!(most < before + (48 << 10), "{before} KiB before, {most} KiB at most");
}

/// As much as another runtime is asked to copy.
pub fn copies(cluster: &Cluster) {
    copies_intact(cluster, size(64 << 20));
}

fn copies_intact(cluster: &Cluster, size: u64) {
    idle(cluster, "p");
    let script = format!("head -c {size} /dev/urandom > /tmp/big; sha256sum < /tmp/big");
    let expected = cluster.k(&["exec", "p", "--", "sh", "-c", &script]);
    let expected = expected.split(' ').next().unwrap();
    for which in [Kubectl::V27, Kubectl::V37] {
        let mut cat = cluster
            .kubectl_command(which, &["exec", "p", "--", "cat", "/tmp/big"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(sha256(cat.stdout.as_mut().unwrap()), expected, "{which:?}");
        assert!(cat.wait().unwrap().success());
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    cluster.k(&["cp", "p:/tmp/big", copy.to_str().unwrap()]);
    assert_eq!(sha256(&mut std::fs::File::open(&copy).unwrap()), expected);
    cluster.k(&["exec", "p", "--", "rm", "/tmp/big"]);
    cluster.k(&["cp", copy.to_str().unwrap(), "p:/tmp/back"]);
    let back = cluster.k(&["exec", "p", "--", "sha256sum", "/tmp/back"]);
    assert!(back.starts_with(expected), "{back}");
}
