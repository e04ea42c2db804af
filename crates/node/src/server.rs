//! The agent's HTTPS API: logs, streams, pods, statistics and health, for those who may ask ([`access`]). Each path has its
//! own file; exec, attach and port-forward are in [`crate::streaming`].

mod access;
mod certificate;
mod logs;
mod router;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use coracle_client::Client;
use coracle_informer::{CancellationToken, Lister};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::machine::own_address;
use crate::pod::context::Context;
use crate::stats::Sampler;
use access::NodeAccess;

pub(crate) use router::{Body, Query, empty, plain, text};

/// How the agent's API is served.
#[derive(Clone)]
pub struct Serving {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The serving certificate (with its chain) and key, PEM.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// The authority that clients' certificates must be of, PEM.
    pub client_ca: Vec<u8>,
    /// The certificate is the node's own and of no authority: it is published on the Node for the API server to know it by.
    pub self_signed: bool,
    /// Another certificate, when the first has become old.
    pub renewals: Option<watch::Receiver<Certificate>>,
}

/// A serving certificate (with its chain) and key, PEM.
#[derive(Clone)]
pub struct Certificate {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl Serving {
    /// With a certificate of the node's own, kept in `dir`. The node's address is found by the default route when absent.
    pub fn self_signed(
        dir: &Path,
        node: &str,
        address: Option<IpAddr>,
        listen: SocketAddr,
        client_ca: Vec<u8>,
    ) -> Result<Self, Error> {
        let address = address.unwrap_or_else(own_address);
        let pair = certificate::own(dir, node, &[address, IpAddr::from([127, 0, 0, 1])])?;
        Ok(Self {
            listen,
            certificate: pair.certificate,
            key: pair.key,
            client_ca,
            self_signed: true,
            renewals: None,
        })
    }

    /// What the Node publishes of the certificate.
    pub(crate) fn published(&self) -> Result<Option<String>, Error> {
        let wanted = self.self_signed.then(|| certificate::fingerprint(&self.certificate));
        wanted.transpose()
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}; is the port taken?")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("serving certificate, key or client authority: {0}")]
    Certificate(String),
}

/// A bound listener.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
    serving: Serving,
}

/// Binds; requests are answered once [`Listener::serve`] runs.
pub(crate) async fn bind(serving: &Serving) -> Result<Listener, Error> {
    let tls = tls::acceptor(serving).map_err(Error::Certificate)?;
    let tcp = TcpListener::bind(serving.listen)
        .await
        .map_err(|source| Error::Listen {
            address: serving.listen,
            source,
        })?;
    Ok(Listener {
        tcp,
        tls,
        serving: serving.clone(),
    })
}

/// Waits for the next certificate; for ever when none will come.
async fn renewal(renewals: &mut Option<watch::Receiver<Certificate>>) -> Certificate {
    if let Some(receiver) = renewals
        && receiver.changed().await.is_ok()
    {
        return receiver.borrow_and_update().clone();
    }
    *renewals = None;
    std::future::pending().await
}

/// What requests are answered from.
pub(crate) struct Api {
    pub(crate) cx: Arc<Context>,
    pub(crate) pods: Lister<Pod>,
    pub(crate) stats: Arc<Sampler>,
    pub(crate) shutdown: CancellationToken,
    access: NodeAccess,
}

impl Api {
    pub(crate) fn new(
        cx: Arc<Context>,
        stats: Arc<Sampler>,
        pods: Lister<Pod>,
        client: Client,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            access: NodeAccess::new(client, cx.clock, cx.node().name.clone()),
            stats,
            cx,
            pods,
            shutdown,
        }
    }
}

impl Listener {
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// Shows another certificate to those who come from now on.
    fn take(&mut self, renewed: Certificate) {
        self.serving.certificate = renewed.certificate;
        self.serving.key = renewed.key;
        match tls::acceptor(&self.serving) {
            Ok(tls) => {
                self.tls = tls;
                tracing::info!("the serving certificate of the node's API was renewed");
            }
            Err(error) => tracing::error!(
                error,
                "the renewed serving certificate cannot be used; the old one stays"
            ),
        }
    }

    /// Answers until the agent's end.
    pub(crate) async fn serve(mut self, api: Api) {
        let api = Arc::new(api);
        loop {
            let stream = tokio::select! {
                renewed = renewal(&mut self.serving.renewals) => {
                    self.take(renewed);
                    continue;
                }
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the node's API was not accepted");
                        api.cx.clock.sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = api.shutdown.cancelled() => return,
            };
            let (tls, api) = (self.tls.clone(), api.clone());
            let shutdown = api.shutdown.clone();
            tokio::spawn(shutdown.run_until_cancelled_owned(async move {
                let _ = stream.set_nodelay(true);
                let limit = std::time::Duration::from_secs(10);
                let stream = match api.cx.clock.timeout(limit, tls.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake with the node's API failed"),
                    Err(_) => return,
                };
                let caller = Arc::new(tls::caller(stream.get_ref().1));
                let service = hyper::service::service_fn(move |request| {
                    let (api, caller) = (api.clone(), caller.clone());
                    async move {
                        let checked = api
                            .access
                            .check(
                                (*caller).as_ref(),
                                request.headers(),
                                request.method(),
                                request.uri().path(),
                            )
                            .await;
                        Ok::<_, std::convert::Infallible>(match checked {
                            Ok(()) => router::answer(&api, request).await,
                            Err((status, text)) => plain(status, text),
                        })
                    }
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                if let Err(error) = server
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await
                {
                    tracing::debug!(error, "a connection to the node's API ended with an error");
                }
            }));
        }
    }
}
