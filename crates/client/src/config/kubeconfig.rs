//! The kubeconfig file: clusters, users, contexts; several files are merged, the first to name something wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;

use super::auth::{Auth, ExecPlugin};
use super::{ClientCertificate, Config, ConfigError, Impersonate, read};

/// A kubeconfig as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    pub current_context: String,
    contexts: Vec<Named>,
    clusters: Vec<Named>,
    users: Vec<Named>,
}

/// One list entry of any of the three lists.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    context: Option<Context>,
    cluster: Option<Cluster>,
    user: Option<User>,
    /// The folder of the file it came from: relative paths start there.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<ExecPlugin>,
    #[serde(rename = "auth-provider")]
    auth_provider: Option<serde_json::Value>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    as_uid: Option<String>,
    as_groups: Vec<String>,
    as_user_extra: BTreeMap<String, Vec<String>>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(..)")
    }
}

impl Kubeconfig {
    /// One file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read(path)?;
        let what = || format!("kubeconfig {}", path.display());
        let text = String::from_utf8(bytes).map_err(|e| ConfigError::invalid(what(), e))?;
        let mut parsed = Self::parse(&text).map_err(|e| ConfigError::invalid(what(), e))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for entry in parsed
            .contexts
            .iter_mut()
            .chain(&mut parsed.clusters)
            .chain(&mut parsed.users)
        {
            entry.folder.clone_from(&folder);
        }
        Ok(parsed)
    }

    /// From text; relative paths in it start at the working directory.
    pub fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Ok(serde_saphyr::from_str(text)?)
    }

    /// `$KUBECONFIG`'s files merged, or `~/.kube/config`; `None` if there is none.
    pub fn load_default() -> Result<Option<Self>, ConfigError> {
        let paths: Vec<PathBuf> = match std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
            Some(list) => std::env::split_paths(&list).collect(),
            None => std::env::home_dir()
                .map(|home| home.join(".kube/config"))
                .into_iter()
                .collect(),
        };
        let mut merged: Option<Self> = None;
        for path in paths.iter().filter(|p| p.exists()) {
            let next = Self::load(path)?;
            match &mut merged {
                Some(merged) => merged.merge(next),
                None => merged = Some(next),
            }
        }
        Ok(merged)
    }

    fn merge(&mut self, other: Self) {
        if self.current_context.is_empty() {
            self.current_context = other.current_context;
        }
        for (mine, theirs) in [
            (&mut self.contexts, other.contexts),
            (&mut self.clusters, other.clusters),
            (&mut self.users, other.users),
        ] {
            for entry in theirs {
                if !mine.iter().any(|e| e.name == entry.name) {
                    mine.push(entry);
                }
            }
        }
    }

    /// The names of the contexts.
    pub fn contexts(&self) -> impl Iterator<Item = &str> {
        self.contexts.iter().map(|c| c.name.as_str())
    }

    /// The connection that a context (the current one by default) describes.
    pub fn config(&self, context: Option<&str>) -> Result<Config, ConfigError> {
        let context = context.unwrap_or(&self.current_context);
        let (context, _) = find(&self.contexts, "context", context, |n| n.context.as_ref())?;
        let (cluster, folder) = find(&self.clusters, "cluster", &context.cluster, |n| n.cluster.as_ref())?;
        if cluster.proxy_url.is_some() {
            let why = "proxies are not supported; take it out, or use a cluster that is reached directly";
            return Err(ConfigError::invalid("the kubeconfig's proxy-url", why));
        }
        let mut config = Config::new(cluster.server.clone());
        config.namespace = context.namespace.clone().unwrap_or_else(|| "default".into());
        config.insecure_skip_tls_verify = cluster.insecure_skip_tls_verify;
        config.tls_server_name.clone_from(&cluster.tls_server_name);
        config.certificate_authority = data_or_file(
            "certificate-authority",
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
            folder,
        )?;
        if !context.user.is_empty() {
            let (user, folder) = find(&self.users, "user", &context.user, |n| n.user.as_ref())?;
            user.apply(&mut config, folder)?;
        }
        Ok(config)
    }
}

impl User {
    fn apply(&self, config: &mut Config, folder: &Path) -> Result<(), ConfigError> {
        let certificate = data_or_file(
            "client-certificate",
            self.client_certificate_data.as_deref(),
            self.client_certificate.as_deref(),
            folder,
        )?;
        let key = data_or_file(
            "client-key",
            self.client_key_data.as_deref(),
            self.client_key.as_deref(),
            folder,
        )?;
        config.client_certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            _ => {
                let why = "client-certificate and client-key go together";
                return Err(ConfigError::invalid("the kubeconfig's user", why));
            }
        };
        // In kubectl's order of precedence.
        config.auth = if let Some(path) = &self.token_file {
            Auth::TokenFile(folder.join(path))
        } else if let Some(token) = &self.token {
            Auth::Token(token.clone())
        } else if let Some(username) = &self.username {
            Auth::Basic {
                username: username.clone(),
                password: self.password.clone().unwrap_or_default(),
            }
        } else if let Some(exec) = &self.exec {
            let mut exec = exec.clone();
            // A command with a path is relative to the file; a bare name is looked up.
            if exec.command.components().count() > 1 {
                exec.command = folder.join(&exec.command);
            }
            if exec.provide_cluster_info {
                exec.cluster = Some(serde_json::json!({
                    "server": config.server,
                    "tls-server-name": config.tls_server_name,
                    "insecure-skip-tls-verify": config.insecure_skip_tls_verify,
                    "certificate-authority-data": config
                        .certificate_authority
                        .as_ref()
                        .map(|pem| base64::engine::general_purpose::STANDARD.encode(pem)),
                }));
            }
            Auth::Exec(Box::new(exec))
        } else if self.auth_provider.is_some() {
            let why = "auth-provider plugins were removed in Kubernetes 1.26; use an exec plugin";
            return Err(ConfigError::invalid("the kubeconfig's user", why));
        } else {
            Auth::None
        };
        config.impersonate = Impersonate {
            user: self.impersonate.clone().unwrap_or_default(),
            uid: self.as_uid.clone().unwrap_or_default(),
            groups: self.as_groups.clone(),
            extra: self
                .as_user_extra
                .iter()
                .flat_map(|(key, values)| values.iter().map(move |v| (key.clone(), v.clone())))
                .collect(),
        };
        Ok(())
    }
}

fn find<'a, T>(
    list: &'a [Named],
    what: &'static str,
    name: &str,
    part: impl Fn(&'a Named) -> Option<&'a T>,
) -> Result<(&'a T, &'a Path), ConfigError> {
    let missing = || ConfigError::Missing {
        what,
        name: name.to_owned(),
    };
    let entry = list.iter().find(|n| n.name == name).ok_or_else(missing)?;
    Ok((part(entry).ok_or_else(missing)?, &entry.folder))
}

fn data_or_file(
    what: &str,
    data: Option<&str>,
    file: Option<&Path>,
    folder: &Path,
) -> Result<Option<Vec<u8>>, ConfigError> {
    if let Some(data) = data.filter(|d| !d.is_empty()) {
        let packed: String = data.split_ascii_whitespace().collect();
        let decoded = base64::engine::general_purpose::STANDARD.decode(packed);
        return decoded
            .map(Some)
            .map_err(|e| ConfigError::invalid(format!("{what}-data"), e));
    }
    match file {
        Some(file) if !file.as_os_str().is_empty() => read(&folder.join(file)).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: one
preferences: {}
contexts:
- name: one
  context: {cluster: here, user: me, namespace: work}
- name: two
  context: {cluster: there, user: nobody}
clusters:
- name: here
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: aGVsbG8=
    tls-server-name: kubernetes
- name: there
  cluster: {server: 'https://example.org/prefix', insecure-skip-tls-verify: true}
users:
- name: me
  user:
    token: secret
    as: other
    as-groups: [a, b]
";

    #[test]
    fn a_context_names_a_cluster_and_a_user() {
        let config = Kubeconfig::parse(TEXT).unwrap().config(None).unwrap();
        assert_eq!(config.server, "https://127.0.0.1:6443");
        assert_eq!(config.namespace, "work");
        assert_eq!(config.certificate_authority.as_deref(), Some(&b"hello"[..]));
        assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes"));
        assert!(matches!(config.auth, Auth::Token(token) if token == "secret"));
        assert_eq!(config.impersonate.headers().len(), 3);
    }

    #[test]
    fn what_is_missing_is_named() {
        let kubeconfig = Kubeconfig::parse(TEXT).unwrap();
        let error = kubeconfig.config(Some("two")).unwrap_err();
        assert!(error.to_string().contains("no user named \"nobody\""), "{error}");
        let error = kubeconfig.config(Some("three")).unwrap_err();
        assert!(error.to_string().contains("no context named \"three\""), "{error}");
    }

    #[test]
    fn the_first_of_several_files_wins() {
        let mut first = Kubeconfig::parse("clusters: [{name: here, cluster: {server: 'http://first'}}]").unwrap();
        first.merge(Kubeconfig::parse(TEXT).unwrap());
        assert_eq!(first.config(None).unwrap().server, "http://first");
    }
}
