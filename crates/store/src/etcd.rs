//! The etcd engine: the same store on a real etcd, which several API servers may share. Semantics are etcd's own, since
//! [`Store`] has them too; this file maps one to the other, `watch.rs` follows changes, `compactor.rs` bounds history.
//!
//! Every request goes to one endpoint, and to the next one when that cannot be reached. Reads are tried again; a
//! transaction only if it was never sent, because one that was sent may have happened.

mod compactor;
mod convert;
mod members;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use coracle_clock::Clock;
use etcd_client::{GetOptions, TxnOp, TxnOpResponse};
use tokio::task::JoinHandle;

use crate::{Compare, Error, Got, KeyValue, ListOptions, ListPage, Revision, Status, Store, Txn, TxnResult, Watch};
use convert::{range, signed, stored, unsigned};
use members::Members;

/// How to reach etcd and what to do there.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// URLs of the members' client ports: `https://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// The authority that signed the members' certificates, in PEM. Needed for `https`.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate and key, in PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    pub clock: Clock,
    /// How often history is compacted to what was current one period before; `None` leaves it to others.
    pub compact_every: Option<Duration>,
    /// How long one request may take.
    pub timeout: Duration,
}

impl EtcdOptions {
    /// Compaction every five minutes and five seconds for a request, as upstream's API server has them.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            ca: None,
            identity: None,
            clock: Clock::system(),
            compact_every: Some(Duration::from_secs(300)),
            timeout: Duration::from_secs(5),
        }
    }
}

/// See the module. Dropped, it stops compacting; etcd itself is not its own to stop.
pub struct Etcd {
    members: Arc<Members>,
    /// The oldest revision known to be readable.
    compacted: AtomicU64,
    watches: Arc<AtomicU64>,
    compactor: Option<JoinHandle<()>>,
}

impl Etcd {
    /// Connects, and fails if no member answers.
    pub async fn connect(options: EtcdOptions) -> Result<Self, Error> {
        let members = Arc::new(Members::new(&options).await?);
        members.revision().await?;
        let compactor = options
            .compact_every
            .map(|every| tokio::spawn(compactor::run(members.clone(), options.clock, every)));
        Ok(Self {
            members,
            compacted: AtomicU64::new(0),
            watches: Arc::default(),
            compactor,
        })
    }

    /// Names the revisions in an error, which etcd's answer leaves out.
    async fn explain(&self, error: Error, requested: Revision) -> Error {
        match error {
            Error::Compacted { .. } => {
                let compacted = match watch::oldest(&self.members, requested).await {
                    Ok(oldest) => oldest,
                    Err(_) => requested + 1,
                };
                self.compacted.fetch_max(compacted, Ordering::Relaxed);
                Error::Compacted { compacted, requested }
            }
            Error::FutureRevision { .. } => match self.members.revision().await {
                Ok(current) => Error::FutureRevision { current, requested },
                Err(error) => error,
            },
            other => other,
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(compactor) = &self.compactor {
            compactor.abort();
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str, revision: Option<Revision>) -> Result<Got, Error> {
        let options = GetOptions::new().with_revision(revision.map_or(0, signed));
        let mut answer = match self.members.get(key, options).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, revision.unwrap_or_default()).await),
        };
        let current = convert::revision(answer.header())?;
        let found = answer.take_kvs().into_iter().next().map(stored).transpose()?;
        Ok(Got {
            kv: found.map(Arc::new),
            revision: revision.unwrap_or(current),
        })
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage, Error> {
        let (start, end) = range(&options.prefix, options.after.as_deref());
        if end.as_slice() <= start.as_slice() && end != [0] {
            let revision = match options.revision {
                Some(revision) => revision,
                None => self.members.revision().await?,
            };
            return Ok(ListPage {
                items: Vec::new(),
                revision,
                more: false,
                remaining: 0,
            });
        }
        let asked = GetOptions::new()
            .with_range(end)
            .with_limit(i64::try_from(options.limit).unwrap_or(i64::MAX))
            .with_revision(options.revision.map_or(0, signed));
        let mut answer = match self.members.get(start, asked).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, options.revision.unwrap_or_default()).await),
        };
        let current = convert::revision(answer.header())?;
        let (more, count) = (answer.more(), unsigned(answer.count()));
        let items = answer.take_kvs().into_iter().map(|kv| stored(kv).map(Arc::new));
        let items: Vec<Arc<KeyValue>> = items.collect::<Result<_, _>>()?;
        let remaining = if more {
            count.saturating_sub(items.len() as u64)
        } else {
            0
        };
        Ok(ListPage {
            items,
            revision: options.revision.unwrap_or(current),
            more,
            remaining,
        })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        txn.check()?;
        let compares: Vec<_> = txn.compare.iter().map(convert::compare).collect();
        let ops: Vec<_> = txn.ops.iter().map(convert::op).collect();
        let look: Vec<_> = txn.compare.iter().map(|c| TxnOp::get(c.key(), None)).collect();
        let request = etcd_client::Txn::new().when(compares).and_then(ops).or_else(look);
        let answer = self.members.txn(&request).await?;
        let revision = convert::revision(answer.header())?;
        let answers = answer.op_responses();
        if answer.succeeded() {
            let previous = answers.into_iter().map(previous).collect::<Result<_, _>>()?;
            return Ok(TxnResult::Committed { revision, previous });
        }
        conflict(&txn.compare, answers, revision)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        let current = self.members.revision().await?;
        if from > current {
            return Err(Error::FutureRevision {
                current,
                requested: from,
            });
        }
        Ok(Watch::new(watch::EtcdFeed::new(
            self.members.clone(),
            prefix,
            from,
            self.watches.clone(),
        )))
    }

    async fn compact(&self, upto: Revision) -> Result<(), Error> {
        match self.members.compact(upto).await {
            Ok(()) => {
                self.compacted.fetch_max(upto, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.explain(error, upto).await),
        }
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.members.revision().await
    }

    async fn status(&self) -> Result<Status, Error> {
        let (start, end) = range("", None);
        let count = GetOptions::new().with_range(end).with_count_only();
        let counted = self.members.get(start, count).await?;
        let member = self.members.status().await?;
        Ok(Status {
            revision: convert::revision(counted.header())?,
            compacted: self.compacted.load(Ordering::Relaxed),
            keys: unsigned(counted.count()),
            // etcd tells the bytes of values and history only together.
            value_bytes: unsigned(member.raft_used_db_size()),
            history_bytes: 0,
            disk_bytes: unsigned(member.db_size()),
            watches: self.watches.load(Ordering::Relaxed),
            failure: member.errors().first().cloned(),
        })
    }
}

/// What a key held before an operation.
fn previous(answer: TxnOpResponse) -> Result<Option<Arc<KeyValue>>, Error> {
    let kv = match answer {
        TxnOpResponse::Put(mut put) => put.take_prev_key(),
        TxnOpResponse::Delete(mut delete) => delete.take_prev_kvs().into_iter().next(),
        TxnOpResponse::Get(_) | TxnOpResponse::Txn(_) => None,
    };
    kv.map(|kv| stored(kv).map(Arc::new)).transpose()
}

/// The first comparison that failed, from what the keys hold.
fn conflict(compares: &[Compare], answers: Vec<TxnOpResponse>, revision: Revision) -> Result<TxnResult, Error> {
    for (index, (compare, answer)) in compares.iter().zip(answers).enumerate() {
        let TxnOpResponse::Get(mut got) = answer else { continue };
        let current = got.take_kvs().into_iter().next().map(stored).transpose()?;
        if !compare.holds(current.as_ref()) {
            return Ok(TxnResult::Conflict {
                index,
                current: current.map(Arc::new),
                revision,
            });
        }
    }
    Err(Error::corrupt(
        "answer to a transaction: it failed, and every comparison holds",
        "etcd",
    ))
}

#[cfg(test)]
mod tests;
