//! The client: one transport and one identity, shared by all its clones.

use std::fmt;
use std::sync::Arc;

use coracle_api::resource::Registry;
use coracle_api::service::{Request, Response, Service, UserInfo};
use coracle_clock::Clock;

use crate::api::Api;
use crate::config::Config;
use crate::http::Http;
use crate::kind::{ApiResource, Kind, TypedKind};
use crate::{ConfigError, Error};

/// A client of an API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    component: Arc<str>,
}

#[derive(Clone)]
enum Transport {
    InProcess(Arc<InProcess>),
    Http(Arc<Http>),
}

struct InProcess {
    service: Arc<dyn Service>,
    registry: Arc<Registry>,
    user: UserInfo,
}

impl Client {
    /// A client of a server in this process, as `user`: no HTTP, TLS or JSON, but the same authorization, admission and
    /// validation. The registry is the server's, for [discovery](crate::discovery).
    pub fn in_process(service: Arc<dyn Service>, registry: Arc<Registry>, user: UserInfo) -> Self {
        let transport = InProcess {
            service,
            registry,
            user,
        };
        Self {
            transport: Transport::InProcess(Arc::new(transport)),
            component: "coracle".into(),
        }
    }

    /// A client over HTTP. Connects when it is first used, from within a tokio runtime.
    pub fn connect(config: Config, clock: Clock) -> Result<Self, ConfigError> {
        let component = config.component.as_str().into();
        Ok(Self {
            transport: Transport::Http(Arc::new(Http::new(config, clock)?)),
            component,
        })
    }

    /// The same connection under another component name: the user agent over HTTP, and the default field manager.
    pub fn named(&self, component: &str) -> Self {
        Self {
            component: component.into(),
            ..self.clone()
        }
    }

    /// The same server in process as another user; `None` over HTTP, where identity is the connection's.
    pub fn impersonating(&self, user: UserInfo) -> Option<Self> {
        match &self.transport {
            Transport::InProcess(here) => {
                Some(Self::in_process(here.service.clone(), here.registry.clone(), user).named(&self.component))
            }
            Transport::Http(_) => None,
        }
    }

    /// The name writes are made under.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Objects of `K` in all namespaces, or cluster-scoped.
    pub fn all<K: TypedKind>(&self) -> Api<K> {
        Api::new(self.clone(), K::resource(), "")
    }

    /// Objects of `K` in one namespace.
    pub fn namespaced<K: TypedKind>(&self, namespace: &str) -> Api<K> {
        Api::new(self.clone(), K::resource(), namespace)
    }

    /// Objects of a resource known at run time, as [`DynamicObject`](crate::DynamicObject) or
    /// [`PartialObject`](crate::PartialObject); [`Api::within`] narrows it to a namespace.
    pub fn dynamic<K: Kind>(&self, resource: &ApiResource) -> Api<K> {
        Api::new(self.clone(), resource.clone(), "")
    }

    /// Any request, untyped: the road that everything else takes.
    pub async fn request(&self, request: Request) -> Result<Response, Error> {
        self.request_in_form(request, false).await
    }

    pub(crate) async fn request_in_form(&self, request: Request, metadata_only: bool) -> Result<Response, Error> {
        match &self.transport {
            Transport::InProcess(here) => Ok(here.service.call(&here.user, request).await?),
            Transport::Http(http) => http.request(&self.component, request, metadata_only).await,
        }
    }

    /// Whether lists cost a network round trip and are decoded here, so that streaming them is worth while and watches
    /// need a deadline.
    pub fn is_remote(&self) -> bool {
        matches!(self.transport, Transport::Http(_))
    }

    /// The HTTP transport, for what has no in-process form (logs, exec, proxy).
    pub(crate) fn http(&self, what: &'static str) -> Result<&Http, Error> {
        match &self.transport {
            Transport::Http(http) => Ok(http),
            Transport::InProcess(_) => Err(Error::Unsupported(what)),
        }
    }

    pub(crate) fn registry(&self) -> Option<&Registry> {
        match &self.transport {
            Transport::InProcess(here) => Some(&here.registry),
            Transport::Http(_) => None,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::InProcess(here) => write!(f, "Client({}, in process as {})", self.component, here.user.name),
            Transport::Http(http) => write!(f, "Client({}, {})", self.component, http.server()),
        }
    }
}
