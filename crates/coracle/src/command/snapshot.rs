//! `coracle snapshot`: all objects at one moment, in one file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use coracle_clock::Clock;
use coracle_store::snapshot::{self, SnapshotInfo};

use super::target::block_on;
use crate::cli::{Snapshot, SnapshotVerb};
use crate::cluster::Cluster;
use crate::snapshots;

pub fn run(args: Snapshot) -> anyhow::Result<()> {
    let cluster = Cluster::at(&args.place)?;
    match args.verb {
        SnapshotVerb::Save { file } => save(&cluster, &file),
        SnapshotVerb::Verify { file } => {
            let info = block_on(async { Ok(snapshot::verify(&file).await?) })?;
            println!("{}: whole, {}", file.display(), told(&info));
            Ok(())
        }
        SnapshotVerb::Restore { file } => restore(&cluster, &file),
        SnapshotVerb::Ls => {
            for path in snapshots::list(&cluster.snapshot_dir())? {
                println!("{}", path.display());
            }
            Ok(())
        }
    }
}

fn told(info: &SnapshotInfo) -> String {
    format!(
        "{} keys at revision {}, taken {}, {} bytes",
        info.keys, info.revision, info.taken, info.bytes
    )
}

fn save(cluster: &Cluster, file: &Path) -> anyhow::Result<()> {
    if !cluster.dir.exists() {
        bail!(
            "there is no cluster in {}; say which with --data-dir",
            cluster.dir.display()
        );
    }
    let file = std::path::absolute(file)?;
    let saved = block_on(snapshots::save(cluster, &file))?;
    println!(
        "{}: {} keys at revision {}, {} bytes",
        file.display(),
        saved.keys,
        saved.revision,
        saved.bytes
    );
    Ok(())
}

fn restore(cluster: &Cluster, file: &Path) -> anyhow::Result<()> {
    if let Some(pid) = cluster.running()? {
        bail!("the cluster runs (process {pid}); stop it first with `coracle down`");
    }
    // Whatever is wrong with the snapshot is found before anything is moved.
    block_on(async { Ok(snapshot::verify(file).await?) })?;
    cluster.create()?;
    let _held = cluster.hold()?;
    let aside = set_aside(&cluster.store_dir())?;
    match block_on(async { Ok(snapshot::restore(file, &cluster.store_dir()).await?) }) {
        Ok(info) => {
            println!("restored {}", told(&info));
            if let Some(aside) = aside {
                println!("what was there before is in {}", aside.display());
            }
            Ok(())
        }
        Err(error) => {
            if let Some(aside) = aside {
                let _ = std::fs::remove_dir_all(cluster.store_dir());
                std::fs::rename(&aside, cluster.store_dir())
                    .with_context(|| format!("cannot move {} back", aside.display()))?;
            }
            Err(error)
        }
    }
}

/// Moves a store out of the way; where to.
fn set_aside(store: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !store.exists() {
        return Ok(None);
    }
    let stamp = Clock::system().now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
    let mut aside = store.as_os_str().to_owned();
    aside.push(format!(".before-{stamp}"));
    let aside = PathBuf::from(aside);
    std::fs::rename(store, &aside)
        .with_context(|| format!("cannot move {} to {}", store.display(), aside.display()))?;
    Ok(Some(aside))
}
