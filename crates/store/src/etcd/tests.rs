//! The suite on a real etcd, and what only a cluster of three can show. They need Debian's `etcd-server`.
#![allow(clippy::disallowed_methods)]

mod cluster;
mod faults;
mod partition;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use super::{Etcd, EtcdOptions};
use crate::testing::{commit, store_suite};
use crate::{Error, Store, Txn, TxnResult};
use cluster::{Cluster, free_ports};

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
        assert!(error.contains(&member.client_url), "{error}");
    }
    cluster.start(0);
    commit_at_last(&store, "/k", "3").await;
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named_with_what_to_check() {
    let nobody = &format!("http://127.0.0.1:{}", free_ports(1)[0]);
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
    assert!(tls.to_string().contains("--store-ca"), "{tls}");
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
