//! ServiceAccount: every pod runs as a service account of its namespace, and finds that account's token, the cluster's
//! CA and its namespace where in-cluster clients look for them.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use coracle_clock::Random;
use serde_json::{Value, json};

use super::{Admission, Attributes, Operation};
use crate::registry::{meta, read};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour and seven seconds, which upstream's kubelets recognise as "nobody chose this".
const TOKEN_SECONDS: i64 = 3607;

pub(super) struct ServiceAccount;

#[async_trait]
impl Admission for ServiceAccount {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("pods") && attributes.operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, pod: &mut Object) -> Result<bool, Status> {
        if pod.annotation(MIRROR).is_some() {
            return Ok(false);
        }
        let mut name = pod.str(&["spec", "serviceAccountName"]).unwrap_or_default().to_owned();
        if name.is_empty() {
            name = pod
                .str(&["spec", "serviceAccount"])
                .filter(|s| !s.is_empty())
                .unwrap_or("default")
                .to_owned();
        }
        let account = account(attributes, &name).await?;
        pod.set(&["spec", "serviceAccountName"], name.as_str());
        pod.set(&["spec", "serviceAccount"], name.as_str());
        let automount = pod
            .bool(&["spec", "automountServiceAccountToken"])
            .or_else(|| account.bool(&["automountServiceAccountToken"]))
            .unwrap_or(true);
        if automount {
            mount_token(pod, &attributes.core.random);
        }
        if pod.array(&["spec", "imagePullSecrets"]).is_empty() {
            let secrets = account.array(&["imagePullSecrets"]);
            if !secrets.is_empty() {
                pod.set(&["spec", "imagePullSecrets"], secrets.to_vec());
            }
        }
        Ok(true)
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|p| p.annotation(MIRROR).is_some()) else {
            return Ok(());
        };
        if pod.str(&["spec", "serviceAccountName"]).is_some_and(|s| !s.is_empty()) {
            return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
        }
        let mut volumes = pod.array(&["spec", "volumes"]).iter();
        if volumes.any(|v| v.get("secret").is_some()) {
            return Err(attributes.forbidden("a mirror pod may not reference secrets"));
        }
        Ok(())
    }
}

async fn account(attributes: &Attributes<'_>, name: &str) -> Result<Object, Status> {
    let table = attributes.core.registry.table();
    let missing = || {
        let namespace = &attributes.target.namespace;
        attributes.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        ))
    };
    let row = table.get("", "v1", "serviceaccounts").ok_or_else(missing)?;
    let key = row.key(&attributes.target.namespace, name);
    Ok(read::load(attributes.core, row, &key)
        .await?
        .ok_or_else(missing)?
        .object)
}

fn mount_token(pod: &mut Object, random: &Random) {
    let existing = pod
        .array(&["spec", "volumes"])
        .iter()
        .filter_map(|v| v.get("name")?.as_str())
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let volume = existing
        .clone()
        .unwrap_or_else(|| meta::generate_name("kube-api-access-", random));
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = pod.get_mut(&["spec", list]) else {
            continue;
        };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let mounts = container
                .entry("volumeMounts")
                .or_insert_with(|| Value::Array(Vec::new()));
            if mounts.is_null() {
                *mounts = Value::Array(Vec::new());
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts
                .iter()
                .any(|m| m.get("mountPath").and_then(Value::as_str) == Some(MOUNT_PATH))
            {
                continue;
            }
            mounts.push(mount.clone());
            mounted = true;
        }
    }
    if mounted && existing.is_none() {
        let mut volumes = pod.array(&["spec", "volumes"]).to_vec();
        volumes.push(json!({
            "name": volume,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                    {"configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
            },
        }));
        pod.set(&["spec", "volumes"], volumes);
    }
}
