//! What is asked for and what is, in the interface's words and in this crate's. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::message as wire;
use super::message::{namespace, profile};
use super::rpc::command_not_found;
use crate::container::{
    ContainerConfig, ContainerState, ContainerStatus, Mount, Propagation, Resources, SeccompProfile, Security,
};
use crate::id::{ContainerId, ImageId, SandboxId};
use crate::image::config::parse_signal;
use crate::sandbox::{SandboxConfig, SandboxState, SandboxStatus, UserNamespace};
use crate::spec;

/// The label with the owner.
pub(super) const OWNER: &str = "io.coracle.owner";
/// The annotation with a sandbox's or a container's record: what the interface does not tell back.
const RECORD: &str = "io.coracle.record";

/// A sandbox's record.
#[derive(Serialize, Deserialize)]
struct SandboxRecord {
    id: SandboxId,
    /// Without labels and annotations.
    config: SandboxConfig,
}

/// A container's record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ContainerRecord {
    pub(super) sandbox: String,
    pub(super) image: String,
    pub(super) stop_signal: Option<i32>,
    pub(super) mounts: Vec<Mount>,
    pub(super) tty: bool,
    pub(super) stdin: bool,
    pub(super) resources: Resources,
}

pub(super) fn owned_by(owner: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(OWNER.to_owned(), owner.to_owned())])
}

/// The labels and annotations that are the caller's.
fn given(
    mut labels: BTreeMap<String, String>,
    mut annotations: BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    labels.remove(OWNER);
    annotations.remove(RECORD);
    (labels, annotations)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn sandbox_config(id: &SandboxId, config: &SandboxConfig, owner: &str) -> wire::PodSandboxConfig {
    let record = SandboxRecord {
        id: id.clone(),
        config: SandboxConfig {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ..config.clone()
        },
    };
    let mut annotations = config.annotations.clone();
    annotations.insert(RECORD.to_owned(), json(&record));
    let mut labels = config.labels.clone();
    labels.extend(owned_by(owner));
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: config.name.clone(),
            uid: config.pod_uid.clone(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
        }),
        // The host's stays as it is.
        hostname: if config.host_network {
            String::new()
        } else {
            config.hostname.clone()
        },
        log_directory: text(&config.log_directory),
        labels,
        annotations,
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: config.cgroup_parent.clone(),
            security_context: Some(wire::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(config, None)),
                privileged: config.privileged,
                seccomp: Some(wire::SecurityProfile {
                    profile_type: profile::RUNTIME_DEFAULT,
                    localhost_ref: String::new(),
                }),
            }),
            sysctls: config.sysctls.clone(),
            resources: Some(resources(&config.resources)),
        }),
    }
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn namespaces(config: &SandboxConfig, target: Option<&ContainerId>) -> wire::NamespaceOption {
    let shared = |with_host| if with_host { namespace::NODE } else { namespace::POD };
    let pid = match target {
        _ if config.host_pid => namespace::NODE,
        _ if config.share_process_namespace => namespace::POD,
        Some(_) => namespace::TARGET,
        None => namespace::CONTAINER,
    };
    wire::NamespaceOption {
        network: shared(config.host_network),
        pid,
        ipc: shared(config.host_ipc),
        target_id: match target {
            Some(target) if pid == namespace::TARGET => target.to_string(),
            _ => String::new(),
        },
        userns_options: config.user_namespace.map(|users| wire::UserNamespace {
            mode: namespace::POD,
            uids: vec![mapping(users)],
            gids: vec![mapping(users)],
        }),
    }
}

fn mapping(users: UserNamespace) -> wire::IdMapping {
    wire::IdMapping {
        host_id: users.host_id,
        container_id: 0,
        length: users.length,
    }
}

/// Absent limits are zero there.
pub(super) fn resources(limits: &Resources) -> wire::LinuxContainerResources {
    let number = |value: Option<u64>| value.and_then(|v| i64::try_from(v).ok()).unwrap_or_default();
    wire::LinuxContainerResources {
        cpu_period: number(limits.cpu_period),
        cpu_quota: limits.cpu_quota.unwrap_or_default(),
        cpu_shares: number(limits.cpu_shares),
        memory_limit_in_bytes: limits.memory_limit.unwrap_or_default(),
        oom_score_adj: i64::from(limits.oom_score_adj.unwrap_or_default()),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: limits
            .hugepage_limits
            .iter()
            .map(|(size, limit)| wire::HugepageLimit {
                page_size: size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: limits.unified.clone(),
        memory_swap_limit_in_bytes: limits.memory_swap_limit.unwrap_or_default(),
    }
}

pub(super) fn record(sandbox: &SandboxId, config: &ContainerConfig) -> ContainerRecord {
    ContainerRecord {
        sandbox: sandbox.to_string(),
        image: config.image.clone(),
        stop_signal: config.stop_signal.as_deref().and_then(parse_signal),
        mounts: config.mounts.clone(),
        tty: config.tty,
        stdin: config.stdin,
        resources: config.resources.clone(),
    }
}

pub(super) fn container_config(
    record: &ContainerRecord,
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    owner: &str,
) -> wire::ContainerConfig {
    let mut labels = config.labels.clone();
    labels.extend(owned_by(owner));
    let mut annotations = config.annotations.clone();
    annotations.insert(RECORD.to_owned(), json(record));
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: config.name.clone(),
            attempt: config.attempt,
        }),
        image: Some(wire::ImageSpec {
            image: config.image.clone(),
        }),
        command: config.command.clone(),
        args: config.args.clone(),
        working_dir: config.working_dir.clone().unwrap_or_default(),
        envs: config
            .env
            .iter()
            .map(|(key, value)| wire::KeyValue {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        mounts: config.mounts.iter().map(|m| mount(m, sandbox.user_namespace)).collect(),
        devices: config
            .devices
            .iter()
            .map(|d| wire::Device {
                container_path: text(&d.container_path),
                host_path: text(&d.host_path),
                permissions: d.permissions.clone(),
            })
            .collect(),
        labels,
        annotations,
        log_path: text(&config.log_path),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(resources(&config.resources)),
            security_context: Some(security(
                &config.security,
                namespaces(sandbox, config.pid_target.as_ref()),
            )),
        }),
    }
}

fn mount(mount: &Mount, users: Option<UserNamespace>) -> wire::Mount {
    let mappings: Vec<_> = users.map(mapping).into_iter().collect();
    wire::Mount {
        container_path: text(&mount.container_path),
        host_path: text(&mount.host_path),
        readonly: mount.readonly,
        propagation: match mount.propagation {
            Propagation::Private => 0,
            Propagation::HostToContainer => 1,
            Propagation::Bidirectional => 2,
        },
        uid_mappings: mappings.clone(),
        gid_mappings: mappings,
        recursive_read_only: mount.recursive_readonly,
        image: mount.image.as_ref().map(|image| wire::ImageSpec {
            image: image.to_string(),
        }),
        image_sub_path: mount.image_sub_path.clone(),
    }
}

fn security(security: &Security, namespaces: wire::NamespaceOption) -> wire::LinuxContainerSecurityContext {
    let paths = |paths: &[&str]| -> Vec<String> {
        if security.privileged || security.unmasked_proc {
            return Vec::new();
        }
        paths.iter().map(|p| (*p).to_owned()).collect()
    };
    let plain = |profile_type| wire::SecurityProfile {
        profile_type,
        localhost_ref: String::new(),
    };
    let number = |value: u32| wire::Int64Value { value: value.into() };
    wire::LinuxContainerSecurityContext {
        capabilities: Some(wire::Capability {
            add_capabilities: security.add_capabilities.clone(),
            drop_capabilities: security.drop_capabilities.clone(),
        }),
        privileged: security.privileged,
        namespace_options: Some(namespaces),
        run_as_user: security.user.map(number),
        run_as_username: match security.user {
            Some(_) => String::new(),
            None => security.username.clone().unwrap_or_default(),
        },
        readonly_rootfs: security.readonly_rootfs,
        supplemental_groups: security.supplemental_groups.iter().map(|g| i64::from(*g)).collect(),
        no_new_privs: security.no_new_privileges,
        run_as_group: security.group.map(number),
        masked_paths: paths(spec::MASKED),
        readonly_paths: paths(spec::READONLY),
        seccomp: Some(match &security.seccomp {
            SeccompProfile::Unconfined => plain(profile::UNCONFINED),
            SeccompProfile::RuntimeDefault => plain(profile::RUNTIME_DEFAULT),
            SeccompProfile::Localhost(path) => wire::SecurityProfile {
                profile_type: profile::LOCALHOST,
                localhost_ref: text(path),
            },
        }),
        apparmor: security.apparmor_profile.as_deref().map(|name| match name {
            "unconfined" => plain(profile::UNCONFINED),
            name => wire::SecurityProfile {
                profile_type: profile::LOCALHOST,
                localhost_ref: name.to_owned(),
            },
        }),
        supplemental_groups_policy: i32::from(security.strict_groups),
    }
}

/// What a runtime says beyond the interface when it is asked to be verbose: containerd and CRI-O say it alike.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Info {
    pub(super) pid: i32,
    runtime_spec: RuntimeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeSpec {
    process: Process,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Process {
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct User {
    uid: u32,
    gid: u32,
    additional_gids: Vec<u32>,
}

pub(super) fn info(info: &BTreeMap<String, String>) -> Info {
    let text = info.get("info").map(String::as_str).unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

/// Out of what containerd says of its configuration.
pub(super) fn sandbox_image(info: &BTreeMap<String, String>) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(info.get("config")?).ok()?;
    config["sandboxImage"].as_str().map(str::to_owned)
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp::from_nanosecond(nanoseconds.into()).ok())?
}

/// A sandbox of this client's; none if it is not known for one.
pub(super) fn sandbox_status(status: wire::PodSandboxStatus, pid: i32) -> Option<SandboxStatus> {
    let record: SandboxRecord = serde_json::from_str(status.annotations.get(RECORD)?).ok()?;
    let (labels, annotations) = given(status.labels, status.annotations);
    let network = status.network.unwrap_or_default();
    let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|i| i.ip));
    let pid = (pid > 0).then_some(pid);
    Some(SandboxStatus {
        id: record.id,
        state: if status.state == wire::SANDBOX_READY {
            SandboxState::Ready
        } else {
            SandboxState::NotReady
        },
        created_at: time(status.created_at).unwrap_or_default(),
        pid,
        netns: pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
        addresses: (!record.config.host_network).then(|| ips.filter(|ip| !ip.is_empty()).collect()),
        config: SandboxConfig {
            labels,
            annotations,
            ..record.config
        },
    })
}

/// A container of this client's; none if it is not known for one.
pub(super) fn container_status(
    status: wire::ContainerStatus,
    info: &Info,
) -> Option<(ContainerStatus, ContainerRecord)> {
    let record: ContainerRecord = serde_json::from_str(status.annotations.get(RECORD)?).ok()?;
    let (labels, annotations) = given(status.labels, status.annotations);
    let metadata = status.metadata.unwrap_or_default();
    let state = match status.state {
        wire::CONTAINER_CREATED => ContainerState::Created,
        wire::CONTAINER_RUNNING => ContainerState::Running,
        // One whose state is unknown is not known to run.
        _ => ContainerState::Exited,
    };
    let exited = state == ContainerState::Exited;
    let user = &info.runtime_spec.process.user;
    let known = |text: String| (!text.is_empty()).then_some(text);
    let finished_at = time(status.finished_at);
    // containerd notes the start when its call returns, and a short process may have ended by then.
    let started_at =
        time(status.started_at).map(|started| finished_at.map_or(started, |finished| started.min(finished)));
    let status = ContainerStatus {
        id: ContainerId::new(status.id),
        sandbox: SandboxId::new(record.sandbox.clone()),
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        pid: (state == ContainerState::Running && info.pid > 0).then_some(info.pid),
        exit_code: exited.then_some(status.exit_code),
        oom_killed: status.reason == "OOMKilled",
        created_at: time(status.created_at).unwrap_or_default(),
        started_at,
        finished_at,
        image: record.image.clone(),
        image_id: ImageId::new(status.image_ref),
        log_path: known(status.log_path).map(PathBuf::from),
        reason: known(status.reason),
        message: known(status.message).map(|text| command_not_found(&text).unwrap_or(text)),
        stop_signal: record.stop_signal.unwrap_or(nix::libc::SIGTERM),
        labels,
        annotations,
        user: user.uid,
        group: user.gid,
        supplemental_groups: user.additional_gids.clone(),
        mounts: record.mounts.clone(),
        resources: record.resources.clone(),
    };
    Some((status, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_sandbox_comes_back_as_it_was_asked_for() {
        let config = SandboxConfig {
            pod_uid: "u".into(),
            attempt: 3,
            labels: strings(&[("a", "b")]),
            cgroup_parent: "/kubepods/podu".into(),
            host_ipc: true,
            ..SandboxConfig::default()
        };
        let sent = sandbox_config(&"u-3".into(), &config, "me");
        assert_eq!(sent.labels[OWNER], "me");
        let options = sent.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        assert_eq!(
            (options.network, options.pid, options.ipc),
            (namespace::POD, namespace::CONTAINER, namespace::NODE)
        );
        let status = wire::PodSandboxStatus {
            state: 1,
            labels: sent.labels,
            annotations: sent.annotations,
            network: Some(wire::PodSandboxNetworkStatus {
                ip: "10.0.0.2".into(),
                additional_ips: Vec::new(),
            }),
            ..Default::default()
        };
        let status = sandbox_status(status, 7).unwrap();
        assert_eq!((status.id.as_str(), status.state), ("u-3", SandboxState::NotReady));
        assert_eq!(
            (
                status.config.labels,
                status.config.cgroup_parent.as_str(),
                status.config.attempt
            ),
            (config.labels, "/kubepods/podu", 3)
        );
        assert_eq!(status.addresses, Some(vec!["10.0.0.2".to_owned()]));
        assert!(status.config.annotations.is_empty());
        assert!(sandbox_status(wire::PodSandboxStatus::default(), 7).is_none());
    }

    #[test]
    fn a_container_s_state_user_and_end_are_told() {
        let config = ContainerConfig {
            name: "c".into(),
            attempt: 2,
            stop_signal: Some("SIGUSR1".into()),
            ..ContainerConfig::default()
        };
        let kept = record(&"u-3".into(), &config);
        let sent = container_config(&kept, &SandboxConfig::default(), &config, "me");
        let mut status = wire::ContainerStatus {
            id: "x".into(),
            metadata: sent.metadata,
            state: wire::CONTAINER_RUNNING,
            created_at: 1_000_000_000,
            annotations: sent.annotations,
            ..Default::default()
        };
        let text = r#"{"pid": 42, "runtimeSpec": {"process": {"user": {"uid": 5, "gid": 6, "additionalGids": [7]}}}}"#;
        let info = info(&strings(&[("info", text)]));
        let (running, _) = container_status(status.clone(), &info).unwrap();
        assert_eq!(
            (
                running.state,
                running.pid,
                running.exit_code,
                running.user,
                running.attempt
            ),
            (ContainerState::Running, Some(42), None, 5, 2)
        );
        assert_eq!(
            (running.supplemental_groups, running.stop_signal),
            (vec![7], nix::libc::SIGUSR1)
        );
        (status.state, status.exit_code, status.reason) = (2, 137, "OOMKilled".into());
        let (ended, _) = container_status(status, &info).unwrap();
        assert_eq!((ended.exit_code, ended.oom_killed, ended.pid), (Some(137), true, None));
    }

    #[test]
    fn security_is_said_in_the_interface_s_words() {
        let mut own = Security {
            user: Some(0),
            username: Some("ignored".into()),
            add_capabilities: vec!["NET_ADMIN".into()],
            ..Security::default()
        };
        let said = security(&own, wire::NamespaceOption::default());
        assert_eq!(said.run_as_user, Some(wire::Int64Value { value: 0 }));
        assert_eq!(said.run_as_username, "");
        assert!(said.masked_paths.iter().any(|p| p == "/proc/kcore"));
        assert_eq!(said.seccomp.unwrap().profile_type, profile::UNCONFINED);
        own.privileged = true;
        assert!(security(&own, wire::NamespaceOption::default()).masked_paths.is_empty());
    }
}
