//! Fake nodes for a server that has none: `coracle fake-node` beside it. Also how fake pods live in every row: they start
//! and end at once, so that what is measured is the control plane.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use coracle_client::{Client, Config, DeleteOptions, ListOptions};
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::Node;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::foreign::Foreign;
use super::{START_LIMIT, is_ready};

const STAGES: &str = "rules:\n- match: {ownerKind: Job}\n  create: 0\n  run: 0\n- create: 0\n  terminate: 0\n";
const LABEL: &str = "fake.coracle.io/fleet";

/// Writes how fake pods live.
pub fn write_stages(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("stages.yaml");
    std::fs::write(&path, STAGES).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

pub struct Fleet {
    child: Child,
    name: String,
    _dir: TempDir,
}

impl Fleet {
    pub async fn start(binary: &Path, foreign: &Foreign, count: u32) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let stages = write_stages(dir.path())?;
        let name = format!("bench-{}", std::process::id());
        let mut command = Command::new(binary);
        command.args([
            "fake-node",
            "--log",
            "error",
            "--name",
            &name,
            "--nodes",
            &count.to_string(),
        ]);
        command.arg("--fake-stages").arg(stages);
        let config = match &foreign.kubeconfig {
            Some(path) => {
                command.arg("--kubeconfig").arg(path);
                Config::from_kubeconfig(path, None)?
            }
            None => Config::infer()?,
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run coracle fake-node")?;
        let fleet = Self { child, name, _dir: dir };
        let client = Client::connect(config, Clock::system())?;
        let ready = fleet.ready(&client, count as usize);
        let done = Clock::system().timeout(START_LIMIT, ready).await;
        done.context("the fake nodes are not Ready")??;
        Ok(fleet)
    }

    fn select(&self) -> ListOptions {
        ListOptions {
            label_selector: format!("{LABEL}={}", self.name),
            ..ListOptions::default()
        }
    }

    async fn ready(&self, client: &Client, count: usize) -> anyhow::Result<()> {
        loop {
            let nodes = client.all::<Node>().list(&self.select()).await?.items;
            if nodes.iter().filter(|n| is_ready(n)).count() >= count {
                return Ok(());
            }
            Clock::system().sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Ends the process and deletes its nodes.
    pub async fn end(mut self, client: &Client) -> anyhow::Result<()> {
        self.child.kill().await?;
        let nodes = client.all::<Node>();
        nodes
            .delete_collection(&self.select(), &DeleteOptions::default())
            .await?;
        Ok(())
    }
}
