//! Seccomp profiles: the default one, and files in the OCI or Docker format. Pure but for reading the file.

use serde_json::{Value, json};

use crate::container::SeccompProfile;
use crate::error::{Error, Result};
use crate::image::manifest::host_architecture;

/// System calls that any container may make, by the profile that container runtimes have agreed on.
const ALLOWED: &str = include_str!("seccomp/allowed.txt");

/// What a capability adds to them.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
        ],
    ),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    (
        "CAP_SYS_TIME",
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    (
        "CAP_SYS_NICE",
        &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    ),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The clone flags that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;

/// The specification's `linux.seccomp`, or none for unconfined.
pub(crate) fn profile(profile: &SeccompProfile, capabilities: &[String]) -> Result<Option<Value>> {
    match profile {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => Ok(Some(runtime_default(capabilities))),
        SeccompProfile::Localhost(path) => {
            let bytes = std::fs::read(path).map_err(Error::io("read seccomp profile", path))?;
            let parsed: Value = serde_json::from_slice(&bytes)
                .map_err(|error| Error::InvalidConfig(format!("seccomp profile {}: {error}", path.display())))?;
            Ok(Some(from_file(&parsed, capabilities)))
        }
    }
}

fn runtime_default(capabilities: &[String]) -> Value {
    let mut names: Vec<&str> = ALLOWED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let has = |capability: &str| capabilities.iter().any(|own| own == capability);
    for (capability, more) in BY_CAPABILITY {
        if has(capability) {
            names.extend(*more);
        }
    }
    names.sort_unstable();
    names.dedup();
    let mut rules = vec![json!({ "names": names, "action": "SCMP_ACT_ALLOW" })];
    // The personalities that programs ask for: Linux, its 32 bits, no randomisation, and "which one is it".
    for value in [0u64, 8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.push(json!({
            "names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }],
        }));
    }
    // Sockets of every family but virtual machines', which reach the host.
    rules.push(json!({
        "names": ["socket"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }],
    }));
    if !has("CAP_SYS_ADMIN") {
        rules.push(json!({
            "names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }],
        }));
        // Its flags are in memory that a filter cannot see. Libraries fall back to clone when it is "not there".
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn architectures() -> Vec<&'static str> {
    match host_architecture() {
        "amd64" => vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "arm64" => vec!["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "s390x" => vec!["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "riscv64" => vec!["SCMP_ARCH_RISCV64"],
        "ppc64le" => vec!["SCMP_ARCH_PPC64LE"],
        _ => Vec::new(),
    }
}

/// Docker's format is the OCI's with conditions on rules, by architecture and capability.
fn from_file(file: &Value, capabilities: &[String]) -> Value {
    let mut profile = json!({});
    for key in [
        "defaultAction",
        "defaultErrnoRet",
        "flags",
        "listenerPath",
        "listenerMetadata",
    ] {
        if let Some(value) = file.get(key).filter(|value| !value.is_null()) {
            profile[key] = value.clone();
        }
    }
    profile["architectures"] = match file.get("architectures").and_then(Value::as_array) {
        Some(list) if !list.is_empty() => json!(list),
        _ => json!(architectures()),
    };
    let rules = file
        .get("syscalls")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let applies = |rule: &Value| {
        let listed = |of: &str, what: &str| -> Option<Vec<String>> {
            let list = rule.get(of)?.get(what)?.as_array()?;
            Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let architecture = host_architecture().to_owned();
        let has = |capability: &String| capabilities.contains(capability);
        listed("includes", "arches").is_none_or(|list| list.is_empty() || list.contains(&architecture))
            && listed("excludes", "arches").is_none_or(|list| !list.contains(&architecture))
            && listed("includes", "caps").is_none_or(|list| list.iter().all(has))
            && listed("excludes", "caps").is_none_or(|list| !list.iter().any(has))
    };
    let rules: Vec<Value> = rules
        .into_iter()
        .filter(applies)
        .map(|mut rule| {
            if let Some(object) = rule.as_object_mut() {
                if let Some(name) = object.remove("name").filter(|_| !object.contains_key("names")) {
                    object.insert("names".to_owned(), json!([name]));
                }
                object.retain(|key, value| {
                    matches!(key.as_str(), "names" | "action" | "errnoRet" | "args") && !value.is_null()
                });
            }
            rule
        })
        .collect();
    profile["syscalls"] = json!(rules);
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_opens_with_capabilities() {
        let names = |caps: &[&str]| {
            let caps: Vec<String> = caps.iter().map(|s| (*s).to_owned()).collect();
            runtime_default(&caps)["syscalls"][0]["names"].to_string()
        };
        assert!(names(&[]).contains("\"read\"") && !names(&[]).contains("\"mount\""));
        assert!(names(&["CAP_SYS_ADMIN"]).contains("\"mount\""));
    }

    #[test]
    fn a_file_in_dockers_format_loses_its_conditions() {
        let file = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                { "name": "mkdir", "action": "SCMP_ACT_ERRNO", "args": null },
                { "names": ["reboot"], "action": "SCMP_ACT_ERRNO", "includes": { "caps": ["CAP_SYS_BOOT"] } },
            ],
        });
        let profile = from_file(&file, &[]);
        assert_eq!(
            profile["syscalls"],
            json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }])
        );
    }
}
