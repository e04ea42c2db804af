//! A server of our own: the `coracle` binary on an empty directory, stopped and deleted at the end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use coracle_client::{Client, Config, ListOptions};
use coracle_clock::{Clock, Instant};
use k8s_openapi::api::core::v1::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{Nodes, START_LIMIT, Unavailable, fleet, is_ready};

/// How long a start took, as a client saw it.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// From starting the process until `/readyz` answered.
    pub api: Duration,
    /// Until all nodes that were asked for were Ready.
    pub all: Duration,
}

pub struct Own {
    binary: PathBuf,
    dir: TempDir,
    nodes: Nodes,
    flags: Vec<String>,
    child: Option<Child>,
}

impl Own {
    /// Room for a server; [`start`](Self::start) runs it.
    pub fn prepare(binary: &Path, data_root: &Path, nodes: Nodes) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("coracle-bench-")
            .tempdir_in(data_root)
            .with_context(|| format!("cannot make a directory in {}", data_root.display()))?;
        let mut flags: Vec<String> = Vec::new();
        match nodes {
            Nodes::Any => flags.push("--no-node".into()),
            Nodes::Fake(count) => {
                let stages = fleet::write_stages(dir.path())?;
                flags.extend(["--no-node".into(), "--fake-nodes".into(), count.to_string()]);
                flags.extend(["--fake-stages".into(), stages.display().to_string()]);
            }
            Nodes::Real if !nix::unistd::geteuid().is_root() => {
                return Unavailable::because("needs root, to run containers");
            }
            Nodes::Real => {}
        }
        Ok(Self {
            binary: binary.to_owned(),
            dir,
            nodes,
            flags,
            child: None,
        })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("admin.kubeconfig")
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.data().join("runtime/sandboxes")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    pub async fn start(&mut self) -> anyhow::Result<Started> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let started = Clock::system().instant();
        let mut child = Command::new(&self.binary)
            .args(["server", "--port", "0", "--log", "warn", "--data-dir"])
            .arg(self.data())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        self.child = Some(child);
        let up = self.follow(started, BufReader::new(stdout).lines());
        match Clock::system().timeout(START_LIMIT, up).await {
            Ok(Ok(times)) => Ok(times),
            Ok(Err(error)) => Err(error.context(self.last_lines())),
            Err(_) => bail!("not up within {START_LIMIT:?}: {}", self.last_lines()),
        }
    }

    /// The server says when to look; what counts is what a client then sees.
    async fn follow(&self, started: Instant, mut lines: Lines<BufReader<ChildStdout>>) -> anyhow::Result<Started> {
        wait_for(&mut lines, |line| line.starts_with("api ")).await?;
        let config = Config::from_kubeconfig(&self.kubeconfig(), None)?;
        let client = Client::connect(config, Clock::system())?;
        client.raw("/readyz", "*/*").await.context("/readyz")?;
        let api = started.elapsed();
        wait_for(&mut lines, |line| line == "ready").await?;
        if self.nodes != Nodes::Any {
            let nodes = client.all::<Node>().list(&ListOptions::default()).await?.items;
            if nodes.is_empty() || !nodes.iter().all(|n| is_ready(n)) {
                bail!("the server says that it is ready, and not all of its nodes are");
            }
        }
        Ok(Started {
            api,
            all: started.elapsed(),
        })
    }

    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the server's last words: {}",
            lines[lines.len().saturating_sub(5)..].join(" | ")
        )
    }

    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGTERM).await
    }

    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGKILL).await
    }

    async fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take()
            && let Some(pid) = child.id()
        {
            kill(Pid::from_raw(i32::try_from(pid)?), signal).context("cannot end the server")?;
            child.wait().await?;
        }
        Ok(())
    }

    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        self.coracle(&["image", "import", &archive.display().to_string()]).await
    }

    /// Runs a subcommand on this cluster.
    pub async fn coracle(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .env("CORACLE_DATA_DIR", self.data())
            .output()
            .await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("coracle {}: {}", arguments.join(" "), said.trim());
        }
        Ok(())
    }

    /// Stops the server, and deletes it with its containers.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.stop().await
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Containers outlive their server, also one that is dropped because its row failed.
        if self.nodes == Nodes::Real {
            let down = std::process::Command::new(&self.binary)
                .args(["down", "--delete"])
                .env("CORACLE_DATA_DIR", self.data())
                .output();
            match down {
                Ok(output) if output.status.success() => {}
                Ok(output) => eprintln!("coracle down: {}", String::from_utf8_lossy(&output.stderr).trim()),
                Err(error) => eprintln!("coracle down: {error}"),
            }
        }
    }
}

async fn wait_for(lines: &mut Lines<BufReader<ChildStdout>>, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    while let Some(line) = lines.next_line().await? {
        if wanted(&line) {
            return Ok(());
        }
    }
    bail!("the server ended before it was ready")
}
