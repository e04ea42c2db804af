//! Keeps etcd's history bounded: every period, what was current one period ago is made the oldest that can be read.
//!
//! Several API servers share one etcd and take turns by one key, upstream's `compact_rev_key`: its version tells whether
//! anybody has compacted since one looked, its value is the revision at that time.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Clock;
use etcd_client::{CompareOp, PutOptions, TxnOp, TxnOpResponse};

use super::convert::{self, signed};
use super::members::Members;
use crate::{Error, Revision};

const KEY: &str = "compact_rev_key";

/// Runs until the task is dropped.
pub(super) async fn run(members: Arc<Members>, clock: Clock, every: Duration) {
    let mut version = 0;
    let mut revision = 0;
    loop {
        clock.sleep(every).await;
        match turn(&members, version, revision).await {
            Ok((seen, current)) => (version, revision) = (seen, current),
            Err(error) => tracing::warn!(%error, "etcd's history could not be compacted; trying again"),
        }
    }
}

/// Compacts to `revision` if nobody has had a turn since the key had `version`; the key's version and the current
/// revision, for the next turn.
pub(super) async fn turn(members: &Members, version: i64, revision: Revision) -> Result<(i64, Revision), Error> {
    let now = signed(members.revision().await?).to_string();
    let request = etcd_client::Txn::new()
        .when([etcd_client::Compare::version(KEY, CompareOp::Equal, version)])
        .and_then([TxnOp::put(KEY, now, Some(PutOptions::new()))])
        .or_else([TxnOp::get(KEY, None)]);
    let answer = members.txn(&request).await?;
    let current = convert::revision(answer.header())?;
    if !answer.succeeded() {
        let seen = answer.op_responses().into_iter().find_map(|op| match op {
            TxnOpResponse::Get(got) => got.kvs().first().map(|kv| kv.version()),
            _ => None,
        });
        return Ok((seen.unwrap_or_default(), current));
    }
    if revision > 0 {
        members.compact(revision).await?;
        tracing::info!(revision, "etcd's history is compacted");
    }
    Ok((version + 1, current))
}
