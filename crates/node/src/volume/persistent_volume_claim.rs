//! `persistentVolumeClaim` and `ephemeral`: the volume that a claim is bound to, if it is a path of this node (`hostPath`,
//! `local`). It binds nothing itself; a claim that is not bound yet is an error, and the pod's worker tries again.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1 as api;

use super::{Setup, Volume, io, ownership};

#[async_trait]
impl Volume for api::PersistentVolumeClaimVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let claim = claim(setup, &self.claim_name).await?;
        mounted(name, setup, &claim, self.read_only == Some(true)).await
    }
}

#[async_trait]
impl Volume for api::EphemeralVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let pod = setup.pod.metadata.name.as_deref().unwrap_or_default();
        let claim = claim(setup, &format!("{pod}-{name}")).await?;
        let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
        let own = |o: &&_| owner_is(o, setup.pod);
        if owners.iter().find(own).is_none() {
            let namespace = setup.namespace();
            return Err(format!(
                "PVC {namespace}/{pod}-{name} was not created for pod {namespace}/{pod} (pod is not owner)"
            ));
        }
        mounted(name, setup, &claim, false).await
    }
}

fn owner_is(owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference, pod: &api::Pod) -> bool {
    owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref()
}

async fn claim(setup: &Setup<'_>, name: &str) -> Result<std::sync::Arc<api::PersistentVolumeClaim>, String> {
    let namespace = setup.namespace();
    let trouble = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let found = setup.objects.claim(namespace, name).await;
    let claim = found
        .map_err(|e| trouble(format!("failed to fetch PVC from API server: {e}")))?
        .ok_or_else(|| {
            trouble(format!(
                "failed to fetch PVC from API server: persistentvolumeclaim {name:?} not found"
            ))
        })?;
    // A pod that runs keeps what it has; none is started on what is going away.
    if claim.metadata.deletion_timestamp.is_some() && !runs(setup.pod) {
        return Err(trouble("PVC is being deleted".into()));
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    if phase != Some("Bound") || volume.unwrap_or_default().is_empty() {
        return Err(trouble("PVC is not bound".into()));
    }
    Ok(claim)
}

async fn mounted(
    name: &str,
    setup: &Setup<'_>,
    claim: &api::PersistentVolumeClaim,
    read_only: bool,
) -> Result<PathBuf, String> {
    let bound_to = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default();
    let found = setup.objects.persistent_volume(bound_to).await;
    let volume = found
        .map_err(|e| format!("failed to get PV {bound_to:?}: {e}"))?
        .ok_or_else(|| format!("failed to get PV {bound_to:?}: persistentvolume {bound_to:?} not found"))?;
    let spec = volume.spec.clone().unwrap_or_default();
    let reference = spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref());
    if reference != claim.metadata.uid.as_deref() {
        return Err(format!(
            "PV {bound_to:?} spec.claimRef.uid ({:?}) does not match pvc.UID ({:?})",
            reference.unwrap_or_default(),
            claim.metadata.uid.as_deref().unwrap_or_default()
        ));
    }
    let block = spec.volume_mode.as_deref() == Some("Block");
    used_as(name, setup.pod, block)?;
    if block {
        return block_device(&spec);
    }
    if let Some(nfs) = &spec.nfs {
        let options = spec.mount_options.as_deref().unwrap_or_default();
        let mut nfs = nfs.clone();
        nfs.read_only = Some(read_only || nfs.read_only == Some(true));
        return super::nfs::mounted(&nfs, options, &setup.dir("nfs", bound_to)).await;
    }
    if spec.mount_options.as_ref().is_some_and(|o| !o.is_empty()) {
        return Err("mount options are not supported by this volume's type".into());
    }
    if let Some(host_path) = &spec.host_path {
        return host_path.set_up(name, setup).await;
    }
    let Some(local) = &spec.local else {
        return Err(format!(
            "no volume plugin matched: this node cannot provide {} volumes",
            source_name(&spec)
        ));
    };
    let path = PathBuf::from(&local.path);
    if path == setup.volumes_dir.join(bound_to) {
        make(&path)?;
    }
    let found = fs::metadata(&path).map_err(io("find the local volume's path", &path))?;
    if !found.is_dir() {
        return Err(format!("the local volume's path {} is not a directory", path.display()));
    }
    // Once, before the pod's containers start.
    if let (Some(group), false) = (setup.fs_group(), read_only || runs(setup.pod)) {
        let policy = setup.pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
        let policy = policy.and_then(|c| c.fs_group_change_policy.clone());
        let at = path.clone();
        let change = move || ownership::set(&at, group, policy.as_deref() == Some("OnRootMismatch"));
        let changed = tokio::task::spawn_blocking(change).await;
        let changed = changed.map_err(|e| format!("setting the group of {} was cut off: {e}", path.display()))?;
        changed.map_err(io("set the group of", &path))?;
    }
    Ok(path)
}

/// A file system is mounted and a device is not; whoever asks for the other is told so.
fn used_as(name: &str, pod: &api::Pod, block: bool) -> Result<(), String> {
    let spec = pod.spec.as_ref();
    let mut containers = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let wrong = containers.any(|c| match block {
        true => c.volume_mounts.iter().flatten().any(|m| m.name == name),
        false => c.volume_devices.iter().flatten().any(|d| d.name == name),
    });
    match (wrong, block) {
        (false, _) => Ok(()),
        (true, true) => Err(format!(
            "volume {name} has volumeMode Block, but is specified in volumeMounts"
        )),
        (true, false) => Err(format!(
            "volume {name} has volumeMode Filesystem, but is specified in volumeDevices"
        )),
    }
}

fn block_device(spec: &api::PersistentVolumeSpec) -> Result<PathBuf, String> {
    let Some(local) = &spec.local else {
        let source = source_name(spec);
        return Err(format!("this node cannot provide {source} volumes as block devices"));
    };
    let path = PathBuf::from(&local.path);
    let found = fs::metadata(&path).map_err(io("find the local volume's device", &path))?;
    if !found.file_type().is_block_device() {
        return Err(format!(
            "the local volume's path {} is not a block device",
            path.display()
        ));
    }
    Ok(path)
}

fn runs(pod: &api::Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}

/// The field of the volume's spec that says of which type it is.
fn source_name(spec: &api::PersistentVolumeSpec) -> String {
    const OTHERS: [&str; 9] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let fields = serde_json::to_value(spec).ok();
    let keys = fields.as_ref().and_then(|v| v.as_object()).into_iter().flatten();
    keys.map(|(key, _)| key.clone())
        .find(|key| !OTHERS.contains(&key.as_str()))
        .unwrap_or_else(|| "untyped".into())
}

/// The directory of a volume that was made for this node. Everybody may write: which user the pods have is not known.
fn make(path: &Path) -> Result<(), String> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path.parent().unwrap_or(path));
    made.map_err(io("create", path))?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io("create", path)(error)),
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(io("chmod", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::downward::NodeFacts;
    use crate::pod::scripted::Written;
    use crate::volume::{Failure, Tokens, set_up};
    use serde_json::{Value, json};

    /// What the pod with this volume (called v) mounts.
    async fn mount(api: &Written, root: &Path, volume: Value) -> Result<PathBuf, String> {
        let mut volumes = json!([volume]);
        volumes[0]["name"] = json!("v");
        let pod: api::Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": [], "volumes": volumes},
        }))
        .unwrap();
        let setup = Setup {
            pod: &pod,
            pod_dir: &root.join("pod"),
            volumes_dir: &root.join("volumes"),
            objects: api,
            node: &NodeFacts::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            tokens: &Tokens::default(),
        };
        let all = set_up(&setup).await.map_err(|Failure { reason, .. }| reason)?;
        Ok(all["v"].clone())
    }

    fn claim(api: &Written, name: &str, phase: &str, owner: Option<&str>) {
        let owners =
            owner.map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]));
        let claim = json!({"metadata": {"name": name, "uid": name, "ownerReferences": owners},
            "spec": {"volumeName": "pv"}, "status": {"phase": phase}});
        let claim = serde_json::from_value(claim).unwrap();
        api.claims.lock().insert(name.into(), std::sync::Arc::new(claim));
    }

    fn volume(api: &Written, of: &str, source: Value) {
        let mut volume = json!({"metadata": {"name": "pv"}, "spec": source});
        volume["spec"]["claimRef"] = json!({"name": of, "uid": of});
        let volume = serde_json::from_value(volume).unwrap();
        api.persistent_volumes
            .lock()
            .insert("pv".into(), std::sync::Arc::new(volume));
    }

    #[tokio::test]
    async fn a_bound_claim_is_the_path_of_its_volume() {
        let (api, dir) = (Written::default(), tempfile::tempdir().unwrap());
        let root = dir.path();
        let named = || json!({"persistentVolumeClaim": {"claimName": "c"}});
        let wrong = mount(&api, root, named()).await.unwrap_err();
        assert!(wrong.ends_with("persistentvolumeclaim \"c\" not found"), "{wrong}");
        claim(&api, "c", "Pending", None);
        let wrong = mount(&api, root, named()).await.unwrap_err();
        assert_eq!(wrong, "error processing PVC d/c: PVC is not bound");
        claim(&api, "c", "Bound", None);
        let wrong = mount(&api, root, named()).await.unwrap_err();
        assert!(wrong.contains("persistentvolume \"pv\" not found"), "{wrong}");

        // A path of its own is made; another has to be there.
        let own = root.join("volumes/pv");
        volume(&api, "c", json!({"local": {"path": own}}));
        assert_eq!(mount(&api, root, named()).await.as_deref(), Ok(own.as_path()));
        assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o777);
        volume(&api, "c", json!({"local": {"path": root.join("disk")}}));
        assert!(mount(&api, root, named()).await.is_err());
        assert!(!root.join("disk").exists());
        fs::create_dir(root.join("disk")).unwrap();
        assert_eq!(mount(&api, root, named()).await, Ok(root.join("disk")));
        volume(
            &api,
            "c",
            json!({"hostPath": {"path": root.join("new"), "type": "DirectoryOrCreate"}}),
        );
        assert_eq!(mount(&api, root, named()).await, Ok(root.join("new")));
    }

    #[tokio::test]
    async fn what_this_node_cannot_mount_is_said() {
        let (api, dir) = (Written::default(), tempfile::tempdir().unwrap());
        claim(&api, "c", "Bound", None);
        for (of, source, words) in [
            (
                "c",
                json!({"iscsi": {"targetPortal": "s", "iqn": "i", "lun": 0}}),
                "cannot provide iscsi volumes",
            ),
            (
                "c",
                json!({"local": {"path": "/dev/null"}, "volumeMode": "Block"}),
                "is not a block device",
            ),
            (
                "c",
                json!({"hostPath": {"path": "/dev/loop0"}, "volumeMode": "Block"}),
                "cannot provide hostPath volumes as block devices",
            ),
            (
                "c",
                json!({"hostPath": {"path": "/"}, "mountOptions": ["ro"]}),
                "mount options",
            ),
            ("other", json!({"hostPath": {"path": "/"}}), "does not match pvc.UID"),
        ] {
            volume(&api, of, source);
            let named = json!({"persistentVolumeClaim": {"claimName": "c"}});
            let wrong = mount(&api, dir.path(), named).await.unwrap_err();
            assert!(wrong.contains(words), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_ephemeral_volume_is_only_the_pods_own_claim() {
        let (api, dir) = (Written::default(), tempfile::tempdir().unwrap());
        let ephemeral = || json!({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        volume(&api, "p-v", json!({"hostPath": {"path": dir.path()}}));
        claim(&api, "p-v", "Bound", Some("another"));
        let wrong = mount(&api, dir.path(), ephemeral()).await.unwrap_err();
        assert_eq!(wrong, "PVC d/p-v was not created for pod d/p (pod is not owner)");
        claim(&api, "p-v", "Bound", Some("u"));
        assert_eq!(mount(&api, dir.path(), ephemeral()).await, Ok(dir.path().to_owned()));
    }
}
