//! One container as its shim sees it: its streams, its log, who is attached, and its record.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use coracle_clock::Clock;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::log::{Lines, LogFile, Stream};
use super::protocol::{RECORD, Record, RecordState, StartRequest};
use crate::sys;

/// An attached client that lags by more than this holds up the container's output.
const ATTACH_BUFFER: usize = 256 << 10;
const CHUNK: usize = 32 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    Exited,
}

pub(super) struct Container {
    pub(super) request: StartRequest,
    pub(super) record: Record,
    pub(super) phase: Phase,
    pub(super) stdin: Option<File>,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
    /// The terminal's other side, where it has one; `stdin` and `stdout` are copies of it.
    pub(super) terminal: Option<OwnedFd>,
    /// Input on its way in.
    pub(super) input: Vec<u8>,
    close_input: bool,
    log: Option<LogFile>,
    out_lines: Lines,
    err_lines: Lines,
    pub(super) attached: Vec<Attachment>,
}

/// Someone who reads the container's output or writes its input.
pub(super) struct Attachment {
    pub(super) stdin: Option<File>,
    pub(super) stdout: Option<Outlet>,
    pub(super) stderr: Option<Outlet>,
}

pub(super) struct Outlet {
    pub(super) file: File,
    pub(super) pending: Vec<u8>,
}

impl Container {
    pub(super) fn new(request: StartRequest) -> io::Result<Self> {
        let log = request.log.as_deref();
        let log = log.map(|path| LogFile::open(path, request.log_limits)).transpose()?;
        let record = Record {
            container: request.container.clone(),
            state: RecordState::Running,
            pid: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            signal: None,
            oom_killed: false,
            reason: None,
            message: None,
        };
        Ok(Self {
            request,
            record,
            phase: Phase::Starting,
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
            input: Vec::new(),
            close_input: false,
            log,
            out_lines: Lines::default(),
            err_lines: Lines::default(),
            attached: Vec::new(),
        })
    }

    /// Makes the record durable enough to survive this process and the agent.
    pub(super) fn save(&self) -> io::Result<()> {
        sys::write_atomic(&self.request.directory.join(RECORD), &serde_json::to_vec(&self.record)?)
    }

    pub(super) fn use_terminal(&mut self, terminal: OwnedFd) -> io::Result<()> {
        set_nonblocking(&terminal)?;
        self.stdout = Some(File::from(terminal.try_clone()?));
        if self.request.stdin {
            self.stdin = Some(File::from(terminal.try_clone()?));
        }
        self.terminal = Some(terminal);
        Ok(())
    }

    pub(super) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), LogFile::reopen)
    }

    pub(super) fn attach(&mut self, attachment: Attachment) {
        self.attached.push(attachment);
    }

    /// Whether output may be read: nobody who gets it is too far behind.
    pub(super) fn wants_output(&self) -> bool {
        let behind = |outlet: &Option<Outlet>| outlet.as_ref().is_some_and(|o| o.pending.len() > ATTACH_BUFFER);
        !self.attached.iter().any(|a| behind(&a.stdout) || behind(&a.stderr))
    }

    /// Reads a chunk of a stream and hands it on. False at its end or when there is nothing now.
    pub(super) fn read_output(&mut self, stream: Stream) -> bool {
        let source = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(file) = source else { return false };
        let mut chunk = [0; CHUNK];
        match sys::read_output(file, &mut chunk) {
            Ok(0) => {
                self.end_output(stream);
                false
            }
            Ok(count) => {
                self.output(&chunk[..count], stream);
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            Err(_) => {
                self.end_output(stream);
                false
            }
        }
    }

    fn output(&mut self, data: &[u8], stream: Stream) {
        if let Some(log) = &mut self.log {
            let lines = match stream {
                Stream::Stdout => &mut self.out_lines,
                Stream::Stderr => &mut self.err_lines,
            };
            let mut entries = Vec::with_capacity(data.len() + 128);
            let now = Clock::system().now();
            lines.feed(data, stream, now, &mut entries);
            log.write(&entries, now);
        }
        for attachment in &mut self.attached {
            let outlet = match stream {
                Stream::Stdout => &mut attachment.stdout,
                Stream::Stderr => &mut attachment.stderr,
            };
            if let Some(open) = outlet {
                open.pending.extend_from_slice(data);
                if !open.flush() {
                    *outlet = None;
                }
            }
        }
    }

    fn end_output(&mut self, stream: Stream) {
        let (source, lines) = match stream {
            Stream::Stdout => (&mut self.stdout, &mut self.out_lines),
            Stream::Stderr => (&mut self.stderr, &mut self.err_lines),
        };
        if source.take().is_none() {
            return;
        }
        if let Some(log) = &mut self.log {
            let mut entries = Vec::new();
            let now = Clock::system().now();
            lines.finish(stream, now, &mut entries);
            log.write(&entries, now);
        }
    }

    /// Takes all output that is left after the container's end, and closes its streams.
    pub(super) fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.read_output(stream) {}
            self.end_output(stream);
        }
        self.stdin = None;
        self.terminal = None;
        self.input = Vec::new();
        for attachment in &mut self.attached {
            attachment.stdin = None;
        }
    }

    /// Moves input from an attached client towards the container.
    pub(super) fn read_input(&mut self, index: usize) {
        let Some(attachment) = self.attached.get_mut(index) else {
            return;
        };
        let Some(file) = &mut attachment.stdin else { return };
        let mut chunk = [0; CHUNK];
        match file.read(&mut chunk) {
            Ok(count) if count > 0 => {
                self.input.extend_from_slice(&chunk[..count]);
                self.write_input();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            _ => {
                attachment.stdin = None;
                if self.request.stdin_once && self.terminal.is_none() {
                    self.close_input = true;
                    self.write_input();
                }
            }
        }
    }

    pub(super) fn write_input(&mut self) {
        if let Some(file) = &mut self.stdin {
            match file.write(&self.input) {
                Ok(count) => {
                    self.input.drain(..count);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // It does not read any more.
                Err(_) => {
                    self.stdin = None;
                    self.input.clear();
                }
            }
        } else {
            self.input.clear();
        }
        if self.close_input && self.input.is_empty() {
            self.stdin = None;
        }
    }

    /// Drops attached clients with nothing left to send or to say.
    pub(super) fn forget_detached(&mut self) {
        let exited = self.phase == Phase::Exited;
        for attachment in &mut self.attached {
            for outlet in [&mut attachment.stdout, &mut attachment.stderr] {
                if exited && outlet.as_ref().is_some_and(|open| open.pending.is_empty()) {
                    *outlet = None;
                }
            }
        }
        self.attached
            .retain(|a| a.stdin.is_some() || a.stdout.is_some() || a.stderr.is_some());
    }
}

impl Outlet {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        Ok(Self {
            file: File::from(fd),
            pending: Vec::new(),
        })
    }

    /// Writes what can be written now. False when nobody reads any more.
    pub(super) fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(count) => {
                    self.pending.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
