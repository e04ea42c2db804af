//! The suite of behaviours that every engine must show, and a model to compare one with. An engine runs the suite by
//! `store_suite!(open)`, where `open` is an async function that gives an empty store and whatever must outlive it.

pub mod clients;
pub mod disk;
pub mod history;
pub mod linear;
pub mod model;
pub mod suite;

use std::sync::Arc;

use crate::{ListOptions, Revision, Store, Txn, TxnResult};

/// Makes a test of each behaviour of the suite.
macro_rules! store_suite {
    ($open:path) => {
        $crate::testing::store_suite! { $open:
            an_empty_store_is_at_revision_1_and_has_nothing
            what_is_put_can_be_read_with_its_revisions
            each_commit_raises_the_one_revision_by_one
            a_create_conflicts_with_what_is_there_and_shows_it
            an_update_of_a_stale_revision_conflicts_and_changes_nothing
            a_transaction_happens_in_one_revision_or_not_at_all
            a_transaction_that_contradicts_itself_is_refused
            a_delete_of_nothing_changes_nothing
            a_key_that_is_created_again_starts_over
            a_past_revision_can_be_read_and_a_future_one_cannot
            a_list_is_ordered_and_bounded_by_its_prefix
            pages_of_a_list_are_from_one_revision_whatever_is_written_meanwhile
            of_concurrent_creates_exactly_one_wins
            concurrent_compare_and_swap_loses_no_update
            a_watch_delivers_the_changes_under_its_prefix_only
            a_watch_from_the_past_replays_it
            a_watch_of_a_delete_shows_the_last_value
            a_watch_sees_each_of_many_concurrent_writes_once_and_in_order
            a_watch_tells_its_progress_when_asked
            a_watch_loses_nothing_when_its_future_is_dropped
            compaction_forgets_the_past_and_nothing_else
        }
    };
    ($open:path: $($behaviour:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let (store, _guard) = $open().await;
                $crate::testing::suite::$behaviour(store).await;
            }
        )*
    };
}
pub(crate) use store_suite;

/// Runs a transaction that must commit.
pub async fn commit(store: &dyn Store, txn: Txn) -> Revision {
    match store.txn(txn).await.unwrap() {
        TxnResult::Committed { revision, .. } => revision,
        conflict => panic!("{conflict:?}"),
    }
}

/// The keys and values under a prefix at a revision.
pub async fn contents(store: &dyn Store, prefix: &str, revision: Option<Revision>) -> Vec<(String, String)> {
    let page = store
        .list(ListOptions {
            prefix: prefix.into(),
            revision,
            ..Default::default()
        })
        .await
        .unwrap();
    let text = |kv: &Arc<crate::KeyValue>| (kv.key.to_string(), String::from_utf8(kv.value.to_vec()).unwrap());
    page.items.iter().map(text).collect()
}
