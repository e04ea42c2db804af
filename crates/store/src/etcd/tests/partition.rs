//! Three members in three network namespaces, joined by a bridge that can be cut. The test runs itself again in
//! namespaces of its own, so that it leaves nothing behind; it needs root and iproute2.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, Member};
use super::faults::Load;
use crate::testing::commit;
use crate::{Error, Store, Txn};

const INSIDE: &str = "CORACLE_ETCD_PARTITION";

fn address(index: usize) -> String {
    format!("10.73.0.{}", 11 + index)
}

#[track_caller]
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(
        status.expect("ip is not installed: apt-get install iproute2").success(),
        "ip {arguments}"
    );
}

/// A bridge with an end for each member.
fn network(count: usize) {
    ip("link set lo up");
    ip("link add bridge0 type bridge");
    ip("addr add 10.73.0.1/24 dev bridge0");
    ip("link set bridge0 up");
    for n in 0..count {
        ip(&format!("netns add m{n}"));
        ip(&format!("link add v{n} type veth peer name eth0 netns m{n}"));
        ip(&format!("link set v{n} master bridge0 up"));
        ip(&format!("-n m{n} link set lo up"));
        ip(&format!("-n m{n} addr add {}/24 dev eth0", address(n)));
        ip(&format!("-n m{n} link set eth0 up"));
    }
}

/// Two members do not hear each other; clients hear both.
fn part(one: usize, other: usize, verb: &str) {
    ip(&format!("-n m{one} route {verb} blackhole {}/32", address(other)));
    ip(&format!("-n m{other} route {verb} blackhole {}/32", address(one)));
}

/// Runs a test of this file again where it may do with the network what it likes.
fn again_inside(name: &str) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let script = format!(
        "mkdir -p /run/netns && mount -t tmpfs none /run/netns && exec \"$0\" --exact etcd::tests::partition::{name} \
         --nocapture"
    );
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            &script,
        ])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success(), "what ran inside tells why");
}

async fn partitioned_cluster() -> Cluster {
    network(3);
    let member = |n: usize| {
        let url = |port: u16| format!("http://{}:{port}", address(n));
        Member::new(url(2379), url(2380), Some(format!("m{n}")))
    };
    let mut cluster = Cluster::start_all((0..3).map(member).collect(), Vec::new());
    cluster.options.timeout = Duration::from_secs(1);
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_two_members_hear_each_other_nothing_is_acknowledged() {
    if std::env::var_os(INSIDE).is_none() {
        return again_inside("when_no_two_members_hear_each_other_nothing_is_acknowledged");
    }
    let cluster = partitioned_cluster().await;
    let store = cluster.connect().await;
    let first = commit(&store, Txn::put("/k", "1")).await;
    let pairs = [(0, 1), (0, 2), (1, 2)];
    pairs.iter().for_each(|(one, other)| part(*one, *other, "add"));
    for _ in 0..3 {
        let error = store.txn(Txn::put("/k", "2")).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        let error = store.get("/k", None).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    pairs.iter().for_each(|(one, other)| part(*one, *other, "del"));
    let healed = async {
        loop {
            if let Ok(got) = store.get("/k", None).await {
                return got.kv.unwrap();
            }
        }
    };
    let kv = tokio::time::timeout(Duration::from_secs(60), healed).await.unwrap();
    assert!(kv.mod_revision >= first);
    super::commit_at_last(&store, "/k", "3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_while_a_member_is_cut_off_and_what_they_see_is_linearizable() {
    if std::env::var_os(INSIDE).is_none() {
        return again_inside("clients_go_on_while_a_member_is_cut_off_and_what_they_see_is_linearizable");
    }
    let cluster = partitioned_cluster().await;
    let load = Load::start(Arc::new(cluster.connect().await)).await;
    load.answered(50).await;
    // Whichever leads is among them.
    for victim in 0..3 {
        let others = (0..3).filter(|other| *other != victim);
        others.clone().for_each(|other| part(victim, other, "add"));
        load.answered(100).await;
        others.for_each(|other| part(victim, other, "del"));
        load.answered(100).await;
    }
    load.check().await;
}
