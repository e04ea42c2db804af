//! Calls of the OCI runtime: starting containers and commands in them, and what follows when a call has ended.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use coracle_clock::Clock;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2, pipe2};

use super::{Ended, Name, Server};
use crate::oci;
use crate::shim::container::{Container, Phase, set_nonblocking};
use crate::shim::protocol::{ErrorKind, RecordState, Reply, StartRequest};
use crate::shim::wire;
use crate::sys;

/// What a container that never started ends with, as with other runtimes.
const START_ERROR_CODE: i32 = 128;

/// A call under way.
pub(super) struct Job {
    kind: Kind,
    client: u64,
    container: Name,
    /// Files of this call: `<stem>.pid`, `<stem>.log`, `<stem>.sock`, `<stem>.json`.
    stem: PathBuf,
    console: Option<UnixListener>,
}

enum Kind {
    Create,
    /// With a foreign runtime, which has a command of its own for it.
    Start,
    Command,
}

impl Job {
    fn file(&self, extension: &str) -> PathBuf {
        self.stem.with_extension(extension)
    }

    fn pid(&self) -> io::Result<i32> {
        let text = fs::read_to_string(self.file("pid"))?;
        text.trim()
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The runtime's own words for why it failed.
    fn reason(&self, ended: Ended) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let message = log.lines().rev().find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            (entry["level"] == "error").then(|| entry["msg"].as_str().map(str::to_owned))?
        });
        message.unwrap_or_else(|| match ended.signal {
            Some(signal) => format!("the OCI runtime was killed by signal {signal}"),
            None => format!("the OCI runtime failed with code {}", ended.code),
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for extension in ["pid", "log", "sock", "json"] {
            let _ = fs::remove_file(self.file(extension));
        }
    }
}

impl Server {
    pub(super) fn start_container(&mut self, client: u64, request: StartRequest) {
        let name: Name = Rc::from(request.container.as_str());
        if self.containers.get(&name).is_some_and(|c| c.phase != Phase::Exited) || self.stopping.is_some() {
            return self.fail(client, ErrorKind::Failed, "it is running already, or the pod is ending");
        }
        let stem = request.directory.join("create");
        let mut job = Job {
            kind: Kind::Create,
            client,
            container: name.clone(),
            stem,
            console: None,
        };
        let started = Container::new(request).and_then(|mut container| {
            let process = self.create(&mut job, &mut container)?;
            Ok((container, process))
        });
        match started {
            Ok((container, process)) => {
                self.containers.insert(name, container);
                self.jobs.insert(process.as_raw(), job);
            }
            Err(error) => self.fail(client, ErrorKind::StartFailed, error.to_string()),
        }
    }

    fn create(&self, job: &mut Job, container: &mut Container) -> io::Result<Pid> {
        let request = &container.request;
        let bundle = request.directory.clone();
        let mut arguments = self.arguments(job, "create");
        arguments.extend(["--bundle".into(), bundle.into_os_string()]);
        if self.setup.oci_runtime.is_none() {
            arguments.push("--die-with-parent".into());
        }
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
        };
        let streams = if request.terminal {
            job.console = Some(listen(&job.file("sock"))?);
            arguments.extend(["--console-socket".into(), job.file("sock").into_os_string()]);
            [null()?, null()?, null()?]
        } else {
            let (out_read, out_write) = pipe2(OFlag::O_CLOEXEC)?;
            let (err_read, err_write) = pipe2(OFlag::O_CLOEXEC)?;
            set_nonblocking(&out_read)?;
            set_nonblocking(&err_read)?;
            let input = if request.stdin {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                set_nonblocking(&write)?;
                container.stdin = Some(File::from(write));
                read
            } else {
                null()?
            };
            container.stdout = Some(File::from(out_read));
            container.stderr = Some(File::from(err_read));
            [input, out_write, err_write]
        };
        arguments.push(job.container.as_ref().into());
        self.call(arguments, streams)
    }

    pub(super) fn start_command(
        &mut self,
        client: u64,
        name: &str,
        process: &serde_json::Value,
        terminal: bool,
        streams: [Option<OwnedFd>; 3],
    ) {
        let Some(container) = self.containers.get(name).filter(|c| c.phase == Phase::Running) else {
            return self.fail(client, ErrorKind::NotRunning, "the container does not run");
        };
        let stem = container.request.directory.join(format!("command-{client}"));
        let mut job = Job {
            kind: Kind::Command,
            client,
            container: Rc::from(name),
            stem,
            console: None,
        };
        let started = (|| {
            let mut arguments = self.arguments(&job, "exec");
            let specification = job.file("json");
            fs::write(&specification, serde_json::to_vec(process)?)?;
            arguments.extend(["--detach".into(), "--process".into(), specification.into_os_string()]);
            if terminal {
                job.console = Some(listen(&job.file("sock"))?);
                arguments.extend(["--console-socket".into(), job.file("sock").into_os_string()]);
            }
            arguments.push(name.into());
            let null = || {
                File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/null")
                    .map(OwnedFd::from)
            };
            let [stdin, stdout, stderr] = streams;
            let or_null = |stream: Option<OwnedFd>| stream.map_or_else(null, Ok);
            self.call(arguments, [or_null(stdin)?, or_null(stdout)?, or_null(stderr)?])
        })();
        match started {
            Ok(process) => {
                self.jobs.insert(process.as_raw(), job);
            }
            Err(error) => self.fail(client, ErrorKind::Failed, io::Error::to_string(&error)),
        }
    }

    /// The part of a command line that all calls have.
    fn arguments(&self, job: &Job, command: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--root".into(),
            self.setup.oci_root.clone().into_os_string(),
            "--log".into(),
        ];
        arguments.extend([
            job.file("log").into_os_string(),
            "--log-format".into(),
            "json".into(),
            command.into(),
        ]);
        if command != "start" {
            arguments.extend(["--pid-file".into(), job.file("pid").into_os_string()]);
        }
        arguments
    }

    /// Calls the OCI runtime in a child process: this very program, or the foreign one.
    fn call(&self, arguments: Vec<OsString>, streams: [OwnedFd; 3]) -> io::Result<Pid> {
        sys::fork(|| {
            for (number, stream) in streams.iter().enumerate() {
                if dup2(stream.as_raw_fd(), number as i32).is_err() {
                    return 125;
                }
            }
            sys::close_from(3);
            sys::reset_signals();
            let Some(runtime) = &self.setup.oci_runtime else {
                return oci::oci_main(arguments);
            };
            let all = std::iter::once(runtime.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
            let all: Vec<CString> = all
                .filter_map(|argument| CString::new(argument.as_bytes()).ok())
                .collect();
            let Some(program) = all.first() else { return 125 };
            let _ = nix::unistd::execv(program, &all);
            127
        })
    }

    pub(super) fn finish_job(&mut self, mut job: Job, ended: Ended) {
        match job.kind {
            Kind::Create if ended.code == 0 => match self.created(&mut job) {
                // The embedded runtime starts by a word to a socket, which needs no process.
                Ok(()) if self.setup.oci_runtime.is_none() => {
                    let mut arguments = self.arguments(&job, "start");
                    arguments.push(job.container.as_ref().into());
                    match oci::oci_main(arguments) {
                        0 => self.started(&job),
                        code => self.start_failed(&job, &job.reason(Ended { code, signal: None })),
                    }
                }
                Ok(()) => {
                    let mut arguments = self.arguments(&job, "start");
                    arguments.push(job.container.as_ref().into());
                    let null = || {
                        File::options()
                            .read(true)
                            .write(true)
                            .open("/dev/null")
                            .map(OwnedFd::from)
                    };
                    let called = (|| self.call(arguments, [null()?, null()?, null()?]))();
                    match called {
                        Ok(process) => {
                            job.kind = Kind::Start;
                            self.jobs.insert(process.as_raw(), job);
                        }
                        Err(error) => self.start_failed(&job, &error.to_string()),
                    }
                }
                Err(error) => self.start_failed(&job, &error.to_string()),
            },
            Kind::Start if ended.code == 0 => self.started(&job),
            Kind::Create | Kind::Start => self.start_failed(&job, &job.reason(ended)),
            Kind::Command => self.command_started(&job, ended),
        }
    }

    /// The container's process is there and waits.
    fn created(&mut self, job: &mut Job) -> io::Result<()> {
        let pid = job.pid()?;
        let Some(container) = self.containers.get_mut(&job.container) else {
            return Err(io::Error::other("the container is gone"));
        };
        container.record.pid = Some(pid);
        if self.early.contains_key(&pid) {
            return Err(io::Error::other("the container's process ended before it was started"));
        }
        if let Some(console) = &job.console {
            container.use_terminal(wire::receive_terminal(console)?)?;
        }
        Ok(())
    }

    fn started(&mut self, job: &Job) {
        let Some(container) = self.containers.get_mut(&job.container) else {
            return;
        };
        container.phase = Phase::Running;
        container.record.started_at = Some(Clock::system().now());
        let pid = container.record.pid.unwrap_or_default();
        self.publish(&job.container);
        self.reply(job.client, &Reply::Started { pid });
        if let Some(ended) = self.early.remove(&pid) {
            self.container_ended(&job.container.clone(), ended);
        } else if self.stopping.is_some() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn start_failed(&mut self, job: &Job, reason: &str) {
        let Some(container) = self.containers.get_mut(&job.container) else {
            return;
        };
        self.cgroups.signal(&container.request.cgroup, nix::libc::SIGKILL);
        container.phase = Phase::Exited;
        container.drain();
        let record = &mut container.record;
        let now = Clock::system().now();
        record.state = RecordState::Exited;
        record.pid = None;
        record.finished_at = Some(now);
        record.exit_code = Some(START_ERROR_CODE);
        record.reason = Some("StartError".to_owned());
        record.message = Some(reason.to_owned());
        self.publish(&job.container);
        self.fail(job.client, classify(reason), reason);
    }

    fn command_started(&mut self, job: &Job, ended: Ended) {
        if ended.code != 0 {
            let reason = job.reason(ended);
            return self.fail(job.client, classify(&reason), reason);
        }
        let started = job.pid().and_then(|pid| {
            let terminal = job.console.as_ref().map(wire::receive_terminal).transpose()?;
            Ok((pid, terminal))
        });
        let (pid, terminal) = match started {
            Ok(started) => started,
            Err(error) => return self.fail(job.client, ErrorKind::Failed, error.to_string()),
        };
        // Known before it is told, so that a client which is gone already has it killed.
        let over = self.early.remove(&pid);
        if over.is_none() {
            self.commands.insert(pid, job.client);
        }
        let descriptors: Vec<&OwnedFd> = terminal.iter().collect();
        if self.clients.contains_key(&job.client) {
            self.reply_with(job.client, &Reply::Started { pid }, &descriptors);
        } else {
            self.drop_client(job.client);
        }
        if let Some(ended) = over {
            self.finish_command(job.client, ended);
        }
    }

    pub(super) fn finish_command(&mut self, client: u64, ended: Ended) {
        self.reply(client, &Reply::Ended { code: ended.code });
    }
}

fn classify(reason: &str) -> ErrorKind {
    let missing = [
        "executable file not found",
        "no such file or directory",
        "permission denied",
        "is a directory",
    ];
    if reason.contains("exec: \"") && missing.iter().any(|text| reason.contains(text)) {
        ErrorKind::CommandNotFound
    } else {
        ErrorKind::StartFailed
    }
}

/// Listens where the path may be longer than a socket's address.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a socket needs a directory",
        ));
    };
    let _ = fs::remove_file(path);
    std::env::set_current_dir(directory)?;
    let listener = UnixListener::bind(name);
    std::env::set_current_dir("/")?;
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
