//! Where a cluster keeps its objects: the embedded engine in its directory, or etcd.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use coracle_clock::Clock;
use coracle_store::{Embedded, EmbeddedOptions, Etcd, EtcdOptions, Store};

use crate::cli::{StoreFlags, StoreTls};
use crate::cluster::Cluster;

/// Opens what the flags name.
pub async fn open(cluster: &Cluster, flags: &StoreFlags, clock: Clock) -> anyhow::Result<Arc<dyn Store>> {
    if flags.store.is_empty() {
        return Ok(Arc::new(embedded(&cluster.store_dir(), clock).await?));
    }
    let tls = StoreTls {
        ca: flags.store_ca.clone(),
        cert: flags.store_cert.clone(),
        key: flags.store_key.clone(),
    };
    Ok(Arc::new(etcd(&flags.store, &tls, clock).await?))
}

pub async fn embedded(directory: &Path, clock: Clock) -> anyhow::Result<Embedded> {
    let options = EmbeddedOptions {
        clock,
        ..EmbeddedOptions::default()
    };
    Embedded::open(directory, options)
        .await
        .with_context(|| format!("cannot open the store in {}", directory.display()))
}

pub async fn etcd(endpoints: &[String], tls: &StoreTls, clock: Clock) -> anyhow::Result<Etcd> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut options = EtcdOptions::new(endpoints.iter().map(|e| e.trim_end_matches('/').to_owned()).collect());
    options.clock = clock;
    options.ca = tls.ca.as_deref().map(read).transpose()?;
    options.identity = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
        _ => None,
    };
    Ok(Etcd::connect(options).await?)
}

/// Whether the words name an etcd and not a directory.
pub fn is_etcd(words: &str) -> bool {
    words.starts_with("http://") || words.starts_with("https://")
}
