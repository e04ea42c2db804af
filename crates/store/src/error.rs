//! What can go wrong in a store, said so that a person knows what to do next. Cloneable, because one failed sync
//! fails every transaction that shared it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Revision;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// History up to `compacted` is gone: list again and watch from there.
    #[error("revision {requested} is compacted: the oldest that can be read is {compacted}")]
    Compacted { compacted: Revision, requested: Revision },
    /// The revision has not happened yet, as after a restore of an older snapshot.
    #[error("revision {requested} is in the future: the store is at {current}")]
    FutureRevision { current: Revision, requested: Revision },
    /// The request contradicts itself; nothing was done.
    #[error("invalid request: {what}")]
    Invalid { what: String },
    /// What was read back is not what was written.
    #[error("corrupt {what} in {place}: {hint}")]
    Corrupt {
        what: String,
        place: String,
        hint: &'static str,
    },
    /// The disk is full.
    #[error("the disk that holds {} is full: free some space there", path.display())]
    Full { path: PathBuf },
    /// A write failed earlier and what is on the disk is uncertain, so that no later write is accepted; on a disk that
    /// was full, none until there is space. Reads go on.
    #[error(
        "the store accepts no writes since an earlier one failed ({cause}){}",
        way_out(cause)
    )]
    ReadOnly { cause: Arc<Error> },
    /// Another process has the directory open.
    #[error(
        "{} is in use by {}: stop it, or choose another directory",
        path.display(), holder.map_or("another process".to_string(), |pid| format!("process {pid}"))
    )]
    Locked { path: PathBuf, holder: Option<u32> },
    /// The data was written by a later version of this program.
    #[error(
        "{} has format {found}, and this version reads up to {supported}: use the version that wrote it, or a later one",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u64, supported: u64 },
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
    /// No member of the etcd cluster answered, or the answer was that it cannot work now.
    #[error("etcd at {endpoints} does not answer: {cause}; {hint}")]
    Unavailable {
        endpoints: String,
        cause: String,
        hint: &'static str,
    },
    /// The store was closed while the request waited, or before.
    #[error("the store is closed")]
    Closed,
}

/// What ends being read-only.
fn way_out(cause: &Error) -> &'static str {
    match cause {
        Error::Full { .. } => "; it does again by itself once there is some",
        _ => ": mend the disk, then restart",
    }
}

impl Error {
    /// An I/O error, told apart by what an operator can do about it.
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, place: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            place: place.into(),
            hint: "the disk or a program damaged it; restore the last snapshot into an empty directory",
        }
    }
}
