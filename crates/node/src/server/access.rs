//! Who may call the agent, and for what: a client certificate of the cluster's authority or a bearer token that the API
//! server vouches for says who; the API server's authorizer says whether. Nobody is let in without a name.

use std::collections::HashMap;
use std::time::Duration;

use coracle_client::{Client, Error};
use coracle_clock::{Clock, Instant};
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Method, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use parking_lot::Mutex;
use ring::digest;

/// As long as upstream's: a token is believed, a permission and a refusal remembered.
const TOKEN_LIFE: Duration = Duration::from_secs(120);
const ALLOWED_LIFE: Duration = Duration::from_secs(300);
const DENIED_LIFE: Duration = Duration::from_secs(30);
/// What is remembered at most, of each.
const MEMORY: usize = 1024;

/// What a request asks leave for: a verb on a part of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Permission {
    pub(super) verb: &'static str,
    /// Of `nodes`.
    pub(super) subresource: &'static str,
}

/// What a request needs; any one of it is enough.
pub(super) fn needed(method: &Method, path: &str) -> Vec<Permission> {
    let mut verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let first = path.split('/').find(|p| !p.is_empty()).unwrap_or_default();
    let also = match first {
        // A command in a container is not something that is read, even when it is asked for by GET as WebSockets are.
        "exec" | "attach" | "portForward" | "run" => {
            verb = "create";
            None
        }
        "stats" => {
            return vec![Permission {
                verb,
                subresource: "stats",
            }];
        }
        "metrics" => {
            return vec![Permission {
                verb,
                subresource: "metrics",
            }];
        }
        "logs" => {
            return vec![Permission {
                verb,
                subresource: "log",
            }];
        }
        "pods" | "runningpods" => Some("pods"),
        "healthz" => Some("healthz"),
        "configz" => Some("configz"),
        _ => None,
    };
    let also = also.map(|subresource| Permission { verb, subresource });
    let proxy = Permission {
        verb,
        subresource: "proxy",
    };
    also.into_iter().chain([proxy]).collect()
}

/// What was found out, until when it holds.
struct Memory<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Eq + std::hash::Hash, V: Clone> Memory<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &K, now: Instant) -> Option<V> {
        let known = self.0.lock();
        known.get(key).filter(|(_, until)| now < *until).map(|(v, _)| v.clone())
    }

    fn put(&self, key: K, value: V, now: Instant, life: Duration) {
        let mut known = self.0.lock();
        if known.len() >= MEMORY {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() >= MEMORY {
            known.clear();
        }
        known.insert(key, (value, now + life));
    }
}

type Asked = (String, Vec<String>, Permission);

/// Asks the API server, and remembers.
pub(super) struct Access {
    client: Client,
    clock: Clock,
    node: String,
    /// By the token's hash: a token itself is kept nowhere.
    tokens: Memory<Vec<u8>, UserInfo>,
    decisions: Memory<Asked, bool>,
}

impl Access {
    pub(super) fn new(client: Client, clock: Clock, node: String) -> Self {
        Self {
            client,
            clock,
            node,
            tokens: Memory::new(),
            decisions: Memory::new(),
        }
    }

    /// Whether the request may be answered; else with what it is refused.
    pub(super) async fn check(
        &self,
        certificate: Option<&UserInfo>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<(), (StatusCode, String)> {
        let unknown = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let user = match certificate {
            Some(user) => user.clone(),
            None => {
                let token = bearer(headers).ok_or_else(unknown)?;
                self.token(token).await?.ok_or_else(unknown)?
            }
        };
        let needed = needed(method, path);
        for permission in &needed {
            if self.allows(&user, *permission).await? {
                return Ok(());
            }
        }
        let last = needed.last().map_or("", |p| p.subresource);
        let verb = needed.last().map_or("", |p| p.verb);
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource={last})",
            user.username.unwrap_or_default()
        );
        Err((StatusCode::FORBIDDEN, text))
    }

    async fn token(&self, token: &str) -> Result<Option<UserInfo>, (StatusCode, String)> {
        let hash = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec();
        let now = self.clock.instant();
        if let Some(user) = self.tokens.get(&hash, now) {
            return Ok(Some(user));
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let answer = self.client.all::<TokenReview>().create(&review).await.map_err(failed)?;
        let status = answer.status.clone().unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        self.tokens.put(hash, user.clone(), now, TOKEN_LIFE);
        Ok(Some(user))
    }

    async fn allows(&self, user: &UserInfo, permission: Permission) -> Result<bool, (StatusCode, String)> {
        let groups = user.groups.clone().unwrap_or_default();
        // Every authorizer allows them everything, also while the API server cannot be asked.
        if groups.iter().any(|g| g == "system:masters") {
            return Ok(true);
        }
        let asked = (user.username.clone().unwrap_or_default(), groups, permission);
        let now = self.clock.instant();
        if let Some(known) = self.decisions.get(&asked, now) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                groups: user.groups.clone(),
                uid: user.uid.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(permission.verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(permission.subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api = self.client.all::<SubjectAccessReview>();
        let answer = api.create(&review).await.map_err(failed)?;
        let allowed = answer.status.as_ref().is_some_and(|s| s.allowed);
        let life = if allowed { ALLOWED_LIFE } else { DENIED_LIFE };
        self.decisions.put(asked, allowed, now, life);
        Ok(allowed)
    }
}

fn failed(error: Error) -> (StatusCode, String) {
    tracing::warn!(%error, "the API server was not asked who may call the node's API");
    let text = "the API server cannot be asked whether this is allowed".to_owned();
    (StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|t| scheme.eq_ignore_ascii_case("bearer") && !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_needs_its_own_part_of_the_node_or_all_of_it() {
        for (method, path, expected) in [
            (Method::GET, "/healthz", vec![("get", "healthz"), ("get", "proxy")]),
            (Method::GET, "/pods", vec![("get", "pods"), ("get", "proxy")]),
            (Method::GET, "/stats/summary", vec![("get", "stats")]),
            (Method::GET, "/metrics/cadvisor", vec![("get", "metrics")]),
            (Method::GET, "/logs/", vec![("get", "log")]),
            (Method::GET, "/containerLogs/a/b/c", vec![("get", "proxy")]),
            (Method::GET, "/exec/a/b/c", vec![("create", "proxy")]),
            (Method::POST, "/portForward/a/b", vec![("create", "proxy")]),
            (Method::DELETE, "/nonsense", vec![("delete", "proxy")]),
        ] {
            let found: Vec<_> = needed(&method, path).iter().map(|p| (p.verb, p.subresource)).collect();
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_out_is_forgotten_in_time_and_bounded() {
        let clock = Clock::system();
        let memory = Memory::new();
        memory.put(0, true, clock.instant(), DENIED_LIFE);
        assert_eq!(memory.get(&0, clock.instant()), Some(true));
        assert_eq!(memory.get(&0, clock.instant() + DENIED_LIFE), None);
        for key in 0..10 * MEMORY {
            memory.put(key, false, clock.instant(), DENIED_LIFE);
        }
        assert!(memory.0.lock().len() <= MEMORY);
    }

    #[test]
    fn a_bearer_s_token_is_what_follows_the_scheme() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, http::HeaderValue::from_static(text));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc"), Some("abc".into()));
        assert_eq!(of("bearer  abc "), Some("abc".into()));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("Bearer "), None);
    }
}
