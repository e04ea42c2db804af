//! Bootstrap tokens: Secrets of kube-system by which machines that know nothing yet can join. Pure.

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::Secret;

pub const NAMESPACE: &str = "kube-system";
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";

/// A text of the Secret; empty where there is none.
fn text<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let data = secret.data.as_ref().and_then(|d| d.get(key));
    data.and_then(|d| std::str::from_utf8(&d.0).ok()).unwrap_or_default()
}

fn is_of(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// When the token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Never,
    At(Timestamp),
    /// The time cannot be read, which is as good as past.
    Now,
}

pub fn end(secret: &Secret) -> End {
    match text(secret, "expiration") {
        "" => End::Never,
        time => time.parse().map_or(End::Now, End::At),
    }
}

pub fn is_over(secret: &Secret, now: Timestamp) -> bool {
    match end(secret) {
        End::Never => false,
        End::At(at) => at <= now,
        End::Now => true,
    }
}

pub fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE) && secret.metadata.namespace.as_deref() == Some(NAMESPACE)
}

/// Id and secret of a token that may sign.
pub fn signing(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, key) = (text(secret, "token-id"), text(secret, "token-secret"));
    let name = secret.metadata.name.as_deref()?;
    let usable = is_token(secret)
        && secret.metadata.deletion_timestamp.is_none()
        && is_of(id, 6)
        && is_of(key, 16)
        && name.strip_prefix(PREFIX) == Some(id)
        && text(secret, "usage-bootstrap-signing") == "true"
        && !is_over(secret, now);
    usable.then_some((id, key))
}
