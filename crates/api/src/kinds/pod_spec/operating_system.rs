//! What the pod's operating system rules out: Windows' options on Linux, and nearly everything else on Windows.

use super::each_container;
use crate::field::{Cursor, ErrorList};

const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

pub(super) fn validate(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let os = spec.at("os");
    if !os.is_set() {
        return;
    }
    let name = os.at("name");
    match name.str() {
        "" => errors.required(&name, "cannot be empty"),
        "linux" => linux(spec, errors),
        "windows" => windows(spec, errors),
        other => errors.not_supported_value(&os, &other.into(), &["linux", "windows"]),
    }
}

fn linux(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let context = spec.at("securityContext");
    let options = context.at("windowsOptions");
    if options.is_set() {
        errors.forbidden(&options, NOT_ON_LINUX);
    }
    each_container(spec, |container| {
        let context = container.at("securityContext");
        let options = context.at("windowsOptions");
        if options.is_set() {
            errors.forbidden(&options, NOT_ON_LINUX);
        }
    });
}

fn windows(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let refuse = |at: &Cursor<'_>, fields: &[&str], errors: &mut ErrorList| {
        for field in fields {
            let value = at.at(field);
            if !value.is_empty() && value.bool() != Some(false) || value.is_set() && is_pointer(field) {
                errors.forbidden(&value, NOT_ON_WINDOWS);
            }
        }
    };
    refuse(
        &spec.at("securityContext"),
        &[
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "fsGroup",
            "fsGroupChangePolicy",
            "sysctls",
            "runAsUser",
            "runAsGroup",
            "supplementalGroups",
            "supplementalGroupsPolicy",
            "seLinuxChangePolicy",
        ],
        errors,
    );
    refuse(
        spec,
        &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"],
        errors,
    );
    each_container(spec, |container| {
        refuse(
            &container.at("securityContext"),
            &[
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
                "runAsUser",
                "runAsGroup",
            ],
            errors,
        );
    });
}

/// Whether false is something other than absence.
fn is_pointer(field: &str) -> bool {
    !matches!(field, "hostPID" | "hostIPC" | "sysctls" | "supplementalGroups")
}
