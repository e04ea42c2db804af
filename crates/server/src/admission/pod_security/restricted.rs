//! The restricted level: what hardening asks for on top of the baseline.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{is_profile, unmasked_proc};
use super::check::{Check, Container, Pod, Violation, containers, plural, quoted, setters, unset, violation};
use super::policy::Version;

pub(super) const CHECKS: &[Check] = &[
    check("allowPrivilegeEscalation", 8, "", escalation),
    check("capabilities_restricted", 22, "capabilities_baseline", capabilities),
    check("procMount_restricted", 35, "procMount", |pod, _| unmasked_proc(pod)),
    check("restrictedVolumes", 0, "hostPathVolumes", volumes),
    check("runAsNonRoot", 0, "", non_root),
    check("runAsUser", 23, "", user),
    check("seccompProfile_restricted", 19, "seccompProfile_baseline", seccomp),
];

const fn check(
    id: &'static str,
    since: u32,
    replaces: &'static str,
    run: fn(&Pod<'_>, Version) -> Option<Violation>,
) -> Check {
    Check {
        id,
        since: Version(since),
        replaces,
        run,
    }
}

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// From this version on, pods of Windows are spared what Windows does not have.
const WINDOWS: Version = Version(25);

fn escalation(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version >= WINDOWS && pod.is_windows() {
        return None;
    }
    let names: Vec<&str> = pod
        .containers()
        .into_iter()
        .filter(|c| {
            c.at("/securityContext/allowPrivilegeEscalation")
                .and_then(Value::as_bool)
                != Some(false)
        })
        .map(Container::name)
        .collect();
    if names.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&names)
        ),
    )
}

fn capabilities(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version >= WINDOWS && pod.is_windows() {
        return None;
    }
    let mut keeping = Vec::new();
    let mut adding = Vec::new();
    let mut added = BTreeSet::new();
    for container in pod.containers() {
        let list = |field: &str| container.items(&format!("/securityContext/capabilities/{field}"));
        if !list("drop").iter().any(|c| c.as_str() == Some("ALL")) {
            keeping.push(container.name());
        }
        let more: Vec<&str> = list("add")
            .iter()
            .filter_map(Value::as_str)
            .filter(|c| *c != "NET_BIND_SERVICE")
            .collect();
        if !more.is_empty() {
            adding.push(container.name());
            added.extend(more);
        }
    }
    let mut said = Vec::new();
    if !keeping.is_empty() {
        said.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        said.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(&added)
        ));
    }
    if said.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", said.join("; "))
}

fn volumes(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let mut names = Vec::new();
    let mut kinds = BTreeSet::new();
    for volume in pod.items("/volumes") {
        let Some(fields) = volume.as_object() else { continue };
        let kind = fields.iter().find(|(k, v)| *k != "name" && !v.is_null());
        let kind = kind.map_or("unknown", |(k, _)| k.as_str());
        if !VOLUMES.contains(&kind) {
            names.push(fields.get("name").and_then(Value::as_str).unwrap_or_default());
            kinds.insert(kind);
        }
    }
    if names.is_empty() {
        return None;
    }
    violation(
        "restricted volume types",
        format!(
            "{} {} {} restricted volume {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("type", "types", kinds.len()),
            quoted(&kinds)
        ),
    )
}

fn non_root(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version >= Version(35) && pod.has_own_users() {
        return None;
    }
    let reason = "runAsNonRoot != true";
    let found = setters(pod, "/runAsNonRoot", |v| v.as_bool() == Some(false));
    if !found.is_empty() {
        let detail = format!("{} must not set securityContext.runAsNonRoot=false", found.text());
        return violation(reason, detail);
    }
    let names = unset(pod, "/runAsNonRoot", |v| v.as_bool() == Some(true));
    if names.is_empty() {
        return None;
    }
    violation(
        reason,
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            containers(&names)
        ),
    )
}

fn user(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version >= Version(35) && pod.has_own_users() {
        return None;
    }
    let found = setters(pod, "/runAsUser", |v| v.as_i64() == Some(0));
    if found.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", found.text()))
}

fn seccomp(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version >= WINDOWS && pod.is_windows() {
        return None;
    }
    let found = setters(pod, "/seccompProfile/type", |t| !is_profile(t));
    if !found.is_empty() {
        return violation(
            "seccompProfile",
            format!(
                "{} must not set securityContext.seccompProfile.type to {}",
                found.text(),
                quoted(&found.values)
            ),
        );
    }
    let names = unset(pod, "/seccompProfile/type", is_profile);
    if names.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&names)
        ),
    )
}
