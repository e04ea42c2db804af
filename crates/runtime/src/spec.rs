//! The OCI runtime specification of a container: one JSON document from the container's, the image's and the sandbox's
//! settings. Pure but for the look-ups that `spec/user.rs` and `spec/device.rs` make.

pub(crate) mod capability;
pub(crate) mod device;
pub(crate) mod mount;
pub(crate) mod seccomp;
pub(crate) mod user;

use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::Cgroups;
use crate::container::{ContainerConfig, Propagation, Resources};
use crate::error::{Error, Result};
use crate::sandbox::SandboxConfig;
use user::Identity;

pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
pub(crate) const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const CAP_SYS_RESOURCE: u64 = 1 << 24;
pub(crate) const CAP_MKNOD: u64 = 1 << 27;

/// What the specification is made from.
pub(crate) struct Input<'a> {
    pub(crate) config: &'a ContainerConfig,
    pub(crate) sandbox: &'a SandboxConfig,
    /// The process whose namespaces the container joins.
    pub(crate) namespaces_pid: i32,
    /// The first process of the pod's PID namespace, where it has one.
    pub(crate) pause_pid: Option<i32>,
    /// The first process of the container whose PID namespace this one joins.
    pub(crate) target_pid: Option<i32>,
    pub(crate) shm: &'a Path,
    pub(crate) identity: &'a Identity,
    pub(crate) command: &'a [String],
    pub(crate) environment: Vec<String>,
    pub(crate) working_dir: &'a str,
    pub(crate) cgroup: &'a str,
    pub(crate) cgroups: &'a Cgroups,
    /// Capabilities that this process can give away.
    pub(crate) bounding: u64,
}

pub(crate) fn build(input: &Input<'_>) -> Result<Value> {
    let security = &input.config.security;
    let capabilities = capability::resolve(security, input.bounding)?;
    let mut environment = input.environment.clone();
    // The runtime would otherwise ask the C library, which may load what the image tells it to.
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        environment.push(format!("HOME={}", input.identity.home));
    }
    if input.config.tty && !environment.iter().any(|entry| entry.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    if !environment.iter().any(|entry| entry.starts_with("HOSTNAME=")) && !input.sandbox.hostname.is_empty() {
        environment.push(format!("HOSTNAME={}", input.sandbox.hostname));
    }
    let mut process = json!({
        "terminal": input.config.tty,
        "user": {
            "uid": input.identity.uid,
            "gid": input.identity.gid,
            "additionalGids": input.identity.additional_gids,
        },
        "args": input.command,
        "env": environment,
        "cwd": input.working_dir,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "oomScoreAdj": oom_score_adj(input.config.resources.oom_score_adj.unwrap_or(0), input.bounding),
    });
    // Present means on: for the embedded runtime even a false decides when seccomp is applied.
    if security.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    if let Some(profile) = security.apparmor_profile.as_deref().filter(|_| !security.privileged) {
        process["apparmorProfile"] = json!(profile);
    }
    let propagates = input
        .config
        .mounts
        .iter()
        .any(|m| m.propagation == Propagation::Bidirectional);
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(input),
        "resources": resources(&input.config.resources, device::rules(input.config)?),
        "devices": device::nodes(input.config, input.sandbox.user_namespace.is_some())?,
        "rootfsPropagation": if propagates { "shared" } else { "slave" },
    });
    if !security.privileged {
        if !security.unmasked_proc {
            linux["maskedPaths"] = json!(MASKED);
            linux["readonlyPaths"] = json!(READONLY);
        }
        if let Some(profile) = seccomp::profile(&security.seccomp, &capabilities)? {
            linux["seccomp"] = profile;
        }
    }
    Ok(json!({
        "ociVersion": "1.1.0",
        "root": { "path": "rootfs", "readonly": security.readonly_rootfs },
        "process": process,
        "mounts": mount::mounts(input)?,
        "linux": linux,
    }))
}

fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let sandbox = input.sandbox;
    let mut list = vec![json!({ "type": "mount" })];
    let mut join = |kind: &str, file: &str, pid: i32| {
        list.push(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }));
    };
    if sandbox.user_namespace.is_some() {
        join("user", "user", input.namespaces_pid);
    }
    if !sandbox.host_network {
        join("network", "net", input.namespaces_pid);
        join("uts", "uts", input.namespaces_pid);
    }
    if !sandbox.host_ipc {
        join("ipc", "ipc", input.namespaces_pid);
    }
    match input.pause_pid.or(input.target_pid) {
        Some(first) => join("pid", "pid", first),
        None if sandbox.host_pid => {}
        None => list.push(json!({ "type": "pid" })),
    }
    if input.cgroups.is_v2() && !input.config.security.privileged {
        list.push(json!({ "type": "cgroup" }));
    }
    list
}

fn resources(limits: &Resources, devices: Vec<Value>) -> Value {
    let mut cpu = json!({});
    let mut memory = json!({});
    set(&mut cpu, "shares", limits.cpu_shares.filter(|shares| *shares > 0));
    set(&mut cpu, "quota", limits.cpu_quota.filter(|quota| *quota != 0));
    set(&mut cpu, "period", limits.cpu_period.filter(|period| *period > 0));
    set(
        &mut cpu,
        "cpus",
        limits.cpuset_cpus.as_deref().filter(|cpus| !cpus.is_empty()),
    );
    set(
        &mut cpu,
        "mems",
        limits.cpuset_mems.as_deref().filter(|mems| !mems.is_empty()),
    );
    set(&mut memory, "limit", limits.memory_limit.filter(|limit| *limit != 0));
    set(
        &mut memory,
        "swap",
        limits
            .memory_swap_limit
            .filter(|limit| *limit != 0 && swap_is_accounted()),
    );
    let mut all = json!({ "devices": devices, "cpu": cpu, "memory": memory });
    if let Some(limit) = limits.pids_limit {
        all["pids"] = json!({ "limit": limit });
    }
    if !limits.hugepage_limits.is_empty() {
        let entry = |(size, limit): (&String, &u64)| json!({ "pageSize": size, "limit": limit });
        all["hugepageLimits"] = limits.hugepage_limits.iter().map(entry).collect();
    }
    if !limits.unified.is_empty() {
        all["unified"] = json!(limits.unified);
    }
    all
}

fn set(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[key] = value.into();
    }
}

/// v1 hosts have no swap limit unless booted so, and v2 hosts always.
fn swap_is_accounted() -> bool {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    !v1.exists() || v1.join("memory.memsw.limit_in_bytes").exists()
}

/// Only a process with `CAP_SYS_RESOURCE` may make another less likely to be killed than itself.
fn oom_score_adj(wanted: i32, bounding: u64) -> i32 {
    if bounding & CAP_SYS_RESOURCE != 0 {
        return wanted;
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    wanted.max(own.unwrap_or(0))
}

/// A path in the container must be absolute.
pub(crate) fn absolute(path: &str, what: &str) -> Result<String> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    Err(Error::InvalidConfig(format!("{what} {path:?} is not an absolute path")))
}
