//! The behaviours, one function each. They may use a store that others have used, except where the name says empty.
//! Longer than most files, because what every engine must show should be readable in one place.

use std::sync::Arc;

use bytes::Bytes;

use super::{commit, contents};
use crate::{Compare, Error, EventKind, KeyValue, ListOptions, Op, Revision, Store, Txn, TxnResult, Watch};

type Shared = Arc<dyn Store>;

async fn get(store: &Shared, key: &str) -> Option<Arc<KeyValue>> {
    store.get(key, None).await.unwrap().kv
}

/// Reads events until there are `count`.
async fn read(watch: &mut Watch, count: usize) -> Vec<crate::Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = watch.next().await.unwrap();
        assert!(batch.events.iter().all(|event| event.revision() <= batch.revision));
        events.extend(batch.events);
    }
    events
}

pub async fn an_empty_store_is_at_revision_1_and_has_nothing(store: Shared) {
    assert_eq!(store.revision().await.unwrap(), 1);
    let got = store.get("a", None).await.unwrap();
    assert_eq!((got.kv, got.revision), (None, 1));
    let page = store.list(ListOptions::default()).await.unwrap();
    assert_eq!(
        (page.items.len(), page.revision, page.more, page.remaining),
        (0, 1, false, 0)
    );
    store.watch("", 0).await.unwrap();
    assert_eq!(commit(&*store, Txn::put("a", "1")).await, 2);
}

pub async fn what_is_put_can_be_read_with_its_revisions(store: Shared) {
    let created = commit(&*store, Txn::create("/a/x", "one")).await;
    let updated = commit(&*store, Txn::update("/a/x", created, "two")).await;
    let kv = get(&store, "/a/x").await.unwrap();
    assert_eq!((&*kv.key, &kv.value[..]), ("/a/x", &b"two"[..]));
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (created, updated, 2));
    commit(&*store, Txn::put("/a/empty", Bytes::new())).await;
    assert_eq!(get(&store, "/a/empty").await.unwrap().value, Bytes::new());
    assert_eq!(get(&store, "/a").await, None);
}

pub async fn each_commit_raises_the_one_revision_by_one(store: Shared) {
    let first = commit(&*store, Txn::put("a", "1")).await;
    assert_eq!(commit(&*store, Txn::put("b", "1")).await, first + 1);
    assert_eq!(commit(&*store, Txn::delete("a", None)).await, first + 2);
    assert_eq!(store.revision().await.unwrap(), first + 2);
}

pub async fn a_create_conflicts_with_what_is_there_and_shows_it(store: Shared) {
    let revision = commit(&*store, Txn::create("a", "first")).await;
    let TxnResult::Conflict {
        index: 0,
        current: Some(current),
        ..
    } = store.txn(Txn::create("a", "second")).await.unwrap()
    else {
        panic!("a conflict")
    };
    assert_eq!((&current.value[..], current.mod_revision), (&b"first"[..], revision));
    assert_eq!(get(&store, "a").await.unwrap(), current);
}

pub async fn an_update_of_a_stale_revision_conflicts_and_changes_nothing(store: Shared) {
    let stale = commit(&*store, Txn::create("a", "1")).await;
    let fresh = commit(&*store, Txn::update("a", stale, "2")).await;
    for txn in [
        Txn::update("a", stale, "3"),
        Txn::delete("a", Some(stale)),
        Txn::update("a", fresh + 1, "3"),
    ] {
        let result = store.txn(txn).await.unwrap();
        assert!(matches!(result, TxnResult::Conflict { index: 0, current: Some(_), revision } if revision == fresh));
    }
    let result = store.txn(Txn::update("absent", stale, "3")).await.unwrap();
    assert_eq!(
        result,
        TxnResult::Conflict {
            index: 0,
            current: None,
            revision: fresh
        }
    );
    assert_eq!(store.revision().await.unwrap(), fresh);
    commit(&*store, Txn::delete("a", Some(fresh))).await;
    assert_eq!(get(&store, "a").await, None);
}

pub async fn a_transaction_happens_in_one_revision_or_not_at_all(store: Shared) {
    let before = commit(&*store, Txn::create("a", "1")).await;
    let ops = vec![
        Op::Put {
            key: "b".into(),
            value: "2".into(),
        },
        Op::Delete { key: "a".into() },
        Op::Put {
            key: "c".into(),
            value: "3".into(),
        },
    ];
    let compare = vec![Compare::Exists("a".into()), Compare::Absent("b".into())];
    let refused = Txn {
        compare: [compare.clone(), vec![Compare::Exists("c".into())]].concat(),
        ops: ops.clone(),
    };
    let result = store.txn(refused).await.unwrap();
    assert_eq!(
        result,
        TxnResult::Conflict {
            index: 2,
            current: None,
            revision: before
        }
    );
    assert_eq!(contents(&*store, "", None).await, [("a".to_string(), "1".to_string())]);

    let mut watch = store.watch("", before).await.unwrap();
    let TxnResult::Committed { revision, previous } = store.txn(Txn { compare, ops }).await.unwrap() else {
        panic!("a commit")
    };
    assert_eq!(revision, before + 1);
    let previous: Vec<_> = previous.into_iter().map(|kv| kv.map(|kv| kv.value.clone())).collect();
    assert_eq!(previous, [None, Some("1".into()), None]);
    assert_eq!(
        contents(&*store, "", None).await,
        [("b".into(), "2".into()), ("c".into(), "3".into())]
    );
    let batch = watch.next().await.unwrap();
    assert_eq!(batch.events.len(), 3, "a revision is never split");
    assert!(batch.events.iter().all(|event| event.revision() == revision));
}

pub async fn a_transaction_that_contradicts_itself_is_refused(store: Shared) {
    let twice = Txn {
        compare: vec![],
        ops: vec![Op::Delete { key: "a".into() }, Op::Delete { key: "a".into() }],
    };
    assert!(matches!(store.txn(twice).await, Err(Error::Invalid { .. })));
    assert!(matches!(store.txn(Txn::put("", "1")).await, Err(Error::Invalid { .. })));
}

pub async fn a_delete_of_nothing_changes_nothing(store: Shared) {
    let before = commit(&*store, Txn::put("a", "1")).await;
    let result = store.txn(Txn::delete("b", None)).await.unwrap();
    assert_eq!(
        result,
        TxnResult::Committed {
            revision: before,
            previous: vec![None]
        }
    );
    assert_eq!(store.revision().await.unwrap(), before);
}

pub async fn a_key_that_is_created_again_starts_over(store: Shared) {
    commit(&*store, Txn::put("a", "1")).await;
    commit(&*store, Txn::put("a", "2")).await;
    let deleted = commit(&*store, Txn::delete("a", None)).await;
    let again = commit(&*store, Txn::create("a", "3")).await;
    let kv = get(&store, "a").await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (again, again, 1));
    assert_eq!(store.get("a", Some(deleted)).await.unwrap().kv, None);
    assert_eq!(
        &store.get("a", Some(deleted - 1)).await.unwrap().kv.unwrap().value[..],
        b"2"
    );
}

pub async fn a_past_revision_can_be_read_and_a_future_one_cannot(store: Shared) {
    let mut revisions = Vec::new();
    for value in 0..20 {
        revisions.push(commit(&*store, Txn::put("a", value.to_string())).await);
    }
    for (value, revision) in revisions.iter().enumerate() {
        let got = store.get("a", Some(*revision)).await.unwrap();
        assert_eq!(got.kv.unwrap().value, value.to_string());
        assert_eq!(got.revision, *revision);
        assert_eq!(
            contents(&*store, "a", Some(*revision)).await,
            [("a".into(), value.to_string())]
        );
    }
    let current = *revisions.last().unwrap();
    let future = |error: Error| {
        assert!(matches!(error, Error::FutureRevision { current: c, requested } if c == current && requested == c + 1));
    };
    future(store.get("a", Some(current + 1)).await.err().unwrap());
    future(
        store
            .list(ListOptions {
                revision: Some(current + 1),
                ..Default::default()
            })
            .await
            .err()
            .unwrap(),
    );
    future(store.watch("", current + 1).await.err().unwrap());
    future(store.compact(current + 1).await.err().unwrap());
}

pub async fn a_list_is_ordered_and_bounded_by_its_prefix(store: Shared) {
    for key in ["/a/3", "/b/1", "/a/1", "/a/2", "/a", "/a0", "/a/\u{10ffff}"] {
        commit(&*store, Txn::put(key, key)).await;
    }
    let keys = async |options: ListOptions| {
        let page = store.list(options).await.unwrap();
        let keys: Vec<_> = page.items.iter().map(|kv| kv.key.to_string()).collect();
        (keys.join(" "), page.more, page.remaining)
    };
    let under = |prefix: &str| ListOptions {
        prefix: prefix.into(),
        ..Default::default()
    };
    assert_eq!(
        keys(under("/a/")).await,
        ("/a/1 /a/2 /a/3 /a/\u{10ffff}".into(), false, 0)
    );
    assert_eq!(
        keys(ListOptions {
            limit: 2,
            ..under("/a/")
        })
        .await,
        ("/a/1 /a/2".into(), true, 2)
    );
    let after = |key: &str| ListOptions {
        after: Some(key.into()),
        ..under("/a/")
    };
    assert_eq!(
        keys(ListOptions {
            limit: 1,
            ..after("/a/2")
        })
        .await,
        ("/a/3".into(), true, 1)
    );
    assert_eq!(
        keys(ListOptions {
            limit: 1,
            ..after("/a/3")
        })
        .await,
        ("/a/\u{10ffff}".into(), false, 0)
    );
    assert_eq!(keys(after("/a/11")).await.0, "/a/2 /a/3 /a/\u{10ffff}");
    assert_eq!(
        keys(after("/")).await.0,
        "/a/1 /a/2 /a/3 /a/\u{10ffff}",
        "a start before the prefix is no start"
    );
    assert_eq!(keys(after("/b")).await, (String::new(), false, 0));
    assert_eq!(keys(under("")).await.0.split(' ').count(), 7);
}

pub async fn pages_of_a_list_are_from_one_revision_whatever_is_written_meanwhile(store: Shared) {
    for key in 0..100 {
        commit(&*store, Txn::put(format!("/p/{key:03}"), "old")).await;
    }
    let expected = contents(&*store, "/p/", None).await;
    let mut options = ListOptions {
        prefix: "/p/".into(),
        limit: 7,
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = store.list(options.clone()).await.unwrap();
        assert_eq!(*options.revision.get_or_insert(page.revision), page.revision);
        seen.extend(page.items.iter().map(|kv| (kv.key.to_string(), "old".to_string())));
        assert!(page.items.iter().all(|kv| kv.value == "old"));
        assert_eq!(page.remaining, 100 - seen.len() as u64);
        let turn = seen.len();
        commit(&*store, Txn::put(format!("/p/{:03}", turn % 100), "new")).await;
        commit(&*store, Txn::delete(format!("/p/{:03}", (turn + 3) % 100), None)).await;
        commit(&*store, Txn::put(format!("/p/{turn:03}-more"), "new")).await;
        if !page.more {
            break;
        }
        options.after = page.items.last().map(|kv| kv.key.to_string());
    }
    assert_eq!(seen, expected);
}

pub async fn of_concurrent_creates_exactly_one_wins(store: Shared) {
    for round in 0..10 {
        let create = |writer: u32| {
            let store = store.clone();
            let txn = Txn::create(format!("race/{round}"), writer.to_string());
            tokio::spawn(async move { matches!(store.txn(txn).await.unwrap(), TxnResult::Committed { .. }) })
        };
        let mut won = Vec::new();
        for (writer, task) in (0..16).map(create).enumerate() {
            if task.await.unwrap() {
                won.push(writer);
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!(
            get(&store, &format!("race/{round}")).await.unwrap().value,
            won[0].to_string()
        );
    }
}

pub async fn concurrent_compare_and_swap_loses_no_update(store: Shared) {
    commit(&*store, Txn::create("counter", "0")).await;
    let increment = |_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                loop {
                    let kv = get(&store, "counter").await.unwrap();
                    let next = String::from_utf8(kv.value.to_vec()).unwrap().parse::<u32>().unwrap() + 1;
                    let txn = Txn::update("counter", kv.mod_revision, next.to_string());
                    if let TxnResult::Committed { .. } = store.txn(txn).await.unwrap() {
                        break;
                    }
                }
            }
        })
    };
    for task in (0..8).map(increment).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let kv = get(&store, "counter").await.unwrap();
    assert_eq!((&kv.value[..], kv.version), (&b"200"[..], 201));
}

pub async fn a_watch_delivers_the_changes_under_its_prefix_only(store: Shared) {
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("/a/", from).await.unwrap();
    let mut single = store.watch("/a/1", from).await.unwrap();
    for key in ["/a/1", "/b/1", "/a", "/a/2", "/a/1"] {
        commit(&*store, Txn::put(key, key)).await;
    }
    let events = read(&mut watch, 3).await;
    let keys: Vec<_> = events.iter().map(|event| &*event.kv.key).collect();
    assert_eq!(keys, ["/a/1", "/a/2", "/a/1"]);
    let revisions: Vec<_> = events.iter().map(|event| event.revision() - from).collect();
    assert_eq!(revisions, [1, 4, 5]);
    assert_eq!(events[0].previous, None);
    assert_eq!(events[2].previous.as_ref(), Some(&events[0].kv));
    assert_eq!(read(&mut single, 2).await.len(), 2);
}

pub async fn a_watch_from_the_past_replays_it(store: Shared) {
    let mut revisions = Vec::new();
    for value in 0..50 {
        revisions.push(commit(&*store, Txn::put(format!("/w/{}", value % 7), value.to_string())).await);
    }
    for skip in [0, 1, 25, 49] {
        let mut watch = store.watch("/w/", revisions[skip]).await.unwrap();
        let events = read(&mut watch, 49 - skip).await;
        let seen: Vec<_> = events.iter().map(|event| event.revision()).collect();
        assert_eq!(seen, revisions[skip + 1..]);
    }
}

pub async fn a_watch_of_a_delete_shows_the_last_value(store: Shared) {
    let put = commit(&*store, Txn::put("/d/1", "last")).await;
    let mut watch = store.watch("/d/", put).await.unwrap();
    let deleted = commit(&*store, Txn::delete("/d/1", None)).await;
    let event = read(&mut watch, 1).await.remove(0);
    assert_eq!((event.kind, event.revision()), (EventKind::Delete, deleted));
    assert_eq!(
        (&*event.kv.key, &event.kv.value[..], event.kv.version),
        ("/d/1", &b"last"[..], 0)
    );
    assert_eq!(event.previous.unwrap().mod_revision, put);
}

pub async fn a_watch_sees_each_of_many_concurrent_writes_once_and_in_order(store: Shared) {
    const WRITERS: usize = 8;
    const WRITES: usize = 100;
    let from = store.revision().await.unwrap();
    let follow = |prefix: &'static str, count: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut watch = store.watch(prefix, from).await.unwrap();
            let events = read(&mut watch, count).await;
            events.iter().map(|event| event.revision()).collect::<Vec<Revision>>()
        })
    };
    let watches: Vec<_> = (0..4).map(|_| follow("/c/", WRITERS * WRITES)).collect();
    let narrow = follow("/c/3/", WRITES);
    let write = |writer: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..WRITES {
                commit(&*store, Txn::put(format!("/c/{writer}/{}", n % 5), n.to_string())).await;
                // Watches that begin in the middle see the rest.
                if n == WRITES / 2 && writer == 0 {
                    let begin = store.revision().await.unwrap();
                    let mut watch = store.watch("/c/", begin).await.unwrap();
                    assert_eq!(read(&mut watch, 1).await[0].revision(), begin + 1);
                }
            }
        })
    };
    for writer in (0..WRITERS).map(write).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let all: Vec<_> = (from + 1..=from + (WRITERS * WRITES) as u64).collect();
    for watch in watches {
        assert_eq!(watch.await.unwrap(), all);
    }
    let narrow = narrow.await.unwrap();
    assert!(narrow.is_sorted_by(|a, b| a < b));
}

pub async fn a_watch_tells_its_progress_when_asked(store: Shared) {
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("/idle/", from).await.unwrap();
    let written = commit(&*store, Txn::put("/other/1", "1")).await;
    watch.request_progress();
    let batch = watch.next().await.unwrap();
    assert_eq!((batch.events.len(), batch.revision), (0, written));
    let event = commit(&*store, Txn::put("/idle/1", "1")).await;
    let mut seen = 0;
    watch.request_progress();
    while seen < event {
        let batch = watch.next().await.unwrap();
        assert!(
            batch.revision < event || batch.events.len() == 1,
            "progress never runs ahead of events"
        );
        seen = batch.revision;
    }
}

pub async fn a_watch_loses_nothing_when_its_future_is_dropped(store: Shared) {
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("/x/", from).await.unwrap();
    let mut seen = Vec::new();
    for n in 0..50 {
        let write = commit(&*store, Txn::put("/x/1", n.to_string()));
        tokio::pin!(write);
        loop {
            tokio::select! {
                batch = watch.next() => seen.extend(batch.unwrap().events),
                _ = &mut write => break,
            }
        }
    }
    let left = 50 - seen.len();
    seen.extend(read(&mut watch, left).await);
    let revisions: Vec<_> = seen.iter().map(|event| event.revision()).collect();
    assert_eq!(revisions, (from + 1..=from + 50).collect::<Vec<_>>());
}

pub async fn compaction_forgets_the_past_and_nothing_else(store: Shared) {
    let mut revisions = Vec::new();
    for n in 0..10 {
        revisions.push(commit(&*store, Txn::put("/k/a", n.to_string())).await);
    }
    commit(&*store, Txn::put("/k/gone", "1")).await;
    let deleted = commit(&*store, Txn::delete("/k/gone", None)).await;
    let kept = commit(&*store, Txn::put("/k/b", "1")).await;
    let last = commit(&*store, Txn::put("/k/a", "last")).await;
    let at = |revision| contents(&*store, "/k/", Some(revision));
    let before = (at(deleted).await, at(kept).await, at(last).await);

    store.compact(deleted).await.unwrap();
    store.compact(revisions[3]).await.unwrap();
    for revision in [revisions[0], revisions[9], deleted - 1] {
        let compacted = |error: Error| {
            assert!(matches!(error, Error::Compacted { compacted, requested }
                if compacted == deleted && requested == revision));
        };
        compacted(store.get("/k/a", Some(revision)).await.err().unwrap());
        compacted(
            store
                .list(ListOptions {
                    revision: Some(revision),
                    ..Default::default()
                })
                .await
                .err()
                .unwrap(),
        );
        // An engine may tell it at once, or to the first reader.
        match store.watch("/k/", revision).await {
            Err(error) => compacted(error),
            Ok(mut watch) => assert!(matches!(watch.next().await, Err(Error::Compacted { .. }))),
        }
    }
    assert_eq!((at(deleted).await, at(kept).await, at(last).await), before);
    let mut watch = store.watch("/k/", deleted).await.unwrap();
    let seen: Vec<_> = read(&mut watch, 2).await.iter().map(|event| event.revision()).collect();
    assert_eq!(seen, [kept, last]);

    store.compact(last).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), last);
    assert_eq!(contents(&*store, "/k/", None).await, before.2);
    assert_eq!(commit(&*store, Txn::put("/k/c", "1")).await, last + 1);
}
