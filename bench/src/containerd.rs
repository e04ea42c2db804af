//! A containerd of this tool's own, to be compared with: Debian's package, on an empty directory.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::process::said;

/// Ends with this.
pub struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Containerd {
    pub async fn start(directory: &TempDir) -> anyhow::Result<Self> {
        let (path, config) = (directory.path().display(), directory.path().join("containerd.toml"));
        let text = format!(
            "version = 2\nroot = \"{path}/containerd\"\nstate = \"{path}/state\"\n[grpc]\naddress = \"{path}/c.sock\"\n[ttrpc]\naddress = \"{path}/t.sock\"\n"
        );
        let text =
            format!("disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n{text}");
        std::fs::write(&config, text)?;
        let mut child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run containerd")?;
        let log = child.stderr.take().context("containerd has no output")?;
        let mut lines = BufReader::new(log).lines();
        while !lines
            .next_line()
            .await?
            .context("containerd ended before it served")?
            .contains("successfully booted")
        {}
        // Somebody has to go on reading.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            socket: directory.path().join("c.sock"),
        })
    }

    /// Pulls and unpacks.
    pub async fn pull(&self, reference: &str) -> anyhow::Result<()> {
        self.ctr(&["images", "pull", "--plain-http", reference]).await
    }

    /// With all that was unpacked.
    pub async fn remove(&self, reference: &str) -> anyhow::Result<()> {
        self.ctr(&["images", "remove", "--sync", reference]).await
    }

    async fn ctr(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(arguments);
        said("ctr", command.output().await).map(drop)
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}
