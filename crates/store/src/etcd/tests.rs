//! The suite on a real etcd, and what only a cluster of three can show. They need Debian's `etcd-server`.
#![allow(clippy::disallowed_methods)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Etcd, EtcdOptions};
use crate::testing::{commit, store_suite};
use crate::{Error, Store, Txn, TxnResult};

/// etcd processes of one cluster; killed when dropped.
struct Cluster {
    members: Vec<Member>,
    initial: String,
    directory: TempDir,
}

struct Member {
    name: String,
    client: String,
    peer: String,
    process: Option<Child>,
}

/// Addresses that nobody uses, one for each name.
fn free_addresses(count: usize) -> Vec<String> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter()
        .map(|l| format!("http://{}", l.local_addr().unwrap()))
        .collect()
}

impl Cluster {
    fn of(count: usize) -> Self {
        let addresses = free_addresses(2 * count);
        let members: Vec<Member> = addresses
            .chunks(2)
            .enumerate()
            .map(|(index, pair)| Member {
                name: format!("m{index}"),
                client: pair[0].clone(),
                peer: pair[1].clone(),
                process: None,
            })
            .collect();
        let initial: Vec<String> = members.iter().map(|m| format!("{}={}", m.name, m.peer)).collect();
        let mut cluster = Self {
            members,
            initial: initial.join(","),
            directory: tempfile::tempdir().unwrap(),
        };
        (0..count).for_each(|index| cluster.start(index));
        cluster
    }

    fn start(&mut self, index: usize) {
        let member = &mut self.members[index];
        let mut command = Command::new("etcd");
        command
            .args(["--name", &member.name, "--initial-cluster", &self.initial])
            .arg("--data-dir")
            .arg(self.directory.path().join(&member.name))
            .args([
                "--listen-client-urls",
                &member.client,
                "--advertise-client-urls",
                &member.client,
            ])
            .args([
                "--listen-peer-urls",
                &member.peer,
                "--initial-advertise-peer-urls",
                &member.peer,
            ])
            .args([
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
                "--unsafe-no-fsync",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .expect("etcd is not installed: apt-get install etcd-server");
        member.process = Some(process);
    }

    fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn options(&self) -> EtcdOptions {
        EtcdOptions::new(self.members.iter().map(|m| m.client.clone()).collect())
    }

    /// A store, as soon as the cluster answers.
    async fn connect(&self) -> Etcd {
        let ready = async {
            loop {
                match Etcd::connect(self.options()).await {
                    Ok(store) => return store,
                    Err(Error::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .expect("etcd did not start")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }
}

async fn open() -> (Arc<dyn Store>, Cluster) {
    let cluster = Cluster::of(1);
    let store = Arc::new(cluster.connect().await);
    (store, cluster)
}

store_suite!(open);

/// Commits whatever happens to the members: an answer may be lost with one, never the write that was acknowledged.
async fn commit_at_last(store: &Etcd, key: &str, value: &str) -> u64 {
    loop {
        match store.txn(Txn::put(key, value.to_owned())).await {
            Ok(TxnResult::Committed { revision, .. }) => return revision,
            Ok(conflict) => panic!("{conflict:?}"),
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_may_die_and_no_acknowledged_write_or_event_is_lost() {
    let mut cluster = Cluster::of(3);
    let store = Arc::new(cluster.connect().await);
    let from = store.revision().await.unwrap();
    let watching = store.clone();
    let watch = tokio::spawn(async move {
        let mut watch = watching.watch("/k/", from).await.unwrap();
        let mut events = Vec::new();
        while events.last().is_none_or(|(key, _)| key != "/k/last") {
            let batch = watch.next().await.unwrap();
            events.extend(batch.events.iter().map(|e| (e.kv.key.to_string(), e.revision())));
        }
        events
    });
    let mut acknowledged = Vec::new();
    for victim in [0, 1, 2] {
        for n in 0..20 {
            let key = format!("/k/{victim}/{n}");
            acknowledged.push((key.clone(), commit_at_last(&store, &key, "1").await));
            if n == 5 {
                cluster.kill(victim);
            }
        }
        cluster.start(victim);
    }
    acknowledged.push(("/k/last".into(), commit_at_last(&store, "/k/last", "1").await));

    let seen = tokio::time::timeout(Duration::from_secs(60), watch)
        .await
        .unwrap()
        .unwrap();
    assert!(
        seen.is_sorted_by(|a, b| a.1 < b.1),
        "events are in order and none comes twice"
    );
    for write in &acknowledged {
        assert!(seen.contains(write), "{write:?} is missing");
        assert!(
            store.get(&write.0, None).await.unwrap().kv.is_some(),
            "{write:?} is lost"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_acknowledged_and_the_error_names_the_members() {
    let mut cluster = Cluster::of(3);
    let store = cluster.connect().await;
    commit(&store, Txn::put("/k", "1")).await;
    cluster.kill(0);
    cluster.kill(1);
    let error = store.txn(Txn::put("/k", "2")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let error = store.get("/k", None).await.unwrap_err().to_string();
    for member in &cluster.members {
        assert!(error.contains(&member.client), "{error}");
    }
    cluster.start(0);
    commit_at_last(&store, "/k", "3").await;
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named_with_what_to_check() {
    let [nobody] = &free_addresses(1)[..] else {
        unreachable!()
    };
    let error = Etcd::connect(EtcdOptions::new(vec![nobody.clone()]))
        .await
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains(nobody.as_str()) && text.contains("check that it runs"),
        "{text}"
    );
    let tls = Etcd::connect(EtcdOptions::new(vec!["https://127.0.0.1:1".into()]))
        .await
        .err()
        .unwrap();
    assert!(matches!(tls, Error::Invalid { .. }), "{tls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_compacted_to_what_was_current_one_period_ago() {
    let cluster = Cluster::of(1);
    let store = cluster.connect().await;
    let first = commit(&store, Txn::put("/k", "1")).await;
    let (version, revision) = super::compactor::turn(&store.members, 0, 0).await.unwrap();
    assert!(store.get("/k", Some(first)).await.is_ok(), "the first turn only looks");
    commit(&store, Txn::put("/k", "2")).await;
    // Another server's turn came first: this one waits a period more.
    let other = super::compactor::turn(&store.members, version, 0).await.unwrap();
    assert_eq!(
        super::compactor::turn(&store.members, version, revision)
            .await
            .unwrap()
            .0,
        other.0
    );
    assert!(store.get("/k", Some(first)).await.is_ok());
    super::compactor::turn(&store.members, other.0, revision).await.unwrap();
    assert!(
        matches!(store.get("/k", Some(first)).await, Err(Error::Compacted { compacted, .. }) if compacted == revision)
    );
}
