//! Legacy token cleaner: token Secrets that were made automatically, once upon a time, and that nobody has used for a year are
//! first marked invalid and, a year later, deleted. Looks at all of them once a day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, DeleteOptions, Patch, gone_is_done};
use coracle_clock::{Clock, Timestamp};
use coracle_informer::{Action, Error, Lister};
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use serde_json::json;

use crate::Context;
use crate::persistent_volume::annotation;
use crate::service_account_token::{ACCOUNT_NAME, ACCOUNT_UID, token_secrets};

const NAME: &str = "legacy-serviceaccount-token-cleaner-controller";
const ACCOUNT: &str = "legacy-service-account-token-cleaner";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Since when the server writes down that tokens are used.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const INTERVAL: Duration = Duration::from_secs(86_400);
const UNUSED: SignedDuration = SignedDuration::from_hours(365 * 24);

/// There is one thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct All;

struct Cleaner {
    client: Client,
    clock: Clock,
    secrets: Lister<Secret>,
    accounts: Lister<ServiceAccount>,
    pods: Lister<Pod>,
}

pub async fn run(cx: Context) {
    let secrets = cx.informers.informer_of::<Secret>(token_secrets());
    let accounts = cx.informers.informer::<ServiceAccount>();
    let pods = cx.informers.informer::<Pod>();
    let context = Cleaner {
        client: cx.client_as(ACCOUNT, NAME),
        clock: cx.clock,
        secrets: secrets.lister(),
        accounts: accounts.lister(),
        pods: pods.lister(),
    };
    let controller = cx.controller(NAME, 1);
    controller.queue().add(All);
    controller
        .watches(&secrets, |_| [])
        .watches(&accounts, |_| [])
        .watches(&pods, |_| [])
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn label(secret: &Secret, key: &str) -> Option<String> {
    secret.metadata.labels.as_ref()?.get(key).cloned()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Mark,
    Delete,
}

/// `mounted` are the Secrets that pods of the namespace refer to.
fn verdict(secret: &Secret, account: Option<&ServiceAccount>, mounted: &BTreeSet<String>, now: Timestamp) -> Verdict {
    let meta = &secret.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let Ok(limit) = now.checked_sub(UNUSED) else {
        return Verdict::Keep;
    };
    let young = meta.creation_timestamp.as_ref().is_none_or(|t| t.0 >= limit);
    if young || meta.deletion_timestamp.is_some() {
        return Verdict::Keep;
    }
    if let Some(used) = label(secret, LAST_USED) {
        match used.parse::<Date>() {
            Ok(used) if used < day(limit) => {}
            // Used lately, or nobody can tell.
            _ => return Verdict::Keep,
        }
    }
    let uid = annotation::get(meta, ACCOUNT_UID).unwrap_or_default();
    let automatic = account.is_some_and(|account| {
        let same = uid.is_empty() || account.metadata.uid.as_deref() == Some(uid);
        let mut listed = account.secrets.iter().flatten();
        same && listed.any(|s| s.name.as_deref() == Some(name))
    });
    if !automatic || mounted.contains(name) {
        return Verdict::Keep;
    }
    match label(secret, INVALID_SINCE).and_then(|since| since.parse::<Date>().ok()) {
        None => Verdict::Mark,
        Some(since) if since >= day(limit) => Verdict::Keep,
        Some(_) => Verdict::Delete,
    }
}

/// The Secrets that a pod refers to, in whatever place.
fn secrets_of(pod: &Pod) -> Vec<String> {
    let mut names = Vec::new();
    let value = serde_json::to_value(&pod.spec).unwrap_or_default();
    collect(&value, &mut names);
    names
}

/// A pod names Secrets in volumes (`secret.secretName`, projected `secret.name`, `secretRef.name`), in the environment
/// (`secretKeyRef.name`, `secretRef.name`) and for image pulls (`imagePullSecrets[].name`).
fn collect(value: &serde_json::Value, names: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (field, inner) in fields {
                let is_reference = field.starts_with("secret") || field.ends_with("SecretRef");
                let listed = inner.as_array().filter(|_| field == "imagePullSecrets");
                let places = listed
                    .map(|l| l.iter().collect())
                    .unwrap_or_else(|| if is_reference { vec![inner] } else { Vec::new() });
                for place in places {
                    let named = place.get("secretName").or_else(|| place.get("name"));
                    names.extend(named.and_then(|n| n.as_str()).map(str::to_owned));
                }
                collect(inner, names);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

async fn reconcile(cx: Arc<Cleaner>, _all: All) -> Result<Action, Error> {
    let now = cx.clock.now();
    if !cx.tracks_long_enough(now).await? {
        return Ok(Action::After(INTERVAL));
    }
    let mut mounted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for secret in cx.secrets.list() {
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        let name = secret.metadata.name.clone().unwrap_or_default();
        let account = annotation::get(&secret.metadata, ACCOUNT_NAME).unwrap_or_default();
        let account = cx.accounts.find(&namespace, account);
        let used = mounted.entry(namespace.clone()).or_insert_with(|| {
            let pods = cx.pods.in_namespace(&namespace);
            pods.iter().flat_map(|p| secrets_of(p)).collect()
        });
        let secrets = cx.client.namespaced::<Secret>(&namespace);
        let done = match verdict(&secret, account.as_deref(), used, now) {
            Verdict::Keep => continue,
            Verdict::Mark => {
                let patch = json!({"metadata": {
                    "uid": secret.metadata.uid,
                    "labels": {INVALID_SINCE: day(now).to_string()},
                }});
                secrets.patch(&name, Patch::Merge(patch)).await.map(drop)
            }
            Verdict::Delete => {
                let options = DeleteOptions {
                    resource_version: secret.metadata.resource_version.clone(),
                    ..DeleteOptions::default()
                };
                secrets.delete(&name, &options).await.map(drop)
            }
        };
        if let Err(error) = gone_is_done(done)
            && !error.is_conflict()
        {
            tracing::error!(secret = name, namespace, %error, "an unused token was not cleaned up");
        }
    }
    Ok(Action::After(INTERVAL))
}

impl Cleaner {
    /// A token that was used before its use was written down looks unused.
    async fn tracks_long_enough(&self, now: Timestamp) -> Result<bool, Error> {
        let maps = self.client.namespaced::<ConfigMap>("kube-system");
        let Some(map) = maps.find(TRACKING).await? else {
            return Ok(false);
        };
        let since = map
            .data
            .as_ref()
            .and_then(|d| d.get("since"))
            .and_then(|s| s.parse::<Date>().ok());
        let Some(since) = since.and_then(|s| s.tomorrow().ok()) else {
            return Ok(false);
        };
        Ok(now.checked_sub(UNUSED).is_ok_and(|limit| day(limit) >= since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_marked_after_a_year_without_use_and_deleted_a_year_later() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let account: ServiceAccount = serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "u"}, "secrets": [{"name": "s"}],
        }))
        .unwrap();
        let secret = |name: &str, created: &str, used: Option<&str>, invalid: Option<&str>| -> Secret {
            serde_json::from_value(
                json!({"metadata": {
                    "name": name, "creationTimestamp": created,
                    "annotations": {ACCOUNT_NAME: "a", ACCOUNT_UID: "u"},
                    "labels": {LAST_USED: used, INVALID_SINCE: invalid},
                }})
                .as_object()
                .map(|o| {
                    let mut o = o.clone();
                    if let Some(labels) = o["metadata"]["labels"].as_object_mut() {
                        labels.retain(|_, v| !v.is_null());
                    }
                    serde_json::Value::Object(o)
                })
                .unwrap(),
            )
            .unwrap()
        };
        let old = "2020-01-01T00:00:00Z";
        for (name, created, used, invalid, wanted) in [
            ("s", old, None, None, Verdict::Mark),
            ("s", old, Some("2025-05-31"), None, Verdict::Mark),
            ("s", old, Some("2025-06-01"), None, Verdict::Keep),
            ("s", old, Some("never"), None, Verdict::Keep),
            ("s", "2025-12-01T00:00:00Z", None, None, Verdict::Keep),
            ("s", old, None, Some("2025-07-01"), Verdict::Keep),
            ("s", old, None, Some("2025-05-01"), Verdict::Delete),
            // Made by hand: its account does not list it.
            ("mine", old, None, Some("2025-05-01"), Verdict::Keep),
        ] {
            let secret = secret(name, created, used, invalid);
            assert_eq!(
                verdict(&secret, Some(&account), &BTreeSet::new(), now),
                wanted,
                "{name} {created} {used:?} {invalid:?}"
            );
        }
        let used = BTreeSet::from(["s".to_owned()]);
        assert_eq!(
            verdict(&secret("s", old, None, None), Some(&account), &used, now),
            Verdict::Keep
        );
        assert_eq!(
            verdict(&secret("s", old, None, None), None, &BTreeSet::new(), now),
            Verdict::Keep
        );
    }

    #[test]
    fn a_pods_secrets_are_found_wherever_it_names_them() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "all"}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "one", "key": "k"}}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "files"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}]}},
                {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
            ],
        }}))
        .unwrap();
        let mut names = secrets_of(&pod);
        names.sort();
        names.dedup();
        assert_eq!(names, ["all", "csi", "files", "one", "part", "pull"]);
    }
}
