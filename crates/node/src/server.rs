//! The agent's HTTPS API: logs, pods, health, for the API server and for nobody else. Who may call is decided in
//! [`tls`]; each path has its own file.

mod logs;
mod router;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use coracle_informer::{CancellationToken, Lister};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::pod::context::Context;

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
    /// Common names that may call, besides the group `system:masters`.
    pub allowed_users: Vec<String>,
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
    allowed_users: Arc<[String]>,
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
        allowed_users: serving.allowed_users.clone().into(),
    })
}

/// What requests are answered from.
pub(crate) struct Api {
    pub(crate) cx: Arc<Context>,
    pub(crate) pods: Lister<Pod>,
}

impl Listener {
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// Answers until `shutdown`.
    pub(crate) async fn serve(self, cx: Arc<Context>, pods: Lister<Pod>, shutdown: CancellationToken) {
        let api = Arc::new(Api { cx, pods });
        loop {
            let stream = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the node's API was not accepted");
                        api.cx.clock.sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = shutdown.cancelled() => return,
            };
            let (tls, api, allowed) = (self.tls.clone(), api.clone(), self.allowed_users.clone());
            let shutdown = shutdown.clone();
            tokio::spawn(shutdown.run_until_cancelled_owned(async move {
                let _ = stream.set_nodelay(true);
                let limit = std::time::Duration::from_secs(10);
                let stream = match api.cx.clock.timeout(limit, tls.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake with the node's API failed"),
                    Err(_) => return,
                };
                let caller = tls::caller(stream.get_ref().1);
                let may = caller.as_ref().is_some_and(|c| c.may_call(&allowed));
                let service = hyper::service::service_fn(move |request| router::answer(api.clone(), request, may));
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
