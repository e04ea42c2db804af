//! A disk in memory that fails as real ones do, at a moment of the test's choosing and always in the same way for the
//! same seed: the power goes and of what was written since the last sync some sectors are there, some are not and one
//! is torn; a sync fails and what it should have kept is gone although reads still show it; the disk is full; a bit of
//! what is read is flipped.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

/// What a disk writes wholly or not at all. Every page of the database begins at the beginning of one.
const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing works any more from a certain write or sync on.
    PowerLoss,
    /// One sync fails. What was written before it may or may not have reached the disk, and later syncs do not
    /// change that.
    SyncFails,
    /// One write fails, with a part of it written.
    WriteFails,
    /// All writes that need space fail, and syncs too.
    Full,
    /// One bit of what is read is wrong, once.
    ReadFlips,
}

#[derive(Debug)]
enum Written {
    Data(usize, Vec<u8>),
    Len(usize),
}

#[derive(Debug)]
struct Platter {
    rng: StdRng,
    /// What survives a loss of power in any case.
    durable: Vec<u8>,
    /// What is read.
    cached: Vec<u8>,
    /// What was done since the last sync, in order.
    pending: Vec<Written>,
    fault: Option<(Fault, u64)>,
    /// What has happened, if it has.
    struck: Option<Fault>,
}

/// See the module. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct FaultyDisk(Arc<Mutex<Platter>>);

/// The disk as redb sees it. The file in the store's directory only has the same length.
#[derive(Debug)]
pub struct Backend {
    disk: FaultyDisk,
    file: File,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            rng: StdRng::seed_from_u64(seed),
            durable: Vec::new(),
            cached: Vec::new(),
            pending: Vec::new(),
            fault: None,
            struck: None,
        })))
    }

    /// The backend over a file of the store's; an empty one is a new disk.
    pub fn backend(&self, file: File) -> Result<Backend, redb::Error> {
        if file.metadata()?.len() == 0 {
            let mut platter = self.0.lock();
            platter.durable.clear();
            platter.cached.clear();
            platter.pending.clear();
        }
        let disk = self.clone();
        Ok(Backend { disk, file })
    }

    /// Has the fault strike after so many more of the operations that it can strike.
    pub fn arm(&self, fault: Fault, after: u64) {
        let mut platter = self.0.lock();
        platter.fault = Some((fault, after));
        platter.struck = None;
    }

    pub fn disarm(&self) {
        let mut platter = self.0.lock();
        platter.fault = None;
        platter.struck = None;
    }

    pub fn struck(&self) -> Option<Fault> {
        self.0.lock().struck
    }

    /// Nothing works any more.
    pub fn cut_power(&self) {
        self.0.lock().struck = Some(Fault::PowerLoss);
    }

    /// The power comes again after it went: what was not synced is there in part.
    pub fn cycle_power(&self) {
        let mut platter = self.0.lock();
        platter.settle();
        platter.cached = platter.durable.clone();
        platter.fault = None;
        platter.struck = None;
    }

    /// Flips a bit of what lies on the disk; done twice it is as before.
    pub fn flip(&self, at: u64, mask: u8) {
        let mut platter = self.0.lock();
        let Platter { durable, cached, .. } = &mut *platter;
        for image in [durable, cached] {
            if let Some(byte) = image.get_mut(at as usize) {
                *byte ^= mask;
            }
        }
    }

    pub fn contents(&self) -> Vec<u8> {
        self.0.lock().cached.clone()
    }
}

impl Platter {
    /// Whether the armed fault strikes this operation.
    fn strikes(&mut self, kinds: &[Fault]) -> Option<Fault> {
        if let Some(fault @ (Fault::PowerLoss | Fault::Full)) = self.struck {
            return (fault == Fault::PowerLoss || kinds.contains(&fault)).then_some(fault);
        }
        let (fault, left) = self.fault.as_mut().filter(|(fault, _)| kinds.contains(fault))?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        self.fault = None;
        self.struck = Some(fault);
        Some(fault)
    }

    /// Decides what of the pending writes is on the disk.
    fn settle(&mut self) {
        let Self {
            rng, durable, pending, ..
        } = self;
        let pending = std::mem::take(pending);
        // How a disk goes down: nothing arrived, all did, any writes, any sectors, or writes up to one that is torn.
        let style = rng.random_range(0..6);
        let share = [0.1, 0.5, 0.9][rng.random_range(0..3)];
        let last = rng.random_range(0..=pending.len());
        for (index, written) in pending.iter().enumerate() {
            let arrives = match style {
                0 => false,
                1 => true,
                2 | 3 => rng.random_bool(share),
                // The header alone, which says that the rest is there.
                4 => matches!(written, Written::Data(0, _)),
                _ => index <= last,
            };
            match written {
                Written::Len(len) if arrives => durable.resize(*len, 0),
                Written::Data(offset, data) if style == 3 => {
                    for (at, sector) in sectors(*offset, data) {
                        if rng.random_bool(share) {
                            lay(durable, at, sector);
                        }
                    }
                }
                Written::Data(offset, data) if arrives => {
                    let torn = style == 5 && index == last;
                    let length = if torn { tear(rng, data.len()) } else { data.len() };
                    lay(durable, *offset, &data[..length]);
                }
                Written::Len(_) | Written::Data(..) => {}
            }
        }
    }
}

/// How much of a write is there when it was interrupted.
fn tear(rng: &mut StdRng, length: usize) -> usize {
    let sectors = length.div_ceil(SECTOR);
    (rng.random_range(0..=sectors) * SECTOR).min(length)
}

/// Writes what is within the length of the disk.
fn lay(image: &mut [u8], offset: usize, data: &[u8]) {
    let length = data.len().min(image.len().saturating_sub(offset));
    if length > 0 {
        image[offset..offset + length].copy_from_slice(&data[..length]);
    }
}

fn sectors(offset: usize, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(data.len());
    let (head, rest) = data.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate();
    let rest = rest.map(move |(n, sector)| (offset + first + n * SECTOR, sector));
    std::iter::once((offset, head)).chain(rest)
}

fn failed(fault: Fault) -> Error {
    match fault {
        Fault::Full => ErrorKind::StorageFull.into(),
        Fault::PowerLoss => Error::other("no power"),
        _ => Error::other("input/output error"),
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.disk.0.lock().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut platter = self.disk.0.lock();
        let struck = platter.strikes(&[Fault::ReadFlips]);
        if let Some(fault @ Fault::PowerLoss) = struck {
            return Err(failed(fault));
        }
        let range = offset as usize..offset as usize + out.len();
        let found = platter.cached.get(range).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        if struck == Some(Fault::ReadFlips) {
            let at = platter.rng.random_range(0..out.len());
            out[at] ^= 1 << platter.rng.random_range(0..8);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut platter = self.disk.0.lock();
        if let Some(fault) = platter.strikes(&[Fault::PowerLoss, Fault::WriteFails, Fault::Full]) {
            return Err(failed(fault));
        }
        platter.cached.resize(len as usize, 0);
        platter.pending.push(Written::Len(len as usize));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut platter = self.disk.0.lock();
        if let Some(fault) = platter.strikes(&[Fault::PowerLoss, Fault::SyncFails, Fault::Full]) {
            if fault != Fault::PowerLoss {
                platter.settle();
            }
            return Err(failed(fault));
        }
        // Only what was written since: what an earlier sync failed to keep is not kept by this one.
        let Platter { durable, pending, .. } = &mut *platter;
        for written in pending.drain(..) {
            match written {
                Written::Len(len) => durable.resize(len, 0),
                Written::Data(offset, data) => lay(durable, offset, &data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut platter = self.disk.0.lock();
        if platter.struck == Some(Fault::PowerLoss) {
            return Err(failed(Fault::PowerLoss));
        }
        let struck = platter.strikes(&[Fault::PowerLoss, Fault::WriteFails, Fault::Full]);
        let length = match struck {
            Some(Fault::PowerLoss) => data.len(),
            Some(_) => tear(&mut platter.rng, data.len()),
            None => data.len(),
        };
        if offset as usize + data.len() > platter.cached.len() {
            return Err(Error::other("a write past the end"));
        }
        let data = &data[..length];
        lay(&mut platter.cached, offset as usize, data);
        platter.pending.push(Written::Data(offset as usize, data.to_vec()));
        struck.map_or(Ok(()), |fault| Err(failed(fault)))
    }
}
