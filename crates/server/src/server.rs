//! Putting a server together, starting and stopping it, and its side of the in-process way in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::openapi::OpenApi;
use coracle_api::resource::Registry;
use coracle_api::service::{Answer, Operation, Request, Response, Service, UserInfo, WatchStream};
use coracle_api::status::Status;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admission::Chain;
use crate::authn::token_file::TokenFile;
use crate::authn::tokens::TokenIssuer;
use crate::authz::node::NodeAuthorizer;
use crate::authz::rbac::Rbac;
use crate::authz::{self, Superusers, Union};
use crate::cache::{Cache, Watcher};
use crate::core::Core;
use crate::dial::NodeClient;
use crate::discovery::Discovery;
use crate::http::listener;
use crate::http::nonresource::GIT_VERSION;
use crate::limits::InFlight;
use crate::metrics::{Labels, Metrics};
use crate::options::ServerOptions;
use crate::pki::renewal::{self, Current};
use crate::pki::{self, PkiError};
use crate::readiness::Readiness;
use crate::registry::{self, Output, read};
use crate::usage::{self, Usages};
use crate::{bootstrap, custom, event_expiry};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: choose another port with --bind, or stop what uses it")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the certificates are not usable")]
    Pki(#[from] PkiError),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("{0}")]
    Admission(String),
    #[error("{0}")]
    TokenFile(String),
    #[error("the store cannot be read")]
    Store(#[from] coracle_store::Error),
    #[error("the system's objects cannot be made: {0}")]
    Bootstrap(Status),
}

/// The request path. Cheap to clone; give it to in-process clients.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
}

/// A server that serves.
pub struct RunningServer {
    server: ApiServer,
    address: SocketAddr,
    advertised: SocketAddr,
    ca: String,
    current: Arc<Current>,
    listener: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Makes certificates and system objects if need be, and listens. When it returns, requests are served.
    pub async fn start(options: ServerOptions) -> Result<RunningServer, StartError> {
        let bind = options.bind;
        let admission = Chain::new(&options.admission).map_err(StartError::Admission)?;
        let listen = async {
            if !options.listens {
                return Ok(None);
            }
            let bound = TcpListener::bind(bind).await;
            bound
                .map(Some)
                .map_err(|source| StartError::Bind { address: bind, source })
        };
        let certificates = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || pki::prepare(&options))
        };
        let (listener, certificates) = tokio::join!(listen, certificates);
        let listener = listener?;
        let pki = certificates.map_err(|e| StartError::Tls(e.to_string()))??;
        let address = match &listener {
            Some(listener) => listener
                .local_addr()
                .map_err(|source| StartError::Bind { address: bind, source })?,
            None => bind,
        };
        let advertised = SocketAddr::new(advertised_ip(&options, address.ip()), address.port());

        let nodes = NodeClient::new(&pki).map_err(StartError::Tls)?;
        let issuer = format!("https://kubernetes.default.svc.{}", options.network.cluster_domain);
        let tokens = TokenIssuer::new(&pki.token_keys, issuer).map_err(StartError::Tls)?;
        let token_file = match &options.token_file {
            Some(path) => TokenFile::read(path).map_err(StartError::TokenFile)?,
            None => TokenFile::default(),
        };
        let ca = pki.ca.certificate().to_owned();
        let current = Current::new(pki).map_err(StartError::Tls)?;

        let shutdown = CancellationToken::new();
        let cache = Cache::start(options.store.clone(), options.clock, shutdown.clone()).await?;
        let registry = Arc::new(Registry::built_in());
        usage::register(&registry);
        let authorizer = Union(vec![
            Arc::new(Superusers),
            Arc::new(NodeAuthorizer::new(
                cache.clone(),
                options.store.clone(),
                registry.clone(),
            )),
            Arc::new(Rbac::new(cache.clone(), registry.clone())),
        ]);
        let core = Arc::new(Core {
            clock: options.clock,
            random: options.random.clone(),
            store: options.store.clone(),
            cache,
            registry,
            authorizer: Arc::new(authorizer),
            admission,
            tokens,
            token_file,
            metrics: Metrics::new(&options.metrics),
            network: options.network.clone(),
            limits: InFlight::new(options.limits),
            nodes: ArcSwap::from_pointee(nodes),
            usages: Usages::default(),
            discovery: Discovery::default(),
            openapi: OpenApi::new(GIT_VERSION),
            ready: Readiness::default(),
            shutdown,
        });
        bootstrap::run(&core, advertised, &ca)
            .await
            .map_err(StartError::Bootstrap)?;
        bootstrap::flow_control::keep(&core).await?;
        custom::start(&core).await.map_err(StartError::Bootstrap)?;
        let listener = listener.map(|l| tokio::spawn(listener::run(core.clone(), l, current.clone())));
        tokio::spawn(renewal::run(core.clone(), current.clone(), options));
        event_expiry::start(&core).await?;
        tracing::info!(%address, listens = listener.is_some(), "the API server is ready");
        Ok(RunningServer {
            server: Self { core },
            address,
            advertised,
            ca,
            current,
            listener,
        })
    }

    /// The table of resources, which custom resources extend.
    pub fn registry(&self) -> Arc<Registry> {
        self.core.registry.clone()
    }

    /// Conditions that `/readyz` waits for.
    pub fn readiness(&self) -> &Readiness {
        &self.core.ready
    }

    async fn answer(&self, user: &UserInfo, request: Request) -> Result<Response, Status> {
        let mut attributes = authz::resource_attributes(user, registry::verb(&request.operation), &request.target);
        if let Some(resource) = &mut attributes.resource {
            match &request.operation {
                Operation::List(options) | Operation::Watch(options) => {
                    resource.select(&options.field_selector);
                    resource.take_pinned_name();
                }
                Operation::DeleteCollection { list, .. } => resource.select(&list.field_selector),
                _ => {}
            }
        }
        crate::http::authorize(&self.core, &attributes).await?;
        let watch_labels = matches!(request.operation, Operation::Watch(_)).then(|| Labels {
            verb: "WATCH".into(),
            group: request.target.group.clone(),
            version: request.target.version.clone(),
            resource: request.target.resource.clone(),
            subresource: String::new(),
            scope: "cluster",
        });
        let reply = self.core.serve(user, request).await?;
        let answer = match reply.output {
            Output::Object { object, created } => Answer::Object { object, created },
            Output::List(list) => Answer::List(list),
            Output::Status(status) => Answer::Status(status),
            Output::Watch(watcher) => {
                let guard = watch_labels.map(|l| self.core.metrics.long_running(&l));
                Answer::Watch(watch_stream(*watcher, reply.row, guard))
            }
        };
        Ok(Response {
            answer,
            warnings: reply.warnings,
        })
    }
}

impl Service for ApiServer {
    fn call<'a>(&'a self, user: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>> {
        async move {
            let served = std::panic::AssertUnwindSafe(self.answer(user, request))
                .catch_unwind()
                .await;
            served.unwrap_or_else(|_| {
                self.core.metrics.panicked();
                tracing::error!(user = user.name, "an in-process request panicked");
                Err(Status::internal(
                    "the request hit a bug in the server, which is logged there",
                ))
            })
        }
        .boxed()
    }
}

/// A watch as in-process clients read it.
fn watch_stream(
    watcher: Watcher,
    row: Arc<coracle_api::resource::Resource>,
    guard: Option<impl Send + 'static>,
) -> WatchStream {
    use coracle_api::service::WatchEvent;
    let stored = read::is_stored_version(&row) && row.convert.is_none();
    let batches = stream::unfold((watcher, guard), |(mut watcher, guard)| async move {
        let batch = watcher.next().await?;
        let items: Vec<Result<WatchEvent, Status>> = match batch {
            Ok(deliveries) => deliveries.into_iter().filter_map(|d| d.into_event()).map(Ok).collect(),
            Err(status) => vec![Err(status)],
        };
        Some((stream::iter(items), (watcher, guard)))
    })
    .flatten();
    if stored {
        return batches.boxed();
    }
    let convert = move |item: Result<WatchEvent, Status>| {
        Ok(match item? {
            WatchEvent::Added(o) => WatchEvent::Added(read::in_version(&row, &o)?),
            WatchEvent::Modified(o) => WatchEvent::Modified(read::in_version(&row, &o)?),
            WatchEvent::Deleted(o) => WatchEvent::Deleted(read::in_version(&row, &o)?),
            bookmark => bookmark,
        })
    };
    batches.map(convert).boxed()
}

/// The address that others use.
fn advertised_ip(options: &ServerOptions, bound: IpAddr) -> IpAddr {
    match options.advertise {
        Some(address) => address,
        None if bound.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        None => bound,
    }
}

impl RunningServer {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `https://address:port`, as others reach it.
    pub fn url(&self) -> String {
        format!("https://{}", self.advertised)
    }

    /// The way in for clients in this process.
    pub fn service(&self) -> ApiServer {
        self.server.clone()
    }

    /// The cluster's CA certificate as PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The CA's key as PEM, for the controller that signs certificates.
    pub fn ca_key(&self) -> String {
        self.current.pki.load().ca.key().to_owned()
    }

    /// The key of service account tokens as PKCS #8, for the controller that fills token Secrets.
    pub fn token_key(&self) -> Vec<u8> {
        self.current.pki.load().token_keys.private.clone()
    }

    /// A kubeconfig for an administrator.
    pub fn admin_kubeconfig(&self) -> String {
        self.credentials().kubeconfig()
    }

    /// What is renewed while the server runs.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            url: self.url(),
            renewals: self.current.renewed.subscribe(),
            current: self.current.clone(),
        }
    }

    /// Ends watches, lets requests finish, stops listening.
    pub async fn shutdown(self) {
        self.server.core.shutdown.cancel();
        if let Some(listener) = self.listener
            && let Err(error) = listener.await
        {
            tracing::error!(%error, "the listener ended badly");
        }
    }
}

/// The keys and certificates that are in use, for those outside of the server that need them as they come and go.
pub struct Credentials {
    url: String,
    current: Arc<Current>,
    renewals: watch::Receiver<u64>,
}

impl Credentials {
    /// A kubeconfig for an administrator.
    pub fn kubeconfig(&self) -> String {
        let pki = self.current.pki.load();
        pki::kubeconfig(
            "coracle",
            &self.url,
            pki.ca.certificate(),
            "kubernetes-admin",
            &pki.admin,
        )
    }

    /// The key that signs service account tokens, PKCS #8.
    pub fn token_key(&self) -> Vec<u8> {
        self.current.pki.load().token_keys.private.clone()
    }

    /// Waits until something has been renewed; `None` when the server is gone.
    pub async fn renewed(&mut self) -> Option<()> {
        self.renewals.changed().await.ok()
    }
}
