//! The HTTP transport: sends requests, retries what may be retried, streams. It knows of objects only that they have a
//! [`wire`] form.

mod tls;
pub(crate) mod watch;
pub(crate) mod wire;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_api::service::{Answer, Operation, Request, Response};
use coracle_api::status::Status;
use coracle_clock::Clock;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::config::auth::Authenticator;
use crate::config::{Config, ConfigError};
use crate::rate::TokenBucket;
use crate::{Client, Error};

/// An answer may be a list of everything; past this it is refused instead of filling the memory.
const MAX_ANSWER: usize = 1 << 30;
/// How often a request that the server puts off (429 with Retry-After) is sent again.
const MAX_PUT_OFF: u32 = 10;
/// Longer waits are the caller's to decide on.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How often a request is sent again after its connection was lost or refused, and how long it waits for that.
const LOST_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

type Connector = HttpsConnector<HttpConnector>;

pub(crate) struct Http {
    server: String,
    /// HTTP/2 where the server speaks it.
    pool: Pool<Connector, Full<Bytes>>,
    /// HTTP/1.1 alone, for upgrades.
    upgrades: Pool<Connector, Full<Bytes>>,
    auth: Authenticator,
    headers: HeaderMap,
    user_agent: String,
    component: String,
    timeout: Duration,
    limit: Option<TokenBucket>,
    clock: Clock,
}

/// A request that can be sent more than once.
pub(crate) struct Outgoing {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Sent again when the connection is lost.
    pub idempotent: bool,
    /// Sent again when the server says "later".
    pub patient: bool,
}

impl Outgoing {
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            idempotent: true,
            patient: true,
        }
    }
}

impl Http {
    pub fn new(config: Config, clock: Clock) -> Result<Self, ConfigError> {
        let pool = |only_http1: bool| -> Result<Pool<Connector, Full<Bytes>>, ConfigError> {
            let connector = tls::connector(&config, only_http1)?;
            Ok(Pool::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(90))
                // A watch that nobody reads for a while must not use up the connection's window: it has room for a
                // thousand such streams.
                .http2_initial_stream_window_size(256 * 1024)
                .http2_initial_connection_window_size(256 * 1024 * 1024)
                .http2_keep_alive_interval(Duration::from_secs(30))
                .http2_keep_alive_timeout(Duration::from_secs(15))
                .build(connector))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &config.impersonate.headers() {
            let bad = |e: http::Error| ConfigError::invalid(format!("impersonation header {name}"), e);
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(e.into()))?,
                HeaderValue::from_str(value).map_err(|e| bad(e.into()))?,
            );
        }
        Ok(Self {
            server: config.server.trim_end_matches('/').to_owned(),
            pool: pool(config.only_http1)?,
            upgrades: pool(true)?,
            auth: Authenticator::new(config.auth, clock),
            headers,
            user_agent: config.user_agent,
            component: config.component,
            timeout: config.timeout,
            limit: config
                .rate_limit
                .map(|l| TokenBucket::new(clock, l.per_second, l.burst)),
            clock,
        })
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub async fn request(&self, component: &str, request: Request, metadata_only: bool) -> Result<Response, Error> {
        let mut outgoing = wire::encode(&request, metadata_only)?;
        if component != self.component
            && let Ok(agent) = HeaderValue::from_str(&format!("{component} {}", self.user_agent))
        {
            outgoing.headers.insert(USER_AGENT, agent);
        }
        if matches!(request.operation, Operation::Watch(_)) {
            let (parts, body) = self.open(&outgoing).await?.into_parts();
            return Ok(Response {
                answer: Answer::Watch(watch::events(body)),
                warnings: wire::warnings(&parts.headers),
            });
        }
        let (parts, body) = self.fetch(&outgoing).await?;
        wire::decode(&request, &parts, &body)
    }

    /// Sends and reads the whole answer; an answer cut short is a lost connection.
    pub async fn fetch(&self, request: &Outgoing) -> Result<(http::response::Parts, Bytes), Error> {
        let mut lost = 0;
        loop {
            let (parts, body) = self.open(request).await?.into_parts();
            match self.collect(body).await {
                Ok(body) => return Ok((parts, body)),
                Err(Error::Transport { .. }) if request.idempotent && lost < LOST_PAUSES.len() => {
                    self.clock.sleep(LOST_PAUSES[lost]).await;
                    lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends until the server takes the request; the answer's body is still to be read. An answer that is not a success
    /// is an error.
    async fn open(&self, request: &Outgoing) -> Result<http::Response<Incoming>, Error> {
        let mut lost = 0;
        let mut put_off = 0;
        let mut renewed = false;
        loop {
            if let Some(limit) = &self.limit {
                limit.take().await;
            }
            let response = match self.send(&self.pool, request).await {
                Ok(response) => response,
                Err(Failed::Lost { error, unsent }) => {
                    if lost < LOST_PAUSES.len() && (unsent || request.idempotent) {
                        tracing::debug!(url = %request.path, error = %error, "sending again after a lost connection");
                        self.clock.sleep(LOST_PAUSES[lost]).await;
                        lost += 1;
                        continue;
                    }
                    return Err(error);
                }
                Err(Failed::Final(error)) => return Err(error),
            };
            let status = response.status();
            if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(response);
            }
            let wait = retry_after(response.headers()).filter(|w| *w <= MAX_RETRY_AFTER);
            if let Some(wait) = wait
                && request.patient
                && put_off < MAX_PUT_OFF
                && (status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
            {
                tracing::debug!(url = %request.path, ?wait, "the server asks to come back later");
                put_off += 1;
                let _ = self.collect(response.into_body()).await;
                self.clock.sleep(wait).await;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && !renewed && self.auth.renew().await {
                renewed = true;
                continue;
            }
            let body = self.collect(response.into_body()).await?;
            return Err(wire::failure(status, &body).into());
        }
    }

    async fn send(
        &self,
        pool: &Pool<Connector, Full<Bytes>>,
        outgoing: &Outgoing,
    ) -> Result<http::Response<Incoming>, Failed> {
        let url = format!("{}{}", self.server, outgoing.path);
        let mut request = http::Request::builder()
            .method(outgoing.method.clone())
            .uri(&url)
            .body(Full::new(outgoing.body.clone()))
            .map_err(|e| Failed::Final(Error::encode(format!("the request to {url}"), e)))?;
        let headers = request.headers_mut();
        if let Ok(agent) = HeaderValue::from_str(&self.user_agent) {
            headers.insert(USER_AGENT, agent);
        }
        headers.extend(self.headers.clone());
        headers.extend(outgoing.headers.clone());
        let token = self.auth.header().await.map_err(|e| Failed::Final(e.into()))?;
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token);
        }
        match self.clock.timeout(self.timeout, pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let unsent = error.is_connect();
                // A certificate that cannot be trusted stays so.
                let hopeless = unsent && mentions_tls(&error);
                let error = Error::Transport {
                    action: if unsent { "connect to" } else { "get an answer from" },
                    url,
                    source: error.into(),
                };
                Err(if hopeless {
                    Failed::Final(error)
                } else {
                    Failed::Lost { error, unsent }
                })
            }
            Err(_) => Err(Failed::Final(Error::Timeout {
                url,
                limit: self.timeout,
            })),
        }
    }

    async fn collect(&self, mut body: Incoming) -> Result<Bytes, Error> {
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        loop {
            let frame = self.clock.timeout(self.timeout, body.frame()).await;
            let frame = frame.map_err(|_| Error::Timeout {
                url: self.server.clone(),
                limit: self.timeout,
            })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| self.cut_short(e))?;
            let Ok(data) = frame.into_data() else { continue };
            if all.len() + data.len() > MAX_ANSWER {
                return Err(Error::decode("the answer", "it is larger than 1 GiB; ask for pages"));
            }
            // Most answers are one frame: no copy.
            match first.take() {
                None if all.is_empty() => first = Some(data),
                None => all.extend_from_slice(&data),
                Some(before) => {
                    all.extend_from_slice(&before);
                    all.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| all.freeze()))
    }

    fn cut_short(&self, source: hyper::Error) -> Error {
        Error::Transport {
            action: "read an answer from",
            url: self.server.clone(),
            source: source.into(),
        }
    }
}

enum Failed {
    Lost {
        error: Error,
        /// The request cannot have reached the server.
        unsent: bool,
    },
    Final(Error),
}

fn mentions_tls(error: &dyn std::error::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<rustls::Error>() {
            return true;
        }
        // io::Error hides what it wraps from `source`.
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        {
            return true;
        }
        source = error.source();
    }
    false
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Config {
    /// TLS as this configuration asks, for a connection of one's own beside the client's.
    pub fn tls(&self) -> Result<rustls::ClientConfig, ConfigError> {
        tls::client_config(self)
    }
}

/// What has no in-process form: raw HTTP.
impl Client {
    /// The headers that say who we are, for a connection of one's own beside the client's.
    pub async fn identity(&self) -> Result<HeaderMap, Error> {
        let http = self.http("a connection of one's own")?;
        let mut headers = http.headers.clone();
        if let Some(token) = http.auth.header().await? {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(headers)
    }

    /// Any GET; the body as it comes (`/healthz`, logs, `proxy` subresources). The path may have a query.
    pub async fn stream(&self, path: &str) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let http = self.http("streaming")?;
        let server = http.server.clone();
        let body = http.open(&Outgoing::get(path)).await?.into_body();
        let stream = http_body_util::BodyStream::new(body).filter_map(move |frame| {
            let next = match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(source) => Some(Err(Error::Transport {
                    action: "read a stream from",
                    url: server.clone(),
                    source: source.into(),
                })),
            };
            std::future::ready(next)
        });
        Ok(stream.boxed())
    }

    /// Any request, answered as it is (also when the answer is a failure), for paths that are not objects.
    pub async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Incoming>, Error> {
        let http = self.http("raw HTTP")?;
        http.send(&http.pool, &outgoing(request))
            .await
            .map_err(Failed::into_error)
    }

    /// A GET of any path, whole, in one of the media types of `accept`.
    pub async fn raw(&self, path: &str, accept: &'static str) -> Result<Bytes, Error> {
        let mut request = Outgoing::get(path);
        request
            .headers
            .insert(http::header::ACCEPT, http::HeaderValue::from_static(accept));
        Ok(self.http("a raw path")?.fetch(&request).await?.1)
    }

    /// A request that leaves HTTP (exec, attach, port-forward): set its `Upgrade` headers. Gives the answer's head, with the
    /// protocol that was chosen, and the raw connection.
    pub async fn upgrade(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<(http::response::Parts, TokioIo<Upgraded>), Error> {
        let http = self.http("an upgraded connection")?;
        let mut response = http
            .send(&http.upgrades, &outgoing(request))
            .await
            .map_err(Failed::into_error)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = http.collect(response.into_body()).await?;
            if status.is_success() {
                let refused = Status::bad_request("the server answered without upgrading the connection");
                return Err(refused.into());
            }
            return Err(wire::failure(status, &body).into());
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|e| http.cut_short(e))?;
        Ok((response.into_parts().0, TokioIo::new(upgraded)))
    }
}

impl Failed {
    fn into_error(self) -> Error {
        match self {
            Self::Lost { error, .. } | Self::Final(error) => error,
        }
    }
}

/// `request`'s URI holds a path and query; the server is the client's.
fn outgoing(request: http::Request<Bytes>) -> Outgoing {
    let (parts, body) = request.into_parts();
    Outgoing {
        path: parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        method: parts.method,
        headers: parts.headers,
        body,
        idempotent: false,
        patient: false,
    }
}
