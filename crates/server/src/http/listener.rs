//! The listening socket: accepts connections, speaks TLS, serves HTTP/1.1 and HTTP/2 on each, and lets requests finish at
//! shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::{Peer, handle};
use crate::authn::certificate;
use crate::core::Core;
use crate::pki::Pki;
use crate::pki::renewal::Current;

const HEADER_BYTES: usize = 1 << 20;
const STREAMS: u32 = 1000;
/// How long requests may take to finish at shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// The server's side of TLS: its certificate, and the CA that vouches for clients' ones.
pub(crate) fn tls_config(pki: &Pki) -> Result<rustls::ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in pki.ca.chain() {
        roots
            .add(certificate)
            .map_err(|e| format!("the CA certificate cannot be used: {e}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| format!("the CA cannot vouch for clients: {e}"))?;
    let key = pki
        .serving
        .private_key()
        .ok_or("the serving key cannot be read: remove it, and it is made again")?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(pki.serving.chain(), key)
        .map_err(|e| format!("the serving certificate cannot be used: {e}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts until shutdown, then waits for the connections.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, current: Arc<Current>) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = core.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let acceptor = TlsAcceptor::from(current.tls.load_full());
                connections.spawn(connection(core.clone(), acceptor, socket, peer));
            }
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                core.clock.sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    if core.clock.timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections were cut off at shutdown");
    }
}

async fn connection(core: Arc<Core>, acceptor: TlsAcceptor, socket: TcpStream, peer: SocketAddr) {
    let _ = socket.set_nodelay(true);
    let stream = match core.clock.timeout(core.limits.head_time, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let peer = Peer {
        certificate: shown.and_then(certificate::user).map(Arc::new),
        local: peer.ip().is_loopback(),
    };
    let service = {
        let core = core.clone();
        service_fn(move |request| {
            let (core, peer) = (core.clone(), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(handle(core, peer, request).await) }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(core.limits.head_time)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = core.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}
