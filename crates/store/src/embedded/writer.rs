//! The one writer. Transactions queue; whoever finds no turn in progress starts one, which takes all that is queued,
//! plans it, makes it durable with one sync, applies it, wakes the watches and answers. Writers that arrive during a
//! sync share the next.
//!
//! A turn runs on tokio's blocking threads and only while there is something to write: an idle store has no thread,
//! and a paused test clock does not run on while a sync is under way.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Core;
use super::disk::Disk;
use super::plan::{Plan, plan};
use super::state::RowId;
use crate::{Error, Revision, Txn, TxnResult};

/// How many transactions may wait; those beyond wait for a place.
pub(super) const QUEUE: usize = 4096;
/// How many transactions share a sync at most.
const BATCH: usize = 1024;
/// How many dead rows are worth removing together with a commit.
const GARBAGE_BATCH: usize = 512;

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
        let mut state = self.state.write();
        let first = state.window() == 0;
        for commit in commits {
            state.apply(commit);
        }
        state.keep_within(&self.options.history, &mut writer.garbage);
        let woken = state.topics.take_woken();
        drop(state);
        if matches!(writer.backing, Backing::Memory) {
            writer.garbage.clear();
        }
        if first {
            self.history_began.notify_one();
        }
        for signal in woken {
            signal.send_replace(());
        }
        Ok(answers)
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
        let garbage = std::mem::take(&mut writer.garbage);
        match &mut writer.backing {
            Backing::Disk(disk) if !garbage.is_empty() => {
                self.check_writable()?;
                disk.write(&[], &garbage, Some(compacted))
                    .map_err(|error| self.fail(error))
            }
            Backing::Disk(_) | Backing::Memory => Ok(()),
            Backing::Closed => Err(Error::Closed),
        }
    }

    /// Notes that writing failed: what is on the disk is uncertain now, so that nothing may be written any more.
    fn fail(&self, error: Error) -> Error {
        tracing::error!(%error, "writing to the store failed; it is read-only from here on");
        self.failure.lock().get_or_insert_with(|| Arc::new(error.clone()));
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
