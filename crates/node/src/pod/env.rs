//! A container's environment: envFrom, env, and the variables that announce services. Pure; what the variables refer to
//! is given as [`Sources`].

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};

use super::downward::{self, NodeFacts};
use super::expansion::expand;

/// Objects that the environment refers to, by name; absent ones do not exist.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    /// What files in volumes hold, by volume and path.
    pub(crate) files: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// The services of the pod's namespace and `kubernetes` of `default`.
    pub(crate) services: Vec<Arc<Service>>,
}

/// The names of config maps and secrets that the container's environment refers to.
pub(crate) fn referenced(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut maps = Vec::new();
    let mut secrets = Vec::new();
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The variables in order, and the warnings (keys that cannot be names).
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) skipped: Vec<String>,
}

impl Environment {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.variables.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => slot.1 = value,
            None => self.variables.push((name, value)),
        }
    }
}

/// Builds the environment; the error is the message of `CreateContainerConfigError`.
pub(crate) fn build(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    pod_ips: &[String],
    node: &NodeFacts,
) -> Result<Environment, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = service_variables(&sources.services, namespace, links);
    let mut env = Environment::default();

    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut add = |kind: &str, name: &str, entries: Vec<(String, String)>| {
            let (valid, invalid): (Vec<_>, Vec<_>) = entries
                .into_iter()
                .map(|(key, value)| (format!("{prefix}{key}"), value))
                .partition(|(key, _)| is_name(key));
            if !invalid.is_empty() {
                let keys: Vec<_> = invalid.into_iter().map(|(k, _)| k).collect();
                env.skipped.push(format!(
                    "Keys [{}] from the EnvFrom {kind} {namespace}/{name} were skipped since they are considered invalid environment variable names.",
                    keys.join(", ")
                ));
            }
            valid.into_iter().for_each(|(key, value)| env.set(key, value));
        };
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    let entries = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
                    add("configMap", &reference.name, entries);
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap \"{}\" not found", reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    let entries = secret
                        .data
                        .iter()
                        .flatten()
                        .map(|(k, v)| (k.clone(), text(&v.0)))
                        .collect();
                    add("secret", &reference.name, entries);
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret \"{}\" not found", reference.name)),
            }
        }
    }

    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, |name| {
                env.get(name).or_else(|| services.get(name).map(String::as_str))
            })),
            (_, Some(_)) => from_source(pod, container, var, sources, pod_ips, node)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(var.name.clone(), value);
        }
    }

    for (name, value) in services {
        if env.get(&name).is_none() {
            env.variables.push((name, value));
        }
    }
    Ok(env)
}

/// `None`: an optional source that is not there.
fn from_source(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    sources: &Sources,
    pod_ips: &[String],
    node: &NodeFacts,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(source) = &var.value_from else {
        return Ok(None);
    };
    if let Some(field) = &source.field_ref {
        return downward::field(pod, &field.field_path, pod_ips, node).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return downward::resource(pod, resource, container, node).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = sources.config_maps.get(&key.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("configmap \"{}\" not found", key.name))
            };
        };
        return match map.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                key.key, key.name
            )),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = sources.secrets.get(&key.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("secret \"{}\" not found", key.name))
            };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(text(&value.0))),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                key.key, key.name
            )),
        };
    }
    if let Some(file) = &source.file_key_ref {
        let at = (file.volume_name.clone(), file.path.clone());
        return match sources.files.get(&at).and_then(|all| all.get(&file.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if file.optional == Some(true) => Ok(None),
            None => Err(format!(
                "environment variable key {:?} not found in file {:?}",
                file.key, file.path
            )),
        };
    }
    Err(format!(
        "environment variable {}: this node does not know its kind of source",
        var.name
    ))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Printable ASCII without `=`, as the API allows.
fn is_name(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}

/// The variables of the services: those of the namespace when links are enabled, `kubernetes` always.
fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let master = |s: &Service| {
        s.metadata.name.as_deref() == Some("kubernetes") && s.metadata.namespace.as_deref() == Some("default")
    };
    let own = |s: &Service| links && s.metadata.namespace.as_deref() == Some(namespace);
    // A service of the pod's own namespace wins over the one of the same name in `default`.
    for service in services
        .iter()
        .filter(|s| master(s))
        .chain(services.iter().filter(|s| own(s)))
    {
        announce(service, &mut variables);
    }
    variables
}

fn announce(service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
        return;
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let shown_ip = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    variables.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{shown_ip}:{number}");
        if i == 0 {
            variables.insert(format!("{name}_SERVICE_PORT"), number.to_string());
            variables.insert(format!("{name}_PORT"), url.clone());
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            variables.insert(format!("{name}_SERVICE_PORT_{}", upper(port_name)), number.to_string());
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        variables.insert(format!("{prefix}_PROTO"), lower);
        variables.insert(format!("{prefix}_PORT"), number.to_string());
        variables.insert(format!("{prefix}_ADDR"), ip.to_owned());
        variables.insert(prefix, url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sources() -> Sources {
        let map: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "1", "b=c": "x"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "s"}, "data": {"k": "djE="}})).unwrap();
        let services = [
            json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.43.0.1",
                "ports": [{"name": "https", "port": 443}]}}),
            json!({"metadata": {"name": "my-db", "namespace": "ns"}, "spec": {"clusterIP": "10.43.0.9",
                "ports": [{"port": 5432, "protocol": "TCP"}]}}),
            json!({"metadata": {"name": "headless", "namespace": "ns"}, "spec": {"clusterIP": "None"}}),
            json!({"metadata": {"name": "other", "namespace": "other"}, "spec": {"clusterIP": "10.43.0.8",
                "ports": [{"port": 1}]}}),
        ];
        Sources {
            config_maps: [("m".to_owned(), Arc::new(map))].into(),
            files: [(
                ("data".to_owned(), "config.env".to_owned()),
                [("k".to_owned(), "of the file".to_owned())].into(),
            )]
            .into(),
            secrets: [("s".to_owned(), Arc::new(secret))].into(),
            services: services
                .into_iter()
                .map(|s| Arc::new(serde_json::from_value(s).unwrap()))
                .collect(),
        }
    }

    fn built(container: serde_json::Value, links: bool) -> Result<Environment, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"},
            "spec": {"enableServiceLinks": links, "containers": [container]}}))
        .unwrap();
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        build(
            &pod,
            &container,
            &sources(),
            &["10.1.0.2".into()],
            &NodeFacts::default(),
        )
    }

    #[test]
    fn env_overrides_env_from_and_sees_what_came_before() {
        let env = built(
            json!({"name": "c",
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}},
                    {"configMapRef": {"name": "gone", "optional": true}}],
                "env": [{"name": "X", "value": "$(P_a)-$(k)-$(LATER)-$$(k)"}, {"name": "LATER", "value": "l"},
                    {"name": "P_a", "value": "own"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "URL", "value": "$(MY_DB_PORT)"},
                    {"name": "OPT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}}]}),
            true,
        )
        .unwrap();
        assert_eq!(env.get("X"), Some("1-v1-$(LATER)-$(k)"));
        assert_eq!(env.get("P_a"), Some("own"));
        assert_eq!(env.get("IP"), Some("10.1.0.2"));
        assert_eq!(env.get("URL"), Some("tcp://10.43.0.9:5432"));
        assert_eq!(env.get("OPT"), None);
        assert_eq!(env.skipped.len(), 1);
        assert!(env.skipped[0].starts_with("Keys [P_b=c] from the EnvFrom configMap ns/m were skipped"));
    }

    #[test]
    fn services_are_announced_as_links_and_hosts() {
        let with = built(json!({"name": "c"}), true).unwrap();
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.43.0.1"),
            ("MY_DB_SERVICE_HOST", "10.43.0.9"),
            ("MY_DB_PORT_5432_TCP", "tcp://10.43.0.9:5432"),
            ("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
        ] {
            assert_eq!(with.get(name), Some(value), "{name}");
        }
        assert_eq!(with.get("OTHER_SERVICE_HOST"), None);
        assert_eq!(with.get("HEADLESS_SERVICE_HOST"), None);
        let without = built(json!({"name": "c"}), false).unwrap();
        assert_eq!(without.get("KUBERNETES_SERVICE_HOST"), Some("10.43.0.1"));
        assert_eq!(without.get("MY_DB_SERVICE_HOST"), None);
    }

    #[test]
    fn a_variable_comes_from_a_file_of_a_volume() {
        let file = |path: &str, key: &str, optional: bool| json!({"fileKeyRef": {"volumeName": "data", "path": path, "key": key, "optional": optional}});
        let env = json!([{"name": "A", "valueFrom": file("config.env", "k", false)},
            {"name": "B", "value": "$(A)"},
            {"name": "C", "valueFrom": file("config.env", "none", true)},
            {"name": "D", "valueFrom": file("none.env", "k", true)}]);
        let env = built(json!({"name": "c", "env": env}), false).unwrap();
        assert_eq!((env.get("A"), env.get("B")), (Some("of the file"), Some("of the file")));
        assert_eq!((env.get("C"), env.get("D")), (None, None));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (env, message) in [
            (
                json!({"fileKeyRef": {"volumeName": "data", "path": "config.env", "key": "none"}}),
                "environment variable key \"none\" not found in file \"config.env\"",
            ),
            (
                json!({"configMapKeyRef": {"name": "gone", "key": "a"}}),
                "configmap \"gone\" not found",
            ),
            (
                json!({"configMapKeyRef": {"name": "m", "key": "z"}}),
                "couldn't find key z in ConfigMap ns/m",
            ),
            (
                json!({"secretKeyRef": {"name": "s", "key": "z"}}),
                "couldn't find key z in Secret ns/s",
            ),
        ] {
            let result = built(json!({"name": "c", "env": [{"name": "A", "valueFrom": env}]}), false);
            assert_eq!(result.unwrap_err(), message);
        }
    }
}
