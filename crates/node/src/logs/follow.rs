//! Sends a log, from where the options say to its end or as long as it grows.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::line::Line;
use super::parts::{self, Part};
use super::{LogOptions, tail::offset_of_last};

const CHUNK: usize = 32 * 1024;

/// Sends the log to `out`. Following ends when `ended` resolves and everything written has been sent, or when nobody
/// listens any more.
pub(crate) async fn stream(
    path: PathBuf,
    options: LogOptions,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
    ended: impl Future<Output = ()>,
) {
    let mut sender = Sender {
        left: options.limit_bytes.unwrap_or(u64::MAX),
        at_line_start: true,
        options,
        out,
    };
    match sender.run(&path, ended).await {
        Ok(()) | Err(Stop::Enough) => {}
        Err(Stop::Failed(error)) => {
            let _ = sender.out.send(Err(error)).await;
        }
    }
}

enum Stop {
    /// The limit is reached, or nobody listens.
    Enough,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

struct Sender {
    options: LogOptions,
    left: u64,
    at_line_start: bool,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
}

struct Watch {
    /// Keeps the watch; what it reports is read from `events`.
    _inotify: Inotify,
    events: pipe::Receiver,
}

impl Watch {
    /// Of the file's directory, so that a rotation is seen too.
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM;
        inotify.add_watch(path.parent().unwrap_or(Path::new("/")), flags)?;
        // An inotify descriptor is read like a pipe.
        let file = File::from(inotify.as_fd().try_clone_to_owned()?);
        let events = pipe::Receiver::from_file_unchecked(file)?;
        Ok(Self {
            _inotify: inotify,
            events,
        })
    }

    /// Waits for something to happen in the directory. What it was does not matter: the file is read on.
    async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.events.read(&mut events).await.map(drop)
    }
}

impl Sender {
    async fn run(&mut self, path: &Path, ended: impl Future<Output = ()>) -> Result<(), Stop> {
        // Watching begins before reading, so that nothing written between the two is missed.
        let watch = if self.options.follow {
            Some(Watch::new(path)?)
        } else {
            None
        };
        let mut parts = parts::all(path)?;
        if let Some(lines) = self.options.tail {
            skip_to_tail(&mut parts, lines)?;
        }
        let mut pending = Vec::new();
        let Some(mut part) = parts.pop() else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        for mut older in parts {
            self.drain(&mut older.file, &mut pending).await?;
        }
        self.drain(&mut part.file, &mut pending).await?;
        let Some(mut watch) = watch else {
            return self.flush(&mut pending).await;
        };
        tokio::pin!(ended);
        loop {
            let over = tokio::select! {
                changed = watch.changed() => { changed?; false }
                () = &mut ended => true,
                () = self.out.closed() => return Err(Stop::Enough),
            };
            self.drain(&mut part.file, &mut pending).await?;
            while let Some(next) = parts::after(path, &part)? {
                // It has grown no more since it was put aside, but it may have before.
                self.drain(&mut part.file, &mut pending).await?;
                part = next;
                self.drain(&mut part.file, &mut pending).await?;
            }
            if over {
                return self.flush(&mut pending).await;
            }
        }
    }

    /// Sends what the file holds beyond what was read; an incomplete last line stays in `pending`.
    async fn drain(&mut self, file: &mut File, pending: &mut Vec<u8>) -> Result<(), Stop> {
        let mut block = vec![0; CHUNK];
        loop {
            let count = file.read(&mut block)?;
            if count == 0 {
                return Ok(());
            }
            pending.extend_from_slice(&block[..count]);
            if let Some(end) = pending.iter().rposition(|b| *b == b'\n') {
                let rest = pending.split_off(end + 1);
                let lines = std::mem::replace(pending, rest);
                self.send(&lines).await?;
            }
        }
    }

    async fn flush(&mut self, pending: &mut Vec<u8>) -> Result<(), Stop> {
        let last = std::mem::take(pending);
        self.send(&last).await
    }

    async fn send(&mut self, lines: &[u8]) -> Result<(), Stop> {
        let mut text = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let Some(line) = Line::parse(line.strip_suffix(b"\n").unwrap_or(line)) else {
                continue;
            };
            if self
                .options
                .since
                .is_some_and(|since| line.at().is_some_and(|at| at < since))
            {
                continue;
            }
            if self
                .options
                .stream
                .is_some_and(|only| !only.eq_ignore_ascii_case(line.stream))
            {
                continue;
            }
            if self.options.timestamps && self.at_line_start {
                text.extend_from_slice(line.time.as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(line.text);
            if !line.partial {
                text.push(b'\n');
            }
            self.at_line_start = !line.partial;
        }
        let whole = text.len() as u64;
        let fits = whole.min(self.left);
        text.truncate(usize::try_from(fits).unwrap_or(usize::MAX));
        self.left -= fits;
        if !text.is_empty() {
            self.out.send(Ok(text.into())).await.map_err(|_| Stop::Enough)?;
        }
        if self.left == 0 { Err(Stop::Enough) } else { Ok(()) }
    }
}

/// Leaves each part where its share of the last lines begins, and drops those that have none.
fn skip_to_tail(parts: &mut Vec<Part>, lines: u64) -> io::Result<()> {
    // The last lines are nearly always in the newest part; older ones are read when they are not.
    let mut wanted = lines;
    for index in (0..parts.len()).rev() {
        let mut file = &parts[index].file;
        let length = file.metadata()?.len();
        let offset = offset_of_last(file, length, wanted)?;
        file.seek(SeekFrom::Start(offset))?;
        if offset > 0 || wanted == 0 {
            parts.drain(..index);
            return Ok(());
        }
        wanted = wanted.saturating_sub(count_lines(file)?);
        file.seek(SeekFrom::Start(0))?;
    }
    Ok(())
}

/// Lines that are not the beginning of another.
fn count_lines(file: &File) -> io::Result<u64> {
    let mut count = 0;
    for line in io::BufReader::new(file).split(b'\n') {
        count += u64::from(Line::parse(&line?).is_none_or(|l| !l.partial));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::sync::oneshot;

    fn lines(range: std::ops::Range<u32>) -> String {
        range
            .map(|n| format!("2026-01-01T00:00:{n:02}Z stdout F line {n}\n"))
            .collect()
    }

    async fn all(path: &Path, options: LogOptions) -> String {
        let (out, mut received) = mpsc::channel(4);
        tokio::spawn(stream(path.to_owned(), options, out, std::future::ready(())));
        let mut text = Vec::new();
        while let Some(chunk) = received.recv().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options_select_what_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(dir.path().join("0.log.20260101-000000"), lines(0..3)).unwrap();
        let last =
            "2026-01-01T00:00:06Z stdout P par\n2026-01-01T00:00:06Z stdout F tial\n2026-01-01T00:00:07Z stderr F e\n";
        std::fs::write(&path, lines(3..6) + last).unwrap();
        let whole = "line 0\nline 1\nline 2\nline 3\nline 4\nline 5\npartial\ne\n";
        assert_eq!(all(&path, LogOptions::default()).await, whole);
        let tail = |n| LogOptions {
            tail: Some(n),
            ..LogOptions::default()
        };
        assert_eq!(all(&path, tail(2)).await, "partial\ne\n");
        assert_eq!(
            all(&path, tail(6)).await,
            "line 2\nline 3\nline 4\nline 5\npartial\ne\n"
        );
        assert_eq!(all(&path, tail(0)).await, "");
        let since = LogOptions {
            since: Some("2026-01-01T00:00:05Z".parse().unwrap()),
            ..LogOptions::default()
        };
        assert_eq!(all(&path, since).await, "line 5\npartial\ne\n");
        let stamped = LogOptions {
            tail: Some(2),
            timestamps: true,
            ..LogOptions::default()
        };
        assert_eq!(
            all(&path, stamped).await,
            "2026-01-01T00:00:06Z partial\n2026-01-01T00:00:07Z e\n"
        );
        let limited = LogOptions {
            limit_bytes: Some(9),
            ..LogOptions::default()
        };
        assert_eq!(all(&path, limited).await, "line 0\nli");
        let errors = LogOptions {
            stream: Some("Stderr"),
            ..LogOptions::default()
        };
        assert_eq!(all(&path, errors).await, "e\n");
    }

    #[tokio::test]
    async fn following_sees_what_is_written_and_rotated_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, lines(0..1)).unwrap();
        let (out, mut received) = mpsc::channel(4);
        let (end, ended) = oneshot::channel::<()>();
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let task = tokio::spawn(stream(path.clone(), options, out, async { drop(ended.await) }));
        let next =
            async |received: &mut mpsc::Receiver<Result<Bytes, io::Error>>| received.recv().await.unwrap().unwrap();
        assert_eq!(next(&mut received).await, "line 0\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(lines(1..2).as_bytes()).unwrap();
        assert_eq!(next(&mut received).await, "line 1\n");
        std::fs::rename(&path, dir.path().join("0.log.20260101-000000")).unwrap();
        std::fs::write(&path, lines(2..3)).unwrap();
        assert_eq!(next(&mut received).await, "line 2\n");
        end.send(()).unwrap();
        task.await.unwrap();
        assert!(received.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_sleeps_through_rotations_misses_nothing_and_reads_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, lines(0..1)).unwrap();
        let (out, mut received) = mpsc::channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let task = tokio::spawn(stream(path.clone(), options, out, async { drop(ended.await) }));
        assert_eq!(received.recv().await.unwrap().unwrap(), "line 0\n");
        // All at once, before the reader can look: this test has one thread.
        for n in 1..10 {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap();
            file.write_all(lines(n..n + 1).as_bytes()).unwrap();
            std::fs::rename(&path, dir.path().join(format!("0.log.20260101-00000{n}"))).unwrap();
        }
        std::fs::write(&path, lines(10..11)).unwrap();
        end.send(()).unwrap();
        let mut rest = Vec::new();
        while let Some(chunk) = received.recv().await {
            rest.extend_from_slice(&chunk.unwrap());
        }
        task.await.unwrap();
        let expected: String = (1..11).map(|n| format!("line {n}\n")).collect();
        assert_eq!(String::from_utf8(rest).unwrap(), expected);
    }
}
