//! Starting things: a pod's sandbox with its network, and one container in it. Each is one attempt; what a failure leads
//! to is the worker's.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_runtime::{
    ContainerConfig, ContainerId, Device, Error as RuntimeError, ImageInfo, Mount, Propagation, Sandbox, SandboxConfig,
    SandboxId,
};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use tokio::sync::mpsc;

use super::context::Context;
use super::env::{self, Environment, Sources};
use super::expansion::{expand, expand_strict};
use super::network::{Network, networked};
use super::plan::{HASH_ANNOTATION, container_hash};
use super::resize::Granted;
use super::security::{self, ImageUser};
use super::termination::run_hook;
use super::users::Reserved;
use super::{files, image, resources};
use crate::objects::EventType;
use crate::volume;

/// The annotation with the file that holds an instance's termination message.
pub(crate) const MESSAGE_ANNOTATION: &str = "io.coracle.container.termination-message";
/// The annotation with the policy for termination messages.
pub(crate) const MESSAGE_POLICY_ANNOTATION: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The annotations with the image as statuses show it: its name, and its digest or id.
pub(crate) const IMAGE_ANNOTATION: &str = "io.coracle.container.image";
pub(crate) const IMAGE_ID_ANNOTATION: &str = "io.coracle.container.image-id";
const UID_LABEL: &str = "io.kubernetes.pod.uid";

/// The sandbox's id is the pod's uid and the attempt, so that an event's pod is known without asking.
pub(crate) fn sandbox_id(uid: &str, attempt: u32) -> SandboxId {
    SandboxId::new(format!("{uid}-{attempt}"))
}

/// The uid of the pod that a sandbox is of.
pub(crate) fn uid_of(id: &SandboxId) -> &str {
    id.as_str().rsplit_once('-').map_or(id.as_str(), |(uid, _)| uid)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn labels(pod: &Pod, container: Option<&str>) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    let mut labels: BTreeMap<String, String> = [
        ("io.kubernetes.pod.name", meta.name.clone()),
        ("io.kubernetes.pod.namespace", meta.namespace.clone()),
        (UID_LABEL, meta.uid.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.unwrap_or_default()))
    .collect();
    if let Some(name) = container {
        labels.insert("io.kubernetes.container.name".into(), name.to_owned());
    }
    labels
}

/// What a pod has once its sandbox runs.
#[derive(Clone, Debug)]
pub(crate) struct SandboxUp {
    pub(crate) id: SandboxId,
    pub(crate) attempt: u32,
    pub(crate) pod_ips: Vec<String>,
}

/// Replaces the old sandbox, if there is one, by a new one with its network.
pub(crate) async fn sandbox(
    cx: &Context,
    pod: &Pod,
    old: Option<SandboxId>,
    attempt: u32,
) -> Result<SandboxUp, String> {
    if let Some(old) = old {
        cx.runtime.stop_sandbox(&old).await.map_err(|e| e.chain())?;
        cx.network.detach(old.as_str()).await?;
    }
    let id = sandbox_id(uid(pod), attempt);
    let spec = pod.spec.clone().unwrap_or_default();
    let (hostname, _) = files::hostname(pod, &cx.hostname, &cx.dns.domain)?;
    let sysctls = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    let users = match spec.host_users {
        Some(false) => Some(cx.users.reserve(cx.runtime.as_ref(), uid(pod)).await?),
        _ => None,
    };
    let config = SandboxConfig {
        id: Some(id.clone()),
        pod_uid: uid(pod).to_owned(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        attempt,
        labels: labels(pod, None),
        annotations: BTreeMap::new(),
        hostname,
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        privileged: security::any_privileged(&spec),
        cgroup_parent: resources::cgroup_path(&cx.cgroup_root, pod),
        resources: resources::of_pod(pod, cx.settings.pod_pids_limit),
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        log_directory: cx.log_dir(pod),
        shm_size: None,
        user_namespace: users.as_ref().map(Reserved::namespace),
    };
    std::fs::create_dir_all(&config.log_directory)
        .map_err(|e| format!("create {}: {e}", config.log_directory.display()))?;
    let host_network = config.host_network;
    let started: Sandbox = cx.runtime.run_sandbox(config).await.map_err(|e| e.chain())?;
    let network = Network {
        netns: started.netns,
        addresses: started.addresses,
    };
    let furnished = match networked(cx, &id, host_network, &network).await {
        Ok(pod_ips) => write_files(cx, pod, &pod_ips)
            .and_then(|()| Granted::of(pod).write(&cx.pod_dir(uid(pod))))
            .and_then(|()| complete(cx, pod, &id))
            .map(|()| pod_ips),
        Err(error) => Err(error),
    };
    let pod_ips = match furnished {
        Ok(pod_ips) => pod_ips,
        Err(error) => {
            if let Err(left) = cx.network.detach(id.as_str()).await {
                tracing::warn!(sandbox = %id, error = left, "the address of a failed sandbox was not taken back");
            }
            if let Err(left) = cx.runtime.remove_sandbox(&id).await {
                tracing::warn!(sandbox = %id, error = %left, "a sandbox without a network was not removed");
            }
            return Err(error);
        }
    };
    Ok(SandboxUp { id, attempt, pod_ips })
}

/// Completes a sandbox that an earlier agent started: with its network, and with its files where it has none yet.
pub(crate) async fn adopted(
    cx: &Context,
    pod: &Pod,
    id: SandboxId,
    attempt: u32,
    network: &Network,
) -> Result<SandboxUp, String> {
    let host = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let pod_ips = networked(cx, &id, host, network).await?;
    let dir = cx.pod_dir(uid(pod));
    // Containers that run see the files that they have.
    if !MANAGED_FILES.iter().all(|name| dir.join(name).is_file()) {
        write_files(cx, pod, &pod_ips)?;
    }
    Granted::of(pod).write(&dir)?;
    complete(cx, pod, &id)?;
    Ok(SandboxUp { id, attempt, pod_ips })
}

/// Writes down that the sandbox has all that it needs, for an agent that finds it.
fn complete(cx: &Context, pod: &Pod, id: &SandboxId) -> Result<(), String> {
    replace(&cx.pod_dir(uid(pod)).join(COMPLETE), id.as_str())
}

/// Whether an earlier agent had come to the end with this sandbox.
pub(crate) fn is_complete(cx: &Context, uid: &str, id: &SandboxId) -> bool {
    std::fs::read_to_string(cx.pod_dir(uid).join(COMPLETE)).is_ok_and(|text| text == id.as_str())
}

/// Writes a file that is whole or absent, whatever ends the agent.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o644)))
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|e| format!("write {}: {e}", path.display()))
}

/// The file with the id of the sandbox that is complete.
const COMPLETE: &str = "sandbox";

const MANAGED_FILES: [&str; 3] = ["etc-hosts", "hostname", "resolv.conf"];

/// The files that all containers of the pod mount.
pub(crate) fn write_files(cx: &Context, pod: &Pod, pod_ips: &[String]) -> Result<(), String> {
    let dir = cx.pod_dir(uid(pod));
    std::fs::create_dir_all(&dir).map_err(|e| format!("create {}: {e}", dir.display()))?;
    let (hostname, domain) = files::hostname(pod, &cx.hostname, &cx.dns.domain)?;
    let host_file = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let (resolv_conf, fell_back) = files::resolv_conf(pod, &cx.dns);
    if fell_back {
        let policy = pod
            .spec
            .as_ref()
            .and_then(|s| s.dns_policy.as_deref())
            .unwrap_or("ClusterFirst");
        let text = format!(
            "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using {policy:?} policy. Falling back to \"Default\" policy.",
            security::shown(pod)
        );
        cx.event(pod, EventType::Warning, "MissingClusterDNS", text);
    }
    let texts = [
        files::hosts(pod, &host_file, pod_ips, &hostname, domain.as_deref()),
        format!("{hostname}\n"),
        resolv_conf,
    ];
    for (name, text) in MANAGED_FILES.into_iter().zip(texts) {
        replace(&dir.join(name), &text)?;
    }
    Ok(())
}

/// Why a container did not start: the waiting reason, its message, and what kind of back-off it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The image could not be had.
    pub(crate) image: bool,
}

fn failure(reason: &'static str) -> impl FnOnce(String) -> StartFailure {
    move |message| StartFailure {
        reason,
        message,
        image: false,
    }
}

/// A container that a debugging one looks at.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// None: it does not run.
    pub(crate) id: Option<ContainerId>,
}

/// What a start needs besides the spec.
pub(crate) struct Start {
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: Arc<Container>,
    pub(crate) attempt: u32,
    pub(crate) sandbox: SandboxId,
    pub(crate) pod_ips: Vec<String>,
    pub(crate) volumes: BTreeMap<String, PathBuf>,
    /// The container whose processes this one is to see.
    pub(crate) target: Option<Target>,
    /// Told the instance's id as soon as it has one.
    pub(crate) created: mpsc::Sender<ContainerId>,
}

/// The volumes that a container can mount.
struct Volumes {
    paths: BTreeMap<String, PathBuf>,
    images: BTreeMap<String, Arc<ImageInfo>>,
}

/// Pulls, creates, starts and runs the postStart hook.
pub(crate) async fn container(cx: &Arc<Context>, start: Start) -> Result<ContainerId, StartFailure> {
    let Start {
        pod,
        container,
        attempt,
        sandbox,
        pod_ips,
        volumes,
        target,
        created,
    } = start;
    let event = |kind, reason, message: String| cx.container_event(&pod, &container.name, kind, reason, message);
    let no_image = |f: image::ImageFailure| StartFailure {
        reason: f.reason,
        message: f.message,
        image: true,
    };
    let image = image::ensure(cx, &pod, &container).await.map_err(no_image)?;
    let volumes = Volumes {
        paths: volumes,
        images: image::of_volumes(cx, &pod, &container).await.map_err(no_image)?,
    };
    let target = match target {
        Some(Target { name, id: None }) => Err(format!("unable to find target container {name:?}")),
        Some(Target { id, .. }) => Ok(id),
        None => Ok(None),
    };
    let config = match target {
        Ok(target) => {
            let made = config(cx, &pod, &container, attempt, &image, &pod_ips, &volumes).await;
            made.map(|config| ContainerConfig {
                pid_target: target,
                ..config
            })
        }
        Err(error) => Err(error),
    };
    let config = config.map_err(|message| {
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        failure("CreateContainerConfigError")(message)
    })?;
    let id = cx.runtime.create_container(&sandbox, config).await.map_err(|error| {
        let message = error.chain();
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        failure("CreateContainerError")(message)
    })?;
    let _ = created.send(id.clone()).await;
    event(EventType::Normal, "Created", "Container created".into());
    if let Err(error) = cx.runtime.start_container(&id).await {
        let message = match &error {
            RuntimeError::CommandNotFound(text) => text.clone(),
            other => other.chain(),
        };
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        return Err(failure("RunContainerError")(message));
    }
    event(EventType::Normal, "Started", "Container started".into());
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) {
        let pod_ip = pod_ips.first().cloned().unwrap_or_default();
        if let Err(message) = run_hook(cx, &id, &container, &pod_ip, hook, None).await {
            event(EventType::Warning, "FailedPostStartHook", "PostStartHook failed".into());
            event(EventType::Normal, "Killing", "FailedPostStartHook".into());
            if let Err(error) = cx.runtime.stop_container(&id, None, grace(&pod)).await {
                tracing::warn!(container = %id, %error, "a container whose postStart hook failed was not stopped");
            }
            return Err(failure("PostStartHookError")(format!(
                "PostStartHook failed: {message}"
            )));
        }
    }
    Ok(id)
}

fn grace(pod: &Pod) -> std::time::Duration {
    let seconds = pod
        .spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds)
        .unwrap_or(30);
    std::time::Duration::from_secs(seconds.max(1).unsigned_abs())
}

async fn sources(cx: &Context, pod: &Pod, container: &Container) -> Result<Sources, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (maps, secrets) = env::referenced(container);
    let mut sources = Sources {
        services: cx.objects.services(namespace),
        ..Sources::default()
    };
    for name in maps {
        if let Some(map) = cx
            .objects
            .config_map(namespace, &name)
            .await
            .map_err(|e| e.to_string())?
        {
            sources.config_maps.insert(name, map);
        }
    }
    for name in secrets {
        if let Some(secret) = cx.objects.secret(namespace, &name).await.map_err(|e| e.to_string())? {
            sources.secrets.insert(name, secret);
        }
    }
    Ok(sources)
}

async fn config(
    cx: &Context,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    image: &ImageInfo,
    pod_ips: &[String],
    volumes: &Volumes,
) -> Result<ContainerConfig, String> {
    let node = cx.node();
    let sources = sources(cx, pod, container).await?;
    let environment = env::build(pod, container, &sources, pod_ips, &node)?;
    for skipped in &environment.skipped {
        cx.container_event(
            pod,
            &container.name,
            EventType::Warning,
            "InvalidEnvironmentVariableNames",
            skipped.clone(),
        );
    }
    let (uid, name) = image.user();
    let security = security::of_container(pod, container, ImageUser { uid, name }, &cx.seccomp_root())?;
    let dir = cx.pod_dir(self::uid(pod));
    let message_file = message_file(&dir, &container.name, attempt)?;
    let read_only = |name: &str| volume::is_read_only(pod, name);
    let mut mounts = mounts(container, &dir, &message_file, &environment, volumes, read_only)?;
    mounts.extend(image_mounts(container, &volumes.images, &environment)?);
    let (hostname, _) = files::hostname(pod, &cx.hostname, &cx.dns.domain)?;
    let expanded = |texts: &Option<Vec<String>>| {
        texts
            .iter()
            .flatten()
            .map(|text| expand(text, |name| environment.get(name)))
            .collect()
    };
    let policy = container
        .termination_message_policy
        .clone()
        .unwrap_or_else(|| "File".into());
    let annotations = [
        (HASH_ANNOTATION, container_hash(container)),
        (MESSAGE_ANNOTATION, message_file.to_string_lossy().into_owned()),
        (MESSAGE_POLICY_ANNOTATION, policy),
        (
            IMAGE_ANNOTATION,
            image::shown_name(container.image.as_deref().unwrap_or_default(), image),
        ),
        (
            IMAGE_ID_ANNOTATION,
            image
                .repo_digests
                .first()
                .cloned()
                .unwrap_or_else(|| image.id.as_str().to_owned()),
        ),
    ];
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: image.id.as_str().to_owned(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        env: std::iter::once(("HOSTNAME".to_owned(), hostname))
            .chain(environment.variables.iter().cloned())
            .collect(),
        working_dir: container.working_dir.clone().filter(|d| !d.is_empty()),
        security,
        mounts,
        devices: devices(container, &volumes.paths, read_only)?,
        resources: resources::of_container(pod, container, cx.memory_capacity),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log_path: format!("{}/{attempt}.log", container.name).into(),
        pid_target: None,
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
        labels: labels(pod, Some(&container.name)),
        annotations: annotations.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    })
}

/// The file behind `terminationMessagePath`, which any user may write.
fn message_file(pod_dir: &Path, container: &str, attempt: u32) -> Result<PathBuf, String> {
    let dir = pod_dir.join("containers").join(container);
    let path = dir.join(format!("{attempt}-termination-message"));
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&path, ""))
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)))
        .map_err(|e| format!("create {}: {e}", path.display()))?;
    Ok(path)
}

fn mounts(
    container: &Container,
    pod_dir: &Path,
    message_file: &Path,
    environment: &Environment,
    volumes: &Volumes,
    read_only: impl Fn(&str) -> bool,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        if volumes.images.contains_key(&wanted.name) {
            continue;
        }
        let volume = volumes.paths.get(&wanted.name).ok_or_else(|| {
            format!(
                "cannot find volume {:?} to mount into container {:?}",
                wanted.name, container.name
            )
        })?;
        let host_path = match sub_path(wanted, environment)? {
            Some(part) => volume::sub_path::pin(pod_dir, &container.name, index, volume, &part).map_err(|e| {
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                    wanted.name, container.name
                )
            })?,
            None => volume.clone(),
        };
        let readonly = wanted.read_only == Some(true) || read_only(&wanted.name);
        mounts.push(Mount {
            image: None,
            image_sub_path: String::new(),
            host_path,
            container_path: absolute(&wanted.mount_path),
            readonly,
            recursive_readonly: readonly
                && matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation: match wanted.mount_propagation.as_deref() {
                Some("Bidirectional") => Propagation::Bidirectional,
                Some("HostToContainer") => Propagation::HostToContainer,
                _ => Propagation::Private,
            },
        });
    }
    let own = [
        ("/etc/hosts", pod_dir.join("etc-hosts")),
        ("/etc/hostname", pod_dir.join("hostname")),
        ("/etc/resolv.conf", pod_dir.join("resolv.conf")),
        (
            container
                .termination_message_path
                .as_deref()
                .filter(|p| !p.is_empty())
                .unwrap_or("/dev/termination-log"),
            message_file.to_owned(),
        ),
    ];
    for (path, host_path) in own {
        if !mounts.iter().any(|m| m.container_path == Path::new(path)) {
            mounts.push(Mount {
                host_path,
                container_path: absolute(path),
                ..Mount::default()
            });
        }
    }
    Ok(mounts)
}

/// Mounts of images, which are the runtime's to make.
fn image_mounts(
    container: &Container,
    images: &BTreeMap<String, Arc<ImageInfo>>,
    environment: &Environment,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let Some(image) = images.get(&wanted.name) else {
            continue;
        };
        mounts.push(Mount {
            image: Some(image.id.clone()),
            image_sub_path: sub_path(wanted, environment)?.unwrap_or_default(),
            container_path: absolute(&wanted.mount_path),
            readonly: true,
            ..Mount::default()
        });
    }
    Ok(mounts)
}

/// The devices of claims in block mode.
fn devices(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    read_only: impl Fn(&str) -> bool,
) -> Result<Vec<Device>, String> {
    let wanted = container.volume_devices.iter().flatten();
    wanted
        .map(|device| {
            let missing = || {
                format!(
                    "cannot find volume {:?} to pass into container {:?}",
                    device.name, container.name
                )
            };
            Ok(Device {
                host_path: volumes.get(&device.name).cloned().ok_or_else(missing)?,
                container_path: absolute(&device.device_path),
                permissions: if read_only(&device.name) { "rm" } else { "rwm" }.into(),
            })
        })
        .collect()
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn sub_path(mount: &VolumeMount, environment: &Environment) -> Result<Option<String>, String> {
    let fixed = mount.sub_path.clone().filter(|p| !p.is_empty());
    match mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()) {
        None => Ok(fixed),
        Some(expression) => expand_strict(expression, |name| environment.get(name))
            .map(Some)
            .map_err(|name| format!("missing value for {name:?} in subPathExpr {expression:?}")),
    }
}
