//! Watches: where they begin, what they deliver, how they end.

use coracle_api::service::{DeleteOptions, ListOptions, PatchKind, VersionMatch, WatchEvent, WatchStream};
use futures::StreamExt;
use serde_json::json;

use crate::harness::{Cluster, at, config_map, named};

async fn next(watch: &mut WatchStream) -> (String, String) {
    let clock = coracle_clock::Clock::system();
    match clock
        .timeout(std::time::Duration::from_secs(20), watch.next())
        .await
        .expect("nothing came")
        .expect("the watch ended")
        .unwrap()
    {
        WatchEvent::Added(o) => ("ADDED".into(), o.head().name.to_string()),
        WatchEvent::Modified(o) => ("MODIFIED".into(), o.head().name.to_string()),
        WatchEvent::Deleted(o) => ("DELETED".into(), o.head().name.to_string()),
        WatchEvent::Bookmark { initial_events_end, .. } => ("BOOKMARK".into(), initial_events_end.to_string()),
    }
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

#[tokio::test]
async fn a_watch_begins_with_all_there_is_however_much_that_is() {
    let cluster = Cluster::start().await;
    let made = (0..1500).map(|i| cluster.create(at("configmaps"), config_map(&format!("m{i:04}"))));
    futures::future::join_all(made).await;
    let options = ListOptions {
        send_initial_events: Some(true),
        resource_version_match: Some(VersionMatch::NotOlderThan),
        allow_watch_bookmarks: true,
        ..ListOptions::default()
    };
    let mut watch = cluster.watch(at("configmaps"), options).await.unwrap();
    for i in 0..1500 {
        assert_eq!(next(&mut watch).await, pair("ADDED", &format!("m{i:04}")));
    }
    assert_eq!(next(&mut watch).await, pair("BOOKMARK", "true"));
    cluster.create(at("configmaps"), config_map("z")).await.unwrap();
    assert_eq!(next(&mut watch).await, pair("ADDED", "z"));
}

#[tokio::test]
async fn a_watch_from_a_version_misses_nothing_and_repeats_nothing() {
    let cluster = Cluster::start().await;
    let list = cluster.list(at("configmaps"), ListOptions::default()).await.unwrap();
    for i in 0..50 {
        cluster
            .create(at("configmaps"), config_map(&format!("m{i:02}")))
            .await
            .unwrap();
    }
    cluster
        .delete(named("configmaps", "m07"), DeleteOptions::default())
        .await
        .unwrap();
    let from = ListOptions {
        resource_version: list.revision.to_string(),
        ..ListOptions::default()
    };
    let mut watch = cluster.watch(at("configmaps"), from).await.unwrap();
    for i in 0..50 {
        assert_eq!(next(&mut watch).await, pair("ADDED", &format!("m{i:02}")));
    }
    assert_eq!(next(&mut watch).await, pair("DELETED", "m07"));
}

#[tokio::test]
async fn what_leaves_a_selection_is_deleted_to_it_and_what_enters_is_added() {
    let cluster = Cluster::start().await;
    let selected = ListOptions {
        label_selector: "on=yes".into(),
        ..ListOptions::default()
    };
    let mut watch = cluster.watch(at("configmaps"), selected).await.unwrap();
    cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let label = |value: &str| json!({"metadata": {"labels": {"on": value}}});
    for (value, expected) in [("yes", "ADDED"), ("no", "DELETED"), ("yes", "ADDED")] {
        cluster
            .patch(named("configmaps", "a"), PatchKind::Merge, label(value))
            .await
            .unwrap();
        assert_eq!(next(&mut watch).await, pair(expected, "a"));
    }
    cluster
        .patch(named("configmaps", "a"), PatchKind::Merge, json!({"data": {"k": "w"}}))
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await, pair("MODIFIED", "a"));
}

#[tokio::test]
async fn the_last_event_of_an_object_has_the_version_of_its_deletion() {
    let cluster = Cluster::start().await;
    let made = cluster.create(at("configmaps"), config_map("a")).await.unwrap();
    let from = ListOptions {
        resource_version: made.resource_version().into(),
        ..ListOptions::default()
    };
    let mut watch = cluster.watch(at("configmaps"), from).await.unwrap();
    cluster
        .delete(named("configmaps", "a"), DeleteOptions::default())
        .await
        .unwrap();
    let Some(Ok(WatchEvent::Deleted(last))) = watch.next().await else {
        panic!("not deleted")
    };
    assert!(last.revision() > made.resource_version().parse().unwrap());
    assert_eq!(last.to_object().uid(), made.uid());
}

#[tokio::test]
async fn a_reader_that_falls_too_far_behind_is_told_to_list_again() {
    let cluster = Cluster::start().await;
    let mut big = config_map("a");
    big["data"]["fill"] = "x".repeat(900_000).into();
    let made = cluster.create(at("configmaps"), big).await.unwrap();
    let from = ListOptions {
        resource_version: made.resource_version().into(),
        ..ListOptions::default()
    };
    let mut slow = cluster.watch(at("configmaps"), from.clone()).await.unwrap();
    for i in 0..28 {
        let patch = json!({"data": {"i": i.to_string()}});
        cluster
            .patch(named("configmaps", "a"), PatchKind::Merge, patch)
            .await
            .unwrap();
    }
    cluster.list(at("configmaps"), ListOptions::default()).await.unwrap();
    let last = loop {
        match slow.next().await.expect("ended without a word") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert!(last.is_expired());
    assert!(slow.next().await.is_none());
    let refused = cluster.watch(at("configmaps"), from).await.err().unwrap();
    assert_eq!(refused.code, 410);
}

#[tokio::test]
async fn a_watch_ends_by_its_timeout_and_at_shutdown_without_an_error() {
    let cluster = Cluster::start().await;
    let options = ListOptions {
        timeout_seconds: Some(1),
        ..ListOptions::default()
    };
    let mut short = cluster.watch(at("configmaps"), options).await.unwrap();
    assert!(short.next().await.is_none());
    let mut long = cluster.watch(at("configmaps"), ListOptions::default()).await.unwrap();
    cluster.server.shutdown().await;
    assert!(long.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_is_never_ahead_of_what_was_sent() {
    const WRITES: usize = 1200;
    let is_map = |i: &usize| i % 7 > 2;
    let cluster = Cluster::start().await;
    let options = ListOptions {
        send_initial_events: Some(true),
        resource_version_match: Some(VersionMatch::NotOlderThan),
        allow_watch_bookmarks: true,
        ..ListOptions::default()
    };
    let mut watch = cluster.watch(at("configmaps"), options.clone()).await.unwrap();
    // Writes fall on the very moments at which bookmarks do, and some are of another kind.
    let write = async {
        let clock = coracle_clock::Clock::system();
        for i in 0..WRITES {
            let kind = if is_map(&i) { "configmaps" } else { "serviceaccounts" };
            let made = json!({"metadata": {"name": format!("m{i:04}")}});
            cluster.create(at(kind), made).await.unwrap();
            clock.sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    let read = async {
        let (mut sent, mut last, mut promised, mut bookmarks) = (Vec::new(), 0, 0, 0);
        while sent.len() < (0..WRITES).filter(is_map).count() {
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Bookmark { revision, .. } => {
                    assert!(revision >= last && revision >= promised, "{revision}");
                    promised = revision;
                    bookmarks += 1;
                }
                WatchEvent::Added(o) => {
                    assert!(o.revision() > promised, "{} was promised by {promised}", o.head().name);
                    last = o.revision();
                    sent.push(last);
                }
                _ => panic!("nothing changes or goes"),
            }
        }
        (sent, promised, bookmarks)
    };
    let ((), (sent, promised, bookmarks)) = tokio::join!(write, read);
    assert!(bookmarks > 2, "{bookmarks}");
    // Who goes on from a bookmark gets what had not been sent before it.
    let from = ListOptions {
        resource_version: promised.to_string(),
        ..ListOptions::default()
    };
    let mut next = cluster.watch(at("configmaps"), from).await.unwrap();
    let Some(Ok(WatchEvent::Added(first))) = next.next().await else {
        panic!("nothing is left");
    };
    assert_eq!(Some(&first.revision()), sent.iter().find(|r| **r > promised));
}
