//! Bootstrap tokens: `abcdef.0123456789abcdef`, kept in Secrets of `kube-system`, with which nodes join.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::object::Object;
use coracle_api::service::UserInfo;
use coracle_clock::Timestamp;
use ring::digest::{SHA256, digest};

use crate::core::Core;
use crate::registry::read;

const KIND: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
const GROUP: &str = "system:bootstrappers";

/// A token's two parts, if it is one by its form.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    (is(id, 6) && is(secret, 16)).then_some((id, secret))
}

/// The user of a bootstrap token that is good.
pub(super) async fn authenticate(core: &Arc<Core>, token: &str) -> Option<UserInfo> {
    let (id, _) = parts(token)?;
    let table = core.registry.table();
    let row = table.get("", "v1", "secrets")?;
    let key = row.key(NAMESPACE, &format!("bootstrap-token-{id}"));
    let secret = read::load(core, row, &key).await.ok()??.object;
    match user(&secret, token, core.clock.now()) {
        Ok(user) => Some(user),
        Err(why) => {
            tracing::debug!(id, why, "a bootstrap token was refused");
            None
        }
    }
}

/// Whom the token in this secret stands for, or why nobody.
fn user(secret: &Object, token: &str, now: Timestamp) -> Result<UserInfo, &'static str> {
    let (id, given) = parts(token).ok_or("it has not the form")?;
    let data = |key: &str| {
        let bytes = STANDARD
            .decode(secret.str(&["data", key]).unwrap_or_default())
            .unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    if secret.str(&["type"]) != Some(KIND) || secret.is_terminating() {
        return Err("the secret is of another type or going");
    }
    let same = digest(&SHA256, data("token-secret").as_bytes()).as_ref() == digest(&SHA256, given.as_bytes()).as_ref();
    if data("token-id") != id || data("token-secret").is_empty() || !same {
        return Err("it is not the one in the secret");
    }
    let expiration = data("expiration");
    if !expiration.is_empty() {
        let expires: Timestamp = expiration.parse().map_err(|_| "its expiration cannot be read")?;
        if now >= expires {
            return Err("it has expired");
        }
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err("it is not for authentication");
    }
    let extra = data("auth-extra-groups");
    let mut groups: BTreeSet<&str> = extra.split(',').filter(|g| !g.is_empty()).collect();
    if !groups.iter().all(|g| is_group(g)) {
        return Err("a group does not begin with system:bootstrappers:");
    }
    groups.insert(GROUP);
    let mut groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
    groups.push(super::AUTHENTICATED.into());
    Ok(UserInfo {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    rest.len() <= 256
        && rest.bytes().all(|b| plain(b) || matches!(b, b':' | b'-'))
        && rest.bytes().next_back().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn secret(more: &[(&str, &str)]) -> Object {
        let mut data = serde_json::Map::new();
        let all = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in all.iter().chain(more) {
            data.insert((*key).to_owned(), Value::from(STANDARD.encode(value)));
        }
        Object::from_value(json!({"type": KIND, "data": data})).unwrap()
    }

    #[test]
    fn a_token_is_good_as_long_as_its_secret_says_so() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let made = user(
            &secret(&[("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token")]),
            TOKEN,
            now,
        )
        .unwrap();
        assert_eq!(made.name, "system:bootstrap:abcdef");
        assert_eq!(
            made.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:kubeadm:default-node-token",
                "system:authenticated"
            ]
        );
        for (more, token) in [
            (&[][..], "abcdef.0123456789abcdee"),
            (&[("expiration", "2025-12-31T00:00:00Z")], TOKEN),
            (&[("expiration", "soon")], TOKEN),
            (&[("usage-bootstrap-authentication", "false")], TOKEN),
            (&[("auth-extra-groups", "system:masters")], TOKEN),
            (&[("token-id", "other1")], TOKEN),
        ] {
            assert!(user(&secret(more), token, now).is_err(), "{more:?} {token}");
        }
        assert!(user(&secret(&[("expiration", "2026-01-02T00:00:00Z")]), TOKEN, now).is_ok());
    }
}
