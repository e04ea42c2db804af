//! Whoever lists and watches ends with what a list shows, whatever happens meanwhile: writers at once, connections that
//! break, history that is compacted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::service::{DeleteOptions, ListOptions, PatchKind, WatchEvent};
use coracle_clock::Clock;
use coracle_store::{Embedded, Store};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::harness::{Cluster, at, config_map, named};

/// Name to resourceVersion.
type Seen = BTreeMap<String, u64>;

const WRITERS: u64 = 4;
const WRITES: usize = 120;

async fn write(cluster: &Cluster, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..WRITES {
        let name = format!("m{}", rng.random_range(0..12));
        let target = named("configmaps", &name);
        // Somebody else may have been there first.
        let _ = match rng.random_range(0..4) {
            0 => cluster.delete(target, DeleteOptions::default()).await,
            1 => {
                let app = ["web", "db"][rng.random_range(0..2)];
                let patch = json!({"metadata": {"labels": {"app": app}}});
                cluster.patch(target, PatchKind::Merge, patch).await
            }
            2 => {
                let patch = json!({"data": {"n": rng.random::<u32>().to_string()}});
                cluster.patch(target, PatchKind::Merge, patch).await
            }
            _ => cluster.create(at("configmaps"), config_map(&name)).await,
        };
    }
}

fn selecting(labels: &str) -> ListOptions {
    ListOptions {
        label_selector: labels.into(),
        ..ListOptions::default()
    }
}

async fn list(cluster: &Cluster, labels: &str) -> (Seen, u64) {
    let list = cluster.list(at("configmaps"), selecting(labels)).await.unwrap();
    let seen = list.items.iter().map(|o| (o.head().name.to_string(), o.revision()));
    (seen.collect(), list.revision)
}

/// The objects that are made when all else is written: what a selection has to see of them.
fn ends(labels: &str) -> &'static [&'static str] {
    match labels {
        "app=web" => &["end-web"],
        "app!=web" => &["end-db"],
        _ => &["end-web", "end-db"],
    }
}

/// Follows to the end, connecting anew as often as chance has it.
async fn follow(cluster: &Cluster, labels: &str, seed: u64) -> Seen {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut seen, mut revision) = list(cluster, labels).await;
    loop {
        let options = ListOptions {
            resource_version: revision.to_string(),
            allow_watch_bookmarks: true,
            ..selecting(labels)
        };
        let events = rng.random_range(1..40);
        let broken = match cluster.watch(at("configmaps"), options).await {
            Err(status) => Some(status),
            Ok(mut watch) => {
                let mut broken = None;
                for _ in 0..events {
                    if ends(labels).iter().all(|end| seen.contains_key(*end)) {
                        return seen;
                    }
                    match watch.next().await {
                        None => break,
                        Some(Err(status)) => {
                            broken = Some(status);
                            break;
                        }
                        Some(Ok(event)) => revision = take(&mut seen, event, revision),
                    }
                }
                broken
            }
        };
        if let Some(status) = broken {
            assert_eq!(status.code, 410, "{}", status.message);
            (seen, revision) = list(cluster, labels).await;
        }
    }
}

/// Takes an event over; revisions only grow.
fn take(seen: &mut Seen, event: WatchEvent, before: u64) -> u64 {
    let (object, there) = match event {
        WatchEvent::Added(o) => {
            let known = seen.contains_key(&*o.head().name);
            assert!(!known, "{} was added twice", o.head().name);
            (o, true)
        }
        WatchEvent::Modified(o) => {
            assert!(seen.contains_key(&*o.head().name), "{} was never added", o.head().name);
            (o, true)
        }
        WatchEvent::Deleted(o) => (o, false),
        WatchEvent::Bookmark { revision, .. } => {
            assert!(revision >= before, "a bookmark went back");
            return revision;
        }
    };
    let revision = object.revision();
    assert!(revision > before, "{revision} came after {before}");
    let name = object.head().name.to_string();
    if there {
        seen.insert(name, revision);
    } else {
        assert!(seen.remove(&name).is_some(), "{name} went without having been there");
    }
    revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_ends_with_what_a_list_shows() {
    let store: Arc<dyn Store> = Arc::new(Embedded::in_memory());
    let cluster = Arc::new(Cluster::with(store.clone()).await);
    let mut followers = Vec::new();
    for (seed, labels) in [
        (1, ""),
        (2, ""),
        (3, "app=web"),
        (4, "app!=web"),
        (5, "app in (web,db)"),
    ] {
        let cluster = cluster.clone();
        followers.push(tokio::spawn(
            async move { (labels, follow(&cluster, labels, seed).await) },
        ));
    }
    let mut writers = Vec::new();
    for seed in 0..WRITERS {
        let cluster = cluster.clone();
        writers.push(tokio::spawn(async move { write(&cluster, 100 + seed).await }));
    }
    let compactor = {
        let (cluster, store) = (cluster.clone(), store.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let (_, revision) = list(&cluster, "").await;
                store.compact(revision).await.unwrap();
                write(&cluster, revision).await;
            }
        })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    compactor.await.unwrap();
    for app in ["web", "db"] {
        let mut end = config_map(&format!("end-{app}"));
        end["metadata"]["labels"] = json!({"app": app});
        cluster.create(at("configmaps"), end).await.unwrap();
    }
    for follower in followers {
        let in_time = Clock::system().timeout(Duration::from_secs(60), follower).await;
        let (labels, seen) = in_time.expect("a follower never saw the end").unwrap();
        assert_eq!(seen, list(&cluster, labels).await.0, "{labels:?}");
    }
}
