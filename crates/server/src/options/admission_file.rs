//! The file of `--admission-control-config-file`, in upstream's form: what plugins are told beyond on and off. PodSecurity
//! alone takes anything.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::pod_security::PodSecurityConfiguration;

const VERSION: &str = "apiserver.config.k8s.io/v1";
const POD_SECURITY_VERSIONS: [&str; 2] = [
    "pod-security.admission.config.k8s.io/v1",
    "pod-security.admission.config.k8s.io/v1beta1",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AdmissionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

/// One plugin's part: here, or in a file of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: Option<PathBuf>,
    #[serde(default)]
    configuration: Option<Value>,
}

/// What the file says about PodSecurity.
pub(super) fn read(path: &Path) -> Result<PodSecurityConfiguration, String> {
    let what = |e: String| format!("the admission configuration {}: {e}", path.display());
    let file: AdmissionConfiguration = load(path).map_err(what)?;
    if file.api_version != VERSION || file.kind != "AdmissionConfiguration" {
        return Err(what(format!(
            "expected an AdmissionConfiguration of {VERSION}, found a {:?} of {:?}",
            file.kind, file.api_version
        )));
    }
    let mut found = PodSecurityConfiguration::default();
    for plugin in file.plugins {
        if plugin.name != "PodSecurity" {
            return Err(what(format!("the plugin {:?} takes no configuration", plugin.name)));
        }
        let value = match (plugin.configuration, plugin.path) {
            (Some(value), _) => value,
            (None, Some(beside)) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                load(&folder.join(beside)).map_err(what)?
            }
            (None, None) => continue,
        };
        found = of_value(value).map_err(|e| what(format!("plugin PodSecurity: {e}")))?;
    }
    Ok(found)
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (value, _) = coracle_api::schema::parse::parse_yaml(text.as_bytes()).map_err(|e| e.to_string())?;
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn of_value(mut value: Value) -> Result<PodSecurityConfiguration, String> {
    let fields = value.as_object_mut().ok_or("the configuration is not an object")?;
    let mut take = |name: &str| {
        fields
            .remove(name)
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let (version, kind) = (take("apiVersion"), take("kind"));
    if kind != "PodSecurityConfiguration" || !POD_SECURITY_VERSIONS.contains(&version.as_str()) {
        return Err(format!(
            "expected a PodSecurityConfiguration of {}, found a {kind:?} of {version:?}",
            POD_SECURITY_VERSIONS[0]
        ));
    }
    let read: PodSecurityConfiguration = serde_json::from_value(value).map_err(|e| e.to_string())?;
    read.check()?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<PodSecurityConfiguration, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admission.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  \
                        configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: \
                        PodSecurityConfiguration\n";

    #[test]
    fn defaults_and_exemptions_are_read() {
        let text = format!(
            "{HEAD}    defaults:\n      enforce: baseline\n      enforce-version: v1.30\n      warn: restricted\n    \
             exemptions:\n      usernames: [admin]\n      namespaces: [kube-system]\n      runtimeClasses: [kata]\n"
        );
        let read = written(&text).unwrap();
        assert_eq!(read.defaults.enforce, "baseline");
        assert_eq!(read.defaults.enforce_version, "v1.30");
        assert_eq!(
            (read.defaults.warn.as_str(), read.defaults.audit.as_str()),
            ("restricted", "privileged")
        );
        assert_eq!(read.exemptions.namespaces, ["kube-system"]);
        assert_eq!(read.exemptions.runtime_classes, ["kata"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, expected) in [
            (
                format!("{HEAD}    defaults: {{enforce: strict}}\n"),
                "defaults.enforce: Invalid value: \"strict\"",
            ),
            (
                format!("{HEAD}    defaults: {{warn-version: v2}}\n"),
                "defaults.warn-version: Invalid value: \"v2\"",
            ),
            (
                format!("{HEAD}    exemptions: {{usernames: [\"\"]}}\n"),
                "exemptions.usernames[0]: Invalid value: \"\"",
            ),
            (
                format!("{HEAD}    exemptions: {{namespaces: [a, a]}}\n"),
                "exemptions.namespaces[1]: Duplicate value: \"a\"",
            ),
            (format!("{HEAD}    exceptions: {{}}\n"), "unknown field `exceptions`"),
            (
                "kind: Pod\napiVersion: v1\n".to_owned(),
                "expected an AdmissionConfiguration",
            ),
            (
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{name: X}]\n"
                    .to_owned(),
                "the plugin \"X\" takes no configuration",
            ),
        ] {
            let error = written(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
