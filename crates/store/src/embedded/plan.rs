//! Decides what a batch of transactions does, without doing it: each sees the effects of those before it in the
//! batch. Pure, so that the writer can make the result durable before anyone sees it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use coracle_clock::Instant;

use super::state::{Commit, State};
use crate::{Error, Event, EventKind, KeyValue, Op, Txn, TxnResult};

/// The outcome of a batch: commits to make durable and then apply, and after that an answer for each transaction.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub commits: Vec<Commit>,
    pub answers: Vec<Result<TxnResult, Error>>,
}

pub(super) fn plan<'a>(state: &State, batch: impl IntoIterator<Item = &'a Txn>, now: Instant) -> Plan {
    let mut planner = Planner {
        state,
        changed: HashMap::new(),
        plan: Plan::default(),
        now,
    };
    for txn in batch {
        let answer = planner.transact(txn);
        planner.plan.answers.push(answer);
    }
    planner.plan
}

struct Planner<'a> {
    state: &'a State,
    /// What earlier transactions of the batch did to keys.
    changed: HashMap<Arc<str>, Option<Arc<KeyValue>>>,
    plan: Plan,
    now: Instant,
}

impl Planner<'_> {
    fn current(&self, key: &str) -> Option<&Arc<KeyValue>> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.state.current(key),
        }
    }

    fn transact(&mut self, txn: &Txn) -> Result<TxnResult, Error> {
        let last = self
            .plan
            .commits
            .last()
            .map_or(self.state.revision, |commit| commit.revision);
        txn.check()?;
        for (index, compare) in txn.compare.iter().enumerate() {
            let current = self.current(compare.key());
            if !compare.holds(current.map(|kv| &**kv)) {
                return Ok(TxnResult::Conflict {
                    index,
                    current: current.cloned(),
                    revision: last,
                });
            }
        }
        let revision = last + 1;
        let mut events = Vec::with_capacity(txn.ops.len());
        let mut previous = Vec::with_capacity(txn.ops.len());
        for op in &txn.ops {
            let before = self.current(op.key()).cloned();
            events.extend(event(op, before.clone(), revision));
            previous.push(before);
        }
        if events.is_empty() {
            return Ok(TxnResult::Committed {
                revision: last,
                previous,
            });
        }
        for event in &events {
            let live = (event.kind == EventKind::Put).then(|| event.kv.clone());
            self.changed.insert(event.kv.key.clone(), live);
        }
        self.plan.commits.push(Commit {
            revision,
            events: events.into(),
            at: self.now,
        });
        Ok(TxnResult::Committed { revision, previous })
    }
}

/// What an operation changes; nothing when it deletes what is not there.
fn event(op: &Op, previous: Option<Arc<KeyValue>>, revision: u64) -> Option<Event> {
    match op {
        Op::Put { key, value } => {
            let kv = KeyValue {
                key: previous
                    .as_ref()
                    .map_or_else(|| Arc::from(key.as_str()), |kv| kv.key.clone()),
                // A copy of its own: what came in may be a small part of a large buffer, or have room to grow, and
                // would keep all of that in memory for as long as the key lives.
                value: Bytes::copy_from_slice(value),
                create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: previous.as_ref().map_or(1, |kv| kv.version + 1),
            };
            Some(Event {
                kind: EventKind::Put,
                kv: Arc::new(kv),
                previous,
            })
        }
        Op::Delete { .. } => {
            let previous = previous?;
            let kv = KeyValue {
                mod_revision: revision,
                version: 0,
                ..KeyValue::clone(&previous)
            };
            Some(Event {
                kind: EventKind::Delete,
                kv: Arc::new(kv),
                previous: Some(previous),
            })
        }
    }
}
