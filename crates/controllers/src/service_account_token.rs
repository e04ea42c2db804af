//! Service account tokens in Secrets: fills Secrets of type `kubernetes.io/service-account-token` with a token that does not
//! expire, the CA and the namespace; deletes those whose account is gone. Watches Secrets of that type and
//! ServiceAccounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_client::{Client, DeleteOptions, ObjectKey, gone_is_done};
use coracle_informer::{Action, Error, InformerOptions, Lister};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;

use crate::Context;
use crate::keys::TokenKey;
use crate::persistent_volume::annotation;

const NAME: &str = "serviceaccount-token-controller";
const WORKERS: usize = 5;
pub const TYPE: &str = "kubernetes.io/service-account-token";
pub const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const ISSUER: &str = "kubernetes/serviceaccount";
/// Secrets by the account that they name, `namespace/name`.
const BY_ACCOUNT: &str = "account";

struct Tokens {
    client: Client,
    secrets: Lister<Secret>,
    accounts: Lister<ServiceAccount>,
    key: Arc<TokenKey>,
    ca: Arc<str>,
}

/// A Secret to look at, or a reference to one that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Secret(ObjectKey<Secret>),
    /// The account may still refer to this Secret.
    Reference {
        account: ObjectKey<ServiceAccount>,
        uid: String,
        secret: String,
    },
}

/// Secrets that hold tokens, and no others.
pub(crate) fn token_secrets() -> InformerOptions {
    InformerOptions {
        field_selector: format!("type={TYPE}"),
        ..InformerOptions::default()
    }
}

pub async fn run(cx: Context) {
    let Some(key) = cx.keys.service_account.clone() else {
        tracing::info!(
            controller = NAME,
            "there is no service account key here; token Secrets are left alone"
        );
        return;
    };
    let secrets = cx.informers.informer_of::<Secret>(token_secrets());
    let accounts = cx.informers.informer::<ServiceAccount>();
    secrets.add_index(BY_ACCOUNT, |secret: &Secret| {
        let account = annotation::get(&secret.metadata, ACCOUNT_NAME)?;
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        Some(format!("{namespace}/{account}"))
    });
    let context = Tokens {
        // Upstream's too acts with the manager's own rights here: a controller that can write any token needs no account.
        client: cx.client.named(NAME),
        secrets: secrets.lister(),
        accounts: accounts.lister(),
        key,
        ca: cx.cluster_ca.clone(),
    };
    let of_account = secrets.lister();
    cx.controller(NAME, WORKERS)
        .watches_changes(&secrets, |change| {
            let secret = change.object();
            if !change.is_deletion() {
                return vec![Key::Secret(ObjectKey::of(&**secret))];
            }
            let meta = &secret.metadata;
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let account = annotation::get(meta, ACCOUNT_NAME);
            let reference = account.map(|account| Key::Reference {
                account: ObjectKey::new(namespace, account),
                uid: annotation::get(meta, ACCOUNT_UID).unwrap_or_default().to_owned(),
                secret: meta.name.clone().unwrap_or_default(),
            });
            reference.into_iter().collect()
        })
        .watches_changes(&accounts, move |change| {
            let account = ObjectKey::of(&**change.object()).to_string();
            if change.old().is_some() && !change.is_deletion() {
                return Vec::new();
            }
            let secrets = of_account.by_index(BY_ACCOUNT, &account);
            secrets
                .iter()
                .map(|s| Key::Secret(ObjectKey::of(&**s)))
                .collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Tokens>, key: Key) -> Result<Action, Error> {
    match key {
        Key::Secret(key) => cx.secret(&key).await,
        Key::Reference { account, uid, secret } => cx.dereference(&account, &uid, &secret).await,
    }
}

/// Whether the account is the one that a Secret means; a Secret may leave the UID open.
fn is_meant(account: &ServiceAccount, uid: &str) -> bool {
    uid.is_empty() || account.metadata.uid.as_deref() == Some(uid)
}

impl Tokens {
    async fn secret(&self, key: &ObjectKey<Secret>) -> Result<Action, Error> {
        let Some(secret) = self.secrets.get(key).filter(|s| s.type_.as_deref() == Some(TYPE)) else {
            return Ok(Action::Done);
        };
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let name = annotation::get(&secret.metadata, ACCOUNT_NAME).unwrap_or_default();
        let uid = annotation::get(&secret.metadata, ACCOUNT_UID).unwrap_or_default();
        let account = self.accounts.find(&key.namespace, name).filter(|a| is_meant(a, uid));
        let account = match account {
            Some(account) => Some(account),
            // The Secret may be newer than the cache of accounts.
            None if !name.is_empty() => {
                let accounts = self.client.namespaced::<ServiceAccount>(&key.namespace);
                accounts.find(name).await?.filter(|a| is_meant(a, uid))
            }
            None => None,
        };
        let secrets = self.client.namespaced::<Secret>(&key.namespace);
        let Some(account) = account else {
            let options = DeleteOptions {
                uid: secret.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            gone_is_done(secrets.delete(&key.name, &options).await)?;
            return Ok(Action::Done);
        };
        match filled(&secret, &account, &self.ca, &self.key) {
            None => Ok(Action::Done),
            Some(None) => Err(Error::message("the service account key did not sign")),
            Some(Some(changed)) => {
                gone_is_done(secrets.update(&changed).await)?;
                Ok(Action::Done)
            }
        }
    }

    /// Takes a Secret that is gone out of its account's list.
    async fn dereference(&self, key: &ObjectKey<ServiceAccount>, uid: &str, secret: &str) -> Result<Action, Error> {
        if self.secrets.find(&key.namespace, secret).is_some() {
            return Ok(Action::Done);
        }
        let refers = |account: &ServiceAccount| {
            let mut secrets = account.secrets.iter().flatten();
            is_meant(account, uid) && secrets.any(|s| s.name.as_deref() == Some(secret))
        };
        let accounts = self.client.namespaced::<ServiceAccount>(&key.namespace);
        let Some(account) = accounts.find(&key.name).await?.filter(|a| refers(a)) else {
            return Ok(Action::Done);
        };
        let mut changed = (*account).clone();
        if let Some(secrets) = &mut changed.secrets {
            secrets.retain(|s| s.name.as_deref() != Some(secret));
        }
        gone_is_done(accounts.update(&changed).await)?;
        Ok(Action::Done)
    }
}

/// The Secret with all that it should have; `None` if it has, `Some(None)` if the key does not sign.
fn filled(secret: &Secret, account: &ServiceAccount, ca: &str, key: &TokenKey) -> Option<Option<Secret>> {
    let mut changed = secret.clone();
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    let data: &mut BTreeMap<String, ByteString> = changed.data.get_or_insert_default();
    if !ca.is_empty() {
        data.insert("ca.crt".into(), ByteString(ca.as_bytes().to_vec()));
    }
    if data.get("namespace").is_none_or(|n| n.0.is_empty()) {
        data.insert("namespace".into(), ByteString(namespace.clone().into_bytes()));
    }
    let name = account.metadata.name.clone().unwrap_or_default();
    let uid = account.metadata.uid.clone().unwrap_or_default();
    if data.get("token").is_none_or(|t| t.0.is_empty()) {
        let claims = json!({
            "iss": ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret.metadata.name,
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
        });
        let Some(token) = key.token(&claims) else {
            return Some(None);
        };
        data.insert("token".into(), ByteString(token.into_bytes()));
    }
    annotation::set(&mut changed.metadata, ACCOUNT_NAME, &name);
    annotation::set(&mut changed.metadata, ACCOUNT_UID, &uid);
    (changed != *secret).then_some(Some(changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;

    fn key() -> TokenKey {
        TokenKey::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    fn account() -> ServiceAccount {
        serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "d", "uid": "u"}})).unwrap()
    }

    #[test]
    fn a_secret_gets_token_ca_namespace_and_the_accounts_uid() {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "d", "annotations": {ACCOUNT_NAME: "a"}}, "type": TYPE,
        }))
        .unwrap();
        let key = key();
        let made = filled(&secret, &account(), "CA", &key).unwrap().unwrap();
        assert_eq!(annotation::get(&made.metadata, ACCOUNT_UID), Some("u"));
        let data = made.data.as_ref().unwrap();
        assert_eq!((&*data["ca.crt"].0, &*data["namespace"].0), (&b"CA"[..], &b"d"[..]));
        let token = std::str::from_utf8(&data["token"].0).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:d:a");
        assert_eq!(claims["kubernetes.io/serviceaccount/secret.name"], "s");
        assert_eq!(claims.get("exp"), None);
        // What is complete is left alone; a CA that changed is replaced, the token is not.
        assert!(filled(&made, &account(), "CA", &key).is_none());
        let renewed = filled(&made, &account(), "CA 2", &key).unwrap().unwrap();
        assert_eq!(renewed.data.as_ref().unwrap()["token"], data["token"]);
    }

    #[test]
    fn a_secret_means_the_account_of_its_name_and_of_its_uid_if_it_says_one() {
        assert!(is_meant(&account(), ""));
        assert!(is_meant(&account(), "u"));
        assert!(!is_meant(&account(), "older"));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert!(matches!(TokenKey::from_pem("x"), Err(crate::keys::KeyError::Pem)));
    }
}
