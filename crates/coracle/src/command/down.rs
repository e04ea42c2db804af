//! `coracle down`: stops the server and every container; with `--delete` the cluster is gone.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};

use super::progress::Progress;
use crate::cli::Down;
use crate::cluster::Cluster;
use crate::user_kubeconfig::{self, Merged};

/// How long a server may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(args: &Down) -> anyhow::Result<()> {
    let cluster = Cluster::at(&args.place)?;
    if !cluster.dir.exists() {
        bail!(
            "there is no cluster in {}; start one with `coracle up`",
            cluster.dir.display()
        );
    }
    let progress = Progress::new();
    if let Some(pid) = cluster.running()? {
        progress.step("stopping the server");
        kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}"))?;
        if !ended_within(&cluster, PATIENCE) {
            kill(pid, Signal::SIGKILL).with_context(|| format!("cannot kill process {pid}"))?;
            if !ended_within(&cluster, PATIENCE) {
                bail!("process {pid} does not end; see {}", cluster.log_file().display());
            }
        }
    }
    // Taken while containers are removed, so that no server starts meanwhile.
    let held = cluster.hold()?;
    if cluster.runtime_dir().exists() {
        progress.step("stopping containers");
        super::container::remove_all(&cluster)?;
    }
    if args.delete {
        progress.step("deleting the cluster");
        forget_context(&cluster)?;
        drop(held);
        std::fs::remove_dir_all(&cluster.dir).with_context(|| format!("cannot delete {}", cluster.dir.display()))?;
        progress.done("cluster deleted");
    } else {
        drop(held);
        progress.done("cluster stopped; its objects are kept (start it again with `coracle up`)");
    }
    progress.clear();
    Ok(())
}

fn ended_within(cluster: &Cluster, limit: Duration) -> bool {
    let (sender, receiver) = mpsc::sync_channel(1);
    let cluster = cluster.clone();
    std::thread::spawn(move || {
        let _ = sender.send(cluster.wait_for_end());
    });
    matches!(receiver.recv_timeout(limit), Ok(Ok(())))
}

fn forget_context(cluster: &Cluster) -> anyhow::Result<()> {
    let Ok(bytes) = std::fs::read(cluster.context_file()) else {
        return Ok(());
    };
    let merged: Merged = serde_json::from_slice(&bytes).context("the note of the kubeconfig context is damaged")?;
    user_kubeconfig::remove(&merged.file, &merged.name)
}
