//! What the node's administrator says about registries: mirrors, credentials, certificates. Read from a file in the format
//! that k3s and RKE2 use for theirs (`registries.yaml`), given here as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::Auth;
use crate::error::{Error, Result};

#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// Registries (`host:port`) to speak plain HTTP to, besides those on this machine.
    pub insecure: BTreeSet<String>,
    /// PEM certificates of authorities to trust besides the usual ones.
    pub certificate_authorities: Vec<Vec<u8>>,
    /// Registries whose certificates are not looked at.
    pub unverified: BTreeSet<String>,
    /// By registry, or `*` for all: registries (`host:port`) to try before it, in this order.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// By registry: used where a pull brings none of its own.
    pub credentials: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    mirrors: BTreeMap<String, Option<MirrorEntry>>,
    #[serde(default)]
    configs: BTreeMap<String, HostEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MirrorEntry {
    #[serde(default)]
    endpoint: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostEntry {
    auth: Option<AuthEntry>,
    tls: Option<TlsEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthEntry {
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsEntry {
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_verify: bool,
}

impl RegistryConfig {
    /// From the content of a `registries.yaml`. Certificates that it names are read now.
    pub fn from_document(document: serde_json::Value) -> Result<Self> {
        let invalid = |why: String| Error::InvalidConfig(format!("registries.yaml: {why}"));
        let document: Document = serde_json::from_value(document).map_err(|error| invalid(error.to_string()))?;
        let mut config = Self::default();
        for (registry, entry) in document.mirrors {
            let mut hosts = Vec::new();
            for endpoint in entry.map(|entry| entry.endpoint).unwrap_or_default() {
                let (plain, host) = host_of(&endpoint).ok_or_else(|| {
                    invalid(format!(
                        "mirror {endpoint:?} of {registry} is not of the form https://host[:port]"
                    ))
                })?;
                if plain {
                    config.insecure.insert(host.clone());
                }
                hosts.push(host);
            }
            config.mirrors.insert(registry, hosts);
        }
        for (host, entry) in document.configs {
            if let Some(auth) = entry.auth {
                let auth = match auth {
                    AuthEntry { token: Some(token), .. } => Auth::Bearer(token),
                    AuthEntry {
                        username: Some(username),
                        password,
                        ..
                    } => Auth::Basic {
                        username,
                        password: password.unwrap_or_default(),
                    },
                    _ => return Err(invalid(format!("auth of {host} has neither a username nor a token"))),
                };
                config.credentials.insert(host.clone(), auth);
            }
            let Some(tls) = entry.tls else { continue };
            if let Some(path) = tls.ca_file {
                let pem = std::fs::read(&path).map_err(Error::io("read certificate authority", &path))?;
                config.certificate_authorities.push(pem);
            }
            if tls.insecure_skip_verify {
                config.unverified.insert(host);
            }
        }
        Ok(config)
    }

    /// The mirrors of a registry, to be tried in order and before itself.
    pub(crate) fn mirrors_of(&self, registry: &str) -> &[String] {
        let own = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        own.map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn credentials_of(&self, registry: &str) -> Option<Auth> {
        self.credentials.get(registry).cloned()
    }
}

/// Whether an endpoint speaks plain HTTP, and its host and port.
fn host_of(endpoint: &str) -> Option<(bool, String)> {
    let (plain, rest) = match endpoint.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        None => (false, endpoint),
        Some(_) => return None,
    };
    let rest = rest.trim_end_matches('/');
    let host = rest.strip_suffix("/v2").unwrap_or(rest);
    (!host.is_empty() && !host.contains('/')).then(|| (plain, host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mirrors_credentials_and_certificates_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, "pem").unwrap();
        let config = RegistryConfig::from_document(json!({
            "mirrors": {
                "docker.io": { "endpoint": ["http://mirror:5000", "https://other.example/v2/"] },
                "*": { "endpoint": ["cache.example"] },
                "quay.io": null,
            },
            "configs": {
                "mirror:5000": { "auth": { "username": "u", "password": "p" } },
                "other.example": { "tls": { "ca_file": ca, "insecure_skip_verify": true } },
            },
        }))
        .unwrap();
        assert_eq!(config.mirrors_of("docker.io"), ["mirror:5000", "other.example"]);
        assert_eq!(config.mirrors_of("ghcr.io"), ["cache.example"]);
        assert!(config.mirrors_of("quay.io").is_empty());
        assert!(config.insecure.contains("mirror:5000") && config.unverified.contains("other.example"));
        assert!(matches!(config.credentials_of("mirror:5000"), Some(Auth::Basic { .. })));
        assert_eq!(config.certificate_authorities, [b"pem".to_vec()]);
    }

    #[test]
    fn what_would_be_ignored_is_an_error() {
        for document in [
            json!({ "mirrors": { "docker.io": { "endpoint": ["ftp://x"] } } }),
            json!({ "mirrors": { "docker.io": { "endpoint": ["https://x/with/path"] } } }),
            json!({ "mirrors": { "docker.io": { "rewrite": { "a": "b" } } } }),
            json!({ "configs": { "x": { "tls": { "cert_file": "/x" } } } }),
            json!({ "configs": { "x": { "auth": { "password": "p" } } } }),
        ] {
            assert!(RegistryConfig::from_document(document.clone()).is_err(), "{document}");
        }
    }
}
