//! The embedded engine. Reads and watches are answered from memory (`state.rs`, `topic.rs`, `watcher.rs`); writes go
//! through one writer at a time (`writer.rs`), which plans a batch (`plan.rs`), makes it durable (`disk.rs`) and only
//! then lets it be seen. History is a window, bounded by count, bytes and age (`aging.rs`).

mod acknowledged;
mod aging;
mod disk;
mod guard;
mod load;
mod lock;
mod plan;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod topic;
mod watcher;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use coracle_clock::{Clock, Instant};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::{AbortHandle, spawn_blocking};

use crate::{Error, Got, KeyValue, ListOptions, ListPage, Revision, Status, Store, Txn, TxnResult, Watch};
use disk::Disk;
use load::Loaded;
use state::State;
use watcher::Watcher;
use writer::{Backing, Queue, Request, Writer};

/// How much history is kept for watches that fall behind and for lists that page: until the first limit is met.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// So many commits.
    pub commits: u64,
    /// So many bytes of values that have been replaced, and of what it takes to remember them.
    pub bytes: u64,
    /// Commits no older than this. `None` keeps them however old.
    pub age: Option<Duration>,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            commits: 20_000,
            bytes: 32 << 20,
            age: Some(Duration::from_secs(300)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    pub clock: Clock,
    pub history: HistoryLimits,
    /// Memory for pages of the database file. Values are in memory already, so that it need hold little more than
    /// the pages of one commit.
    pub cache_bytes: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            history: HistoryLimits::default(),
            cache_bytes: 4 << 20,
        }
    }
}

/// The embedded engine: everything in memory, and durable in a directory of its own.
///
/// Dropping it closes it, which waits for a write that is under way: watches end, and the directory is released.
pub struct Embedded {
    core: Arc<Core>,
    aging: Option<AbortHandle>,
}

struct Core {
    options: EmbeddedOptions,
    directory: Option<PathBuf>,
    /// Whether commits go to a disk.
    durable: bool,
    state: RwLock<State>,
    queue: Mutex<Queue>,
    places: Arc<Semaphore>,
    writer: Mutex<Writer>,
    /// Why writes are refused, if they are.
    failure: Mutex<Option<Failure>>,
    closed: AtomicBool,
    /// Told when the log gets its first commit.
    history_began: Notify,
}

/// Why writes are refused.
struct Failure {
    cause: Arc<Error>,
    /// When a write may see whether the cause is gone, if it can go.
    retry: Option<Instant>,
}

impl Embedded {
    /// Opens the store in a directory, which is created if need be. Fails with [`Error::Locked`] while another process
    /// has it open.
    pub async fn open(directory: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, Error> {
        Self::open_with(directory, options, |file| Ok(redb::backends::FileBackend::new(file)?)).await
    }

    async fn open_with<B: redb::StorageBackend>(
        directory: impl AsRef<Path>,
        options: EmbeddedOptions,
        backend: impl Fn(File) -> Result<B, redb::Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let directory = directory.as_ref().to_owned();
        let open = move || {
            let (disk, loaded) = Disk::open(&directory, &options, backend)?;
            Ok(Self::over(Some(directory), Backing::Disk(disk), loaded, options))
        };
        spawn_blocking(open).await.map_err(|_| Error::Closed)?
    }

    /// The same engine without a disk: what is written is gone when it is dropped.
    pub fn in_memory() -> Self {
        Self::in_memory_with(EmbeddedOptions::default())
    }

    pub fn in_memory_with(options: EmbeddedOptions) -> Self {
        let loaded = Loaded {
            state: State::new(1),
            dead: Vec::new(),
            bytes: 0,
        };
        Self::over(None, Backing::Memory, loaded, options)
    }

    fn over(directory: Option<PathBuf>, backing: Backing, loaded: Loaded, options: EmbeddedOptions) -> Self {
        let Loaded {
            mut state,
            dead: mut garbage,
            ..
        } = loaded;
        state.keep_within(&options.history, &mut garbage);
        let core = Arc::new(Core {
            options,
            directory,
            durable: !matches!(backing, Backing::Memory),
            state: RwLock::new(state),
            queue: Mutex::default(),
            places: Arc::new(Semaphore::new(writer::QUEUE)),
            writer: Mutex::new(Writer { backing, garbage }),
            failure: Mutex::default(),
            closed: AtomicBool::new(false),
            history_began: Notify::new(),
        });
        let aging = aging::start(&core);
        Self { core, aging }
    }

    /// Closes the store and waits until the directory is released. Requests that come later, and watches, fail with
    /// [`Error::Closed`].
    pub async fn close(&self) {
        self.core.close();
        let core = self.core.clone();
        // Waits for a write that is under way.
        let _ = spawn_blocking(move || core.writer.lock().backing = Backing::Closed).await;
    }
}

/// Makes a store in a directory that has none, with these keys as its state at `revision` and no history.
pub(crate) fn restore_into(directory: &Path, keys: Vec<KeyValue>, revision: Revision) -> Result<(), Error> {
    Disk::restore(directory, &EmbeddedOptions::default(), keys, revision)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(aging) = &self.aging {
            aging.abort();
        }
        self.core.close();
        self.core.writer.lock().backing = Backing::Closed;
    }
}

impl Core {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.state.write().topics.clear();
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn check_writable(&self) -> Result<(), Error> {
        self.check_open()?;
        let due = |failure: &Failure| failure.retry.is_some_and(|at| at <= self.options.clock.instant());
        match &*self.failure.lock() {
            Some(failure) if !due(failure) => Err(Error::ReadOnly {
                cause: failure.cause.clone(),
            }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str, revision: Option<Revision>) -> Result<Got, Error> {
        self.core.check_open()?;
        self.core.state.read().get(key, revision)
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage, Error> {
        self.core.check_open()?;
        self.core.state.read().list(&options)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        self.core.check_writable()?;
        let permit = self
            .core
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.core.submit(Request {
            txn,
            reply,
            _permit: Some(permit),
        });
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        Ok(Watch::new(Watcher::new(self.core.clone(), prefix, from)?))
    }

    async fn compact(&self, upto: Revision) -> Result<(), Error> {
        self.core.check_open()?;
        let current = self.core.state.read().revision;
        if upto > current {
            return Err(Error::FutureRevision {
                current,
                requested: upto,
            });
        }
        if !self.core.durable {
            return self.core.forget(upto);
        }
        let core = self.core.clone();
        spawn_blocking(move || core.forget(upto))
            .await
            .map_err(|_| Error::Closed)?
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.core.check_open()?;
        Ok(self.core.state.read().revision)
    }

    async fn status(&self) -> Result<Status, Error> {
        self.core.check_open()?;
        let file = self.core.directory.as_ref().map(|directory| directory.join(disk::FILE));
        let disk_bytes = file
            .and_then(|file| file.metadata().ok())
            .map_or(0, |metadata| metadata.len());
        let failure = self
            .core
            .failure
            .lock()
            .as_ref()
            .map(|failure| failure.cause.to_string());
        let state = self.core.state.read();
        Ok(Status {
            revision: state.revision,
            compacted: state.compacted,
            keys: state.live_keys,
            value_bytes: state.value_bytes,
            history_bytes: state.history_bytes,
            disk_bytes,
            watches: state.topics.watches(),
            failure,
        })
    }
}
