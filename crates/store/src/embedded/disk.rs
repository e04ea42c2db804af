//! What the engine keeps on the disk, in a redb database: every change that memory still needs, as a row under its
//! revision, as etcd does it. A commit appends rows at the end of the tree; rows that nobody needs any more are
//! removed together with a later commit. The only other record is how far history is compacted.
//!
//! A batch of commits is one redb transaction and one sync.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_clock::Instant;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition,
};

use super::EmbeddedOptions;
use super::acknowledged::Acknowledged;
use super::guard::Guard;
use super::load::{Loaded, Loader};
use super::lock::DirectoryLock;
use super::record;
use super::state::{Commit, RowId};
use crate::{Error, Event, EventKind, KeyValue, Revision};

const ROWS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("rows");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The version of this layout. Raise it when an earlier version of the program could not read what is written.
const FORMAT: u64 = 1;
pub(super) const FILE: &str = "store.redb";
const MAKING: &str = "store.redb.new";
/// How many keys are restored in one transaction.
const RESTORE_BATCH: usize = 1000;
/// A file up to this size is not worth shrinking.
const SMALL: u64 = 64 << 20;

type Rows = redb::ReadOnlyTable<(u64, u32), &'static [u8]>;

/// An open database. Dropping it closes it and releases the directory.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    guard: Guard,
    acknowledged: Acknowledged,
    path: PathBuf,
    _lock: DirectoryLock,
}

impl Disk {
    /// Opens or creates the database of a directory, over a backend of the caller's making, and reads it all.
    pub fn open<B: StorageBackend>(
        directory: &Path,
        options: &EmbeddedOptions,
        backend: impl FnOnce(File) -> Result<B, redb::Error>,
    ) -> Result<(Self, Loaded), Error> {
        let lock = prepare(directory)?;
        let mut disk = if exists(directory)? {
            Self::existing(directory, options, lock, backend)?
        } else {
            Self::create(directory, options, lock, backend, |_| Ok(()))?
        };
        let path = disk.path.clone();
        let loaded = contained(&path, || disk.load(options.clock.instant()))?;
        disk.check_whole(loaded.state.revision)?;
        // Everything is as it should be: from here on the file may change.
        disk.guard.release().map_err(|error| Error::io("write", &path, error))?;
        contained(&path, || disk.give_back_space(loaded.bytes))?;
        Ok((disk, loaded))
    }

    /// Refuses a database without a commit that was acknowledged.
    fn check_whole(&self, newest: Revision) -> Result<(), Error> {
        match self.acknowledged.read() {
            Some(revision) if revision > newest => {
                let what = format!("database (revision {revision} was acknowledged, and its newest is {newest})");
                Err(Error::corrupt(what, self.path.display().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Shrinks a file that is much larger than the `bytes` it holds. While the store runs, free space is used again
    /// and not given back; this is for what a past flood left behind.
    fn give_back_space(&mut self, bytes: u64) -> Result<(), Error> {
        let path = &self.path;
        let before = path.metadata().map_err(|error| Error::io("read", path, error))?.len();
        if before < SMALL || before / 4 < bytes {
            return Ok(());
        }
        self.database
            .compact()
            .map_err(|error| failure(path, "compact", error))?;
        let after = path.metadata().map_or(0, |metadata| metadata.len());
        tracing::info!(before, after, "gave back unused space of the store");
        Ok(())
    }

    /// Makes a database with these keys, as of `revision`, in a directory that has none.
    pub fn restore(
        directory: &Path,
        options: &EmbeddedOptions,
        mut keys: Vec<KeyValue>,
        revision: Revision,
    ) -> Result<(), Error> {
        let lock = prepare(directory)?;
        if exists(directory)? {
            let what = format!(
                "{} has a store already: restore into an empty directory",
                directory.display()
            );
            return Err(Error::Invalid { what });
        }
        keys.sort_unstable_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
        let mut row = (0, 0);
        let mut put = |kv: &KeyValue| {
            row = if row.0 == kv.mod_revision {
                (row.0, row.1 + 1)
            } else {
                (kv.mod_revision, 0)
            };
            (
                row,
                Event {
                    kind: EventKind::Put,
                    kv: Arc::new(kv.clone()),
                    previous: None,
                },
            )
        };
        Self::create(directory, options, lock, FileBackend::new, |disk| {
            for batch in keys.chunks(RESTORE_BATCH) {
                let rows: Vec<_> = batch.iter().map(&mut put).collect();
                disk.transact(rows.iter().map(|(row, event)| (*row, event)), &[], None)?;
            }
            disk.transact(std::iter::empty(), &[], Some(revision))
        })
        .map(drop)
    }

    /// Makes a database under another name, so that a crash while it is made leaves none.
    fn create<B: StorageBackend, E: Into<redb::Error>>(
        directory: &Path,
        options: &EmbeddedOptions,
        lock: DirectoryLock,
        backend: impl FnOnce(File) -> Result<B, E>,
        fill: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let (path, making) = (directory.join(FILE), directory.join(MAKING));
        let io = |error| Error::io("create", &path, error);
        let mut acknowledged = Acknowledged::of(directory);
        acknowledged.reset()?;
        // Secrets lie in it: for the owner alone.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&making)
            .map_err(io)?;
        let create = || {
            let guard = Guard::new(backend(file).map_err(|error| failure(&path, "create", error))?);
            let created = Builder::new()
                .set_cache_size(options.cache_bytes)
                .create_with_backend(guard.clone());
            Ok((guard, created.map_err(|error| failure(&path, "create", error))?))
        };
        let (guard, database) = contained(&path, create)?;
        let mut disk = Self {
            database,
            guard,
            acknowledged,
            path: path.clone(),
            _lock: lock,
        };
        disk.initialize().map_err(|error| failure(&path, "create", error))?;
        fill(&mut disk)?;
        std::fs::rename(&making, &path).map_err(io)?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io)?;
        Ok(disk)
    }

    fn existing<B: StorageBackend>(
        directory: &Path,
        options: &EmbeddedOptions,
        lock: DirectoryLock,
        backend: impl FnOnce(File) -> Result<B, redb::Error>,
    ) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let io = |error| Error::io("open", &path, error);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(Error::corrupt("database (it is empty)", path.display().to_string()));
        }
        let open = || {
            let backend = backend(file).map_err(|error| failure(&path, "open", error))?;
            let guard = Guard::holding(backend).map_err(io)?;
            let mut builder = Builder::new();
            let opened = builder
                .set_cache_size(options.cache_bytes)
                .set_check_integrity_on_open(true)
                .create_with_backend(guard.clone());
            Ok((guard, opened.map_err(|error| failure(&path, "open", error))?))
        };
        let (guard, database) = contained(&path, open)?;
        Ok(Self {
            database,
            guard,
            acknowledged: Acknowledged::of(directory),
            path,
            _lock: lock,
        })
    }

    fn load(&self, now: Instant) -> Result<Loaded, Error> {
        let failed = |error: redb::StorageError| failure(&self.path, "read", error);
        let (rows, compacted) = self.tables()?;
        let mut loader = Loader::new(&self.path, compacted, now);
        for entry in rows.iter().map_err(failed)? {
            let (row, record) = entry.map_err(failed)?;
            loader.row(row.value(), record.value())?;
        }
        loader.finish(rows.len().map_err(failed)?)
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

    /// After a failed write: what the kernel has cached of the file may never have reached the disk, and the kernel does
    /// not try again. It drops that, so that whoever opens the file next reads what is really there.
    fn distrust_cache(&self) {
        let dropped = File::open(&self.path).and_then(|file| {
            Ok(posix_fadvise(
                file.as_raw_fd(),
                0,
                0,
                PosixFadviseAdvice::POSIX_FADV_DONTNEED,
            )?)
        });
        if let Err(error) = dropped {
            tracing::warn!(%error, "the cache of the store's file could not be dropped");
        }
    }

    /// Makes commits durable and removes rows, all or nothing. `compacted` is how far history is forgotten once the
    /// dead rows are gone.
    pub fn write(&mut self, commits: &[Commit], dead: &[RowId], compacted: Option<Revision>) -> Result<(), Error> {
        let rows = commits.iter().flat_map(|commit| {
            let row = |index: usize| (commit.revision, index as u32);
            commit
                .events
                .iter()
                .enumerate()
                .map(move |(index, event)| (row(index), event))
        });
        let written = self.transact(rows, dead, compacted);
        if written.is_err() {
            self.distrust_cache();
        }
        match commits.last() {
            Some(last) if written.is_ok() => self.acknowledged.note(last.revision),
            _ => written,
        }
    }

    fn transact<'a>(
        &self,
        rows: impl Iterator<Item = (RowId, &'a Event)>,
        dead: &[RowId],
        compacted: Option<Revision>,
    ) -> Result<(), Error> {
        contained(&self.path, || {
            self.try_transact(rows, dead, compacted)
                .map_err(|error| failure(&self.path, "write", error))
        })
    }

    fn try_transact<'a>(
        &self,
        rows: impl Iterator<Item = (RowId, &'a Event)>,
        dead: &[RowId],
        compacted: Option<Revision>,
    ) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        {
            let mut table = txn.open_table(ROWS)?;
            for row in dead {
                table.remove(row)?;
            }
            for (row, event) in rows {
                let mut place = table.insert_reserve(row, record::size(event))?;
                record::encode(row, event, place.as_mut());
            }
            if let Some(compacted) = compacted {
                txn.open_table(META)?.insert("compacted", compacted)?;
            }
        }
        txn.commit()?;
        Ok(())
    }
}

/// Makes the directory and takes its lock.
fn prepare(directory: &Path) -> Result<DirectoryLock, Error> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(directory);
    made.map_err(|error| Error::io("create", directory, error))?;
    DirectoryLock::acquire(directory)
}

fn exists(directory: &Path) -> Result<bool, Error> {
    let path = directory.join(FILE);
    path.try_exists().map_err(|error| Error::io("open", &path, error))
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
