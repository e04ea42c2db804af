//! The window of history: its bounds, and what happens to those who leave it.

use std::time::Duration;

use coracle_clock::Clock;

use crate::testing::{commit, contents};
use crate::{Embedded, EmbeddedOptions, Error, HistoryLimits, Store, Txn};

fn limited(history: HistoryLimits) -> Embedded {
    Embedded::in_memory_with(EmbeddedOptions {
        history,
        ..Default::default()
    })
}

#[tokio::test]
async fn a_watch_that_falls_behind_the_window_is_told_so_and_not_skipped_ahead() {
    let store = limited(HistoryLimits {
        commits: 5,
        ..Default::default()
    });
    let mut slow = store.watch("/a/", 1).await.unwrap();
    for n in 0..6 {
        commit(&store, Txn::put("/a/1", n.to_string())).await;
    }
    for _ in 0..2 {
        assert!(matches!(
            slow.next().await,
            Err(Error::Compacted {
                compacted: 2,
                requested: 1
            })
        ));
    }
}

#[tokio::test]
async fn an_idle_watch_survives_any_amount_of_history_of_others() {
    let store = limited(HistoryLimits {
        commits: 5,
        ..Default::default()
    });
    let mut idle = store.watch("/idle/", 1).await.unwrap();
    for n in 0..100 {
        commit(&store, Txn::put("/busy/1", n.to_string())).await;
    }
    let revision = commit(&store, Txn::put("/idle/1", "1")).await;
    let batch = idle.next().await.unwrap();
    assert_eq!((batch.events.len(), batch.events[0].revision()), (1, revision));
}

#[tokio::test]
async fn a_watch_at_the_edge_of_the_window_still_gets_everything() {
    let store = limited(HistoryLimits {
        commits: 5,
        ..Default::default()
    });
    let mut watch = store.watch("/a/", 1).await.unwrap();
    for n in 0..5 {
        commit(&store, Txn::put("/a/1", n.to_string())).await;
    }
    assert_eq!(watch.next().await.unwrap().events.len(), 5);
}

#[tokio::test]
async fn history_is_bounded_by_its_bytes() {
    let limit = 100_000;
    let store = limited(HistoryLimits {
        bytes: limit,
        ..Default::default()
    });
    for n in 0..1000_u32 {
        commit(&store, Txn::put(format!("/a/{}", n % 10), vec![0; 2000])).await;
    }
    let status = store.status().await.unwrap();
    assert!(
        status.history_bytes <= limit && status.history_bytes > limit / 2,
        "{status:?}"
    );
    assert_eq!(status.value_bytes, 20_000);
    assert!(status.compacted > 900);
}

#[tokio::test]
async fn deleting_and_compacting_everything_leaves_nothing() {
    let store = limited(HistoryLimits::default());
    for n in 0..100 {
        commit(&store, Txn::put(format!("/a/{n}"), vec![0; 2000])).await;
    }
    for n in 0..100 {
        commit(&store, Txn::delete(format!("/a/{n}"), None)).await;
    }
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let status = store.status().await.unwrap();
    assert_eq!((status.keys, status.value_bytes, status.history_bytes), (0, 0, 0));
    assert_eq!(store.core.state.read().chains(), 0);
}

#[tokio::test(start_paused = true)]
async fn history_is_forgotten_when_it_comes_of_age() {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let history = HistoryLimits {
        age: Some(Duration::from_secs(300)),
        ..Default::default()
    };
    let store = Embedded::in_memory_with(EmbeddedOptions {
        clock,
        history,
        ..Default::default()
    });
    commit(&store, Txn::put("a", "1")).await;
    let old = commit(&store, Txn::put("a", "2")).await;
    clock.sleep(Duration::from_secs(200)).await;
    let young = commit(&store, Txn::put("a", "3")).await;
    clock.sleep(Duration::from_secs(99)).await;
    assert_eq!(contents(&store, "", Some(old)).await[0].1, "2", "young enough");
    clock.sleep(Duration::from_secs(32)).await;
    assert!(matches!(
        store.get("a", Some(old - 1)).await,
        Err(Error::Compacted { .. })
    ));
    assert_eq!(store.status().await.unwrap().compacted, old);
    clock.sleep(Duration::from_secs(300)).await;
    assert_eq!(store.status().await.unwrap().compacted, young);
    assert_eq!(store.status().await.unwrap().history_bytes, 0);
    // It begins anew with the next commit.
    let next = commit(&store, Txn::put("a", "4")).await;
    clock.sleep(Duration::from_secs(331)).await;
    assert_eq!(store.status().await.unwrap().compacted, next);
}

#[tokio::test]
async fn watches_that_end_leave_nothing_behind() {
    let store = limited(HistoryLimits::default());
    let watches = [
        store.watch("/a/", 1).await.unwrap(),
        store.watch("/a/", 1).await.unwrap(),
    ];
    let other = store.watch("/b/", 1).await.unwrap();
    assert_eq!(store.status().await.unwrap().watches, 3);
    drop(watches);
    assert_eq!(store.status().await.unwrap().watches, 1);
    drop(other);
    assert!(store.core.state.read().topics.is_empty());
}
