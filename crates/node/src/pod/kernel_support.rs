//! What a pod may not have of this node's kernel, told before anything is started: kernel parameters that are not the
//! pod's alone, and AppArmor where there is none. Pure but for the look at the kernel in [`AppArmor::detect`].

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};

/// Kernel parameters that belong to one pod and can do no harm to others: upstream's list.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// AppArmor as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppArmor {
    pub(crate) enabled: bool,
    /// Names of the profiles that are loaded.
    pub(crate) profiles: BTreeSet<String>,
}

impl AppArmor {
    pub(crate) fn detect() -> Self {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let list = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        Self {
            enabled: enabled.is_ok_and(|text| text.trim() == "Y")
                && Path::new("/sys/kernel/security/apparmor").exists(),
            profiles: list
                .lines()
                .filter_map(|line| line.rsplit_once(" (").map(|(name, _)| name.to_owned()))
                .collect(),
        }
    }
}

/// The reason and the message of a pod that this node refuses.
pub(crate) fn refusal(
    pod: &Pod,
    allowed_unsafe: &[String],
    apparmor: impl FnOnce() -> AppArmor,
) -> Option<(String, String)> {
    let rejected = |reason: &str, why: String| Some((reason.to_owned(), format!("Pod was rejected: {why}")));
    if let Err(why) = sysctls(pod, allowed_unsafe) {
        return rejected("SysctlForbidden", format!("forbidden sysctl: {why}"));
    }
    let wanted: Vec<&AppArmorProfile> = profiles(pod).filter(|p| p.type_ != "Unconfined").collect();
    if wanted.is_empty() {
        return None;
    }
    match confine(&wanted, &apparmor()) {
        Ok(()) => None,
        Err(why) => rejected("AppArmor", format!("Cannot enforce AppArmor: {why}")),
    }
}

fn sysctls(pod: &Pod, allowed_unsafe: &[String]) -> Result<(), String> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let context = spec.security_context.as_ref();
    for sysctl in context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        let name = dotted(&sysctl.name);
        if is_of_ipc(&name) && spec.host_ipc == Some(true) {
            return Err(format!("{:?} not allowed with host ipc enabled", sysctl.name));
        }
        if name.starts_with("net.") && spec.host_network == Some(true) {
            return Err(format!("{:?} not allowed with host net enabled", sysctl.name));
        }
        let allowed = allowed_unsafe.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        });
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !allowed {
            return Err(format!("{:?} not allowlisted", sysctl.name));
        }
    }
    Ok(())
}

fn is_of_ipc(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|p| name.starts_with(p))
}

/// Whether a pod has the kernel parameter, or all that begin so, for itself.
pub(crate) fn is_namespaced(name: &str) -> bool {
    is_of_ipc(name) || name.starts_with("net.")
}

/// `net/ipv4/conf/eth0.1/x` as `net.ipv4.conf.eth0/1.x`: the first separator decides which one separates.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Every profile that the pod or one of its containers asks for.
fn profiles(pod: &Pod) -> impl Iterator<Item = &AppArmorProfile> {
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|s| s.security_context.as_ref()?.app_armor_profile.as_ref());
    let containers = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    own.into_iter()
        .chain(containers.filter_map(|c| c.security_context.as_ref()?.app_armor_profile.as_ref()))
}

fn confine(wanted: &[&AppArmorProfile], host: &AppArmor) -> Result<(), String> {
    if !host.enabled {
        return Err("AppArmor is not enabled on the host".into());
    }
    for profile in wanted {
        match profile
            .localhost_profile
            .as_deref()
            .filter(|_| profile.type_ == "Localhost")
        {
            Some(name) if host.profiles.contains(name) => {}
            Some(name) => return Err(format!("profile {name:?} is not loaded on the node")),
            None => {
                return Err("this node's runtime has no default profile; name one that is loaded (Localhost)".into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(spec: Value, host: AppArmor) -> Option<(String, String)> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        refusal(&pod, &["kernel.msg*".into(), "net.core.somaxconn".into()], || host)
    }

    fn message(spec: Value) -> String {
        refused(spec, AppArmor::default())
            .map(|(reason, message)| format!("{reason}: {message}"))
            .unwrap_or_default()
    }

    #[test]
    fn only_kernel_parameters_of_the_pod_alone_are_set_unless_the_node_allows_more() {
        let with =
            |name: &str| json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        for fine in [
            "kernel.shm_rmid_forced",
            "net/ipv4/tcp_syncookies",
            "kernel.msgmax",
            "net.core.somaxconn",
        ] {
            assert_eq!(message(with(fine)), "", "{fine}");
        }
        assert_eq!(
            message(with("kernel.sem")),
            "SysctlForbidden: Pod was rejected: forbidden sysctl: \"kernel.sem\" not allowlisted"
        );
        let mut host = with("net.ipv4.tcp_syncookies");
        host["hostNetwork"] = json!(true);
        assert!(message(host).ends_with("\"net.ipv4.tcp_syncookies\" not allowed with host net enabled"));
        let mut host = with("kernel.shm_rmid_forced");
        host["hostIPC"] = json!(true);
        assert!(message(host).ends_with("not allowed with host ipc enabled"));
    }

    #[test]
    fn a_profile_is_enforced_or_the_pod_is_refused() {
        let with =
            |profile: Value| json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": profile}}]});
        let local = || with(json!({"type": "Localhost", "localhostProfile": "mine"}));
        assert_eq!(
            message(local()),
            "AppArmor: Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
        );
        assert_eq!(message(with(json!({"type": "Unconfined"}))), "");
        assert_eq!(message(json!({"containers": [{"name": "c"}]})), "");
        let mut host = AppArmor {
            enabled: true,
            ..AppArmor::default()
        };
        let (_, why) = refused(local(), host.clone()).unwrap();
        assert!(why.ends_with("profile \"mine\" is not loaded on the node"), "{why}");
        host.profiles.insert("mine".into());
        assert_eq!(refused(local(), host.clone()), None);
        assert!(refused(with(json!({"type": "RuntimeDefault"})), host).is_some());
    }
}
