//! The shim's loop: waits for signals, requests and streams all at once, and never for one of them.
//!
//! OCI runtime calls are child processes; what follows from one happens when it has ended.

mod jobs;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;

use coracle_clock::Clock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::{Attachment, Container, Outlet, Phase, set_nonblocking};
use super::log::Stream;
use super::protocol::{ErrorKind, RecordState, Reply, Request, Setup, decode, encode};
use super::wire;
use crate::cgroup::Cgroups;
use jobs::Job;

type Name = Rc<str>;

pub(super) struct Server {
    setup: Setup,
    cgroups: Cgroups,
    listener: UnixListener,
    signals: SignalFd,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    containers: BTreeMap<Name, Container>,
    /// OCI runtime calls under way, by process.
    jobs: HashMap<i32, Job>,
    /// Commands running in containers, and who waits for them.
    commands: HashMap<i32, u64>,
    /// Ends of processes that no finished job has told of yet.
    early: HashMap<i32, Ended>,
    /// The process that keeps namespaces of the pod which this one is not in.
    keeper: Option<i32>,
    /// Ending; with those to tell when it is done.
    stopping: Option<Vec<u64>>,
}

struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    subscribed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    code: i32,
    signal: Option<i32>,
}

enum Source {
    Signals,
    Listener,
    Client(u64),
    Output(Name, Stream),
    Input(Name),
    AttachedInput(Name, usize),
    AttachedOutput(Name, usize, Stream),
    /// Nobody reads any more.
    AttachedGone(Name, usize, Stream),
}

/// Signals that arrive as data from now on.
pub(super) fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

impl Server {
    pub(super) fn new(
        setup: Setup,
        cgroups: Cgroups,
        listener: UnixListener,
        signals: SignalFd,
        keeper: Option<i32>,
    ) -> Self {
        Self {
            setup,
            cgroups,
            listener,
            signals,
            clients: BTreeMap::new(),
            next_client: 0,
            containers: BTreeMap::new(),
            jobs: HashMap::new(),
            commands: HashMap::new(),
            early: HashMap::new(),
            keeper,
            stopping: None,
        }
    }

    /// Runs until it is told to end.
    pub(super) fn run(&mut self) -> io::Result<()> {
        loop {
            let sources = self.wait()?;
            for source in sources {
                self.handle(source);
            }
            // Positions in the lists had to hold until all of this round's events were handled.
            self.containers.values_mut().for_each(Container::forget_detached);
            if let Some(waiting) = &self.stopping
                && self.jobs.is_empty()
                && self.containers.values().all(|c| c.phase == Phase::Exited)
            {
                for client in waiting.clone() {
                    self.reply(client, &Reply::Ok);
                }
                return Ok(());
            }
        }
    }

    /// What is ready. Signals come first, so that a request sees the latest state.
    fn wait<'a>(&'a self) -> io::Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut fds: Vec<PollFd<'a>> = Vec::new();
        let mut add = |source: Source, fd: BorrowedFd<'a>, flags: PollFlags| {
            sources.push(source);
            fds.push(PollFd::new(fd, flags));
        };
        add(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        add(Source::Listener, self.listener.as_fd(), PollFlags::POLLIN);
        for (id, client) in &self.clients {
            add(Source::Client(*id), client.stream.as_fd(), PollFlags::POLLIN);
        }
        for (name, container) in &self.containers {
            if container.wants_output() {
                if let Some(file) = &container.stdout {
                    add(
                        Source::Output(name.clone(), Stream::Stdout),
                        file.as_fd(),
                        PollFlags::POLLIN,
                    );
                }
                if let Some(file) = &container.stderr {
                    add(
                        Source::Output(name.clone(), Stream::Stderr),
                        file.as_fd(),
                        PollFlags::POLLIN,
                    );
                }
            }
            if let Some(file) = container.stdin.as_ref().filter(|_| !container.input.is_empty()) {
                add(Source::Input(name.clone()), file.as_fd(), PollFlags::POLLOUT);
            }
            for (index, attached) in container.attached.iter().enumerate() {
                if let Some(file) = attached.stdin.as_ref().filter(|_| container.input.is_empty()) {
                    add(
                        Source::AttachedInput(name.clone(), index),
                        file.as_fd(),
                        PollFlags::POLLIN,
                    );
                }
                for (outlet, stream) in [(&attached.stdout, Stream::Stdout), (&attached.stderr, Stream::Stderr)] {
                    if let Some(open) = outlet.as_ref() {
                        // Without anything to write only its end is of interest, which comes unasked.
                        let flags = if open.pending.is_empty() {
                            PollFlags::empty()
                        } else {
                            PollFlags::POLLOUT
                        };
                        add(
                            Source::AttachedOutput(name.clone(), index, stream),
                            open.file.as_fd(),
                            flags,
                        );
                    }
                }
            }
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let ready: Vec<PollFlags> = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
            .collect();
        drop(fds);
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| !ready.is_empty())
            .map(|(source, ready)| match source {
                Source::AttachedOutput(name, index, stream) if ready.intersects(gone) => {
                    Source::AttachedGone(name, index, stream)
                }
                source => source,
            })
            .collect())
    }

    fn outlet(&mut self, name: &Name, index: usize, stream: Stream) -> Option<&mut Option<Outlet>> {
        let attached = self.containers.get_mut(name)?.attached.get_mut(index)?;
        Some(match stream {
            Stream::Stdout => &mut attached.stdout,
            Stream::Stderr => &mut attached.stderr,
        })
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.handle_signals(),
            Source::Listener => {
                while let Ok((stream, _)) = self.listener.accept() {
                    let client = Client {
                        stream,
                        buffer: Vec::new(),
                        descriptors: VecDeque::new(),
                        subscribed: false,
                    };
                    self.clients.insert(self.next_client, client);
                    self.next_client += 1;
                }
            }
            Source::Client(id) => self.handle_client(id),
            Source::Output(name, stream) => {
                if let Some(container) = self.containers.get_mut(&name) {
                    container.read_output(stream);
                }
            }
            Source::Input(name) => {
                if let Some(container) = self.containers.get_mut(&name) {
                    container.write_input();
                }
            }
            Source::AttachedInput(name, index) => {
                if let Some(container) = self.containers.get_mut(&name) {
                    container.read_input(index);
                }
            }
            // By now there may be nothing left to write: output that came in the same round went out with what was waiting.
            Source::AttachedOutput(name, index, stream) => {
                if let Some(outlet) = self.outlet(&name, index, stream)
                    && outlet.as_mut().is_some_and(|open| !open.flush())
                {
                    *outlet = None;
                }
            }
            Source::AttachedGone(name, index, stream) => {
                if let Some(outlet) = self.outlet(&name, index, stream) {
                    *outlet = None;
                }
            }
        }
    }

    fn handle_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 && signal.ssi_signo != Signal::SIGHUP as u32 {
                self.shut_down(None);
            }
        }
        loop {
            let (pid, ended) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), Ended { code, signal: None }),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let signal = signal as i32;
                    (
                        pid.as_raw(),
                        Ended {
                            code: 128 + signal,
                            signal: Some(signal),
                        },
                    )
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => continue,
            };
            self.child_ended(pid, ended);
        }
        if self.jobs.is_empty() {
            self.early.clear();
        }
    }

    fn child_ended(&mut self, pid: i32, ended: Ended) {
        if let Some(job) = self.jobs.remove(&pid) {
            return self.finish_job(job, ended);
        }
        if let Some(client) = self.commands.remove(&pid) {
            return self.finish_command(client, ended);
        }
        let running = |c: &Container| c.phase == Phase::Running && c.record.pid == Some(pid);
        if let Some(name) = self
            .containers
            .iter()
            .find(|(_, c)| running(c))
            .map(|(name, _)| name.clone())
        {
            return self.container_ended(&name, ended);
        }
        if self.keeper == Some(pid) {
            // Namespaces of the pod are gone, and with them what lived in them.
            self.keeper = None;
            return self.shut_down(None);
        }
        self.early.insert(pid, ended);
    }

    fn container_ended(&mut self, name: &Name, ended: Ended) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        if container.request.shared_pids {
            self.cgroups.signal(&container.request.cgroup, nix::libc::SIGKILL);
        }
        container.phase = Phase::Exited;
        container.drain();
        let record = &mut container.record;
        record.state = RecordState::Exited;
        record.pid = None;
        record.finished_at = Some(Clock::system().now());
        record.exit_code = Some(ended.code);
        record.signal = ended.signal;
        record.oom_killed = ended.code != 0 && self.cgroups.oom_kills(&container.request.cgroup) > 0;
        record.reason = Some(match (ended.code, record.oom_killed) {
            (_, true) => "OOMKilled".to_owned(),
            (0, _) => "Completed".to_owned(),
            _ => "Error".to_owned(),
        });
        self.publish(name);
    }

    /// Writes the container's record down and tells everyone.
    fn publish(&mut self, name: &Name) {
        let Some(container) = self.containers.get(name) else {
            return;
        };
        if let Err(error) = container.save() {
            super::complain(format_args!("cannot record the state of {name}: {error}"));
        }
        let changed = Reply::Changed(container.record.clone());
        let subscribers: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, c)| c.subscribed)
            .map(|(id, _)| *id)
            .collect();
        for client in subscribers {
            self.reply(client, &changed);
        }
    }

    fn reply(&mut self, client: u64, reply: &Reply) {
        self.reply_with(client, reply, &[]);
    }

    fn reply_with(&mut self, client: u64, reply: &Reply, descriptors: &[&OwnedFd]) {
        let Some(peer) = self.clients.get(&client) else { return };
        let sent = encode(reply).and_then(|frame| wire::send(&peer.stream, &frame, descriptors));
        if sent.is_err() {
            self.drop_client(client);
        }
    }

    fn fail(&mut self, client: u64, kind: ErrorKind, message: impl Into<String>) {
        self.reply(
            client,
            &Reply::Error {
                kind,
                message: message.into(),
            },
        );
    }

    fn handle_client(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match wire::receive(&client.stream, &mut client.buffer, &mut client.descriptors) {
            Ok(None) => return,
            Ok(Some(count)) if count > 0 => {}
            _ => return self.drop_client(id),
        }
        while let Some(client) = self.clients.get_mut(&id) {
            match decode::<Request>(&mut client.buffer) {
                Ok(Some(request)) => self.handle_request(id, request),
                Ok(None) => return,
                Err(error) => {
                    self.fail(id, ErrorKind::Failed, format!("malformed request: {error}"));
                    return self.drop_client(id);
                }
            }
        }
    }

    fn drop_client(&mut self, id: u64) {
        self.clients.remove(&id);
        for (pid, client) in &self.commands {
            if *client == id {
                // It leads a session and so a group of its own.
                let _ = kill(Pid::from_raw(-*pid), Signal::SIGKILL);
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
    }

    fn handle_request(&mut self, client: u64, request: Request) {
        match request {
            Request::Start(request) => self.start_container(client, request),
            Request::Exec {
                container,
                process,
                terminal,
                stdin,
                stdout,
                stderr,
            } => {
                let streams = self.take_descriptors(client, [stdin, stdout, stderr]);
                match streams {
                    Ok(streams) => self.start_command(client, &container, &process, terminal, streams),
                    Err(error) => self.fail(client, ErrorKind::Failed, error.to_string()),
                }
            }
            Request::Kill { container, signal } => {
                let Some(found) = self.containers.get(container.as_str()) else {
                    return self.fail(client, ErrorKind::NoSuchContainer, container);
                };
                let pid = found.record.pid.filter(|_| found.phase == Phase::Running);
                let Some(pid) = pid else {
                    return self.fail(client, ErrorKind::NotRunning, "it has ended");
                };
                // Its number cannot be anyone else's: only we reap it.
                match send_signal(pid, signal) {
                    Ok(()) => self.reply(client, &Reply::Ok),
                    Err(error) => self.fail(client, ErrorKind::Failed, error.to_string()),
                }
            }
            Request::Attach {
                container,
                stdin,
                stdout,
                stderr,
            } => {
                let result = self.attach(client, &container, [stdin, stdout, stderr]);
                match result {
                    Ok(true) => self.reply(client, &Reply::Ok),
                    Ok(false) => self.fail(client, ErrorKind::NotRunning, "it does not run"),
                    Err(error) => self.fail(client, ErrorKind::Failed, error.to_string()),
                }
            }
            Request::Resize {
                container,
                columns,
                rows,
            } => {
                let terminal = self
                    .containers
                    .get(container.as_str())
                    .and_then(|c| c.terminal.as_ref());
                let result = terminal.map_or(Ok(()), |fd| crate::sys::set_terminal_size(fd, columns, rows));
                match result {
                    Ok(()) => self.reply(client, &Reply::Ok),
                    Err(error) => self.fail(client, ErrorKind::Failed, error.to_string()),
                }
            }
            Request::ReopenLog { container } => {
                let Some(found) = self.containers.get_mut(container.as_str()) else {
                    return self.fail(client, ErrorKind::NoSuchContainer, container);
                };
                match found.reopen_log() {
                    Ok(()) => self.reply(client, &Reply::Ok),
                    Err(error) => self.fail(client, ErrorKind::Failed, error.to_string()),
                }
            }
            Request::Subscribe => {
                if let Some(peer) = self.clients.get_mut(&client) {
                    peer.subscribed = true;
                }
                self.reply(client, &Reply::Ok);
                let started = self.containers.values().filter(|c| c.phase != Phase::Starting);
                let records: Vec<_> = started.map(|c| c.record.clone()).collect();
                for record in records {
                    self.reply(client, &Reply::Changed(record));
                }
            }
            Request::Forget { container } => {
                if self
                    .containers
                    .get(container.as_str())
                    .is_some_and(|c| c.phase == Phase::Exited)
                {
                    self.containers.remove(container.as_str());
                }
                self.reply(client, &Reply::Ok);
            }
            Request::Shutdown => self.shut_down(Some(client)),
        }
    }

    fn take_descriptors(&mut self, client: u64, wanted: [bool; 3]) -> io::Result<[Option<OwnedFd>; 3]> {
        let mut taken = [None, None, None];
        let Some(peer) = self.clients.get_mut(&client) else {
            return Ok(taken);
        };
        for (slot, wanted) in taken.iter_mut().zip(wanted) {
            if wanted {
                let missing = || io::Error::new(io::ErrorKind::InvalidInput, "a stream is missing");
                *slot = Some(peer.descriptors.pop_front().ok_or_else(missing)?);
            }
        }
        Ok(taken)
    }

    fn attach(&mut self, client: u64, name: &str, wanted: [bool; 3]) -> io::Result<bool> {
        let [stdin, stdout, stderr] = self.take_descriptors(client, wanted)?;
        let Some(container) = self.containers.get_mut(name) else {
            return Ok(false);
        };
        if container.phase != Phase::Running {
            return Ok(false);
        }
        if let Some(fd) = &stdin {
            set_nonblocking(fd)?;
        }
        container.attach(Attachment {
            stdin: stdin.map(File::from),
            stdout: stdout.map(Outlet::new).transpose()?,
            stderr: stderr.map(Outlet::new).transpose()?,
        });
        Ok(true)
    }

    fn shut_down(&mut self, client: Option<u64>) {
        self.stopping.get_or_insert_default().extend(client);
        for container in self.containers.values() {
            if container.phase != Phase::Exited {
                self.cgroups.signal(&container.request.cgroup, nix::libc::SIGKILL);
                if let Some(pid) = container.record.pid {
                    let _ = send_signal(pid, nix::libc::SIGKILL);
                }
            }
        }
        for pid in self.jobs.keys() {
            let _ = send_signal(*pid, nix::libc::SIGKILL);
        }
    }
}

fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    crate::sys::PidFd::open(pid)?.kill(signal)
}
