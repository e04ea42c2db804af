//! A pod's sandbox: started with its network and its files, or taken over from an earlier agent.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coracle_runtime::{Error as RuntimeError, Sandbox, SandboxConfig, SandboxId};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{labels, uid};
use crate::objects::EventType;
use crate::pod::context::Context;
use crate::pod::network::{Network, networked};
use crate::pod::plan::SandboxView;
use crate::pod::resize::Granted;
use crate::pod::users::Reserved;
use crate::pod::{files, resources, security};

/// The sandbox's id is the pod's uid and the attempt, so that an event's pod is known without asking.
fn sandbox_id(uid: &str, attempt: u32) -> SandboxId {
    SandboxId::new(format!("{uid}-{attempt}"))
}

/// The uid of the pod that a sandbox is of.
pub(crate) fn uid_of(id: &SandboxId) -> &str {
    id.as_str().rsplit_once('-').map_or(id.as_str(), |(uid, _)| uid)
}

/// What a pod has once its sandbox runs.
#[derive(Clone, Debug)]
pub(crate) struct SandboxUp {
    pub(crate) id: SandboxId,
    pub(crate) attempt: u32,
    pub(crate) handler: String,
    pub(crate) pod_ips: Vec<String>,
}

/// Why a pod has no sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxFailure {
    pub(crate) message: String,
    /// The node cannot run the pod in the way that it asks for, however often it is tried.
    pub(crate) is_final: bool,
}

impl From<String> for SandboxFailure {
    fn from(message: String) -> Self {
        Self {
            message,
            is_final: false,
        }
    }
}

impl From<RuntimeError> for SandboxFailure {
    fn from(error: RuntimeError) -> Self {
        Self {
            is_final: matches!(error, RuntimeError::NoSuchHandler(_)),
            message: error.chain(),
        }
    }
}

/// The handler that the pod's runtime class names; without a class it is the default one, which has no name.
async fn handler(cx: &Context, spec: &PodSpec) -> Result<String, SandboxFailure> {
    let Some(name) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(String::new());
    };
    match cx.objects.runtime_class(name).await {
        Ok(Some(class)) => Ok(class.handler.clone()),
        Ok(None) => Err(SandboxFailure {
            message: format!("RuntimeClass {name:?} not found"),
            is_final: true,
        }),
        Err(error) => Err(format!("RuntimeClass {name:?} is not known: {error}").into()),
    }
}

/// [`start`], counted where the pod has users of its own.
pub(crate) async fn sandbox(cx: &Context, pod: &Pod, again: bool, attempt: u32) -> Result<SandboxUp, SandboxFailure> {
    let own_users = pod.spec.as_ref().is_some_and(|s| s.host_users == Some(false));
    if own_users {
        cx.users.try_one();
    }
    let up = start(cx, pod, again, attempt).await;
    if own_users && up.is_err() {
        cx.users.fail_one();
    }
    up
}

/// Starts a sandbox with its network. With `again`, in place of all that the pod has had: one whose start was given up may
/// have come up since.
async fn start(cx: &Context, pod: &Pod, again: bool, mut attempt: u32) -> Result<SandboxUp, SandboxFailure> {
    if again {
        let all = cx.runtime.sandboxes().await;
        for old in all.iter().filter(|s| uid_of(&s.id) == uid(pod)) {
            cx.runtime.stop_sandbox(&old.id).await?;
            cx.network.detach(old.id.as_str()).await?;
            attempt = attempt.max(old.config.attempt + 1);
        }
    }
    let id = sandbox_id(uid(pod), attempt);
    let spec = pod.spec.clone().unwrap_or_default();
    let handler = handler(cx, &spec).await?;
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
        handler: handler.clone(),
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
    let started: Sandbox = cx.runtime.run_sandbox(config).await?;
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
            return Err(error.into());
        }
    };
    Ok(SandboxUp {
        id,
        attempt,
        handler,
        pod_ips,
    })
}

/// Completes a sandbox that an earlier agent started: with its network, and with its files where it has none yet.
pub(crate) async fn adopted(
    cx: &Context,
    pod: &Pod,
    found: SandboxView,
    network: &Network,
) -> Result<SandboxUp, SandboxFailure> {
    let SandboxView {
        id, attempt, handler, ..
    } = found;
    let host = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let pod_ips = networked(cx, &id, host, network).await?;
    let dir = cx.pod_dir(uid(pod));
    // Containers that run see the files that they have.
    if !MANAGED_FILES.iter().all(|name| dir.join(name).is_file()) {
        write_files(cx, pod, &pod_ips)?;
    }
    Granted::of(pod).write(&dir)?;
    complete(cx, pod, &id)?;
    Ok(SandboxUp {
        id,
        attempt,
        handler,
        pod_ips,
    })
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
