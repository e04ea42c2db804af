//! Commands in running containers, and attaching to containers themselves.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;

use super::Engine;
use super::terminal::Terminal;
use crate::container::ContainerState;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::pod_runtime::{
    AttachConfig, AttachControl, AttachStreams, Attached, ExecConfig, ExecControl, ExecOutput, ExecStreams, Reader,
    Window, Writer,
};
use crate::shim::protocol::{Reply, Request};

/// Of a command's output, more is dropped.
const OUTPUT_LIMIT: usize = 16 << 20;
/// What a command left running in the background may keep the output open; nobody waits for it longer.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

impl Engine {
    pub(super) async fn run_command(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecStreams> {
        let entry = self.inner.container(id)?;
        entry.expect(ContainerState::Running, "running")?;
        let sandbox = entry.record.lock().sandbox.clone();
        let sandbox = self.inner.sandbox(&sandbox)?;
        let path = entry.directory.join("config.json");
        let specification: serde_json::Value =
            super::read_json(&path).ok_or_else(|| Error::Failed(format!("{} cannot be read", path.display())))?;
        let process = process(&specification, &config)?;
        let piped = !config.tty;
        let stdin = (piped && config.stdin).then(writer).transpose()?;
        let stdout = (piped && config.stdout).then(reader).transpose()?;
        let stderr = (piped && config.stderr).then(reader).transpose()?;
        let request = Request::Exec {
            container: id.to_string(),
            process,
            terminal: config.tty,
            stdin: stdin.is_some(),
            stdout: stdout.is_some(),
            stderr: stderr.is_some(),
        };
        let theirs = [
            stdin.as_ref().map(|s| &s.1),
            stdout.as_ref().map(|s| &s.1),
            stderr.as_ref().map(|s| &s.1),
        ];
        let theirs: Vec<&OwnedFd> = theirs.into_iter().flatten().collect();
        let (_, mut connection) = sandbox.client.open(&request, &theirs).await?;
        let terminal = connection.take_descriptor().map(Arc::new);
        let exit = Box::pin(async move {
            match connection.receive().await? {
                Some(Reply::Ended { code }) => Ok(code),
                // The shim's end is the command's.
                _ => Ok(137),
            }
        });
        let mut streams = ExecStreams {
            stdin: stdin.map(|(ours, _)| ours),
            stdout: stdout.map(|(ours, _)| ours),
            stderr: stderr.map(|(ours, _)| ours),
            control: ExecControl {
                window: terminal.clone().map(Window::Terminal),
                exit,
            },
        };
        if let Some(terminal) = terminal {
            let copy = || -> std::io::Result<Terminal> {
                let fd = terminal.try_clone()?;
                fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
                Terminal::new(fd)
            };
            let copy = || copy().map_err(Error::io("use the terminal of", id.as_str()));
            streams.stdout = Some(Box::new(copy()?));
            if config.stdin {
                streams.stdin = Some(Box::new(copy()?));
            }
        }
        Ok(streams)
    }

    pub(super) async fn run_to_end(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let config = ExecConfig {
            command: command.to_vec(),
            stdout: true,
            stderr: true,
            ..ExecConfig::default()
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let clock = self.inner.config.clock;
        let run = async {
            let mut streams = self.run_command(id, config).await?;
            let mut out = streams.stdout.take();
            let mut err = streams.stderr.take();
            let output = async {
                tokio::join!(collect(&mut out, &mut stdout), collect(&mut err, &mut stderr));
            };
            let mut output = std::pin::pin!(output);
            let mut exit = streams.control.exit;
            let mut over = false;
            let code = loop {
                tokio::select! {
                    code = &mut exit => break code?,
                    () = &mut output, if !over => over = true,
                }
            };
            if !over {
                let _ = clock.timeout(DRAIN_LIMIT, output).await;
            }
            Result::<i32>::Ok(code)
        };
        let result = match timeout {
            Some(limit) => clock.timeout(limit, run).await.map_err(|_| limit),
            None => Ok(run.await),
        };
        match result {
            Ok(code) => Ok(ExecOutput {
                exit_code: code?,
                stdout,
                stderr,
            }),
            // Letting go of the connection has killed the command.
            Err(limit) => Err(Error::ExecTimeout { limit, stdout, stderr }),
        }
    }

    pub(super) async fn attach_to(&self, id: &ContainerId, config: AttachConfig) -> Result<AttachStreams> {
        let entry = self.inner.container(id)?;
        entry.expect(ContainerState::Running, "running")?;
        let (sandbox, tty) = {
            let record = entry.record.lock();
            (record.sandbox.clone(), record.config.tty)
        };
        let sandbox = self.inner.sandbox(&sandbox)?;
        let stdin = config.stdin.then(writer).transpose()?;
        let stdout = config.stdout.then(reader).transpose()?;
        // A terminal has one output.
        let stderr = (config.stderr && !tty).then(reader).transpose()?;
        let request = Request::Attach {
            container: id.to_string(),
            stdin: stdin.is_some(),
            stdout: stdout.is_some(),
            stderr: stderr.is_some(),
        };
        let theirs = [
            stdin.as_ref().map(|s| &s.1),
            stdout.as_ref().map(|s| &s.1),
            stderr.as_ref().map(|s| &s.1),
        ];
        let theirs: Vec<&OwnedFd> = theirs.into_iter().flatten().collect();
        sandbox.client.open(&request, &theirs).await?;
        Ok(AttachStreams {
            stdin: stdin.map(|(ours, _)| ours),
            stdout: stdout.map(|(ours, _)| ours),
            stderr: stderr.map(|(ours, _)| ours),
            control: AttachControl(Attached::Shim {
                shim: sandbox.client.clone(),
                container: id.clone(),
            }),
        })
    }
}

/// The container's own process with another command.
fn process(specification: &serde_json::Value, config: &ExecConfig) -> Result<serde_json::Value> {
    if config.command.is_empty() {
        return Err(Error::InvalidConfig("no command to execute".to_owned()));
    }
    let mut process = specification["process"].clone();
    process["args"] = serde_json::json!(config.command);
    process["terminal"] = serde_json::json!(config.tty);
    if config.tty
        && let Some(environment) = process["env"].as_array_mut()
        && !environment
            .iter()
            .any(|entry| entry.as_str().is_some_and(|text| text.starts_with("TERM=")))
    {
        environment.push("TERM=xterm".into());
    }
    Ok(process)
}

async fn collect(source: &mut Option<Reader>, into: &mut Vec<u8>) {
    let Some(source) = source else { return };
    let mut chunk = vec![0; 32 << 10];
    while let Ok(count) = AsyncReadExt::read(source as &mut (dyn AsyncRead + Unpin + Send), &mut chunk).await {
        if count == 0 {
            return;
        }
        let room = OUTPUT_LIMIT.saturating_sub(into.len());
        into.extend_from_slice(&chunk[..count.min(room)]);
    }
}

/// A pipe of which the other side writes.
fn reader() -> Result<(Reader, OwnedFd)> {
    let make = || -> std::io::Result<(Reader, OwnedFd)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((Box::new(pipe::Receiver::from_owned_fd(ours)?), theirs))
    };
    make().map_err(|error| Error::Failed(format!("cannot make a pipe: {error}")))
}

/// A pipe of which the other side reads.
fn writer() -> Result<(Writer, OwnedFd)> {
    let make = || -> std::io::Result<(Writer, OwnedFd)> {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((Box::new(pipe::Sender::from_owned_fd(ours)?), theirs))
    };
    make().map_err(|error| Error::Failed(format!("cannot make a pipe: {error}")))
}
