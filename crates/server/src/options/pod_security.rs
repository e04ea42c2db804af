//! What PodSecurity is told beside the labels of namespaces: the levels of those without labels, and who is exempt.

use serde::Deserialize;

/// See the module; upstream's PodSecurityConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodSecurityConfiguration {
    pub defaults: PodSecurityDefaults,
    pub exemptions: PodSecurityExemptions,
}

/// `privileged`, `baseline` or `restricted`, and `latest` or `v1.x`, for each mode.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PodSecurityDefaults {
    pub enforce: String,
    pub enforce_version: String,
    pub audit: String,
    pub audit_version: String,
    pub warn: String,
    pub warn_version: String,
}

impl Default for PodSecurityDefaults {
    fn default() -> Self {
        let [enforce, audit, warn] = ["privileged"; 3].map(str::to_owned);
        let [enforce_version, audit_version, warn_version] = ["latest"; 3].map(str::to_owned);
        Self {
            enforce,
            enforce_version,
            audit,
            audit_version,
            warn,
            warn_version,
        }
    }
}

/// Whose requests, in which namespaces, and whose runtime is not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodSecurityExemptions {
    pub usernames: Vec<String>,
    pub namespaces: Vec<String>,
    pub runtime_classes: Vec<String>,
}

impl PodSecurityConfiguration {
    pub(super) fn check(&self) -> Result<(), String> {
        let d = &self.defaults;
        for (field, level) in [("enforce", &d.enforce), ("audit", &d.audit), ("warn", &d.warn)] {
            if !matches!(level.as_str(), "privileged" | "baseline" | "restricted") {
                return Err(format!(
                    "defaults.{field}: Invalid value: {level:?}: must be one of privileged, baseline, restricted"
                ));
            }
        }
        for (field, version) in [
            ("enforce-version", &d.enforce_version),
            ("audit-version", &d.audit_version),
            ("warn-version", &d.warn_version),
        ] {
            if !is_version(version) {
                return Err(format!(
                    "defaults.{field}: Invalid value: {version:?}: must be \"latest\" or \"v1.x\""
                ));
            }
        }
        let e = &self.exemptions;
        for (field, names) in [
            ("usernames", &e.usernames),
            ("namespaces", &e.namespaces),
            ("runtimeClasses", &e.runtime_classes),
        ] {
            for (i, name) in names.iter().enumerate() {
                if name.is_empty() {
                    return Err(format!(
                        "exemptions.{field}[{i}]: Invalid value: \"\": must not be empty"
                    ));
                }
                if names.iter().take(i).any(|earlier| earlier == name) {
                    return Err(format!("exemptions.{field}[{i}]: Duplicate value: {name:?}"));
                }
            }
        }
        Ok(())
    }
}

fn is_version(text: &str) -> bool {
    let minor = text.strip_prefix("v1.").unwrap_or_default();
    let plain = !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit());
    text == "latest" || (plain && (minor == "0" || !minor.starts_with('0')) && minor.parse::<u32>().is_ok())
}
