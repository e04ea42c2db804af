//! Informers over HTTP, where lists are streamed or come in pages.

use coracle_client::{Client, Config};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::front::Front;
use crate::memory::Memory;
use crate::{create, delete};

/// Lists 600 objects, follows changes, is cut off, misses some, and lists again.
async fn follows(streams_lists: bool) -> Vec<String> {
    let memory = Memory::new();
    let client = memory.client();
    for n in 0..600 {
        create(&client, &n.to_string(), "").await;
    }
    let front = Front {
        memory: memory.clone(),
        streams_lists,
    };
    let remote = Client::connect(Config::new(front.serve().await), Clock::system()).unwrap();
    let shutdown = CancellationToken::new();
    let informer = InformerFactory::new(remote, Clock::system(), shutdown.clone()).informer::<ConfigMap>();
    let (told, mut changes) = tokio::sync::mpsc::channel(2000);
    informer.synced().await;
    assert_eq!(informer.lister().len(), 600);
    informer.add_handler(move |change| {
        let name = change.object().metadata.name.clone().unwrap();
        told.try_send((name, change.is_deletion())).unwrap();
    });
    for _ in 0..600 {
        changes.recv().await.unwrap();
    }
    delete(&client, "7").await;
    assert_eq!(changes.recv().await, Some(("7".into(), true)));

    memory.cut(true);
    delete(&client, "8").await;
    create(&client, "new", "").await;
    memory.compact();
    let mut missed = [changes.recv().await.unwrap(), changes.recv().await.unwrap()];
    missed.sort();
    assert_eq!(missed, [("8".into(), true), ("new".into(), false)]);
    assert_eq!(informer.lister().len(), 599);
    shutdown.cancel();
    memory
        .calls()
        .into_iter()
        .filter(|c| !c.starts_with("create") && !c.starts_with("delete"))
        .collect()
}

#[tokio::test]
async fn a_list_is_streamed_where_the_server_can() {
    let calls = follows(true).await;
    assert!(calls.iter().all(|call| call == "watch configmaps/"), "{calls:?}");
}

#[tokio::test]
async fn a_list_comes_in_pages_where_it_cannot() {
    let calls = follows(false).await;
    let lists = calls.iter().filter(|call| *call == "list configmaps/").count();
    assert_eq!(lists, 4, "{calls:?}");
}
