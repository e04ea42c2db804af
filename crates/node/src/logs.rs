//! Container logs in the CRI's format (`time stream tag text`): reading, selecting, and following them as they grow.
//! Follows by inotify, not by polling.

mod follow;
mod line;
mod tail;

use std::path::{Path, PathBuf};

use coracle_clock::Timestamp;

pub(crate) use follow::stream;
pub(crate) use tail::tail;

/// What of a log is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) tail: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<u64>,
    /// `Stdout` or `Stderr` alone.
    pub(crate) stream: Option<&'static str>,
}

/// The older parts of a log that were rotated away, oldest first, and the log itself.
fn parts(path: &Path) -> Vec<PathBuf> {
    let Some((dir, name)) = path.parent().zip(path.file_name().and_then(|n| n.to_str())) else {
        return vec![path.to_owned()];
    };
    let prefix = format!("{name}.");
    let rotated = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut parts: Vec<PathBuf> = rotated
        .filter(|p| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(&prefix) && !n.ends_with(".gz") && !n.ends_with(".tmp"))
        })
        .collect();
    parts.sort();
    parts.push(path.to_owned());
    parts
}
