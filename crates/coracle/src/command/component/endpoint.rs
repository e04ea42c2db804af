//! What a component in a process of its own serves, as upstream's does: `/metrics` for those whom the API server lets
//! read it, and `/healthz`, `/livez` and `/readyz` for everybody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use coracle_client::Client;
use coracle_client::access::{Access, Permission, bearer};
use coracle_clock::Clock;
use coracle_informer::CancellationToken;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::cli::Endpoint;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// The certificate and key that the flags name, or a pair that vouches for itself, as upstream's does.
fn certificate(args: &Endpoint) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    match (&args.tls_cert_file, &args.tls_private_key_file) {
        (Some(certificate), Some(key)) => Ok((read(certificate)?, read(key)?)),
        _ => {
            let names = ["localhost".to_owned(), args.bind_address.to_string()];
            let own = rcgen::generate_simple_self_signed(names)?;
            Ok((
                own.cert.pem().into_bytes(),
                own.signing_key.serialize_pem().into_bytes(),
            ))
        }
    }
}

fn acceptor(args: &Endpoint) -> anyhow::Result<TlsAcceptor> {
    let (certificate, key) = certificate(args)?;
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| anyhow!("the serving key: {e}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|e| anyhow!("the serving certificate: {e}"))?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Api {
    access: Access,
    registry: Registry,
}

/// Listens; answers until `shutdown`. Port 0 serves nothing.
pub async fn serve(
    args: &Endpoint,
    default_port: u16,
    client: Client,
    registry: Registry,
    clock: Clock,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let port = args.secure_port.unwrap_or(default_port);
    if port == 0 {
        return Ok(());
    }
    let tls = acceptor(args)?;
    let address = SocketAddr::new(args.bind_address, port);
    let tcp = TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve metrics and health on {address}; choose another --secure-port, or 0 for none")
    })?;
    tracing::info!(%address, "serving metrics and health");
    let api = Arc::new(Api {
        access: Access::new(client, clock),
        registry,
    });
    let until = shutdown.clone();
    tokio::spawn(until.run_until_cancelled_owned(async move {
        loop {
            let Ok((stream, _)) = tcp.accept().await else {
                clock.sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (tls, api) = (tls.clone(), api.clone());
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
                let Ok(Ok(stream)) = clock.timeout(HANDSHAKE, tls.accept(stream)).await else {
                    return;
                };
                let service = hyper::service::service_fn(move |request| answer(api.clone(), request));
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(error, "a connection to the endpoint ended with an error");
                }
            }));
        }
    }));
    Ok(())
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    if let Some(health) = health(&path, request.uri().query().unwrap_or_default()) {
        return Ok(plain(StatusCode::OK, health));
    }
    if let Err((status, why)) = check(&api.access, request.headers(), &path).await {
        return Ok(plain(status, why));
    }
    if path != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "404 page not found"));
    }
    let mut text = String::new();
    let mut response = match prometheus_client::encoding::text::encode(&mut text, &api.registry) {
        Ok(()) => plain(StatusCode::OK, text),
        Err(_) => return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written")),
    };
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// A process that answers is well: one that has lost its lease is no more.
fn health(path: &str, query: &str) -> Option<String> {
    let name = path.strip_prefix('/')?;
    let name = name.strip_suffix("/ping").unwrap_or(name);
    if !matches!(name, "healthz" | "livez" | "readyz") {
        return None;
    }
    let verbose = query.split('&').any(|p| p == "verbose" || p.starts_with("verbose="));
    Some(match verbose {
        true => format!("[+]ping ok\n{name} check passed\n"),
        false => "ok".to_owned(),
    })
}

/// Whether the API server knows the bearer of the token, and lets it read the path.
async fn check(access: &Access, headers: &HeaderMap, path: &str) -> Result<(), (StatusCode, String)> {
    let unknown = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
    let token = bearer(headers).ok_or_else(unknown)?;
    let user = access.user(token).await.map_err(failed)?.ok_or_else(unknown)?;
    let permission = Permission::Path {
        verb: "get",
        path: path.to_owned(),
    };
    match access.allows(&user, &permission).await.map_err(failed)? {
        true => Ok(()),
        false => {
            let name = user.username.unwrap_or_default();
            let text = format!("forbidden: User {name:?} cannot get path {path:?}");
            Err((StatusCode::FORBIDDEN, text))
        }
    }
}

fn failed(error: coracle_client::Error) -> (StatusCode, String) {
    tracing::warn!(%error, "the API server was not asked who may read metrics");
    let text = "the API server cannot be asked whether this is allowed".to_owned();
    (StatusCode::INTERNAL_SERVER_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_client::ListOptions;
    use coracle_testkit::{Options, TestCluster};
    use k8s_openapi::api::authentication::v1::TokenRequest;
    use k8s_openapi::api::core::v1::ServiceAccount;
    use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn health_is_told_under_upstreams_paths() {
        assert_eq!(health("/healthz", ""), Some("ok".into()));
        assert_eq!(health("/livez/ping", ""), Some("ok".into()));
        assert_eq!(
            health("/readyz", "verbose"),
            Some("[+]ping ok\nreadyz check passed\n".into())
        );
        assert_eq!(health("/metrics", ""), None);
        assert_eq!(health("/healthz/etcd", ""), None);
    }

    fn typed<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    /// The status and body of an answer.
    async fn get(port: u16, certificate: &CertificateDer<'static>, path: &str, token: Option<&str>) -> (u16, String) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .unwrap();
        let bearer = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The end of the connection may come without TLS's own.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn metrics_are_for_those_whom_the_api_server_lets_read_them_and_health_for_all() {
        let options = Options {
            controllers: false,
            scheduler: false,
            ..Options::default()
        };
        let cluster = TestCluster::with(options).await.unwrap();
        let client = &cluster.client;
        let accounts = client.namespaced::<ServiceAccount>("default");
        let mut tokens = Vec::new();
        for name in ["stranger", "reader"] {
            let account: ServiceAccount = typed(json!({"metadata": {"name": name}}));
            accounts.create(&account).await.unwrap();
            let wanted: TokenRequest = typed(json!({"spec": {"audiences": []}}));
            let made = accounts
                .subresource::<TokenRequest>("token")
                .create_at(name, &wanted)
                .await;
            tokens.push(made.unwrap().unwrap().status.as_ref().unwrap().token.clone().unwrap());
        }
        let [stranger, reader] = &tokens[..] else {
            panic!("two tokens");
        };

        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let args = Endpoint {
            bind_address: [127, 0, 0, 1].into(),
            secure_port: Some(port),
            tls_cert_file: Some(certificate),
            tls_private_key_file: Some(key),
        };
        let mut registry = Registry::default();
        coracle_scheduler::Metrics::default().register(&mut registry);
        let stop = CancellationToken::new();
        serve(&args, 0, client.clone(), registry, cluster.clock, stop.clone())
            .await
            .unwrap();
        let root = own.cert.der().clone();

        assert_eq!(get(port, &root, "/readyz", None).await, (200, "ok".into()));
        assert_eq!(get(port, &root, "/metrics", None).await.0, 401);
        assert_eq!(get(port, &root, "/metrics", Some("nonsense")).await.0, 401);
        let (code, why) = get(port, &root, "/metrics", Some(stranger)).await;
        assert_eq!(
            (code, why.contains("system:serviceaccount:default:stranger")),
            (403, true),
            "{why}"
        );
        let role: ClusterRole = typed(json!({"metadata": {"name": "metrics"},
            "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}));
        client.all::<ClusterRole>().create(&role).await.unwrap();
        let binding: ClusterRoleBinding = typed(json!({"metadata": {"name": "metrics"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "metrics"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "reader"}]}));
        client.all::<ClusterRoleBinding>().create(&binding).await.unwrap();
        // A list is of no moment before it was asked for, and the authorizer reads where lists are read.
        let bindings = client.all::<ClusterRoleBinding>();
        bindings.list(&ListOptions::default()).await.unwrap();
        let (code, metrics) = get(port, &root, "/metrics", Some(reader)).await;
        assert_eq!(code, 200, "{metrics}");
        assert!(metrics.contains("scheduler_preemption_attempts_total 0"), "{metrics}");
        stop.cancel();
        cluster.stop().await;
    }
}
