//! One informer per kind, whatever it is read as; handlers that come late, panic or leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_client::{ApiResource, DynamicObject, PartialObject};
use coracle_clock::Clock;
use coracle_informer::indexer::{CONTROLLER, by_controller};
use coracle_informer::{CancellationToken, InformerFactory, InformerOptions};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::memory::Memory;
use crate::{config_map, create};

fn factory(memory: &Memory) -> InformerFactory {
    InformerFactory::new(memory.client(), Clock::system(), CancellationToken::new())
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_kind_gets_the_same_informer() {
    let memory = Memory::new();
    create(&memory.client(), "a", "").await;
    let factory = factory(&memory);
    let (one, two) = (factory.informer::<ConfigMap>(), factory.informer::<ConfigMap>());
    factory.synced().await;
    let found =
        |informer: &coracle_informer::SharedInformer<ConfigMap>| informer.lister().find("default", "a").unwrap();
    assert!(Arc::ptr_eq(&found(&one), &found(&two)));
    let lists = memory.calls().iter().filter(|c| c.starts_with("list")).count();
    assert_eq!(lists, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_handler_hears_of_what_is_there_and_one_removed_hears_no_more() {
    let memory = Memory::new();
    let client = memory.client();
    create(&client, "a", "").await;
    let informer = factory(&memory).informer::<ConfigMap>();
    informer.synced().await;
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    let id = informer.add_handler(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    informer.remove_handler(id);

    let (told, mut names) = tokio::sync::mpsc::channel(9);
    informer.add_handler(move |change| told.try_send(change.object().metadata.name.clone()).unwrap());
    create(&client, "b", "").await;
    names.recv().await;
    assert_eq!(names.recv().await.flatten().as_deref(), Some("b"));
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_does_not_keep_others_from_hearing() {
    let memory = Memory::new();
    let informer = factory(&memory).informer::<ConfigMap>();
    informer.add_handler(|_| panic!("on purpose"));
    let (told, mut heard) = tokio::sync::mpsc::channel(9);
    informer.add_handler(move |_| told.try_send(()).unwrap());
    create(&memory.client(), "a", "").await;
    assert_eq!(heard.recv().await, Some(()));
    create(&memory.client(), "b", "").await;
    assert_eq!(heard.recv().await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_kind_told_at_run_time_is_followed_until_it_is_forgotten() {
    let memory = Memory::new();
    let client = memory.client();
    let gears = ApiResource {
        group: "example.org".into(),
        version: "v1".into(),
        kind: "Gear".into(),
        plural: "gears".into(),
        namespaced: true,
    };
    let mut gear = DynamicObject::new(&gears, "a");
    gear.metadata.owner_references = serde_json::from_value(serde_json::json!([
        {"apiVersion": "v1", "kind": "Box", "name": "b", "uid": "owner", "controller": true},
    ]))
    .unwrap();
    client
        .dynamic::<DynamicObject>(&gears)
        .within("default")
        .create(&gear)
        .await
        .unwrap();

    let factory = factory(&memory);
    let informer = factory.dynamic::<PartialObject>(&gears, InformerOptions::default());
    informer.add_index(CONTROLLER, by_controller);
    informer.synced().await;
    let owned = informer.lister().controlled_by("owner");
    assert_eq!(owned[0].metadata.name.as_deref(), Some("a"));

    factory.forget::<PartialObject>(&gears);
    let again = factory.dynamic::<PartialObject>(&gears, InformerOptions::default());
    assert!(!again.has_synced(), "a new one");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_decoded_does_not_hide_the_others() {
    let memory = Memory::new();
    let client = memory.client();
    create(&client, "good", "").await;
    let maps = ApiResource::of::<ConfigMap>();
    let mut bad = DynamicObject::new(&maps, "bad");
    bad.data.insert("data".into(), serde_json::json!("not a map"));
    client
        .dynamic::<DynamicObject>(&maps)
        .within("default")
        .create(&bad)
        .await
        .unwrap();

    let informer = factory(&memory).informer::<ConfigMap>();
    informer.synced().await;
    let lister = informer.lister();
    assert_eq!(lister.len(), 1);
    assert!(lister.find("default", "good").is_some());
}

#[tokio::test(start_paused = true)]
async fn labels_select_from_the_cache() {
    let memory = Memory::new();
    let client = memory.client();
    for (name, app) in [("a", "web"), ("b", "db")] {
        let mut map = config_map(name, "");
        map.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        client.all().create(&map).await.unwrap();
    }
    let informer = factory(&memory).informer::<ConfigMap>();
    informer.synced().await;
    let selector = coracle_api::selector::LabelSelector::parse("app=web").unwrap();
    let found = informer.lister().matching("default", &selector);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].metadata.name.as_deref(), Some("a"));
    assert!(informer.lister().matching("other", &selector).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_goes_before_it_was_listed_keeps_nobody_waiting() {
    let memory = Memory::new();
    memory.fail(1000, &coracle_api::status::Status::no_such_resource());
    let factory = factory(&memory);
    let informer = factory.informer::<ConfigMap>();
    let stopping = factory.clone();
    tokio::spawn(async move {
        Clock::system().sleep(std::time::Duration::from_secs(60)).await;
        stopping.forget::<ConfigMap>(&ApiResource::of::<ConfigMap>());
    });
    factory.synced().await;
    assert!(!informer.has_synced());
}
