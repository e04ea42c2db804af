//! `coracle store copy`: moves a cluster's objects between engines.

use std::path::Path;

use anyhow::{Context, bail};
use coracle_clock::Clock;
use coracle_store::{ListOptions, Store, Txn, TxnResult, snapshot};

use super::progress::Progress;
use super::target::block_on;
use crate::cli::{Place, StoreArgs, StoreTls, StoreVerb};
use crate::cluster::Cluster;
use crate::store::{embedded, etcd, is_etcd};

/// Keys read at a time.
const PAGE: usize = 500;
/// Everything the API server stores is below this prefix.
const ROOT: &str = "/registry/";

pub fn run(args: StoreArgs) -> anyhow::Result<()> {
    let StoreVerb::Copy { from, to, tls } = args.verb;
    let copied = block_on(copy(&from, &to, &tls))?;
    println!("copied {copied} keys from {from} to {to}");
    Ok(())
}

async fn copy(from: &str, to: &str, tls: &StoreTls) -> anyhow::Result<u64> {
    let clock = Clock::system();
    let source = open(from, tls, clock).await?;
    if is_etcd(to) {
        let target = etcd(&urls(to), tls, clock).await?;
        return into_etcd(source.as_ref(), &target, to).await;
    }
    let cluster = stopped(to)?;
    if cluster.store_dir().exists() {
        bail!(
            "{} has a store already; copy into a directory without one, or move it away",
            cluster.dir.display()
        );
    }
    cluster.create()?;
    let _held = cluster.hold()?;
    // By a snapshot, so that revisions go on above those of the source.
    let file = cluster.dir.join("copy.snapshot");
    snapshot::save(source.as_ref(), &file, clock).await?;
    let restored = snapshot::restore(&file, &cluster.store_dir()).await;
    std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(restored?.keys)
}

fn urls(words: &str) -> Vec<String> {
    words.split(',').map(|url| url.trim().to_owned()).collect()
}

/// The cluster of a directory, which nobody may be using.
fn stopped(dir: &str) -> anyhow::Result<Cluster> {
    let cluster = Cluster::at(&Place {
        data_dir: Some(dir.into()),
    })?;
    if let Some(pid) = cluster.running()? {
        bail!(
            "the cluster in {} runs (process {pid}); stop it first with `coracle down`",
            cluster.dir.display()
        );
    }
    Ok(cluster)
}

async fn open(words: &str, tls: &StoreTls, clock: Clock) -> anyhow::Result<Box<dyn Store>> {
    if is_etcd(words) {
        return Ok(Box::new(etcd(&urls(words), tls, clock).await?));
    }
    let cluster = stopped(words)?;
    if !Path::exists(&cluster.store_dir()) {
        bail!("there is no store in {}", cluster.dir.display());
    }
    Ok(Box::new(embedded(&cluster.store_dir(), clock).await?))
}

/// Creates every key of the source, as it is at one revision, in an etcd that has none of ours.
async fn into_etcd(source: &dyn Store, target: &dyn Store, name: &str) -> anyhow::Result<u64> {
    let there = target
        .list(ListOptions {
            prefix: ROOT.into(),
            limit: 1,
            ..ListOptions::default()
        })
        .await?;
    if !there.items.is_empty() {
        bail!("{name} has objects already; copy into an etcd without any");
    }
    let progress = Progress::new();
    let mut options = ListOptions {
        prefix: ROOT.into(),
        limit: PAGE,
        ..ListOptions::default()
    };
    let mut copied = 0;
    loop {
        let page = source.list(options.clone()).await?;
        options.revision = Some(page.revision);
        for kv in &page.items {
            match target.txn(Txn::create(&*kv.key, kv.value.clone())).await? {
                TxnResult::Committed { .. } => copied += 1,
                TxnResult::Conflict { .. } => bail!("somebody else writes to {name}: {} appeared there", kv.key),
            }
        }
        progress.step(&format!("{copied} keys"));
        match page.items.last() {
            Some(last) if page.more => options.after = Some(last.key.to_string()),
            _ => break,
        }
    }
    progress.clear();
    Ok(copied)
}
