//! Security contexts of pods and containers: users, capabilities, profiles, sysctls, Windows' options.

use std::collections::BTreeSet;

use super::super::check::one_of_if_set;
use super::volume_source::local_descending_path;
use super::{each_container, flag};
use crate::field::{Cursor, ErrorList};
use crate::names;

pub(super) fn pod(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let context = spec.at("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id_if_set(&context.at(field), errors);
    }
    for group in context.at("supplementalGroups").items() {
        id_if_set(&group, errors);
    }
    let shared = spec.at("shareProcessNamespace");
    if shared.is_true() && spec.at("hostPID").is_true() {
        errors.invalid(&shared, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(spec, &context.at("sysctls"), errors);
    one_of_if_set(
        &context.at("fsGroupChangePolicy"),
        &["Always", "OnRootMismatch"],
        errors,
    );
    seccomp(&context.at("seccompProfile"), errors);
    windows(&context.at("windowsOptions"), errors);
    app_armor(&context.at("appArmorProfile"), errors);
    one_of_if_set(&context.at("supplementalGroupsPolicy"), &["Merge", "Strict"], errors);
    one_of_if_set(
        &context.at("seLinuxChangePolicy"),
        &["MountOption", "Recursive"],
        errors,
    );
}

pub(super) fn container(context: &Cursor<'_>, host_users: bool, errors: &mut ErrorList) {
    if !context.is_set() {
        return;
    }
    id_if_set(&context.at("runAsUser"), errors);
    id_if_set(&context.at("runAsGroup"), errors);
    let proc_mount = context.at("procMount");
    one_of_if_set(&proc_mount, &["Default", "Unmasked"], errors);
    if host_users && proc_mount.str() == "Unmasked" {
        errors.invalid(&proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&context.at("seccompProfile"), errors);
    if context.at("allowPrivilegeEscalation").bool() == Some(false) {
        if context.at("privileged").is_true() {
            errors.invalid(
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if context
            .at("capabilities")
            .at("add")
            .strs()
            .any(|c| c == "CAP_SYS_ADMIN")
        {
            errors.invalid(
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows(&context.at("windowsOptions"), errors);
    app_armor(&context.at("appArmorProfile"), errors);
}

fn id_if_set(at: &Cursor<'_>, errors: &mut ErrorList) {
    if let Some(id) = at.i64() {
        // Upstream's words for ids, and its bound (a signed 32-bit number).
        errors.faults(at, names::in_range(id, 0, i64::from(i32::MAX)));
    }
}

const OWN_USERS: &str = "when `hostUsers` is false";

/// Without the host's users, the host's namespaces and its block devices are out of reach.
pub(super) fn host_users(spec: &Cursor<'_>, errors: &mut ErrorList) {
    if spec.at("hostUsers").bool() != Some(false) {
        return;
    }
    // Upstream writes two of them with a capital.
    for (field, said) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.at(field).is_true() {
            errors.forbidden(&spec.said(said), OWN_USERS);
        }
    }
    super::each_container(spec, |container| {
        let devices = container.at("volumeDevices");
        if !devices.is_empty() {
            errors.forbidden(&devices, OWN_USERS);
        }
    });
}

fn sysctls(spec: &Cursor<'_>, sysctls: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for sysctl in sysctls.items() {
        let name = sysctl.at("name");
        let dotted = name.str().replace('/', ".");
        if name.is_empty() {
            errors.required(&name, "");
        } else if !is_sysctl_name(name.str()) {
            errors.invalid(
                &name,
                "must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            );
        } else if !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        }
        if spec.at("hostNetwork").is_true() && dotted.starts_with("net.") {
            errors.invalid(&name, "may not be specified when 'hostNetwork' is true");
        }
        if spec.at("hostIPC").is_true() && is_ipc_sysctl(&dotted) {
            errors.invalid(&name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_ipc_sysctl(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|p| name.starts_with(p))
}

fn is_sysctl_name(name: &str) -> bool {
    let is_edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 253
        && name.split(['.', '/']).all(|segment| {
            let bytes = segment.as_bytes();
            is_edge(bytes.first())
                && is_edge(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        })
}

fn seccomp(profile: &Cursor<'_>, errors: &mut ErrorList) {
    if !profile.is_set() {
        return;
    }
    let kind = profile.at("type");
    if kind.is_empty() {
        errors.required(&kind, "type is required when seccompProfile is set");
    } else {
        one_of_if_set(&kind, &["Localhost", "RuntimeDefault", "Unconfined"], errors);
    }
    let local = profile.at("localhostProfile");
    match (kind.str() == "Localhost", local.is_set()) {
        (true, true) => local_descending_path(&local, errors),
        (true, false) => errors.required(&local, "must be set when seccomp type is Localhost"),
        (false, true) => errors.invalid(&local, "can only be set when seccomp type is Localhost"),
        (false, false) => {}
    }
}

fn app_armor(profile: &Cursor<'_>, errors: &mut ErrorList) {
    if !profile.is_set() {
        return;
    }
    let kind = profile.at("type");
    let local = profile.at("localhostProfile");
    match kind.str() {
        "Localhost" => {
            let name = local.str();
            if !local.is_set() || (name.is_empty()) {
                errors.required(&local, "must be set when AppArmor type is Localhost");
            } else if name.trim() != name {
                errors.invalid(&local, "must not be padded with whitespace");
            }
            if name.len() > 4095 {
                errors.too_long(&local, 4095);
            }
        }
        "RuntimeDefault" | "Unconfined" if local.is_set() => {
            errors.invalid(&local, "can only be set when AppArmor type is Localhost");
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&kind, "type is required when appArmorProfile is set"),
        _ => errors.not_supported(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn windows(options: &Cursor<'_>, errors: &mut ErrorList) {
    let spec_name = options.at("gmsaCredentialSpecName");
    if spec_name.is_set() {
        errors.faults(&spec_name, names::dns1123_subdomain(spec_name.str()));
    }
    let spec = options.at("gmsaCredentialSpec");
    if spec.is_set() && spec.is_empty() {
        errors.invalid(&spec, "gmsaCredentialSpec cannot be an empty string");
    }
    if spec.str().len() > 64 * 1024 {
        errors.invalid(&spec, "gmsaCredentialSpec size must be under 64 KiB");
    }
    let user = options.at("runAsUserName");
    if user.is_set() {
        for fault in windows_user(user.str()) {
            errors.invalid(&user, fault);
        }
    }
}

/// `DOMAIN\user` or `user`.
fn windows_user(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut faults = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            faults.push("runAsUserName's Domain length must be under 256 characters");
        }
        let net_bios = (1..=15).contains(&domain.chars().count())
            && !domain.starts_with('.')
            && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|']);
        let dns = domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if !net_bios && !dns {
            faults.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        faults.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        faults.push("runAsUserName's User length must not be longer than 104 characters");
    } else if user.chars().all(|c| c == '.' || c == ' ') {
        faults.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        faults.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    faults
}

/// Windows' host processes: all containers of a pod or none, on the host's network.
pub(super) fn host_process(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let pod_context = spec.at("securityContext");
    let pod_options = pod_context.at("windowsOptions");
    let of_pod = pod_options.at("hostProcess").bool();
    let (mut count, mut of_host) = (0, 0);
    each_container(spec, |container| {
        count += 1;
        let context = container.at("securityContext");
        let options = context.at("windowsOptions");
        let own = options.at("hostProcess");
        if let (Some(pod), Some(container)) = (of_pod, own.bool())
            && pod != container
        {
            errors.invalid(
                &own,
                format!("pod hostProcess value must be identical if both are specified, was {pod}"),
            );
        }
        if own.bool().or(of_pod) == Some(true) {
            of_host += 1;
        }
    });
    if of_host == 0 {
        return;
    }
    if of_host != count {
        errors.invalid_value(
            spec,
            &"".into(),
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    let network = spec.at("hostNetwork");
    if !flag(spec.value(), "hostNetwork") {
        errors.invalid_value(
            &network,
            &false.into(),
            "hostNetwork must be true if pod contains any hostProcess containers",
        );
    }
}
