//! One connection to the server, without a pool: HTTP/2 (as Kubernetes' clients speak it) or HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, Bytes};
use coracle_client::{Client, Config};
use coracle_clock::Clock;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Prepared;

/// How often a request that the server puts off is sent again.
const PUT_OFF: u32 = 20;
/// How much of a refusal is told.
const SHOWN: usize = 300;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Where the server is and who we are.
#[derive(Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    authority: String,
    /// In front of every path.
    prefix: String,
    tls: Option<(tokio_rustls::TlsConnector, ServerName<'static>)>,
    headers: HeaderMap,
    http2: bool,
}

impl Endpoint {
    pub async fn new(config: &Config, client: &Client, http2: bool) -> anyhow::Result<Self> {
        let uri: Uri = config.server.parse().context("the server's URL cannot be read")?;
        let host = uri.host().context("the server's URL has no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure {
            let mut tls = config.tls()?;
            tls.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
            let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name).context("the server's name cannot be in a certificate")?;
            Some((tokio_rustls::TlsConnector::from(Arc::new(tls)), name))
        } else {
            None
        };
        let mut headers = client.identity().await?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("coracle-bench"));
        Ok(Self {
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host,
            tls,
            headers,
            http2,
        })
    }

    /// The same over HTTP/2, on which one connection carries many watches; as it was where there is no TLS to agree on it.
    pub fn multiplexed(&self) -> anyhow::Result<Self> {
        let mut other = self.clone();
        if let Some((connector, name)) = &self.tls {
            let mut tls = connector.config().as_ref().clone();
            tls.alpn_protocols = vec![b"h2".to_vec()];
            other.tls = Some((tokio_rustls::TlsConnector::from(Arc::new(tls)), name.clone()));
            other.http2 = true;
        }
        Ok(other)
    }

    pub fn is_multiplexed(&self) -> bool {
        self.http2
    }

    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.with_context(|| format!("cannot connect to {}", self.authority))?;
        tcp.set_nodelay(true)?;
        let sender = match &self.tls {
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await;
                self.speak(stream.with_context(|| format!("no TLS with {}", self.authority))?)
                    .await?
            }
            None => self.speak(tcp).await?,
        };
        Ok(Connection {
            sender,
            endpoint: self.clone(),
        })
    }

    async fn speak<S>(&self, stream: S) -> anyhow::Result<Sender>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        // The connection ends with its sender; how is seen by who sends.
        if self.http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(stream)
                .await?;
            tokio::spawn(connection);
            Ok(Sender::Two(sender))
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Ok(Sender::One(sender))
        }
    }
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

pub struct Connection {
    sender: Sender,
    endpoint: Endpoint,
}

impl Connection {
    /// Sends and reads the whole answer, which is dropped.
    pub async fn call(&mut self, request: &Prepared) -> anyhow::Result<()> {
        let mut body = self.open(request).await?;
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    }

    /// Sends and keeps the whole answer.
    pub async fn read(&mut self, request: &Prepared) -> anyhow::Result<Bytes> {
        Ok(self.open(request).await?.collect().await?.to_bytes())
    }

    /// Sends until the server takes the request; the answer's body is still to be read. A refusal is an error, unless it
    /// says "later".
    pub async fn open(&mut self, request: &Prepared) -> anyhow::Result<Incoming> {
        for _ in 0..PUT_OFF {
            let response = self.send(request).await;
            let response = response.with_context(|| format!("{} {}", request.method, request.path))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response.into_body());
            }
            let later = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok()?.parse().ok());
            let body = response.into_body().collect().await?.aggregate();
            match later {
                Some(seconds) if status == StatusCode::TOO_MANY_REQUESTS => {
                    Clock::system().sleep(Duration::from_secs(seconds)).await;
                }
                _ => {
                    let shown = body.chunk().get(..SHOWN).unwrap_or(body.chunk());
                    let shown = String::from_utf8_lossy(shown);
                    bail!("{} {}: {status}: {shown}", request.method, request.path);
                }
            }
        }
        bail!("{} {}: put off {PUT_OFF} times", request.method, request.path)
    }

    async fn send(&mut self, request: &Prepared) -> anyhow::Result<http::Response<Incoming>> {
        let endpoint = &self.endpoint;
        let path = format!("{}{}", endpoint.prefix, request.path);
        let uri = Uri::builder().path_and_query(path);
        let uri = match &self.sender {
            Sender::One(_) => uri.build()?,
            Sender::Two(_) => {
                let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
                uri.scheme(scheme).authority(endpoint.authority.as_str()).build()?
            }
        };
        let mut outgoing = http::Request::new(Full::new(request.body.clone()));
        *outgoing.method_mut() = request.method.clone();
        *outgoing.uri_mut() = uri;
        let headers = outgoing.headers_mut();
        headers.clone_from(&endpoint.headers);
        if !request.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(request.content_type));
        }
        if !request.accept.is_empty() {
            headers.insert(ACCEPT, HeaderValue::from_static(request.accept));
        }
        match &mut self.sender {
            Sender::One(sender) => {
                headers.insert(HOST, HeaderValue::from_str(&endpoint.authority)?);
                sender.ready().await?;
                Ok(sender.send_request(outgoing).await?)
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(outgoing).await?)
            }
        }
    }
}
