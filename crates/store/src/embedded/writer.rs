//! The one writer. Transactions queue; whoever finds no turn in progress starts one, which takes all that is queued,
//! plans it, makes it durable with one sync, applies it, wakes the watches and answers. Writers that arrive during a
//! sync share the next.
//!
//! A turn runs on tokio's blocking threads and only while there is something to write: an idle store has no thread,
//! and a paused test clock does not run on while a sync is under way.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::disk::Disk;
use super::plan::{Plan, plan};
use super::state::{Commit, RowId};
use super::{Core, Failure};
use crate::{Error, Revision, Txn, TxnResult};

/// How many transactions may wait; those beyond wait for a place.
pub(super) const QUEUE: usize = 4096;
/// How many transactions share a sync at most.
const BATCH: usize = 1024;
/// How many dead rows are worth removing together with a commit.
const GARBAGE_BATCH: usize = 512;
/// How long a write after a full disk is refused without looking whether it still is.
const RETRY: Duration = Duration::from_secs(1);

/// A transaction that waits for its answer.
pub(super) struct Request {
    pub txn: Txn,
    pub reply: oneshot::Sender<Result<TxnResult, Error>>,
    pub _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
pub(super) struct Queue {
    pending: VecDeque<Request>,
    /// Whether a turn is under way, which will see what is pending.
    turn: bool,
}

/// Where commits are made durable.
pub(super) enum Backing {
    Memory,
    Disk(Disk),
    Closed,
}

/// What only the holder of the turn touches.
pub(super) struct Writer {
    pub backing: Backing,
    /// Rows that memory needs no more and the disk still has.
    pub garbage: Vec<RowId>,
}

impl Core {
    /// Queues a transaction, and starts a turn if there is none.
    pub(super) fn submit(self: &Arc<Self>, request: Request) {
        let mut queue = self.queue.lock();
        queue.pending.push_back(request);
        if std::mem::replace(&mut queue.turn, true) {
            return;
        }
        drop(queue);
        let turn = Turn {
            core: self.clone(),
            ended: false,
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.durable => drop(runtime.spawn_blocking(move || turn.run())),
            _ => turn.run(),
        }
    }

    fn take_batch(&self) -> Vec<Request> {
        let mut queue = self.queue.lock();
        let count = queue.pending.len().min(BATCH);
        queue.turn = count > 0;
        queue.pending.drain(..count).collect()
    }

    /// Has a batch of transactions share one sync, and answers them.
    pub(super) fn process(&self, writer: &mut Writer, batch: Vec<Request>) {
        let txns = batch.iter().map(|request| &request.txn);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.transact(writer, txns)));
        let answers = outcome.unwrap_or_else(|_| {
            Err(self.fail(Error::Io {
                action: "write",
                path: self.directory.clone().unwrap_or_default(),
                source: Arc::new(std::io::Error::other("the writer panicked")),
            }))
        });
        match answers {
            Ok(answers) => {
                for (request, answer) in batch.into_iter().zip(answers) {
                    // Whoever has stopped waiting needs no answer.
                    let _ = request.reply.send(answer);
                }
            }
            Err(error) => {
                for request in batch {
                    let _ = request.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn transact<'a>(
        &self,
        writer: &mut Writer,
        batch: impl Iterator<Item = &'a Txn>,
    ) -> Result<Vec<Result<TxnResult, Error>>, Error> {
        self.check_writable()?;
        self.reopen(writer)?;
        let Plan { commits, answers } = plan(&self.state.read(), batch, self.options.clock.instant());
        if commits.is_empty() {
            return Ok(answers);
        }
        match &mut writer.backing {
            Backing::Closed => return Err(Error::Closed),
            Backing::Memory => {}
            Backing::Disk(disk) => {
                let sweep = writer.garbage.len() >= GARBAGE_BATCH;
                let dead = if sweep { &writer.garbage[..] } else { &[] };
                let compacted = sweep.then(|| self.state.read().compacted);
                disk.write(&commits, dead, compacted)
                    .map_err(|error| self.fail(error))?;
                if sweep {
                    writer.garbage.clear();
                }
            }
        }
        self.publish(commits, &mut writer.garbage);
        if matches!(writer.backing, Backing::Memory) {
            writer.garbage.clear();
        }
        Ok(answers)
    }

    /// Lets commits be seen that are durable.
    fn publish(&self, commits: Vec<Commit>, garbage: &mut Vec<RowId>) {
        let mut state = self.state.write();
        let first = state.window() == 0;
        for commit in commits {
            state.apply(commit);
        }
        state.keep_within(&self.options.history, garbage);
        let woken = state.topics.take_woken();
        drop(state);
        if first {
            self.history_began.notify_one();
        }
        for signal in woken {
            signal.send_replace(());
        }
    }

    /// Opens a disk again that was full, if it is not any more. Whether the write that met it full happened shows now.
    pub(super) fn reopen(&self, writer: &mut Writer) -> Result<(), Error> {
        let Backing::Disk(disk) = &mut writer.backing else {
            return Ok(());
        };
        if disk.is_open() {
            return Ok(());
        }
        let known = self.state.read().revision;
        let loaded = disk.reopen(&self.options, known).map_err(|error| self.fail(error))?;
        let found = loaded.state.commits_after(known);
        tracing::info!(
            found = found.len(),
            "the store's disk has space again; writes are accepted"
        );
        self.publish(found, &mut writer.garbage);
        *self.failure.lock() = None;
        Ok(())
    }

    /// Forgets history before a revision, here and on the disk.
    pub(super) fn forget(&self, upto: Revision) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let mut state = self.state.write();
        while state.compacted < upto && state.window() > 0 {
            state.forget_oldest(&mut writer.garbage);
        }
        let compacted = state.compacted;
        drop(state);
        if !matches!(writer.backing, Backing::Memory) && !writer.garbage.is_empty() {
            self.check_writable()?;
            self.reopen(&mut writer)?;
        }
        let Writer { backing, garbage } = &mut *writer;
        match backing {
            Backing::Disk(disk) if !garbage.is_empty() => disk
                .write(&[], garbage, Some(compacted))
                .map_err(|error| self.fail(error))?,
            Backing::Disk(_) | Backing::Memory => {}
            Backing::Closed => return Err(Error::Closed),
        }
        garbage.clear();
        Ok(())
    }

    /// Notes that writing failed. What is on the disk is uncertain now, so that nothing may be written any more: on a
    /// disk that was full until it has been read again, on another never.
    fn fail(&self, error: Error) -> Error {
        let full = matches!(error, Error::Full { .. });
        let mut failure = self.failure.lock();
        match &*failure {
            Some(earlier) if full == earlier.retry.is_some() => {}
            _ => tracing::error!(%error, "writing to the store failed; it is read-only from here on"),
        }
        *failure = Some(Failure {
            cause: Arc::new(error.clone()),
            retry: full.then(|| self.options.clock.instant() + RETRY),
        });
        error
    }
}

/// A turn of the writer, or the duty to have one. If it never runs, as when the runtime shuts down, those who wait
/// for it are told.
struct Turn {
    core: Arc<Core>,
    ended: bool,
}

impl Turn {
    fn run(mut self) {
        loop {
            let batch = self.core.take_batch();
            if batch.is_empty() {
                self.ended = true;
                return;
            }
            self.core.process(&mut self.core.writer.lock(), batch);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut queue = self.core.queue.lock();
        queue.turn = false;
        queue.pending.clear();
    }
}
