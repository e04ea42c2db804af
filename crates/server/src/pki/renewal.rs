//! Certificates and keys are renewed while the server runs, and taken into use at once: new connections see them, and
//! those that are open go on.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use coracle_clock::Clock;
use tokio::sync::watch;

use super::{Pki, prepare};
use crate::core::Core;
use crate::dial::NodeClient;
use crate::http::listener;
use crate::options::ServerOptions;

/// How long it waits at most before it looks again: a machine that slept has lost time.
const LOOK_EVERY: Duration = Duration::from_secs(12 * 3600);

/// What the server shows and trusts at the moment.
pub(crate) struct Current {
    pub pki: ArcSwap<Pki>,
    pub tls: ArcSwap<rustls::ServerConfig>,
    /// How often it has changed.
    pub renewed: watch::Sender<u64>,
}

impl Current {
    pub fn new(pki: Pki) -> Result<Arc<Self>, String> {
        let tls = listener::tls_config(&pki)?;
        Ok(Arc::new(Self {
            pki: ArcSwap::from_pointee(pki),
            tls: ArcSwap::from_pointee(tls),
            renewed: watch::Sender::new(0),
        }))
    }
}

/// Renews until shutdown.
pub(crate) async fn run(core: Arc<Core>, current: Arc<Current>, options: ServerOptions) {
    let mut wait = until_due(&current.pki.load(), core.clock);
    loop {
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = core.clock.sleep(wait.min(LOOK_EVERY)) => {}
        }
        if let Err(error) = renew(&core, &current, &options).await {
            tracing::error!(
                error,
                "certificates could not be renewed; it is tried again in half a day"
            );
        }
        wait = until_due(&current.pki.load(), core.clock);
        if wait.is_zero() {
            // What is due and was not renewed is not renewed by trying at once.
            wait = LOOK_EVERY;
        }
    }
}

fn until_due(pki: &Pki, clock: Clock) -> Duration {
    let due = pki.renewal_time().unwrap_or_else(|| clock.now());
    Duration::try_from(due.duration_since(clock.now())).unwrap_or_default()
}

/// Reads the directory again, which renews what is due, and swaps what has changed.
async fn renew(core: &Arc<Core>, current: &Current, options: &ServerOptions) -> Result<(), String> {
    let options = options.clone();
    let read = tokio::task::spawn_blocking(move || prepare(&options)).await;
    let pki = read.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let old = current.pki.load_full();
    let same = old.serving.certificate == pki.serving.certificate
        && old.ca.certificate() == pki.ca.certificate()
        && old.kubelet_client.certificate == pki.kubelet_client.certificate
        && old.admin.certificate == pki.admin.certificate
        && old.token_keys.public == pki.token_keys.public;
    if same {
        return Ok(());
    }
    let tls = listener::tls_config(&pki)?;
    let nodes = NodeClient::new(&pki)?;
    core.tokens.set_keys(&pki.token_keys)?;
    core.nodes.store(Arc::new(nodes));
    current.tls.store(Arc::new(tls));
    current.pki.store(Arc::new(pki));
    current.renewed.send_modify(|n| *n += 1);
    tracing::info!("certificates were renewed");
    Ok(())
}
