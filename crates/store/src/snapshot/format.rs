//! The format of a snapshot file. All numbers are little-endian.
//!
//! | part | fields |
//! |---|---|
//! | header | `CORACLE\n`; format u32; revision u64; time in seconds since 1970 i64; checksum of the header so far u32 |
//! | each key, in order | length of what follows without the checksum u32; create revision u64; mod revision u64; version u64; length of the key u32; the key; the value; checksum of the entry from its length on u32 |
//! | trailer | 0xffff_ffff; number of keys u64; checksum of the whole file so far u32 |
//!
//! Checksums are CRC-32 as in zlib. An entry's checksum tells which key is damaged; the trailer's, and that it is
//! there, that nothing is missing.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coracle_clock::Timestamp;
use crc32fast::Hasher;

use super::SnapshotInfo;
use crate::{Error, KeyValue, Revision};

const MAGIC: &[u8; 8] = b"CORACLE\n";
const FORMAT: u32 = 1;
const END: u32 = u32::MAX;
/// The parts of an entry that are always there.
const FIXED: usize = 8 + 8 + 8 + 4;
/// An entry larger than this is not one of ours: no reason to make room for it.
const LARGEST: u32 = 1 << 30;

/// Encodes a snapshot into a buffer that its user empties from time to time.
pub struct Writer {
    buffer: Vec<u8>,
    /// Over all that was taken from the buffer.
    whole: Hasher,
    info: SnapshotInfo,
}

impl Writer {
    pub fn new(revision: Revision, taken: Timestamp) -> Self {
        let taken = Timestamp::from_second(taken.as_second()).unwrap_or_default();
        let info = SnapshotInfo {
            revision,
            taken,
            keys: 0,
            bytes: 0,
        };
        let mut writer = Self {
            buffer: Vec::new(),
            whole: Hasher::new(),
            info,
        };
        writer.buffer.extend_from_slice(MAGIC);
        writer.buffer.extend_from_slice(&FORMAT.to_le_bytes());
        writer.buffer.extend_from_slice(&revision.to_le_bytes());
        writer.buffer.extend_from_slice(&taken.as_second().to_le_bytes());
        writer.sum(0);
        writer
    }

    /// Appends the checksum of the buffer from a position on.
    fn sum(&mut self, start: usize) {
        let sum = crc32fast::hash(&self.buffer[start..]);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
    }

    pub fn key(&mut self, kv: &KeyValue) {
        let start = self.buffer.len();
        let length = FIXED + kv.key.len() + kv.value.len();
        self.buffer.extend_from_slice(&(length as u32).to_le_bytes());
        for number in [kv.create_revision, kv.mod_revision, kv.version] {
            self.buffer.extend_from_slice(&number.to_le_bytes());
        }
        self.buffer.extend_from_slice(&(kv.key.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(kv.key.as_bytes());
        self.buffer.extend_from_slice(&kv.value);
        self.sum(start);
        self.info.keys += 1;
    }

    /// What has been encoded since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        self.whole.update(&self.buffer);
        self.info.bytes += self.buffer.len() as u64;
        std::mem::take(&mut self.buffer)
    }

    /// Appends the trailer.
    pub fn end(&mut self) -> SnapshotInfo {
        self.buffer.extend_from_slice(&END.to_le_bytes());
        self.buffer.extend_from_slice(&self.info.keys.to_le_bytes());
        let mut whole = self.whole.clone();
        whole.update(&self.buffer);
        self.buffer.extend_from_slice(&whole.finalize().to_le_bytes());
        SnapshotInfo {
            bytes: self.info.bytes + self.buffer.len() as u64,
            ..self.info.clone()
        }
    }
}

/// Decodes a snapshot, and believes nothing that its checksum does not confirm.
pub struct Reader<R> {
    input: R,
    path: Box<Path>,
    whole: Hasher,
    info: SnapshotInfo,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn new(input: R, path: &Path) -> Result<Self, Error> {
        let info = SnapshotInfo {
            revision: 0,
            taken: Timestamp::UNIX_EPOCH,
            keys: 0,
            bytes: 0,
        };
        let mut reader = Self {
            input,
            path: path.into(),
            whole: Hasher::new(),
            info,
        };
        let mut header = [0; 28];
        reader.fill(&mut header, "header")?;
        let format = u32_at(&header, 8);
        if header.starts_with(MAGIC) && format > FORMAT {
            let (found, supported) = (format.into(), FORMAT.into());
            return Err(Error::NewerFormat {
                path: path.to_owned(),
                found,
                supported,
            });
        }
        let sum = reader.number("header")?;
        if !header.starts_with(MAGIC) || format != FORMAT || sum != crc32fast::hash(&header) {
            return Err(reader.corrupt("header"));
        }
        reader.info.revision = u64_at(&header, 12);
        reader.info.taken = Timestamp::from_second(u64_at(&header, 20) as i64).unwrap_or_default();
        Ok(reader)
    }

    /// Reads the rest, and hands out each key. What was handed out counts only if this succeeds.
    pub fn read(mut self, mut each: impl FnMut(KeyValue)) -> Result<SnapshotInfo, Error> {
        let mut body = Vec::new();
        let mut last: Option<Arc<str>> = None;
        loop {
            let place = match &last {
                Some(key) => format!("entry after {key}"),
                None => "first entry".to_string(),
            };
            let length = self.number(&place)?;
            if length == END {
                break;
            }
            if length > LARGEST {
                return Err(self.corrupt(&place));
            }
            body.resize(length as usize, 0);
            self.fill(&mut body, &place)?;
            let mut sum = Hasher::new();
            sum.update(&length.to_le_bytes());
            sum.update(&body);
            let kv = entry(&body);
            if self.number(&place)? != sum.finalize() {
                return Err(self.corrupt(&kv.map_or(place, |kv| format!("value of {}", kv.key))));
            }
            let kv = kv.ok_or_else(|| self.corrupt(&place))?;
            last = Some(kv.key.clone());
            self.info.keys += 1;
            each(kv);
        }
        let mut count = [0; 8];
        self.fill(&mut count, "trailer")?;
        let whole = self.whole.clone().finalize();
        let sum = self.number("trailer")?;
        let more = self
            .input
            .read(&mut [0])
            .map_err(|error| Error::io("read", &self.path, error))?;
        if sum != whole || u64::from_le_bytes(count) != self.info.keys || more > 0 {
            return Err(self.corrupt("trailer"));
        }
        Ok(self.info)
    }

    fn fill(&mut self, bytes: &mut [u8], place: &str) -> Result<(), Error> {
        match self.input.read_exact(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(self.corrupt(place)),
            Err(error) => return Err(Error::io("read", &self.path, error)),
        }
        self.whole.update(bytes);
        self.info.bytes += bytes.len() as u64;
        Ok(())
    }

    fn number(&mut self, place: &str) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes, place)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::Corrupt {
            what: what.to_string(),
            place: self.path.display().to_string(),
            hint: "this snapshot cannot be used; take another",
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn entry(body: &[u8]) -> Option<KeyValue> {
    let (fixed, rest) = body.split_at_checked(FIXED)?;
    let (key, value) = rest.split_at_checked(u32_at(fixed, 24) as usize)?;
    Some(KeyValue {
        key: std::str::from_utf8(key).ok()?.into(),
        value: Bytes::copy_from_slice(value),
        create_revision: u64_at(fixed, 0),
        mod_revision: u64_at(fixed, 8),
        version: u64_at(fixed, 16),
    })
}
