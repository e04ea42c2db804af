//! The one HTTPS endpoint of all nodes of the process, as a kubelet has it: it answers for logs, tells what the nodes' pods use
//! by their configuration, and says of everything that would need a process why there is none. Only bearers of a client certificate of the cluster's authority may call, and of
//! those the API server and administrators.

mod answer;
mod follow;
mod tls;
mod usage;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Clock;
use coracle_informer::{CancellationToken, Lister, SharedInformer};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config::Stages;
use crate::draw::Draw;

pub(crate) use follow::Followers;
pub(crate) use usage::Usages;

/// How the endpoint is served.
#[derive(Clone)]
pub struct Serving {
    /// Port 0 takes a free one. The nodes tell this address as theirs.
    pub listen: SocketAddr,
    /// The serving certificate (with its chain) and key, PEM.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// The authority that clients' certificates must be of, PEM.
    pub client_ca: Vec<u8>,
    /// Common names that may call, besides the group `system:masters`.
    pub allowed_users: Vec<String>,
}

/// Why the endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}; is the port taken?")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} is no address that others could reach the nodes at; listen on one of this machine's")]
    Unspecified(IpAddr),
    #[error("serving certificate, key or client authority: {0}")]
    Certificate(String),
}

/// A bound listener.
pub(crate) struct Listener {
    tcp: TcpListener,
    local: SocketAddr,
    tls: TlsAcceptor,
    allowed_users: Arc<[String]>,
}

/// How a pod lives, and its chances.
type Lives = Box<dyn Fn(&Pod) -> Option<(Stages, Draw)> + Send + Sync>;

/// What requests are answered from.
pub(crate) struct View {
    pub(crate) fleet: String,
    pub(crate) clock: Clock,
    pub(crate) pods: SharedInformer<Pod>,
    pub(crate) nodes: Lister<Node>,
    pub(crate) followers: Arc<Followers>,
    pub(crate) lives: Lives,
    pub(crate) usages: Usages,
}

pub(crate) async fn bind(serving: &Serving) -> Result<Listener, Error> {
    if serving.listen.ip().is_unspecified() {
        return Err(Error::Unspecified(serving.listen.ip()));
    }
    let tls = tls::acceptor(serving).map_err(Error::Certificate)?;
    let failed = |source| Error::Listen {
        address: serving.listen,
        source,
    };
    let tcp = TcpListener::bind(serving.listen).await.map_err(failed)?;
    let local = tcp.local_addr().map_err(failed)?;
    Ok(Listener {
        tcp,
        local,
        tls,
        allowed_users: serving.allowed_users.clone().into(),
    })
}

impl Listener {
    pub(crate) fn address(&self) -> IpAddr {
        self.local.ip()
    }

    pub(crate) fn port(&self) -> u16 {
        self.local.port()
    }

    /// Answers until `shutdown`.
    pub(crate) async fn serve(self, view: View, shutdown: CancellationToken) {
        let view = Arc::new(view);
        loop {
            let stream = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the fake nodes' endpoint was not accepted");
                        view.clock.sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = shutdown.cancelled() => return,
            };
            let (tls, view, allowed) = (self.tls.clone(), view.clone(), self.allowed_users.clone());
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
                let _ = stream.set_nodelay(true);
                let stream = match view.clock.timeout(Duration::from_secs(10), tls.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        return tracing::debug!(%error, "a TLS handshake with the fake nodes' endpoint failed");
                    }
                    Err(_) => return,
                };
                let may = tls::may_call(stream.get_ref().1, &allowed);
                let service = hyper::service::service_fn(move |request| answer::answer(view.clone(), request, may));
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(error, "a connection to the fake nodes' endpoint ended with an error");
                }
            }));
        }
    }
}
