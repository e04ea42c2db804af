//! What outside of the API server goes by its certificates and keys is brought up to date when they are renewed: the
//! administrator's kubeconfig, the context in the user's, the controllers' signing key, the node's serving certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use coracle_clock::Clock;
use coracle_controllers::keys::TokenKey;
use coracle_node::Certificate;
use coracle_server::{Credentials, Pair, PkiDir};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, write_private};
use crate::user_kubeconfig;

/// How often the node's certificate is looked at: it is renewed when a third of its life is left.
const LOOK_EVERY: Duration = Duration::from_secs(12 * 3600);

/// Follows the server's renewals until shutdown.
pub async fn follow(
    mut credentials: Credentials,
    cluster: Cluster,
    token_key: Arc<TokenKey>,
    shutdown: CancellationToken,
) {
    while let Some(Some(())) = shutdown.run_until_cancelled(credentials.renewed()).await {
        if let Err(error) = kubeconfigs(&cluster, &credentials.kubeconfig()) {
            tracing::error!(
                error = format!("{error:#}"),
                "the renewed kubeconfig could not be written"
            );
        }
        match TokenKey::from_pkcs8(&credentials.token_key()) {
            Ok(key) => token_key.replace(key),
            Err(error) => tracing::error!(%error, "the controllers keep their old service account key"),
        }
    }
}

/// Writes the cluster's own kubeconfig, and the context that `up` has merged into the user's, if that is still there.
fn kubeconfigs(cluster: &Cluster, text: &str) -> anyhow::Result<()> {
    write_private(&cluster.admin_kubeconfig(), text)?;
    let Ok(noted) = std::fs::read(cluster.context_file()) else {
        return Ok(());
    };
    let merged: user_kubeconfig::Merged =
        serde_json::from_slice(&noted).context("the note of the context is damaged")?;
    let admin = serde_saphyr::from_str(text).context("the kubeconfig cannot be read back")?;
    user_kubeconfig::refresh(&merged.file, &admin, &merged.name)
}

/// What the node's certificate is for.
pub struct NodeNames {
    pub user: String,
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

impl NodeNames {
    /// The certificate in the directory, made anew when there is none or it nears its end.
    pub fn certificate(&self, pki: &PkiDir) -> anyhow::Result<Pair> {
        let names = std::slice::from_ref(&self.name);
        Ok(pki.serving("kubelet", &self.user, names, &self.addresses)?)
    }
}

/// Renews the node's serving certificate until shutdown, and hands it on when it is another one.
pub async fn keep_node_certificate(
    pki: PkiDir,
    names: NodeNames,
    current: watch::Sender<Certificate>,
    clock: Clock,
    shutdown: CancellationToken,
) {
    while shutdown.run_until_cancelled(clock.sleep(LOOK_EVERY)).await.is_some() {
        match names.certificate(&pki) {
            Ok(pair) => {
                current.send_if_modified(|held| {
                    let is_new = held.certificate != pair.certificate.as_bytes();
                    if is_new {
                        *held = of_pair(pair);
                    }
                    is_new
                });
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the node's certificate could not be renewed; it is tried again in half a day"
            ),
        }
    }
}

pub fn of_pair(pair: Pair) -> Certificate {
    Certificate {
        certificate: pair.certificate.into_bytes(),
        key: pair.key.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_nodes_certificate_is_renewed_long_before_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let pki = PkiDir::new(dir.path(), clock);
        let names = NodeNames {
            user: "system:node:a".into(),
            name: "a".into(),
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
        };
        let first = names.certificate(&pki).unwrap();
        assert_eq!(names.certificate(&pki).unwrap().certificate, first.certificate);
        let (sender, mut receiver) = watch::channel(of_pair(first.clone()));
        let shutdown = CancellationToken::new();
        tokio::spawn(keep_node_certificate(pki, names, sender, clock, shutdown.clone()));
        let year = Duration::from_secs(365 * 86_400);
        clock
            .timeout(year, receiver.changed())
            .await
            .expect("it was not renewed")
            .unwrap();
        assert_ne!(receiver.borrow().certificate, first.certificate.as_bytes());
        shutdown.cancel();
    }
}
