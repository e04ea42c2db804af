//! Tests of the embedded engine: the suite, with a disk and without, and what is its own.

mod bounds;
mod concurrent;
mod crash;
mod damage;
mod failure;
mod history;
mod power;
mod restart;

use std::sync::Arc;

use proptest::prelude::*;

use super::{Embedded, EmbeddedOptions};
use crate::Store;
use crate::testing::{model, store_suite};

/// A store in a directory that goes away with the second value.
async fn on_disk() -> (Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), EmbeddedOptions::default())
        .await
        .unwrap();
    (Arc::new(store), directory)
}

async fn in_memory() -> (Arc<dyn Store>, ()) {
    (Arc::new(Embedded::in_memory()), ())
}

mod memory_suite {
    use super::{in_memory, store_suite};
    store_suite!(in_memory);
}

mod disk_suite {
    use super::{on_disk, store_suite};
    store_suite!(on_disk);
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn in_memory_it_does_what_the_model_does(actions in prop::collection::vec(model::action(), 1..60)) {
        run(model::check(Arc::new(Embedded::in_memory()), actions, async |store| store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn on_a_disk_it_does_what_the_model_does_over_restarts(actions in prop::collection::vec(model::action(), 1..60)) {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let open = async || Arc::new(Embedded::open(directory.path(), EmbeddedOptions::default()).await.unwrap());
            let first = open().await;
            let reopen = async |store| {
                drop(store);
                open().await as Arc<dyn Store>
            };
            model::check(first, actions, reopen).await;
        });
    }
}
