//! Puts the state together from the rows of a database, and takes nothing for granted: each row must check out, follow
//! the one before, and none may be missing from the window of history.

use std::path::Path;
use std::sync::Arc;

use coracle_clock::Instant;

use super::record::{self, Record};
use super::state::{Commit, RowId, State};
use crate::{Error, Event, EventKind, KeyValue, Revision};

/// What was read back, and the rows that turned out to be superseded.
pub(super) struct Loaded {
    pub state: State,
    pub dead: Vec<RowId>,
    /// The size of all rows.
    pub bytes: u64,
}

/// Puts the state together from rows in the order of their revisions.
pub(super) struct Loader<'a> {
    path: &'a Path,
    state: State,
    dead: Vec<RowId>,
    /// The events so far of the revision that is being read.
    commit: Vec<Event>,
    now: Instant,
    last: RowId,
    rows: u64,
    bytes: u64,
}

impl<'a> Loader<'a> {
    pub fn new(path: &'a Path, compacted: Revision, now: Instant) -> Self {
        let state = State::new(compacted);
        let last = (0, 0);
        Self {
            path,
            state,
            dead: Vec::new(),
            commit: Vec::new(),
            now,
            last,
            rows: 0,
            bytes: 0,
        }
    }

    pub fn row(&mut self, row: RowId, bytes: &[u8]) -> Result<(), Error> {
        if row <= self.last {
            return Err(self.corrupt(format!("order: revision {} after {}", row.0, self.last.0)));
        }
        self.last = row;
        self.rows += 1;
        self.bytes += bytes.len() as u64;
        let record = record::decode(row, bytes).map_err(|what| self.corrupt(what))?;
        if row.0 <= self.state.compacted {
            let (key, live) = match record {
                Record::Put(kv) => (kv.key.clone(), Some(kv)),
                Record::Delete(key) => (key, None),
            };
            self.dead.extend(self.state.restore(row, key, live));
            return Ok(());
        }
        if self.commit.first().is_some_and(|first| first.revision() != row.0) {
            self.finish_commit();
        }
        if row.0 != self.state.revision + 1 || row.1 as usize != self.commit.len() {
            let what = format!(
                "history: nothing of revision {} where it should follow",
                self.state.revision + 1
            );
            return Err(self.corrupt(what));
        }
        let event = match record {
            Record::Put(mut kv) => {
                let previous = self.state.current(&kv.key).cloned();
                if let (Some(previous), Some(kv)) = (&previous, Arc::get_mut(&mut kv)) {
                    kv.key = previous.key.clone();
                }
                Event {
                    kind: EventKind::Put,
                    kv,
                    previous,
                }
            }
            Record::Delete(key) => {
                let Some(previous) = self.state.current(&key).cloned() else {
                    return Err(self.corrupt(format!("history: {key} deleted at revision {} but absent", row.0)));
                };
                let kv = KeyValue {
                    mod_revision: row.0,
                    version: 0,
                    ..KeyValue::clone(&previous)
                };
                Event {
                    kind: EventKind::Delete,
                    kv: kv.into(),
                    previous: Some(previous),
                }
            }
        };
        self.commit.push(event);
        Ok(())
    }

    /// The state, if these were all the rows.
    pub fn finish(mut self, expected: u64) -> Result<Loaded, Error> {
        if self.rows != expected {
            return Err(self.corrupt(format!("rows: {} of {expected} found", self.rows)));
        }
        self.finish_commit();
        Ok(Loaded {
            state: self.state,
            dead: self.dead,
            bytes: self.bytes,
        })
    }

    fn finish_commit(&mut self) {
        let events = std::mem::take(&mut self.commit);
        if let Some(first) = events.first() {
            self.state.apply(Commit {
                revision: first.revision(),
                events: events.into(),
                at: self.now,
            });
        }
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(what, self.path.display().to_string())
    }
}
