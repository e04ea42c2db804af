//! What the engine keeps on the disk, in a redb database: every change that memory still needs, as a row under its
//! revision, as etcd does it. A commit appends rows at the end of the tree; rows that nobody needs any more are
//! removed together with a later commit. The only other record is how far history is compacted.
//!
//! A batch of commits is one redb transaction and one sync.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_clock::Instant;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::lock::DirectoryLock;
use super::record::{self, Record};
use super::state::{Commit, RowId, State};
use crate::{Error, Event, EventKind, KeyValue, Revision};

const ROWS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("rows");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The version of this layout. Raise it when an earlier version of the program could not read what is written.
const FORMAT: u64 = 1;
pub(super) const FILE: &str = "store.redb";
const MAKING: &str = "store.redb.new";

type Rows = redb::ReadOnlyTable<(u64, u32), &'static [u8]>;

/// An open database. Dropping it closes it and releases the directory.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    path: PathBuf,
    _lock: DirectoryLock,
}

/// What was read back, and the rows that turned out to be superseded.
pub(super) struct Loaded {
    pub state: State,
    pub dead: Vec<RowId>,
}

impl Disk {
    /// Opens or creates the database of a directory and reads it all.
    pub fn open(directory: &Path, cache: usize, now: Instant) -> Result<(Self, Loaded), Error> {
        let backend = |file| FileBackend::new(file).map_err(redb::Error::from);
        Self::open_with(directory, cache, now, backend)
    }

    /// As [`Disk::open`], over a backend of the caller's making.
    pub fn open_with<B: StorageBackend>(
        directory: &Path,
        cache: usize,
        now: Instant,
        backend: impl FnOnce(File) -> Result<B, redb::Error>,
    ) -> Result<(Self, Loaded), Error> {
        std::fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
        let lock = DirectoryLock::acquire(directory)?;
        let path = directory.join(FILE);
        let io = |error| Error::io("open", &path, error);
        // A database is made under another name, so that a crash while it is made leaves none.
        let is_new = !path.try_exists().map_err(io)?;
        let making = directory.join(MAKING);
        // Secrets lie in it: for the owner alone.
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(is_new).truncate(is_new).mode(0o600);
        let file = file.open(if is_new { &making } else { &path }).map_err(io)?;
        if !is_new && file.metadata().map_err(io)?.len() == 0 {
            return Err(Error::corrupt("database (it is empty)", path.display().to_string()));
        }
        let open = || {
            let backend = backend(file).map_err(|error| failure(&path, "open", error))?;
            let mut builder = Builder::new();
            builder.set_cache_size(cache);
            builder.set_check_integrity_on_open(!is_new);
            builder
                .create_with_backend(backend)
                .map_err(|error| failure(&path, "open", error))
        };
        let disk = Self {
            database: contained(&path, open)?,
            path: path.clone(),
            _lock: lock,
        };
        if is_new {
            disk.initialize().map_err(|error| failure(&path, "create", error))?;
            std::fs::rename(&making, &path).map_err(io)?;
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(io)?;
        }
        let loaded = contained(&path, || disk.load(now))?;
        Ok((disk, loaded))
    }

    fn load(&self, now: Instant) -> Result<Loaded, Error> {
        let failed = |error: redb::StorageError| failure(&self.path, "read", error);
        let (rows, compacted) = self.tables()?;
        let (dead, commit) = (Vec::new(), Vec::new());
        let mut loader = Loader {
            path: &self.path,
            state: State::new(compacted),
            dead,
            commit,
            now,
        };
        for entry in rows.iter().map_err(failed)? {
            let (row, bytes) = entry.map_err(failed)?;
            loader.row(row.value(), bytes.value())?;
        }
        loader.finish_commit();
        Ok(Loaded {
            state: loader.state,
            dead: loader.dead,
        })
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        txn.open_table(META)?.insert("format", FORMAT)?;
        txn.open_table(ROWS)?;
        txn.commit()?;
        Ok(())
    }

    /// The rows, and how far history is compacted, once the format is known to be ours.
    fn tables(&self) -> Result<(Rows, Revision), Error> {
        let failed = |error: redb::Error| failure(&self.path, "read", error);
        let meta = || -> Result<_, redb::Error> {
            let txn = self.database.begin_read()?;
            let meta = txn.open_table(META)?;
            let field = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value()));
            Ok((txn, field("format")?, field("compacted")?))
        };
        let (txn, format, compacted) = meta().map_err(failed)?;
        match format {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(Error::NewerFormat {
                    path: self.path.clone(),
                    found,
                    supported: FORMAT,
                });
            }
            _ => return Err(Error::corrupt("format record", self.path.display().to_string())),
        }
        let rows = txn.open_table(ROWS).map_err(|error| failed(error.into()))?;
        Ok((rows, compacted.unwrap_or(1)))
    }

    /// Makes commits durable and removes rows, all or nothing. `compacted` is how far history is forgotten once the
    /// dead rows are gone.
    pub fn write(&mut self, commits: &[Commit], dead: &[RowId], compacted: Option<Revision>) -> Result<(), Error> {
        contained(&self.path, || {
            self.transact(commits, dead, compacted)
                .map_err(|error| failure(&self.path, "write", error))
        })
    }

    fn transact(&self, commits: &[Commit], dead: &[RowId], compacted: Option<Revision>) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        {
            let mut rows = txn.open_table(ROWS)?;
            for row in dead {
                rows.remove(row)?;
            }
            for commit in commits {
                for (index, event) in commit.events.iter().enumerate() {
                    let row = (commit.revision, index as u32);
                    let mut place = rows.insert_reserve(row, record::size(event))?;
                    record::encode(row, event, place.as_mut());
                }
            }
            if let Some(compacted) = compacted {
                txn.open_table(META)?.insert("compacted", compacted)?;
            }
        }
        txn.commit()?;
        Ok(())
    }
}

/// Puts the state together from rows in the order of their revisions.
struct Loader<'a> {
    path: &'a Path,
    state: State,
    dead: Vec<RowId>,
    /// The events so far of the revision that is being read.
    commit: Vec<Event>,
    now: Instant,
}

impl Loader<'_> {
    fn row(&mut self, row: RowId, bytes: &[u8]) -> Result<(), Error> {
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

/// Runs what may meet a damaged file: redb answers some damage by a panic.
fn contained<T>(path: &Path, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let damaged = |_| Err(Error::corrupt("database", path.display().to_string()));
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(damaged)
}

fn failure(path: &Path, action: &'static str, error: impl Into<redb::Error>) -> Error {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.into() {
        redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
            Error::corrupt(format!("database ({error})"), path.display().to_string())
        }
        redb::Error::Io(error) => Error::io(action, path, error),
        redb::Error::DatabaseAlreadyOpen => Error::Locked {
            path: path.to_owned(),
            holder: None,
        },
        // What an earlier failure leaves behind; the rest says that the file is not as we wrote it.
        error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_)) => {
            Error::io(action, path, std::io::Error::other(error))
        }
        redb::Error::Corrupted(what) => Error::corrupt(format!("database ({what})"), path.display().to_string()),
        other => Error::corrupt(format!("database ({other})"), path.display().to_string()),
    }
}
