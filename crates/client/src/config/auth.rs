//! Who we are, as an `Authorization` header: a token, a token in a file that is rotated, or what a plugin says.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use coracle_clock::{Clock, Timestamp};
use http::HeaderValue;
use serde::Deserialize;

use super::{ConfigError, read};

/// How requests are authenticated (beside a client certificate, which is the connection's).
#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    None,
    Token(String),
    /// Read again every minute: the kubelet rotates it.
    TokenFile(PathBuf),
    Basic {
        username: String,
        password: String,
    },
    Exec(Box<ExecPlugin>),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(..)"),
            Self::TokenFile(path) => write!(f, "TokenFile({})", path.display()),
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::Exec(exec) => write!(f, "Exec({})", exec.command.display()),
        }
    }
}

/// A command that prints a token (an `ExecCredential`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecPlugin {
    pub api_version: String,
    pub command: PathBuf,
    #[serde(default)]
    pub args: Option<Vec<String>>,
    #[serde(default)]
    pub env: Option<Vec<ExecVariable>>,
    #[serde(default)]
    pub install_hint: Option<String>,
    #[serde(default)]
    pub provide_cluster_info: bool,
    /// What it is told of the cluster, when it asked for that.
    #[serde(skip)]
    pub cluster: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ExecVariable {
    pub name: String,
    pub value: String,
}

#[derive(Deserialize)]
struct ExecCredential {
    status: Option<ExecStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecStatus {
    token: Option<String>,
    expiration_timestamp: Option<Timestamp>,
}

const FILE_PERIOD: Duration = Duration::from_secs(60);

/// Gives the header, reading files and running plugins no more often than needed.
pub(crate) struct Authenticator {
    auth: Auth,
    clock: Clock,
    /// Held while a plugin runs, so that it runs once for all who wait.
    kept: tokio::sync::Mutex<Option<Kept>>,
}

struct Kept {
    header: HeaderValue,
    /// `None`: until it is refused.
    until: Option<Timestamp>,
}

impl Authenticator {
    pub fn new(auth: Auth, clock: Clock) -> Self {
        Self {
            auth,
            clock,
            kept: tokio::sync::Mutex::new(None),
        }
    }

    pub async fn header(&self) -> Result<Option<HeaderValue>, ConfigError> {
        if matches!(self.auth, Auth::None) {
            return Ok(None);
        }
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        if let Some(kept) = kept.as_ref().filter(|k| k.until.is_none_or(|until| now < until)) {
            return Ok(Some(kept.header.clone()));
        }
        let (value, until) = match &self.auth {
            Auth::None => return Ok(None),
            Auth::Token(token) => (format!("Bearer {token}"), None),
            Auth::Basic { username, password } => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
                (format!("Basic {pair}"), None)
            }
            Auth::TokenFile(path) => {
                let bytes = read(path)?;
                let token = String::from_utf8_lossy(&bytes).trim().to_owned();
                (format!("Bearer {token}"), now.checked_add(FILE_PERIOD).ok())
            }
            Auth::Exec(plugin) => {
                let status = plugin.run().await?;
                let why = "it gave no token; client certificates from plugins are not supported";
                let token = status.token.ok_or_else(|| plugin.invalid(why))?;
                (format!("Bearer {token}"), status.expiration_timestamp)
            }
        };
        let mut header = HeaderValue::from_str(&value).map_err(|e| ConfigError::invalid("the token", e))?;
        header.set_sensitive(true);
        *kept = Some(Kept {
            header: header.clone(),
            until,
        });
        Ok(Some(header))
    }

    /// Forgets what was refused; whether there is hope that the next is better.
    pub async fn renew(&self) -> bool {
        let renewable = matches!(self.auth, Auth::Exec(_) | Auth::TokenFile(_));
        if renewable {
            *self.kept.lock().await = None;
        }
        renewable
    }
}

impl ExecPlugin {
    fn invalid(&self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConfigError {
        let mut what = format!("credential plugin {}", self.command.display());
        if let Some(hint) = &self.install_hint {
            what = format!("{what} ({hint})");
        }
        ConfigError::invalid(what, why)
    }

    async fn run(&self) -> Result<ExecStatus, ConfigError> {
        let mut info = serde_json::json!({
            "apiVersion": self.api_version,
            "kind": "ExecCredential",
            "spec": {"interactive": false},
        });
        if let Some(cluster) = &self.cluster {
            info["spec"]["cluster"] = cluster.clone();
        }
        let mut command = tokio::process::Command::new(&self.command);
        command
            .args(self.args.iter().flatten())
            .envs(self.env.iter().flatten().map(|v| (&v.name, &v.value)))
            .env("KUBERNETES_EXEC_INFO", info.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let output = command.output().await.map_err(|e| self.invalid(e))?;
        if !output.status.success() {
            return Err(self.invalid(format!("it ended with {}", output.status)));
        }
        let credential: ExecCredential = serde_json::from_slice(&output.stdout).map_err(|e| self.invalid(e))?;
        credential.status.ok_or_else(|| self.invalid("it gave no status"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> ExecPlugin {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh", "args": ["-c", script],
            "env": [{"name": "WHO", "value": "me"}], "provideClusterInfo": false,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_plugins_token_is_kept_until_it_expires_or_is_refused() {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let script = r#"echo "{\"status\":{\"token\":\"$WHO-$$\",\"expirationTimestamp\":\"2026-01-01T01:00:00Z\"}}""#;
        let auth = Authenticator::new(Auth::Exec(Box::new(plugin(script))), clock);
        let first = auth.header().await.unwrap().unwrap();
        assert!(first.to_str().unwrap().starts_with("Bearer me-"));
        assert_eq!(auth.header().await.unwrap().unwrap(), first);
        assert!(auth.renew().await);
        assert_ne!(auth.header().await.unwrap().unwrap(), first);
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_named() {
        let auth = Authenticator::new(Auth::Exec(Box::new(plugin("exit 3"))), Clock::system());
        let error = auth.header().await.unwrap_err();
        assert!(error.to_string().contains("credential plugin sh"), "{error}");
    }
}
