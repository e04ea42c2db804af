//! Which capabilities a container has. Pure.

use crate::container::Security;
use crate::error::{Error, Result};

/// By number, as the kernel counts them.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless it says otherwise: the set that all runtimes agree on.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The container's capabilities as `CAP_...`, within those of `bounding`.
pub(crate) fn resolve(security: &Security, bounding: u64) -> Result<Vec<String>> {
    let mut mask = if security.privileged {
        all()
    } else {
        mask_of(DEFAULT.iter().copied())?
    };
    if has_all(&security.add_capabilities) {
        mask = all();
    }
    if has_all(&security.drop_capabilities) {
        mask = 0;
    }
    mask |= mask_of(named(&security.add_capabilities))?;
    mask &= !mask_of(named(&security.drop_capabilities))?;
    mask &= bounding;
    Ok((0..NAMES.len())
        .filter(|bit| mask & (1 << bit) != 0)
        .map(|bit| format!("CAP_{}", NAMES[bit]))
        .collect())
}

fn all() -> u64 {
    (1 << NAMES.len()) - 1
}

fn has_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

fn named(names: &[String]) -> impl Iterator<Item = &str> {
    names
        .iter()
        .map(String::as_str)
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
}

fn mask_of<'a>(names: impl Iterator<Item = &'a str>) -> Result<u64> {
    let mut mask = 0;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let bit = NAMES.iter().position(|known| *known == short);
        mask |= 1 << bit.ok_or_else(|| Error::InvalidConfig(format!("unknown capability {name:?}")))?;
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        Security {
            add_capabilities: add.iter().map(|s| (*s).to_owned()).collect(),
            drop_capabilities: drop.iter().map(|s| (*s).to_owned()).collect(),
            ..Security::default()
        }
    }

    #[test]
    fn a_container_has_the_default_set_with_what_it_adds_and_without_what_it_drops() {
        let caps = resolve(&security(&["NET_ADMIN"], &["CAP_KILL"]), u64::MAX).unwrap();
        assert_eq!(caps.len(), DEFAULT.len());
        assert!(caps.contains(&"CAP_NET_ADMIN".to_owned()) && !caps.contains(&"CAP_KILL".to_owned()));
    }

    #[test]
    fn dropping_all_leaves_only_what_is_added_by_name() {
        assert_eq!(
            resolve(&security(&["chown"], &["ALL"]), u64::MAX).unwrap(),
            ["CAP_CHOWN"]
        );
        assert_eq!(resolve(&security(&["ALL"], &[]), u64::MAX).unwrap().len(), NAMES.len());
    }

    #[test]
    fn nothing_is_given_that_the_node_does_not_have() {
        assert_eq!(resolve(&security(&["ALL"], &[]), 0b1).unwrap(), ["CAP_CHOWN"]);
    }

    #[test]
    fn an_unknown_capability_is_an_error() {
        assert!(resolve(&security(&["FLY"], &[]), u64::MAX).is_err());
    }
}
