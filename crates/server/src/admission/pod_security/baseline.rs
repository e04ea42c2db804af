//! The baseline level: known ways out of a container are closed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Check, Container, Pod, Violation, containers, plural, quoted, setters, violation};
use super::policy::Version;

pub(super) const CHECKS: &[Check] = &[
    check("appArmorProfile", 0, app_armor),
    check("capabilities_baseline", 0, capabilities),
    check("hostNamespaces", 0, host_namespaces),
    check("hostPathVolumes", 0, host_paths),
    check("hostPorts", 0, host_ports),
    check("hostProbesAndHostLifecycle", 34, hosts_of_handlers),
    check("privileged", 0, privileged),
    check("procMount", 0, proc_mount),
    check("seLinuxOptions", 0, se_linux),
    check("seccompProfile_baseline", 0, seccomp),
    check("sysctls", 0, sysctls),
    check("windowsHostProcess", 0, host_process),
];

const fn check(id: &'static str, since: u32, run: fn(&Pod<'_>, Version) -> Option<Violation>) -> Check {
    Check {
        id,
        since: Version(since),
        replaces: "",
        run,
    }
}

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Kernel parameters of the pod's own, and the version from which they count as safe.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SE_LINUX: [(&str, u32); 5] = [
    ("", 0),
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn app_armor(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let mut found = setters(pod, "/appArmorProfile/type", |t| {
        !matches!(text(t), "RuntimeDefault" | "Localhost")
    });
    let mut names = found.names();
    let annotations: BTreeSet<String> = pod
        .annotations()
        .filter(|(key, _)| key.starts_with(APP_ARMOR))
        .filter(|(_, value)| !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/")))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if names.is_empty() && annotations.is_empty() {
        return None;
    }
    if !annotations.is_empty() {
        names.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    let mut values: Vec<String> = std::mem::take(&mut found.values).into_iter().collect();
    values.extend(annotations);
    violation(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            names.join(" and "),
            quoted(&values)
        ),
    )
}

/// Containers for which `of` finds values, and all the values.
fn with_values<'a>(pod: &Pod<'a>, of: impl Fn(Container<'a>) -> Vec<String>) -> (Vec<&'a str>, BTreeSet<String>) {
    let mut names = Vec::new();
    let mut values = BTreeSet::new();
    for container in pod.containers() {
        let found = of(container);
        if !found.is_empty() {
            names.push(container.name());
            values.extend(found);
        }
    }
    (names, values)
}

fn capabilities(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let (names, values) = with_values(pod, |c| {
        let added = c.items("/securityContext/capabilities/add").iter().map(text);
        added.filter(|c| !CAPABILITIES.contains(c)).map(str::to_owned).collect()
    });
    if names.is_empty() {
        return None;
    }
    violation(
        "non-default capabilities",
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&names),
            quoted(&values)
        ),
    )
}

fn host_namespaces(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let set: Vec<String> = ["hostIPC", "hostNetwork", "hostPID"]
        .iter()
        .filter(|field| pod.is(&format!("/{field}")))
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() {
        return None;
    }
    violation("host namespaces", set.join(", "))
}

fn host_paths(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let volumes: Vec<&str> = pod
        .items("/volumes")
        .iter()
        .filter(|v| v.get("hostPath").is_some_and(|h| !h.is_null()))
        .filter_map(|v| v.get("name")?.as_str())
        .collect();
    if volumes.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", volumes.len());
    violation("hostPath volumes", format!("{word} {}", quoted(&volumes)))
}

fn host_ports(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let (names, values) = with_values(pod, |c| {
        let ports = c.items("/ports").iter().filter_map(|p| p.get("hostPort")?.as_i64());
        ports.filter(|p| *p != 0).map(|p| p.to_string()).collect()
    });
    if names.is_empty() {
        return None;
    }
    let ports: Vec<&str> = values.iter().map(String::as_str).collect();
    violation(
        "hostPort",
        format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", "use", names.len()),
            plural("hostPort", "hostPorts", ports.len()),
            ports.join(", ")
        ),
    )
}

fn hosts_of_handlers(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    const HANDLERS: [&str; 5] = [
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let (mut names, values) = with_values(pod, |c| {
        let mut hosts = Vec::new();
        for handler in HANDLERS {
            for kind in ["httpGet", "tcpSocket"] {
                let host = c.at(&format!("{handler}/{kind}/host")).map(text).unwrap_or_default();
                if !host.is_empty() {
                    hosts.push(host.to_owned());
                }
            }
        }
        hosts
    });
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    names.dedup();
    violation(
        "probe or lifecycle host",
        format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", "use", names.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", values.len()),
            quoted(&values)
        ),
    )
}

fn privileged(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let names: Vec<&str> = pod
        .containers()
        .into_iter()
        .filter(|c| c.at("/securityContext/privileged").and_then(Value::as_bool) == Some(true))
        .map(Container::name)
        .collect();
    if names.is_empty() {
        return None;
    }
    violation(
        "privileged",
        format!("{} must not set securityContext.privileged=true", containers(&names)),
    )
}

fn proc_mount(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version >= Version(35) && pod.has_own_users() {
        return None;
    }
    unmasked_proc(pod)
}

/// Whatever users the pod has.
pub(super) fn unmasked_proc(pod: &Pod<'_>) -> Option<Violation> {
    let (names, values) = with_values(pod, |c| {
        let mount = c.at("/securityContext/procMount").map(text);
        mount
            .filter(|m| *m != "Default")
            .map(str::to_owned)
            .into_iter()
            .collect()
    });
    if names.is_empty() {
        return None;
    }
    violation(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            containers(&names),
            quoted(&values)
        ),
    )
}

fn se_linux(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let is_allowed = |kind: &str| {
        SE_LINUX
            .iter()
            .any(|(k, since)| *k == kind && Version(*since) <= version)
    };
    let field = |options: &Value, name: &str| text(options.get(name).unwrap_or(&Value::Null)).to_owned();
    let found = setters(pod, "/seLinuxOptions", |options| {
        !is_allowed(&field(options, "type")) || !field(options, "user").is_empty() || !field(options, "role").is_empty()
    });
    if found.is_empty() {
        return None;
    }
    let all = pod.at("/securityContext/seLinuxOptions").into_iter().chain(
        pod.containers()
            .into_iter()
            .filter_map(|c| c.at("/securityContext/seLinuxOptions")),
    );
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    for options in all {
        let kind = field(options, "type");
        if !is_allowed(&kind) {
            types.insert(kind);
        }
        user |= !field(options, "user").is_empty();
        role |= !field(options, "role").is_empty();
    }
    let mut said = Vec::new();
    if !types.is_empty() {
        said.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        said.push("user may not be set".to_owned());
    }
    if role {
        said.push("role may not be set".to_owned());
    }
    violation(
        "seLinuxOptions",
        format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            found.text(),
            said.join("; ")
        ),
    )
}

pub(super) fn is_profile(kind: &Value) -> bool {
    matches!(text(kind), "RuntimeDefault" | "Localhost")
}

fn seccomp(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version < Version(19) {
        return seccomp_annotations(pod);
    }
    let found = setters(pod, "/seccompProfile/type", |t| !is_profile(t));
    if found.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            found.text(),
            quoted(&found.values)
        ),
    )
}

/// How profiles were named before they had a field.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let names: BTreeSet<&str> = pod.containers().into_iter().map(Container::name).collect();
    let bad: BTreeSet<String> = pod
        .annotations()
        .filter(|(key, _)| *key == POD || key.strip_prefix(CONTAINER).is_some_and(|c| names.contains(c)))
        .filter(|(_, v)| !(matches!(*v, "runtime/default" | "docker/default") || v.starts_with("localhost/")))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let all: Vec<&str> = bad.iter().map(String::as_str).collect();
    let word = plural("annotation", "annotations", all.len());
    violation("seccompProfile", format!("forbidden {word} {}", all.join(", ")))
}

fn sysctls(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let bad: Vec<&str> = pod
        .items("/securityContext/sysctls")
        .iter()
        .filter_map(|s| s.get("name")?.as_str())
        .filter(|name| !SYSCTLS.iter().any(|(n, since)| n == name && Version(*since) <= version))
        .collect();
    if bad.is_empty() {
        return None;
    }
    violation("forbidden sysctls", bad.join(", "))
}

fn host_process(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let found = setters(pod, "/windowsOptions/hostProcess", |v| v.as_bool() == Some(true));
    if found.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            found.text()
        ),
    )
}
