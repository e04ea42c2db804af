//! The actions that probes and lifecycle hooks are made of: run a command, fetch a URL, open a connection, ask a gRPC
//! health service. What the outcome means is the caller's.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use coracle_clock::Clock;
use coracle_runtime::{ContainerId, Error as RuntimeError, PodRuntime};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, HTTPHeader, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme, crypto};

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// It counts as a success, and whoever set it up should know of this.
    Warning(String),
    /// It ran and said no; or it could not reach what it asks.
    Failure(String),
    /// It could not be run at all.
    Unknown(String),
}

/// What an action acts on.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) clock: Clock,
    pub(crate) id: ContainerId,
    pub(crate) container: Arc<Container>,
    pub(crate) pod_ip: String,
}

/// As much output as an event can show.
const MOST_OUTPUT: usize = 10 * 1024;
/// So many are followed; what answers with yet another one answers.
const MOST_REDIRECTS: u32 = 10;

fn shorten(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_OUTPUT)]).into_owned()
}

impl Target {
    /// Runs a command in the container.
    pub(crate) async fn exec(&self, command: &[String], limit: Option<Duration>) -> Outcome {
        match self.runtime.exec_sync(&self.id, command, limit).await {
            Ok(output) if output.exit_code == 0 => Outcome::Success,
            Ok(mut output) => {
                output.stdout.append(&mut output.stderr);
                Outcome::Failure(shorten(&output.stdout))
            }
            Err(RuntimeError::ExecTimeout { limit, .. }) => Outcome::Failure(format!(
                "command timed out: {:?} timed out after {}s",
                command.join(" "),
                limit.as_secs()
            )),
            Err(error @ RuntimeError::CommandNotFound(_)) => Outcome::Failure(error.to_string()),
            Err(error) => Outcome::Unknown(error.chain()),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let named = ports
                    .filter(|p| p.name.as_deref() == Some(name))
                    .map(|p| p.container_port)
                    .next();
                named.or_else(|| name.parse().ok())
            }
        };
        number
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("couldn't find port {port:?} in container {}", self.container.name))
    }

    /// Whether a TCP connection can be opened.
    pub(crate) async fn tcp(&self, action: &TCPSocketAction, limit: Duration) -> Outcome {
        let port = match self.port(&action.port) {
            Ok(port) => port,
            Err(error) => return Outcome::Unknown(error),
        };
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&self.pod_ip);
        match self.clock.timeout(limit, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => Outcome::Success,
            Ok(Err(error)) => Outcome::Failure(dial(host, port, &error)),
            Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
        }
    }

    /// A GET; statuses from 200 to 399 are success, after redirects on the same host. Others are not followed, nor more
    /// than [`MOST_REDIRECTS`].
    pub(crate) async fn http(&self, action: &HTTPGetAction, limit: Duration) -> Outcome {
        let port = match self.port(&action.port) {
            Ok(port) => port,
            Err(error) => return Outcome::Unknown(error),
        };
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&self.pod_ip);
        let tls = action
            .scheme
            .as_deref()
            .is_some_and(|s| s.eq_ignore_ascii_case("https"));
        let mut path = action.path.clone().unwrap_or_default();
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{host}:{port}{path}");
        let fetch = async {
            let mut place = Place {
                host: host.to_owned(),
                port,
                tls,
                path,
            };
            let mut followed = 0;
            loop {
                let answer = get(&place, action).await?;
                if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                    return Ok::<_, String>(answer);
                }
                let location = answer.location.as_deref();
                let location = location.ok_or_else(|| format!("{} response missing Location header", answer.status))?;
                match place.redirected(location).filter(|_| followed < MOST_REDIRECTS) {
                    Some(next) => place = next,
                    None => return Ok(answer),
                }
                followed += 1;
            }
        };
        match self.clock.timeout(limit, fetch).await {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => Outcome::Success,
            Ok(Ok(answer)) if (300..400).contains(&answer.status) => Outcome::Warning(format!(
                "Probe terminated redirects, Response body: {}",
                shorten(&answer.body)
            )),
            Ok(Ok(answer)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
            Ok(Err(error)) => Outcome::Failure(format!("Get \"{url}\": {error}")),
            Err(_) => Outcome::Failure(format!(
                "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            )),
        }
    }

    /// `grpc.health.v1.Health/Check`.
    pub(crate) async fn grpc(&self, action: &GRPCAction, limit: Duration) -> Outcome {
        let Ok(port) = u16::try_from(action.port) else {
            return Outcome::Unknown(format!("port {} is out of range", action.port));
        };
        let service = action.service.clone().unwrap_or_default();
        match self
            .clock
            .timeout(
                limit,
                check_health(&self.pod_ip, port, &service, action.mode.as_deref() == Some("TLS")),
            )
            .await
        {
            Ok(Ok(1)) => Outcome::Success,
            Ok(Ok(status)) => {
                let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]
                    .get(usize::from(status))
                    .unwrap_or(&"?");
                Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
            }
            Ok(Err(error)) => Outcome::Failure(error),
            Err(_) => Outcome::Failure(format!(
                "timeout: failed to connect service \"{}:{port}\" within {}s",
                self.pod_ip,
                limit.as_secs()
            )),
        }
    }
}

fn dial(host: &str, port: u16, error: &std::io::Error) -> String {
    let cause = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {host}:{port}: {cause}")
}

/// Where a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    tls: bool,
    path: String,
}

impl Place {
    /// Where a redirect leads, if that is on the same host.
    fn redirected(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let full = match location.strip_prefix("//") {
            Some(rest) => format!("{}://{rest}", if self.tls { "https" } else { "http" }),
            None => location.to_owned(),
        };
        if let Some((scheme, _)) = full
            .split_once("://")
            .filter(|(scheme, _)| !scheme.contains(['/', '?']))
        {
            let uri: http::Uri = full.parse().ok()?;
            let tls = scheme.eq_ignore_ascii_case("https");
            let host = uri.host()?.trim_matches(['[', ']']);
            return (host == self.host).then(|| Self {
                host: self.host.clone(),
                port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
                tls,
                path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            });
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let path = match full.chars().next() {
            Some('/') => full,
            Some('?') => format!("{base}{full}"),
            _ => format!(
                "{}{full}",
                base.rsplit_once('/')
                    .map_or("/".into(), |(parent, _)| format!("{parent}/"))
            ),
        };
        Some(Self { path, ..self.clone() })
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: Bytes,
}

async fn get(place: &Place, action: &HTTPGetAction) -> Result<Answer, String> {
    let Place { host, port, tls, path } = place;
    let (host, port) = (host.as_str(), *port);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| dial(host, port, &e))?;
    let mut request = http::Request::get(path.as_str()).header("connection", "close");
    let set = |name: &str, value: &str, headers: &mut Vec<(String, String)>| headers.push((name.into(), value.into()));
    let mut headers: Vec<(String, String)> = Vec::new();
    let own = |name: &str| {
        action
            .http_headers
            .iter()
            .flatten()
            .any(|h| h.name.eq_ignore_ascii_case(name))
    };
    for (name, value) in [("user-agent", "kube-probe/1.37"), ("accept", "*/*")] {
        if !own(name) {
            set(name, value, &mut headers);
        }
    }
    if !own("host") {
        set("host", &format!("{host}:{port}"), &mut headers);
    }
    // These two can be left out, by an empty value.
    let left_out = |h: &HTTPHeader| {
        h.value.is_empty() && (h.name.eq_ignore_ascii_case("accept") || h.name.eq_ignore_ascii_case("user-agent"))
    };
    for header in action.http_headers.iter().flatten().filter(|h| !left_out(h)) {
        set(&header.name, &header.value, &mut headers);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
    let response = if *tls {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(trusting()?)
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())?;
        send(TokioIo::new(stream), request).await?
    } else {
        send(TokioIo::new(stream), request).await?
    };
    let status = response.status().as_u16();
    let location = response
        .headers()
        .get("location")
        .and_then(|l| l.to_str().ok())
        .map(str::to_owned);
    // The body is read up to a limit, as a client would.
    let body = Limited::new(response.into_body(), MOST_OUTPUT).collect().await;
    Ok(Answer {
        status,
        location,
        body: body.map(|body| body.to_bytes()).unwrap_or_default(),
    })
}

async fn send<T>(io: T, request: http::Request<Full<Bytes>>) -> Result<http::Response<hyper::body::Incoming>, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|e| match std::error::Error::source(&e) {
            Some(source) => format!("{e}: {source}"),
            None => e.to_string(),
        })
}

async fn http2<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
        .await
        .map_err(|e| format!("failed to connect service: {e}"))?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn check_health(host: &str, port: u16, service: &str, tls: bool) -> Result<u8, String> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| dial(host, port, &e))?;
    let mut sender = if tls {
        let mut config = trusting()?.as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = connecting
            .await
            .map_err(|e| format!("failed to connect service: {e}"))?;
        http2(stream).await?
    } else {
        http2(stream).await?
    };
    let length = u8::try_from(service.len()).map_err(|_| "the service's name is too long".to_owned())?;
    // HealthCheckRequest { service = 1 }, in a length-prefixed frame.
    let mut message = BytesMut::new();
    if length > 0 {
        message.put_u8(0x0a);
        if length >= 0x80 {
            message.put_u8(length & 0x7f | 0x80);
            message.put_u8(1);
        } else {
            message.put_u8(length);
        }
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or_default());
    frame.put_slice(&message);
    let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(frame.freeze()))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let head = response.headers().get("grpc-status").cloned();
    let body = Limited::new(response.into_body(), MOST_OUTPUT)
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    let trailer = body.trailers().and_then(|t| t.get("grpc-status")).cloned();
    match trailer.or(head).as_ref().map(|v| v.as_bytes()) {
        Some(b"0") | None => {}
        Some(b"12") => {
            return Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".into());
        }
        Some(code) => return Err(format!("rpc error: code = {}", String::from_utf8_lossy(code))),
    }
    // HealthCheckResponse { status = 1 }; an empty message is UNKNOWN.
    match body.to_bytes().get(5..) {
        Some([0x08, status, ..]) => Ok(*status),
        _ => Ok(0),
    }
}

fn trusting() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Probes do not verify: a pod's certificate is not made for the pod's address.
#[derive(Debug)]
struct AnyCertificate(Arc<crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "handler_tests.rs"]
mod tests;
