//! Where the server is and who we are: from a kubeconfig, a pod's service account, or given. It reads files when it is
//! made, and (tokens only) as they expire.

pub mod auth;
mod kubeconfig;

use std::path::{Path, PathBuf};
use std::time::Duration;

use auth::Auth;
pub use kubeconfig::Kubeconfig;

/// How to reach a server over HTTP.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://host:port`, perhaps with a path in front of the API's.
    pub server: String,
    /// The namespace that commands mean by default.
    pub namespace: String,
    /// PEM; without it the system's authorities are trusted.
    pub certificate_authority: Option<Vec<u8>>,
    pub insecure_skip_tls_verify: bool,
    /// The name the server's certificate must have, when that is not the URL's.
    pub tls_server_name: Option<String>,
    pub client_certificate: Option<ClientCertificate>,
    pub auth: Auth,
    pub impersonate: Impersonate,
    /// The name writes are made under.
    pub component: String,
    pub user_agent: String,
    pub connect_timeout: Duration,
    /// How long the server may be silent: before its answer and within it. Watches and streams may be silent for ever.
    pub timeout: Duration,
    /// Off by default: the server limits its clients itself.
    pub rate_limit: Option<RateLimit>,
    pub only_http1: bool,
}

/// PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    pub per_second: f64,
    pub burst: u32,
}

/// Whom to act as; empty is oneself.
#[derive(Clone, Debug, Default)]
pub struct Impersonate {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: Vec<(String, String)>,
}

impl Impersonate {
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if !self.user.is_empty() {
            headers.push(("impersonate-user".to_owned(), self.user.clone()));
        }
        if !self.uid.is_empty() {
            headers.push(("impersonate-uid".to_owned(), self.uid.clone()));
        }
        headers.extend(self.groups.iter().map(|g| ("impersonate-group".to_owned(), g.clone())));
        headers.extend(
            self.extra
                .iter()
                .map(|(key, value)| (format!("impersonate-extra-{}", key.to_lowercase()), value.clone())),
        );
        headers
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no configuration found: set KUBECONFIG, write ~/.kube/config, or run in a pod with a service account")]
    NotFound,
    #[error("the kubeconfig has no {what} named {name:?}; `kubectl config view` shows what it has")]
    Missing { what: &'static str, name: String },
    #[error("{what} cannot be used")]
    Invalid {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ConfigError {
    pub(crate) fn invalid(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Invalid {
            what: what.into(),
            source: source.into(),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Config {
    /// A server without authentication, to be completed.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            namespace: "default".into(),
            certificate_authority: None,
            insecure_skip_tls_verify: false,
            tls_server_name: None,
            client_certificate: None,
            auth: Auth::None,
            impersonate: Impersonate::default(),
            component: "coracle".into(),
            user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")).into(),
            connect_timeout: Duration::from_secs(30),
            timeout: Duration::from_secs(75),
            rate_limit: None,
            only_http1: false,
        }
    }

    /// What kubectl would use: `$KUBECONFIG`, `~/.kube/config`, else the pod's service account.
    pub fn infer() -> Result<Self, ConfigError> {
        match Kubeconfig::load_default()? {
            Some(kubeconfig) => kubeconfig.config(None),
            None => Self::in_cluster()?.ok_or(ConfigError::NotFound),
        }
    }

    /// From a kubeconfig file; `context` instead of its current one.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, ConfigError> {
        Kubeconfig::load(path)?.config(context)
    }

    /// The service account of the pod this runs in; `None` outside of pods.
    pub fn in_cluster() -> Result<Option<Self>, ConfigError> {
        let (Ok(host), Ok(port)) = (
            std::env::var("KUBERNETES_SERVICE_HOST"),
            std::env::var("KUBERNETES_SERVICE_PORT"),
        ) else {
            return Ok(None);
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let account = Path::new(ACCOUNT);
        let namespace = read(&account.join("namespace"))?;
        Ok(Some(Self {
            namespace: String::from_utf8_lossy(&namespace).trim().to_owned(),
            certificate_authority: Some(read(&account.join("ca.crt"))?),
            auth: Auth::TokenFile(account.join("token")),
            ..Self::new(format!("https://{host}:{port}"))
        }))
    }
}
