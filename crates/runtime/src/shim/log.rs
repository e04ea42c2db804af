//! Writes a container's output in the CRI's log format: time, stream, `F` or `P` for a whole or a partial line, text; and
//! puts a log that has grown aside, under its name and the time.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longer lines are written in parts of this size.
const LINE_LIMIT: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one stream into lines. Pure.
#[derive(Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Appends to `out` the entries that `data` completes.
    pub(super) fn feed(&mut self, mut data: &[u8], stream: Stream, now: Timestamp, out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = LINE_LIMIT - self.pending.len();
            match data.iter().take(room + 1).position(|byte| *byte == b'\n') {
                Some(end) => {
                    entry(out, now, stream, b'F', &[&self.pending, &data[..end]]);
                    self.pending.clear();
                    data = &data[end + 1..];
                }
                None if data.len() > room => {
                    entry(out, now, stream, b'P', &[&self.pending, &data[..room]]);
                    self.pending.clear();
                    data = &data[room..];
                }
                None => {
                    self.pending.extend_from_slice(data);
                    return;
                }
            }
        }
    }

    /// What the stream ended with if not with the end of a line.
    pub(super) fn finish(&mut self, stream: Stream, now: Timestamp, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            entry(out, now, stream, b'P', &[&self.pending]);
            self.pending = Vec::new();
        }
    }
}

fn entry(out: &mut Vec<u8>, now: Timestamp, stream: Stream, tag: u8, parts: &[&[u8]]) {
    let _ = write!(out, "{now:.9} {} {} ", stream.name(), tag as char);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// How much of a container's log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A log of so many bytes is put aside and another one begun.
    pub size: u64,
    /// So many are kept, the one being written among them.
    pub files: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            size: 10 << 20,
            files: 5,
        }
    }
}

/// After a failure to put a log aside, it may grow by this much before the next attempt.
const AGAIN: u64 = 1 << 20;

/// A container's log file.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limits: LogLimits,
    /// At this size it is put aside.
    limit: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, limits: LogLimits) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut log = Self {
            path: path.to_owned(),
            file: None,
            size: 0,
            limits,
            limit: limits.size,
        };
        log.reopen()?;
        Ok(log)
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.limit = self.limits.size;
        self.file = Some(file);
        Ok(())
    }

    /// A full disk must not stop the container, so what cannot be written is lost.
    pub(super) fn write(&mut self, entries: &[u8], now: Timestamp) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(entries) {
            super::complain(format_args!("cannot write log {}: {error}", self.path.display()));
        }
        self.size += entries.len() as u64;
        if self.size >= self.limit
            && let Err(error) = self.put_aside(now)
        {
            super::complain(format_args!("cannot rotate log {}: {error}", self.path.display()));
            self.limit = self.size + AGAIN;
        }
    }

    /// Entries are written whole, so that none is cut; and the file is renamed while nobody writes, so that none is lost.
    fn put_aside(&mut self, now: Timestamp) -> io::Result<()> {
        let aside = aside(&self.path, now);
        std::fs::rename(&self.path, &aside)?;
        self.reopen().inspect_err(|_| {
            // Better one log that grows than none.
            let _ = std::fs::rename(&aside, &self.path);
        })?;
        remove_surplus(&self.path, self.limits.files)
    }
}

/// The name of a log that is put aside.
pub(crate) fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let mut aside = path.to_owned().into_os_string();
    aside.push(now.strftime(".%Y%m%d-%H%M%S%.9f").to_string());
    aside.into()
}

/// Removes those of the logs put aside that are too many, the oldest first.
pub(crate) fn remove_surplus(path: &Path, files: usize) -> io::Result<()> {
    let mut old = old(path)?;
    let surplus = (old.len() + 1).saturating_sub(files).min(old.len());
    old.drain(..surplus).try_for_each(std::fs::remove_file)
}

/// What was put aside before, the oldest first.
fn old(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut old: Vec<PathBuf> = std::fs::read_dir(directory)?
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)))
        .map(|entry| entry.path())
        .collect();
    old.sort();
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(chunks: &[&[u8]]) -> String {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for chunk in chunks {
            lines.feed(chunk, Stream::Stdout, now, &mut out);
        }
        lines.finish(Stream::Stdout, now, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let expected = "2026-01-01T00:00:00.000000000Z stdout F hello\n2026-01-01T00:00:00.000000000Z stdout F \n";
        assert_eq!(feed(&[b"hello\n\n"]), expected);
        assert_eq!(feed(&[b"hel", b"lo", b"\n", b"\n"]), expected);
    }

    #[test]
    fn a_stream_that_ends_within_a_line_leaves_a_partial_one() {
        assert_eq!(feed(&[b"no end"]), "2026-01-01T00:00:00.000000000Z stdout P no end\n");
    }

    #[test]
    fn long_lines_are_cut_into_partial_ones_that_add_up() {
        let long = "x".repeat(2 * LINE_LIMIT + 5) + "\n";
        let log = feed(&[long.as_bytes()]);
        let tags: Vec<&str> = log.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "P", "F"]);
        let total: usize = log.lines().map(|line| line.split(' ').nth(3).unwrap().len()).sum();
        assert_eq!(total, long.len() - 1);
        // A line of just the limit is still one.
        let log = feed(&[("y".repeat(LINE_LIMIT) + "\n").as_bytes()]);
        assert_eq!(log.lines().count(), 1);
        assert!(log.contains(" F y"));
    }

    #[test]
    fn a_grown_log_is_put_aside_and_the_oldest_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(directory.path().join("0.logger"), "another").unwrap();
        let limits = LogLimits { size: 4000, files: 5 };
        let mut log = LogFile::open(&path, limits).unwrap();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        // A quarter of a file at a time: after 4 * n + 1 of them, n were put aside.
        let entry = |n: u8| vec![n; 1000];
        for n in 0..25u8 {
            log.write(&entry(n), start + std::time::Duration::from_nanos(n.into()));
        }
        let old = old(&log.path).unwrap();
        assert_eq!(old.len(), 4);
        let mut read = Vec::new();
        for path in old.iter().chain([&path]) {
            read.extend(std::fs::read(path).unwrap());
        }
        let order: Vec<u8> = read.chunks(entry(0).len()).map(|chunk| chunk[0]).collect();
        assert_eq!(
            order,
            (8..25).collect::<Vec<u8>>(),
            "nothing is lost but the oldest, and nothing doubled"
        );
        assert!(directory.path().join("0.logger").exists());
    }

    #[test]
    fn a_log_that_is_opened_again_is_as_large_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, vec![b'x'; 999]).unwrap();
        let mut log = LogFile::open(&path, LogLimits { size: 1000, files: 2 }).unwrap();
        log.write(b"y", "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(old(&log.path).unwrap().len(), 1);
    }
}
