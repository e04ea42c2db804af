//! Whatever a server does, in whatever order: in the end the cache holds what the server holds, and every handler was
//! told a story that makes sense.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::status::Status;
use coracle_client::{DeleteOptions, Kind, ObjectKey};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, Change, InformerFactory, SharedInformer};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::watch;

use crate::memory::Memory;
use crate::{config_map, create, delete};

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Update(u8),
    Delete(u8),
    /// Deleted and made again: another uid under the same name.
    Replace(u8),
    Cut {
        error: bool,
    },
    Compact,
    Bookmark,
    Fail(u8),
    Wait(u16),
    AddHandler,
    Resync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u8).prop_map(Step::Create),
        4 => (0..5_u8).prop_map(Step::Update),
        4 => (0..5_u8).prop_map(Step::Delete),
        2 => (0..5_u8).prop_map(Step::Replace),
        2 => any::<bool>().prop_map(|error| Step::Cut { error }),
        1 => Just(Step::Compact),
        1 => Just(Step::Bookmark),
        1 => (1..4_u8).prop_map(Step::Fail),
        4 => (0..2000_u16).prop_map(Step::Wait),
        1 => Just(Step::AddHandler),
        1 => Just(Step::Resync),
    ]
}

/// What one handler believes, checked with everything that it is told.
#[derive(Clone)]
struct Believer {
    known: Arc<Mutex<HashMap<ObjectKey<ConfigMap>, Arc<ConfigMap>>>>,
    last_seen: watch::Sender<bool>,
    /// What did not make sense: informers survive the panics of handlers.
    doubts: Arc<Mutex<Vec<String>>>,
}

impl Believer {
    fn listening_to(informer: &SharedInformer<ConfigMap>) -> Self {
        let believer = Self {
            known: Arc::default(),
            last_seen: watch::Sender::new(false),
            doubts: Arc::default(),
        };
        let hearing = believer.clone();
        informer.add_handler(move |change| hearing.hear(change));
        believer
    }

    fn hear(&self, change: &Change<ConfigMap>) {
        let key = ObjectKey::of(change.object().as_ref());
        let mut known = self.known.lock();
        let same_uid = |a: &ConfigMap, b: &ConfigMap| a.metadata.uid == b.metadata.uid;
        let sound = match change {
            Change::Added(object) => known.insert(key.clone(), object.clone()).is_none(),
            Change::Updated { old, new } => known
                .insert(key.clone(), new.clone())
                .is_some_and(|before| Arc::ptr_eq(&before, old) && same_uid(&before, new)),
            Change::Deleted { object, .. } => known.remove(&key).is_some_and(|before| same_uid(&before, object)),
        };
        if !sound {
            let what = match change {
                Change::Added(_) => "added, but was there",
                Change::Updated { .. } => "updated, but its old state was another or none",
                Change::Deleted { .. } => "deleted, but was another or not there",
            };
            self.doubts.lock().push(format!("{key} {what}"));
        }
        drop(known);
        if &*key.name == "last" {
            self.last_seen.send_replace(true);
        }
    }
}

async fn run(steps: Vec<Step>) {
    let memory = Memory::new();
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let factory = InformerFactory::new(memory.client(), clock, shutdown.clone());
    let informer = factory.informer::<ConfigMap>();
    let mut believers = vec![Believer::listening_to(&informer)];
    // The writer has a server that never fails.
    let client = memory.client();
    let maps = client.namespaced::<ConfigMap>("default");
    let faults = Mutex::new(0);
    for (n, step) in steps.into_iter().enumerate() {
        let text = n.to_string();
        // Faults wait in the server for whoever asks next: the informer must take them all before the next write.
        if *faults.lock() > 0 {
            clock.sleep(Duration::from_secs(600)).await;
            *faults.lock() = 0;
        }
        match step {
            Step::Create(name) => drop(maps.create(&config_map(&name.to_string(), &text)).await),
            Step::Update(name) => drop(maps.update(&config_map(&name.to_string(), &text)).await),
            Step::Delete(name) => drop(maps.delete(&name.to_string(), &DeleteOptions::default()).await),
            Step::Replace(name) => {
                let name = name.to_string();
                let _ = maps.delete(&name, &DeleteOptions::default()).await;
                maps.create(&config_map(&name, &text)).await.unwrap();
            }
            Step::Cut { error } => memory.cut(error),
            Step::Compact => memory.compact(),
            Step::Bookmark => memory.bookmark(),
            Step::Fail(times) => {
                memory.fail(times.into(), &Status::unavailable("script"));
                // Only asked when the watch is gone.
                memory.cut(true);
                *faults.lock() = times;
            }
            Step::Wait(milliseconds) => clock.sleep(Duration::from_millis(milliseconds.into())).await,
            Step::AddHandler => believers.push(Believer::listening_to(&informer)),
            Step::Resync => informer.resync(),
        }
    }
    if *faults.lock() > 0 {
        clock.sleep(Duration::from_secs(600)).await;
    }
    create(&client, "last", "").await;
    for believer in &believers {
        let mut seen = believer.last_seen.subscribe();
        let told = clock
            .timeout(Duration::from_secs(3600), seen.wait_for(|seen| *seen))
            .await;
        told.expect("the last object is told within the hour").unwrap();
    }
    assert!(informer.has_synced());
    let server = memory.objects("configmaps");
    let lister = informer.lister();
    assert_eq!(lister.len(), server.len());
    for ((namespace, name), stored) in &server {
        let cached = lister.find(namespace, name).expect("what the server has is cached");
        assert!(
            Arc::ptr_eq(&cached, &ConfigMap::decode(stored).unwrap()),
            "decoded once for server and cache"
        );
        for believer in &believers {
            let key = ObjectKey::new(namespace.as_str(), name.as_str());
            assert!(Arc::ptr_eq(&believer.known.lock()[&key], &cached));
        }
    }
    for believer in &believers {
        assert_eq!(believer.doubts.lock().as_slice(), [""; 0]);
        assert_eq!(believer.known.lock().len(), server.len());
    }
    shutdown.cancel();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_converges_and_handlers_hear_a_consistent_story(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_nobody_saw_is_told_after_the_new_list() {
    let memory = Memory::new();
    let client = memory.client();
    create(&client, "a", "").await;
    let shutdown = CancellationToken::new();
    let informer = InformerFactory::new(client.clone(), Clock::system(), shutdown).informer::<ConfigMap>();
    let (told, mut deletions) = tokio::sync::mpsc::channel(9);
    informer.add_handler(move |change| {
        if let Change::Deleted {
            final_state_unknown, ..
        } = change
        {
            told.try_send(*final_state_unknown).unwrap();
        }
    });
    informer.synced().await;
    memory.cut(true);
    delete(&client, "a").await;
    memory.compact();
    assert_eq!(deletions.recv().await, Some(true));
    assert!(informer.lister().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_watch_goes_on_where_it_was_and_lists_no_more() {
    let memory = Memory::new();
    let client = memory.client();
    let shutdown = CancellationToken::new();
    let informer = InformerFactory::new(client.clone(), Clock::system(), shutdown).informer::<ConfigMap>();
    informer.synced().await;
    let mut seen = watching(&informer);
    for n in 0..5 {
        create(&client, &n.to_string(), "").await;
        seen.wait_for(|count| *count > n).await.unwrap();
        memory.cut(n % 2 == 0);
    }
    let lists = memory.calls().iter().filter(|call| call.starts_with("list")).count();
    assert_eq!(lists, 1);
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_saves_the_new_list_after_history_is_gone() {
    let memory = Memory::new();
    let client = memory.client();
    let informer =
        InformerFactory::new(client.clone(), Clock::system(), CancellationToken::new()).informer::<ConfigMap>();
    informer.synced().await;
    let mut seen = watching(&informer);
    create(&client, "a", "").await;
    seen.wait_for(|count| *count > 0).await.unwrap();
    memory.bookmark();
    Clock::system().sleep(Duration::from_secs(1)).await;
    memory.compact();
    memory.cut(false);
    create(&client, "b", "").await;
    seen.wait_for(|count| *count > 1).await.unwrap();
    let lists = memory.calls().iter().filter(|call| call.starts_with("list")).count();
    assert_eq!(lists, 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_informer_asks_nothing() {
    let memory = Memory::new();
    let informer =
        InformerFactory::new(memory.client(), Clock::system(), CancellationToken::new()).informer::<ConfigMap>();
    informer.synced().await;
    Clock::system().sleep(Duration::from_secs(86_400)).await;
    assert_eq!(memory.calls(), ["list configmaps/", "watch configmaps/"]);
}

fn watching(informer: &SharedInformer<ConfigMap>) -> watch::Receiver<i32> {
    let (count, seen) = watch::channel(0);
    informer.add_handler(move |_| count.send_modify(|count| *count += 1));
    seen
}
