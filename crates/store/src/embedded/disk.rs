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
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise, posix_fallocate};
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
/// What is made, and removed at once, to see whether there is space for so many bytes.
const PROBE: &str = "space";
const PROBE_BYTES: i64 = 1 << 20;
/// How many keys are restored in one transaction.
const RESTORE_BATCH: usize = 1000;
/// A file up to this size is not worth shrinking.
const SMALL: u64 = 64 << 20;

type Rows = redb::ReadOnlyTable<(u64, u32), &'static [u8]>;

/// Makes a backend of the file.
type Backend = Box<dyn Fn(File) -> Result<Box<dyn StorageBackend>, redb::Error> + Send + Sync>;

/// The directory, which is held until this is dropped, and its database.
pub(super) struct Disk {
    /// None once the disk was found full, until [`reopen`](Self::reopen).
    open: Option<Open>,
    acknowledged: Acknowledged,
    backend: Backend,
    path: PathBuf,
    _lock: DirectoryLock,
}

/// An open database. Dropping it closes it.
#[derive(Debug)]
struct Open {
    database: Database,
    guard: Guard,
}

impl Disk {
    /// Opens or creates the database of a directory, over a backend of the caller's making, and reads it all.
    pub fn open<B: StorageBackend>(
        directory: &Path,
        options: &EmbeddedOptions,
        backend: impl Fn(File) -> Result<B, redb::Error> + Send + Sync + 'static,
    ) -> Result<(Self, Loaded), Error> {
        let lock = prepare(directory)?;
        let mut disk = Self {
            open: None,
            acknowledged: Acknowledged::of(directory),
            backend: Box::new(move |file| Ok(Box::new(backend(file)?))),
            path: directory.join(FILE),
            _lock: lock,
        };
        let open = if exists(directory)? {
            Open::existing(&disk.path, options, &disk.backend)?
        } else {
            disk.acknowledged.reset()?;
            Open::create(&disk.path, options, &disk.backend, |_| Ok(()))?
        };
        let loaded = disk.examine(open, options, |path, open, loaded| {
            open.give_back_space(path, loaded.bytes)
        })?;
        Ok((disk, loaded))
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens the database again after the disk was full, and reads it all: it has every commit up to `known`, and
    /// those on top whose writing failed if they were written nevertheless. Fails with [`Error::Full`] if the disk
    /// still is.
    pub fn reopen(&mut self, options: &EmbeddedOptions, known: Revision) -> Result<Loaded, Error> {
        self.find_space()?;
        let nothing_lost = |path: &Path, _: &mut Open, loaded: &Loaded| match loaded.state.revision {
            newest if newest < known => Err(missing(path, known, newest)),
            _ => Ok(()),
        };
        let open = Open::existing(&self.path, options, &self.backend)?;
        let loaded = self.examine(open, options, nothing_lost);
        if loaded.is_err() {
            self.distrust_cache();
        }
        loaded
    }

    /// Reads all that there is and checks it. What is found good may change from then on, and is `then`'s to see to.
    fn examine(
        &mut self,
        mut open: Open,
        options: &EmbeddedOptions,
        then: impl FnOnce(&Path, &mut Open, &Loaded) -> Result<(), Error>,
    ) -> Result<Loaded, Error> {
        let loaded = contained(&self.path, || open.load(&self.path, options.clock.instant()))?;
        let newest = loaded.state.revision;
        if let Some(revision) = self.acknowledged.read().filter(|revision| *revision > newest) {
            return Err(missing(&self.path, revision, newest));
        }
        // Everything is as it should be: from here on the file may change.
        let released = open.guard.release();
        released.map_err(|error| Error::io("write", &self.path, error))?;
        contained(&self.path, || then(&self.path, &mut open, &loaded))?;
        self.open = Some(open);
        Ok(loaded)
    }

    /// Whether there is space for some commits.
    fn find_space(&self) -> Result<(), Error> {
        let path = self.path.with_file_name(PROBE);
        let probe = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            let found = posix_fallocate(file.as_raw_fd(), 0, PROBE_BYTES);
            std::fs::remove_file(&path)?;
            Ok(found?)
        };
        probe().map_err(|error| Error::io("write", &path, error))
    }

    /// Makes a database with these keys, as of `revision`, in a directory that has none.
    pub fn restore(
        directory: &Path,
        options: &EmbeddedOptions,
        mut keys: Vec<KeyValue>,
        revision: Revision,
    ) -> Result<(), Error> {
        let _lock = prepare(directory)?;
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
        Acknowledged::of(directory).reset()?;
        let backend: Backend = Box::new(|file| Ok(Box::new(FileBackend::new(file)?)));
        let path = directory.join(FILE);
        Open::create(&path, options, &backend, |open| {
            for batch in keys.chunks(RESTORE_BATCH) {
                let rows: Vec<_> = batch.iter().map(&mut put).collect();
                open.transact(&path, rows.iter().map(|(row, event)| (*row, event)), &[], None)?;
            }
            open.transact(&path, std::iter::empty(), &[], Some(revision))
        })
        .map(drop)
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
    /// dead rows are gone. On a full disk it closes the database: what came of the write shows when it is opened again.
    pub fn write(&mut self, commits: &[Commit], dead: &[RowId], compacted: Option<Revision>) -> Result<(), Error> {
        let Some(open) = &self.open else {
            return Err(Error::Full {
                path: self.path.clone(),
            });
        };
        let rows = commits.iter().flat_map(|commit| {
            let row = |index: usize| (commit.revision, index as u32);
            commit
                .events
                .iter()
                .enumerate()
                .map(move |(index, event)| (row(index), event))
        });
        let written = open.transact(&self.path, rows, dead, compacted);
        let durable = written.is_ok();
        let written = match commits.last() {
            Some(last) if durable => self.acknowledged.note(last.revision),
            _ => written,
        };
        if matches!(written, Err(Error::Full { .. })) {
            self.open = None;
        }
        if !durable {
            self.distrust_cache();
        }
        written
    }
}

impl Open {
    /// Makes a database under another name, so that a crash while it is made leaves none.
    fn create(
        path: &Path,
        options: &EmbeddedOptions,
        backend: &Backend,
        fill: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let making = path.with_file_name(MAKING);
        let io = |error| Error::io("create", path, error);
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
            let guard = Guard::new(backend(file).map_err(|error| failure(path, "create", error))?);
            let created = Builder::new()
                .set_cache_size(options.cache_bytes)
                .create_with_backend(guard.clone());
            Ok((guard, created.map_err(|error| failure(path, "create", error))?))
        };
        let (guard, database) = contained(path, create)?;
        let mut open = Self { database, guard };
        open.initialize().map_err(|error| failure(path, "create", error))?;
        fill(&mut open)?;
        std::fs::rename(&making, path).map_err(io)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(io)?;
        Ok(open)
    }

    fn existing(path: &Path, options: &EmbeddedOptions, backend: &Backend) -> Result<Self, Error> {
        let io = |error| Error::io("open", path, error);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(Error::corrupt("database (it is empty)", path.display().to_string()));
        }
        let open = || {
            let backend = backend(file).map_err(|error| failure(path, "open", error))?;
            let guard = Guard::holding(backend).map_err(io)?;
            let mut builder = Builder::new();
            let opened = builder
                .set_cache_size(options.cache_bytes)
                .set_check_integrity_on_open(true)
                .create_with_backend(guard.clone());
            Ok((guard, opened.map_err(|error| failure(path, "open", error))?))
        };
        let (guard, database) = contained(path, open)?;
        Ok(Self { database, guard })
    }

    /// Shrinks a file that is much larger than the `bytes` it holds. While the store runs, free space is used again
    /// and not given back; this is for what a past flood left behind.
    fn give_back_space(&mut self, path: &Path, bytes: u64) -> Result<(), Error> {
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

    fn load(&self, path: &Path, now: Instant) -> Result<Loaded, Error> {
        let failed = |error: redb::StorageError| failure(path, "read", error);
        let (rows, compacted) = self.tables(path)?;
        let mut loader = Loader::new(path, compacted, now);
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
    fn tables(&self, path: &Path) -> Result<(Rows, Revision), Error> {
        let failed = |error: redb::Error| failure(path, "read", error);
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
                    path: path.to_owned(),
                    found,
                    supported: FORMAT,
                });
            }
            _ => return Err(Error::corrupt("format record", path.display().to_string())),
        }
        let rows = txn.open_table(ROWS).map_err(|error| failed(error.into()))?;
        Ok((rows, compacted.unwrap_or(1)))
    }

    fn transact<'a>(
        &self,
        path: &Path,
        rows: impl Iterator<Item = (RowId, &'a Event)>,
        dead: &[RowId],
        compacted: Option<Revision>,
    ) -> Result<(), Error> {
        contained(path, || {
            self.try_transact(rows, dead, compacted)
                .map_err(|error| failure(path, "write", error))
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

/// A commit is not there that was acknowledged.
fn missing(path: &Path, acknowledged: Revision, newest: Revision) -> Error {
    let what = format!("database (revision {acknowledged} was acknowledged, and its newest is {newest})");
    Error::corrupt(what, path.display().to_string())
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
