//! The volumes of a pod. One file per type behind [`Volume`]; a type that this node does not know is an error and never
//! an empty directory. [`set_up`] makes all of a pod's volumes ready or brings them up to date.

pub(crate) mod atomic;
mod cluster_trust_bundle;
mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
pub(crate) mod mounts;
mod nfs;
mod ownership;
mod payload;
mod pem;
mod persistent_volume_claim;
mod pod_certificate;
mod projected;
mod secret;
pub(crate) mod sub_path;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1 as api;
use parking_lot::Mutex;

use crate::objects::Objects;
use crate::pod::downward::NodeFacts;

/// What a volume is made from and for.
pub(crate) struct Setup<'a> {
    pub(crate) pod: &'a api::Pod,
    /// The pod's own directory.
    pub(crate) pod_dir: &'a Path,
    /// Where the node keeps volumes that outlive pods.
    pub(crate) volumes_dir: &'a Path,
    pub(crate) objects: &'a dyn Objects,
    pub(crate) node: &'a NodeFacts,
    pub(crate) now: Timestamp,
    pub(crate) tokens: &'a Tokens,
}

impl Setup<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn fs_group(&self) -> Option<u32> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }

    /// The user that all of the pod's containers run as, if it is one.
    fn fs_user(&self) -> Option<u32> {
        let spec = self.pod.spec.as_ref()?;
        let default = spec.security_context.as_ref().and_then(|c| c.run_as_user);
        let each = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let mut users = each.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(default));
        let first = users.next()??;
        users
            .all(|user| user == Some(first))
            .then(|| u32::try_from(first).ok())?
    }

    /// Where the volume lives: upstream's layout, so that its tools find their way.
    fn dir(&self, plugin: &str, volume: &str) -> PathBuf {
        self.pod_dir
            .join("volumes")
            .join(format!("kubernetes.io~{plugin}"))
            .join(volume)
    }
}

/// What one pod has been given for a time: tokens of its service account by audience, certificates by their source.
#[derive(Default)]
pub(crate) struct Tokens {
    held: Mutex<BTreeMap<String, Token>>,
    certificates: Mutex<BTreeMap<String, pod_certificate::Certificate>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Tokens {
    /// The earliest time at which one of them wants to be renewed.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        let tokens = self.held.lock().values().map(|t| t.renew_at).min();
        let certificates = self.certificates.lock().values().filter_map(|c| c.renew_at()).min();
        tokens.into_iter().chain(certificates).min()
    }
}

/// One type of volume. `set_up` is idempotent: the second call brings the contents up to date.
#[async_trait]
trait Volume: Send + Sync {
    /// Returns what containers mount. The error is the end of the FailedMount event's message.
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String>;
}

fn of(volume: &api::Volume) -> Result<&dyn Volume, String> {
    let known: [Option<&dyn Volume>; 9] = [
        volume.empty_dir.as_ref().map(|v| v as &dyn Volume),
        volume.host_path.as_ref().map(|v| v as &dyn Volume),
        volume.config_map.as_ref().map(|v| v as &dyn Volume),
        volume.secret.as_ref().map(|v| v as &dyn Volume),
        volume.downward_api.as_ref().map(|v| v as &dyn Volume),
        volume.projected.as_ref().map(|v| v as &dyn Volume),
        volume.persistent_volume_claim.as_ref().map(|v| v as &dyn Volume),
        volume.ephemeral.as_ref().map(|v| v as &dyn Volume),
        volume.nfs.as_ref().map(|v| v as &dyn Volume),
    ];
    match known.into_iter().flatten().next() {
        Some(volume) => Ok(volume),
        None => Err(format!(
            "no volume plugin matched: this node cannot provide {} volumes",
            type_name(volume)
        )),
    }
}

/// The name of the field that says which type it is.
fn type_name(volume: &api::Volume) -> String {
    let fields = serde_json::to_value(volume).ok();
    let keys = fields.as_ref().and_then(|v| v.as_object()).into_iter().flatten();
    keys.map(|(key, _)| key.clone())
        .find(|key| key != "name")
        .unwrap_or_else(|| "untyped".into())
}

/// Whether containers may only read the volume, whatever they ask for: what the node writes itself is nobody else's to
/// write, and a claim may say so.
pub(crate) fn is_read_only(pod: &api::Pod, name: &str) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.any(|v| {
        let written = v.config_map.is_some() || v.secret.is_some() || v.downward_api.is_some() || v.projected.is_some();
        let claim = v.persistent_volume_claim.as_ref();
        v.name == name && (written || claim.is_some_and(|c| c.read_only == Some(true)))
    })
}

/// Why a volume is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
pub(crate) struct Failure {
    pub(crate) volume: String,
    pub(crate) reason: String,
}

/// Makes every volume of the pod ready; returns what containers mount, by volume name. Not among them are images, which
/// the runtime mounts itself when a container is made.
pub(crate) async fn set_up(setup: &Setup<'_>) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut paths = BTreeMap::new();
    for volume in setup.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        if volume.image.is_some() {
            continue;
        }
        let failure = |reason| Failure {
            volume: volume.name.clone(),
            reason,
        };
        let kind = of(volume).map_err(failure)?;
        let path = kind.set_up(&volume.name, setup).await.map_err(failure)?;
        paths.insert(volume.name.clone(), path);
    }
    Ok(paths)
}

/// The names of config maps and secrets that the pod's volumes are filled from.
pub(crate) fn referenced(pod: &api::Pod) -> (Vec<String>, Vec<String>) {
    let mut maps = Vec::new();
    let mut secrets = Vec::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        maps.extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        secrets.extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            maps.extend(source.config_map.as_ref().map(|v| v.name.clone()));
            secrets.extend(source.secret.as_ref().map(|v| v.name.clone()));
        }
    }
    (maps, secrets)
}

/// Whether a volume of the pod shows what is to be trusted in the cluster.
pub(crate) fn shows_trust_bundles(pod: &api::Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let mut sources = volumes.flat_map(|v| v.projected.iter().flat_map(|p| p.sources.iter().flatten()));
    sources.any(|source| source.cluster_trust_bundle.is_some())
}

/// Whether what the pod's volumes show can change while it runs.
pub(crate) fn shows_the_pod(pod: &api::Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|v| {
            v.downward_api.is_some().then_some(true).or_else(|| {
                let sources = v.projected.as_ref()?.sources.as_ref()?;
                Some(sources.iter().any(|s| s.downward_api.is_some()))
            })
        })
        .any(|shows| shows)
}

fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let at = format!("{what} {}", path.display());
    move |error| format!("{at}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// concepts/storage/volumes: configMap, secret, downwardAPI.
    #[test]
    fn a_config_map_a_secret_and_downward_api_data_are_always_mounted_as_read_only() {
        let pod: api::Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "map", "configMap": {"name": "m"}},
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "fields", "downwardAPI": {}},
            {"name": "all", "projected": {"sources": []}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "reader", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}]}}))
        .unwrap();
        for (name, only_read) in [
            ("map", true),
            ("secret", true),
            ("fields", true),
            ("all", true),
            ("scratch", false),
            ("host", false),
            ("claim", false),
            ("reader", true),
        ] {
            assert_eq!(is_read_only(&pod, name), only_read, "{name}");
        }
    }
}
