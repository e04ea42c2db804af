//! What a namespace's labels say: a level and a version for each of the three modes.

use std::fmt;

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;

use crate::options::PodSecurityDefaults;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version whose rules are meant; the newest is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32);

impl Version {
    pub const LATEST: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::LATEST => write!(f, "{level}:latest"),
            Version(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged)
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::LATEST);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    minor.parse().ok().filter(|_| plain).map(Version)
}

/// What namespaces without labels have. The configuration has been checked.
pub(super) fn of_defaults(defaults: &PodSecurityDefaults) -> Policy {
    let read = |of: &str, at: &str| LevelVersion {
        level: level(of).unwrap_or_default(),
        version: version(at).unwrap_or(Version::LATEST),
    };
    Policy {
        enforce: read(&defaults.enforce, &defaults.enforce_version),
        audit: read(&defaults.audit, &defaults.audit_version),
        warn: read(&defaults.warn, &defaults.warn_version),
    }
}

/// The policy and what is wrong with the labels. What cannot be read enforces the most and warns of the least.
pub(super) fn of_labels(namespace: &Object, defaults: &Policy) -> (Policy, Vec<FieldError>) {
    let mut faults = Vec::new();
    let mut mode = |name: &str, unlabelled: LevelVersion, otherwise: Level| {
        let key = format!("pod-security.kubernetes.io/{name}");
        let mut read = unlabelled;
        let mut fault = |key: &str, value: &str, detail: &str| {
            faults.push(FieldError {
                kind: FieldErrorKind::Invalid,
                path: format!("metadata.labels[{key}]"),
                value: format!("{value:?}"),
                detail: detail.into(),
            });
        };
        if let Some(text) = namespace.label(&key) {
            read.level = level(text).unwrap_or_else(|| {
                fault(&key, text, "must be one of privileged, baseline, restricted");
                otherwise
            });
        }
        let key = format!("{key}-version");
        if let Some(text) = namespace.label(&key) {
            read.version = version(text).unwrap_or_else(|| {
                fault(&key, text, "must be \"latest\" or \"v1.x\"");
                Version::LATEST
            });
        }
        read
    };
    let policy = Policy {
        enforce: mode("enforce", defaults.enforce, Level::Restricted),
        audit: mode("audit", defaults.audit, Level::Privileged),
        warn: mode("warn", defaults.warn, Level::Privileged),
    };
    (policy, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of_labels(namespace: &Object) -> (Policy, Vec<FieldError>) {
        super::of_labels(namespace, &of_defaults(&PodSecurityDefaults::default()))
    }

    fn namespace(labels: Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap()
    }

    #[test]
    fn labels_say_level_and_version_of_each_mode() {
        let (policy, faults) = of_labels(&namespace(json!({
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "v1.24",
            "pod-security.kubernetes.io/warn": "restricted",
        })));
        assert!(faults.is_empty());
        assert_eq!(policy.enforce.to_string(), "baseline:v1.24");
        assert_eq!(policy.warn.to_string(), "restricted:latest");
        assert_eq!(policy.audit.to_string(), "privileged:latest");
        assert!(of_labels(&namespace(json!({}))).0.is_privileged());
    }

    #[test]
    fn a_label_that_cannot_be_read_enforces_the_most_and_warns_of_nothing() {
        let (policy, faults) = of_labels(&namespace(json!({
            "pod-security.kubernetes.io/enforce": "x",
            "pod-security.kubernetes.io/warn": "x",
            "pod-security.kubernetes.io/warn-version": "v1.01",
        })));
        assert_eq!(policy.enforce.level, Level::Restricted);
        assert_eq!(policy.warn.level, Level::Privileged);
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, \
             baseline, restricted"
        );
        assert_eq!(
            texts[2],
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \
             \"v1.x\""
        );
    }
}
