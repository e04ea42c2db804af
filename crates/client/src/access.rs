//! Who calls a component, and whether it may: a bearer token is shown to the API server, and so is the question. What was
//! found out is remembered for as long as upstream's components remember it.
//!
//! A component that serves anything but health asks here. What a caller needs leave for is the component's to say.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use http::header::{AUTHORIZATION, HeaderMap};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use parking_lot::Mutex;
use ring::digest;
use tokio::sync::Semaphore;

use crate::{Client, Error};

/// As long as upstream's: a token is believed, a permission and a refusal remembered.
const TOKEN_LIFE: Duration = Duration::from_secs(120);
const ALLOWED_LIFE: Duration = Duration::from_secs(300);
const DENIED_LIFE: Duration = Duration::from_secs(30);
/// What is remembered at most, of each.
const MEMORY: usize = 1024;
/// Questions to the API server at once: what strangers send makes no more of them.
const QUESTIONS: usize = 8;

/// What a caller asks leave for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// A verb on a part of an object of the core group's, which has no namespace.
    Resource {
        verb: &'static str,
        resource: &'static str,
        subresource: &'static str,
        name: String,
    },
    /// A verb on a path.
    Path { verb: &'static str, path: String },
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

/// All of the user that an authorizer may look at, and what for.
type Asked = (UserKey, Permission);
type UserKey = (String, String, Vec<String>, BTreeMap<String, Vec<String>>);

fn user_key(user: &UserInfo) -> UserKey {
    (
        user.username.clone().unwrap_or_default(),
        user.uid.clone().unwrap_or_default(),
        user.groups.clone().unwrap_or_default(),
        user.extra.clone().unwrap_or_default(),
    )
}

/// Asks the API server, and remembers.
pub struct Access {
    client: Client,
    clock: Clock,
    /// By the token's hash: a token itself is kept nowhere.
    tokens: Memory<Vec<u8>, UserInfo>,
    decisions: Memory<Asked, bool>,
    questions: Semaphore,
}

impl Access {
    pub fn new(client: Client, clock: Clock) -> Self {
        Self {
            client,
            clock,
            tokens: Memory::new(),
            decisions: Memory::new(),
            questions: Semaphore::new(QUESTIONS),
        }
    }

    /// Whom the API server knows by the token; `None` when it knows nobody.
    pub async fn user(&self, token: &str) -> Result<Option<UserInfo>, Error> {
        let hash = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec();
        if let Some(user) = self.tokens.get(&hash, self.clock.instant()) {
            return Ok(Some(user));
        }
        let _turn = self.questions.acquire().await;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let answer = self.client.all::<TokenReview>().create(&review).await?;
        let status = answer.status.clone().unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        self.tokens.put(hash, user.clone(), self.clock.instant(), TOKEN_LIFE);
        Ok(Some(user))
    }

    /// Whether the API server's authorizer gives the user leave.
    pub async fn allows(&self, user: &UserInfo, permission: &Permission) -> Result<bool, Error> {
        // Every authorizer allows them everything, also while the API server cannot be asked.
        if user.groups.iter().flatten().any(|g| g == "system:masters") {
            return Ok(true);
        }
        let asked = (user_key(user), permission.clone());
        if let Some(known) = self.decisions.get(&asked, self.clock.instant()) {
            return Ok(known);
        }
        let _turn = self.questions.acquire().await;
        let review = review(user, permission);
        let answer = self.client.all::<SubjectAccessReview>().create(&review).await?;
        let allowed = answer.status.as_ref().is_some_and(|s| s.allowed);
        let life = if allowed { ALLOWED_LIFE } else { DENIED_LIFE };
        self.decisions.put(asked, allowed, self.clock.instant(), life);
        Ok(allowed)
    }
}

fn review(user: &UserInfo, permission: &Permission) -> SubjectAccessReview {
    let mut spec = SubjectAccessReviewSpec {
        user: user.username.clone(),
        groups: user.groups.clone(),
        uid: user.uid.clone(),
        extra: user.extra.clone(),
        ..SubjectAccessReviewSpec::default()
    };
    match permission {
        Permission::Resource {
            verb,
            resource,
            subresource,
            name,
        } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                version: Some("v1".to_owned()),
                resource: Some((*resource).to_owned()),
                subresource: Some((*subresource).to_owned()),
                name: Some(name.clone()),
                ..ResourceAttributes::default()
            });
        }
        Permission::Path { verb, path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes {
                path: Some(path.clone()),
                verb: Some((*verb).to_owned()),
            });
        }
    }
    SubjectAccessReview {
        spec,
        ..SubjectAccessReview::default()
    }
}

/// The token of a request, if it bears one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|t| scheme.eq_ignore_ascii_case("bearer") && !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn users_of_one_name_are_told_apart_by_all_that_is_known_of_them() {
        let user = |uid: &str, scope: &str| UserInfo {
            username: Some("a".into()),
            uid: Some(uid.into()),
            extra: Some([("scopes".to_owned(), vec![scope.to_owned()])].into()),
            ..UserInfo::default()
        };
        assert_eq!(user_key(&user("1", "all")), user_key(&user("1", "all")));
        assert_ne!(user_key(&user("1", "all")), user_key(&user("1", "one")));
        assert_ne!(user_key(&user("1", "all")), user_key(&user("2", "all")));
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
