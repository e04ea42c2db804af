//! What clients of a store asked and were answered, and the store as one would expect it if they came one at a time.
//! Everything an answer shows is checked: revisions, values, whole lists, and each batch of a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::linear::{self, Sequential, Timed};
use crate::{Compare, Error, EventKind, Got, KeyValue, ListPage, Op, Revision, Txn, TxnResult, WatchBatch};

/// A value and the revision that gave it.
type Held = (Revision, Arc<str>);

/// One operation with its answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Operation {
    Txn(Txn, Outcome),
    Get {
        key: String,
        found: Option<Held>,
        revision: Revision,
    },
    List {
        prefix: String,
        items: BTreeMap<String, Held>,
        revision: Revision,
    },
    /// A batch of a watch: all that happened under a prefix after one revision and up to another.
    Watch {
        prefix: String,
        after: Revision,
        upto: Revision,
        events: Vec<Change>,
    },
}

/// A revision, a key, and what it held then.
pub type Change = (Revision, String, Option<Arc<str>>);

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    Committed(Revision),
    Conflict {
        index: usize,
        found: Option<Held>,
        revision: Revision,
    },
    /// It happened or it did not.
    Unknown,
}

fn text(kv: &KeyValue) -> Arc<str> {
    String::from_utf8_lossy(&kv.value).into()
}

fn held(kv: &KeyValue) -> Held {
    (kv.mod_revision, text(kv))
}

impl Operation {
    pub fn txn(txn: Txn, answer: &Result<TxnResult, Error>) -> Self {
        let outcome = match answer {
            Ok(TxnResult::Committed { revision, .. }) => Outcome::Committed(*revision),
            Ok(TxnResult::Conflict {
                index,
                current,
                revision,
            }) => Outcome::Conflict {
                index: *index,
                found: current.as_deref().map(held),
                revision: *revision,
            },
            Err(_) => Outcome::Unknown,
        };
        Self::Txn(txn, outcome)
    }

    pub fn get(key: &str, got: &Got) -> Self {
        Self::Get {
            key: key.to_owned(),
            found: got.kv.as_deref().map(held),
            revision: got.revision,
        }
    }

    pub fn list(prefix: &str, page: &ListPage) -> Self {
        Self::List {
            prefix: prefix.to_owned(),
            items: page.items.iter().map(|kv| (kv.key.to_string(), held(kv))).collect(),
            revision: page.revision,
        }
    }

    pub fn watch(prefix: &str, after: Revision, batch: &WatchBatch) -> Self {
        let change = |event: &crate::Event| {
            let value = (event.kind == EventKind::Put).then(|| text(&event.kv));
            (event.revision(), event.kv.key.to_string(), value)
        };
        Self::Watch {
            prefix: prefix.to_owned(),
            after,
            upto: batch.revision,
            events: batch.events.iter().map(change).collect(),
        }
    }
}

/// What a commit changed, and those before it.
#[derive(Debug)]
struct Commit {
    revision: Revision,
    changes: Vec<(String, Option<Arc<str>>)>,
    before: Option<Arc<Commit>>,
}

impl Drop for Commit {
    /// One after the other: a chain of thousands would be too deep.
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(mut commit) = before.and_then(Arc::into_inner) {
            before = commit.before.take();
        }
    }
}

/// A store that is used by one client at a time.
#[derive(Clone, Debug)]
pub struct Ideal {
    revision: Revision,
    keys: BTreeMap<String, Held>,
    log: Option<Arc<Commit>>,
    /// Stands for everything that was ever committed.
    fingerprint: u128,
}

impl Ideal {
    /// An empty store at a revision.
    pub fn new(revision: Revision) -> Self {
        Self {
            revision,
            keys: BTreeMap::new(),
            log: None,
            fingerprint: 0,
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The same without its past: nobody will ask for earlier events any more.
    pub fn without_past(self) -> Self {
        Self { log: None, ..self }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let current = self.keys.get(compare.key());
        match compare {
            Compare::Absent(_) => current.is_none(),
            Compare::Exists(_) => current.is_some(),
            Compare::ModRevision(_, revision) => current.is_some_and(|held| held.0 == *revision),
        }
    }

    /// The store after a transaction, or the first of its comparisons that fails.
    fn after(&self, txn: &Txn) -> Result<Self, usize> {
        if let Some(failed) = txn.compare.iter().position(|compare| !self.holds(compare)) {
            return Err(failed);
        }
        let mut next = self.clone();
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for op in &txn.ops {
            match op {
                Op::Put { key, value } => {
                    let value: Arc<str> = String::from_utf8_lossy(value).into();
                    next.keys.insert(key.clone(), (revision, value.clone()));
                    changes.push((key.clone(), Some(value)));
                }
                Op::Delete { key } => {
                    if next.keys.remove(key).is_some() {
                        changes.push((key.clone(), None));
                    }
                }
            }
        }
        if !changes.is_empty() {
            next.fingerprint = mix(self.fingerprint, &changes);
            next.revision = revision;
            next.log = Some(Arc::new(Commit {
                revision,
                changes,
                before: self.log.clone(),
            }));
        }
        Ok(next)
    }

    fn txn(&self, txn: &Txn, outcome: &Outcome) -> Vec<Self> {
        let after = self.after(txn);
        match (outcome, after) {
            (Outcome::Committed(revision), Ok(next)) if next.revision == *revision => vec![next],
            (Outcome::Conflict { index, found, revision }, Err(failed)) => {
                let current = self.keys.get(txn.compare[failed].key());
                let same = (*index, found.as_ref(), *revision) == (failed, current, self.revision);
                if same { vec![self.clone()] } else { Vec::new() }
            }
            (Outcome::Unknown, Ok(next)) => vec![next, self.clone()],
            (Outcome::Unknown, Err(_)) => vec![self.clone()],
            _ => Vec::new(),
        }
    }

    /// Whether these are all the changes under a prefix between two revisions, those at the first left out.
    fn changed(&self, prefix: &str, after: Revision, upto: Revision, events: &[Change]) -> bool {
        if upto > self.revision {
            return false;
        }
        let mut expected = Vec::new();
        let mut at = self.log.as_ref();
        while let Some(commit) = at.filter(|commit| commit.revision > after) {
            let under = commit.changes.iter().filter(|(key, _)| key.starts_with(prefix)).rev();
            if commit.revision <= upto {
                expected.extend(under.map(|(key, value)| (commit.revision, key.clone(), value.clone())));
            }
            at = commit.before.as_ref();
        }
        expected.reverse();
        let mut seen = events.to_vec();
        // The order within a revision is not promised.
        expected.sort();
        let ordered = seen.is_sorted_by_key(|change| change.0);
        seen.sort();
        ordered && seen == expected
    }
}

fn mix(seed: u128, changes: &[(String, Option<Arc<str>>)]) -> u128 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, seed, changes).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// The sequential object of the checker.
pub struct Sequence;

impl Sequential for Sequence {
    type State = Ideal;
    type Operation = Operation;

    fn step(&self, state: &Ideal, operation: &Operation) -> Vec<Ideal> {
        let same = match operation {
            Operation::Txn(txn, outcome) => return state.txn(txn, outcome),
            Operation::Get { key, found, revision } => {
                (*revision, found.as_ref()) == (state.revision, state.keys.get(key))
            }
            Operation::List {
                prefix,
                items,
                revision,
            } => {
                let under = state.keys.iter().filter(|(key, _)| key.starts_with(prefix));
                *revision == state.revision && items.iter().eq(under)
            }
            Operation::Watch {
                prefix,
                after,
                upto,
                events,
            } => state.changed(prefix, *after, *upto, events),
        };
        if same { vec![state.clone()] } else { Vec::new() }
    }

    fn fingerprint(&self, state: &Ideal) -> u128 {
        state.fingerprint
    }

    fn possible(&self, state: &Ideal, later: &Operation) -> Option<bool> {
        // Revisions only grow.
        match later {
            Operation::Txn(txn, Outcome::Committed(revision)) => {
                let grows = txn.ops.iter().any(|op| matches!(op, Op::Put { .. }));
                Some(state.revision + u64::from(grows) <= *revision)
            }
            Operation::Txn(_, Outcome::Conflict { revision, .. })
            | Operation::Get { revision, .. }
            | Operation::List { revision, .. } => Some(state.revision <= *revision),
            Operation::Txn(_, Outcome::Unknown) | Operation::Watch { .. } => None,
        }
    }
}

/// Writes down what clients do and when, in memory and, for a process that is going to be killed, line by line.
#[derive(Default)]
pub struct Recorder {
    now: AtomicU64,
    history: Mutex<Vec<Timed<Operation>>>,
    lines: Option<Mutex<Box<dyn Write + Send>>>,
    stopped: AtomicBool,
}

impl Recorder {
    /// One whose every operation is a line, written when it begins if it may change something, and when it ends.
    pub fn writing(lines: impl Write + Send + 'static) -> Self {
        Self {
            lines: Some(Mutex::new(Box::new(lines))),
            ..Self::default()
        }
    }

    /// One whose every moment is after those of a history.
    pub fn after(history: &[Timed<Operation>]) -> Self {
        let ended = history.iter().filter_map(|timed| timed.ended).max().unwrap_or_default();
        Self {
            now: (ended + 1).into(),
            ..Self::default()
        }
    }

    /// The next moment.
    pub fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    /// Begins a transaction.
    pub fn begin(&self, txn: &Txn) -> u64 {
        let began = self.tick();
        self.write(&Timed {
            began,
            ended: None,
            operation: Operation::Txn(txn.clone(), Outcome::Unknown),
        });
        began
    }

    pub fn note(&self, began: u64, operation: Operation) {
        let ended = Some(self.tick());
        let timed = Timed {
            began,
            ended,
            operation,
        };
        self.write(&timed);
        self.history.lock().push(timed);
    }

    /// Notes an operation that may happen at any later time, or never.
    pub fn note_unanswered(&self, began: u64, operation: Operation) {
        let ended = None;
        self.history.lock().push(Timed {
            began,
            ended,
            operation,
        });
    }

    fn write(&self, timed: &Timed<Operation>) {
        let Some(lines) = &self.lines else { return };
        // One write each, so that lines are whole.
        let line = format!("\n{}\n", serde_json::to_string(timed).unwrap());
        lines.lock().write_all(line.as_bytes()).unwrap();
    }

    /// Has clients begin nothing more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// How many operations have been answered.
    pub fn count(&self) -> usize {
        self.history.lock().iter().filter(|timed| timed.ended.is_some()).count()
    }

    /// What was noted since the last time.
    pub fn take(&self) -> Vec<Timed<Operation>> {
        std::mem::take(&mut self.history.lock())
    }
}

/// The operations of a process that was killed, from its lines. What it had begun and not ended had happened by then,
/// or not at all.
pub fn of_killed<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Timed<Operation>> {
    let mut history = BTreeMap::new();
    for line in lines {
        // The last line may be cut short.
        if let Ok(timed) = serde_json::from_str::<Timed<Operation>>(line) {
            history.insert(timed.began, timed);
        }
    }
    let ended = |timed: &Timed<Operation>| timed.ended.unwrap_or(timed.began);
    let death = history.values().map(ended).max().unwrap_or_default() + 1;
    let mut history: Vec<_> = history.into_values().collect();
    history
        .iter_mut()
        .for_each(|timed| timed.ended = timed.ended.or(Some(death)));
    history
}

/// A history in which what became of unanswered writes is told by what watches of everything saw: no value is written twice.
/// Left to a search, each of them might have happened anywhere, and many together are more than can be tried. A write that
/// the watches did not see had not happened when they ended, and nothing else in the history can tell of it.
pub fn settled(history: Vec<Timed<Operation>>) -> Vec<Timed<Operation>> {
    let mut seen: Vec<Change> = Vec::new();
    let mut answered = BTreeSet::new();
    for timed in &history {
        match &timed.operation {
            Operation::Watch { prefix, events, .. } if prefix.is_empty() => seen.extend(events.iter().cloned()),
            Operation::Txn(_, Outcome::Committed(revision)) => {
                answered.insert(*revision);
            }
            _ => {}
        }
    }
    let put = |key: &str, value: &[u8]| {
        let value = String::from_utf8_lossy(value);
        seen.iter()
            .find(|(_, at, held)| at == key && held.as_deref() == Some(&*value))
    };
    let deleted = |key: &str| {
        seen.iter()
            .any(|(revision, at, held)| at == key && held.is_none() && !answered.contains(revision))
    };
    let settle = |mut timed: Timed<Operation>| {
        let Operation::Txn(txn, outcome @ Outcome::Unknown) = &mut timed.operation else {
            return Some(timed);
        };
        let first_put = txn.ops.iter().find_map(|op| match op {
            Op::Put { key, value } => Some((key, value)),
            Op::Delete { .. } => None,
        });
        match first_put {
            Some((key, value)) => *outcome = Outcome::Committed(put(key, value)?.0),
            None if txn.ops.iter().any(|op| deleted(op.key())) => {}
            None => return None,
        }
        Some(timed)
    };
    history.into_iter().filter_map(settle).collect()
}

/// The store after a history that began with this one; fails if the history is not linearizable.
pub fn check(initial: Ideal, history: &[Timed<Operation>]) -> Result<Ideal, String> {
    linear::check(&Sequence, initial, history)
}

#[cfg(test)]
mod tests;
