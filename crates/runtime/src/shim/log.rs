//! Writes a container's output in the CRI's log format: time, stream, `F` or `P` for a whole or a partial line, text.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

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

/// A container's log file.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut log = Self {
            path: path.to_owned(),
            file: None,
        };
        log.reopen()?;
        Ok(log)
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        self.file = Some(File::options().append(true).create(true).mode(0o640).open(&self.path)?);
        Ok(())
    }

    /// A full disk must not stop the container, so what cannot be written is lost.
    pub(super) fn write(&mut self, entries: &[u8]) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(entries)
        {
            eprintln!("cannot write log {}: {error}", self.path.display());
        }
    }
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
}
