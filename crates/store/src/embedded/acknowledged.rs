//! The newest revision that was acknowledged, in a small file beside the database. redb takes a last commit that does
//! not check out for one that a crash interrupted, and goes back to the one before it; whether anybody was told of that
//! commit it cannot know. Here is written who was told, after each commit and without a sync of its own: a killed
//! process leaves it exact, a power loss leaves it at most some seconds behind, and never ahead.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, Revision};

const FILE: &str = "acknowledged";

/// The file, which is made when there is something to note.
#[derive(Debug)]
pub(super) struct Acknowledged {
    path: PathBuf,
    file: Option<File>,
}

impl Acknowledged {
    pub fn of(directory: &Path) -> Self {
        let path = directory.join(FILE);
        Self { path, file: None }
    }

    /// Notes that everything up to a revision is durable and will be acknowledged.
    pub fn note(&mut self, revision: Revision) -> Result<(), Error> {
        let number = revision.to_le_bytes();
        let mut record = [0; 12];
        record[..8].copy_from_slice(&number);
        record[8..].copy_from_slice(&crc32fast::hash(&number).to_le_bytes());
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).mode(0o600);
                let opened = options.open(&self.path);
                none.insert(opened.map_err(|error| Error::io("open", &self.path, error))?)
            }
        };
        let written = file.write_all_at(&record, 0);
        written.map_err(|error| Error::io("write", &self.path, error))
    }

    /// What was noted last; nothing if there is no file, or if it does not check out.
    pub fn read(&self) -> Option<Revision> {
        let record = std::fs::read(&self.path).ok()?;
        let (number, rest) = record.split_first_chunk::<8>()?;
        let sum = u32::from_le_bytes(*rest.first_chunk::<4>()?);
        (sum == crc32fast::hash(number)).then_some(u64::from_le_bytes(*number))
    }

    /// Forgets what was noted of a database that is no more.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.file = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &self.path, error)),
            _ => Ok(()),
        }
    }
}
