//! What lies between redb and its file. It checks what is read: each block must read as it was written, or as it was
//! read first, so that a page damaged underneath a running store is never copied into a new one. And while a database
//! is being opened it holds back what redb writes, so that a file which turns out to be damaged, or of a later
//! version, is left exactly as it was.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::ops::{Bound, Range};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

/// What has a checksum of its own: a page of redb.
const BLOCK: u64 = 4096;

/// See the module. Clones share the file.
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<Guarded>);

#[derive(Debug)]
struct Guarded {
    file: Box<dyn StorageBackend>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The CRC-32 of each block; 0 where nothing is known.
    sums: Vec<u32>,
    held: Option<Held>,
}

/// What would have happened to the file.
#[derive(Debug)]
struct Held {
    len: u64,
    /// How much of the file itself still shows.
    shows: u64,
    /// Blocks as they would be.
    blocks: BTreeMap<u64, Box<[u8]>>,
    actions: Vec<Action>,
}

#[derive(Debug)]
enum Action {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Guard {
    /// Writes reach the file at once.
    pub fn new(file: Box<dyn StorageBackend>) -> Self {
        Self(Arc::new(Guarded {
            file,
            seen: Mutex::default(),
        }))
    }

    /// Writes are held back until [`release`](Self::release).
    pub fn holding(file: Box<dyn StorageBackend>) -> Result<Self, Error> {
        let len = file.len()?;
        let guard = Self::new(file);
        guard.0.seen.lock().held = Some(Held {
            len,
            shows: len,
            blocks: BTreeMap::new(),
            actions: Vec::new(),
        });
        Ok(guard)
    }

    /// Does what was held back, in the same order and with the same syncs, and holds back no more.
    pub fn release(&self) -> Result<(), Error> {
        let mut seen = self.0.seen.lock();
        for action in seen.held.take().map(|held| held.actions).unwrap_or_default() {
            match action {
                Action::Write(offset, data) => self.0.file.write(offset, &data)?,
                Action::SetLen(len) => self.0.file.set_len(len)?,
                Action::Sync => self.0.file.sync_data()?,
            }
        }
        Ok(())
    }
}

impl Seen {
    /// Compares what was read with what is known of it, or notes it.
    fn check(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        for (block, bytes) in whole_blocks(offset, data) {
            let (sum, known) = (checksum(bytes), self.sum(block));
            if *known == 0 {
                *known = sum;
            } else if *known != sum {
                let place = block as u64 * BLOCK;
                let what = format!("what was read at byte {place} is not what was written there");
                return Err(Error::new(ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }

    /// Notes what was written, and that nothing is known of blocks that were written in part.
    fn note(&mut self, offset: u64, data: &[u8]) {
        self.forget(offset, data.len() as u64);
        for (block, bytes) in whole_blocks(offset, data) {
            *self.sum(block) = checksum(bytes);
        }
    }

    fn forget(&mut self, offset: u64, len: u64) {
        let end = usize::try_from((offset + len).div_ceil(BLOCK)).unwrap_or(usize::MAX);
        let first = usize::try_from(offset / BLOCK).unwrap_or(usize::MAX);
        let end = end.min(self.sums.len());
        if let Some(sums) = self.sums.get_mut(first..end) {
            sums.fill(0);
        }
    }

    fn sum(&mut self, block: usize) -> &mut u32 {
        if self.sums.len() <= block {
            self.sums.resize(block + 1, 0);
        }
        &mut self.sums[block]
    }

    fn set_len(&mut self, len: u64) {
        // A block that is cut, or filled up, changes too.
        self.forget(len, 1);
        self.sums
            .truncate(usize::try_from(len.div_ceil(BLOCK)).unwrap_or(usize::MAX));
    }
}

impl Held {
    fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        // Past the end is nothing, which is not an error here: a commit that a power loss interrupted may name pages
        // by which the file has yet to grow, and redb goes back to the commit before if they do not check out.
        let below = self.shows.saturating_sub(offset).min(out.len() as u64) as usize;
        let (shown, new) = out.split_at_mut(below);
        if !shown.is_empty() {
            file.read(offset, shown)?;
        }
        new.fill(0);
        for (block, part, place) in blocks(offset, out.len()) {
            if let Some(bytes) = self.blocks.get(&block) {
                out[place].copy_from_slice(&bytes[part]);
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.len = self.len.max(offset + data.len() as u64);
        for (block, part, place) in blocks(offset, data.len()) {
            let mut bytes = vec![0; BLOCK as usize];
            if part.len() < bytes.len() {
                let end = (self.len - block * BLOCK).min(BLOCK) as usize;
                self.read(file, block * BLOCK, &mut bytes[..end])?;
            }
            bytes[part].copy_from_slice(&data[place]);
            self.blocks.insert(block, bytes.into());
        }
        self.actions.push(Action::Write(offset, data.to_vec()));
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.shows = self.shows.min(len);
        self.blocks.split_off(&len.div_ceil(BLOCK));
        if let Some(cut) = self.blocks.get_mut(&(len / BLOCK)) {
            cut[(len % BLOCK) as usize..].fill(0);
        }
        self.actions.push(Action::SetLen(len));
    }
}

/// The blocks that a range touches: each with the part of it, and where that is in the range.
fn blocks(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let end = offset + len as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let start = block * BLOCK;
        let (from, to) = (start.max(offset), (start + BLOCK).min(end));
        let part = (from - start) as usize..(to - start) as usize;
        (block, part, (from - offset) as usize..(to - offset) as usize)
    })
}

/// The blocks that are there from beginning to end.
fn whole_blocks(offset: u64, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let whole = |(_, part, _): &(u64, Range<usize>, Range<usize>)| part.len() as u64 == BLOCK;
    let touched = blocks(offset, data.len()).filter(whole);
    touched.map(|(block, _, place)| (block as usize, &data[place]))
}

/// Never 0.
fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes).max(1)
}

impl StorageBackend for Guard {
    fn len(&self) -> Result<u64, Error> {
        match &self.0.seen.lock().held {
            Some(held) => Ok(held.len),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut seen = self.0.seen.lock();
        match &seen.held {
            Some(held) => held.read(&*self.0.file, offset, out)?,
            None => self.0.file.read(offset, out)?,
        }
        seen.check(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut seen = self.0.seen.lock();
        match &mut seen.held {
            Some(held) => held.set_len(len),
            None => self.0.file.set_len(len)?,
        }
        seen.set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut seen = self.0.seen.lock();
        if let Some(held) = &mut seen.held {
            held.actions.push(Action::Sync);
            return Ok(());
        }
        drop(seen);
        self.0.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut seen = self.0.seen.lock();
        let written = match &mut seen.held {
            Some(held) => held.write(&*self.0.file, offset, data),
            None => self.0.file.write(offset, data),
        };
        match written {
            Ok(()) => seen.note(offset, data),
            Err(_) => seen.forget(offset, data.len() as u64),
        }
        written
    }

    fn close(&self) -> Result<(), Error> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}
