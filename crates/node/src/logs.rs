//! Container logs in the CRI's format (`time stream tag text`): reading, selecting, and following them as they grow.
//! Follows by inotify, not by polling.

mod follow;
mod line;
mod parts;
mod tail;

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
