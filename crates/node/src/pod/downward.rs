//! The downward API: fields of the pod and resources of its containers, as environment variables and volumes show them.
//! Pure.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::amount::{Amounts, divided};
use super::resources::limit;

/// What a pod is told of its node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) host_ips: Vec<String>,
    pub(crate) allocatable: Amounts,
}

/// The value at `path`. The pod's addresses are given, as its status may not have them yet.
pub(crate) fn field(pod: &Pod, path: &str, pod_ips: &[String], node: &NodeFacts) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| Ok(value.cloned().unwrap_or_default());
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Ok(map(meta.labels.iter().flatten())),
        "metadata.annotations" => Ok(map(meta.annotations.iter().flatten())),
        "spec.nodeName" => Ok(node.name.clone()),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => text(node.host_ips.first()),
        "status.hostIPs" => Ok(node.host_ips.join(",")),
        "status.podIP" => text(pod_ips.first()),
        "status.podIPs" => Ok(pod_ips.join(",")),
        _ => {
            let key = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
            let (entries, key) = match (key("metadata.labels['"), key("metadata.annotations['")) {
                (Some(key), _) => (&meta.labels, key),
                (_, Some(key)) => (&meta.annotations, key),
                _ => return Err(format!("unsupported fieldPath: {path}")),
            };
            Ok(entries.as_ref().and_then(|e| e.get(key)).cloned().unwrap_or_default())
        }
    }
}

/// `key="value"` lines, by key, the values quoted.
fn map<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let lines: Vec<String> = entries.map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// A string as Go's `%q` shows it.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A resource of a container; a limit that is not set is the whole pod's, or else what the node has.
pub(crate) fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    default: &Container,
    node: &NodeFacts,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        None => default,
        Some(name) => find(pod, name).ok_or_else(|| format!("container {name} not found"))?,
    };
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let wrong = || format!("unsupported container resource : {}", selector.resource);
    let (of, name) = selector.resource.split_once('.').ok_or_else(wrong)?;
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    let amount: Option<&Quantity> = match of {
        "limits" if known => limit(pod, container, name).or_else(|| node.allocatable.get(name)),
        "requests" if known => requests
            .and_then(|r| r.get(name))
            .or_else(|| limits.and_then(|l| l.get(name))),
        _ => return Err(wrong()),
    };
    Ok(amount
        .map_or(0, |amount| divided(amount, selector.divisor.as_ref()))
        .to_string())
}

/// The pod's container or init container of this name.
pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "ns", "uid": "u-1",
                "labels": {"app": "x", "b": "say \"hi\"\n"}, "annotations": {"k/y": "v"}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "hugepages-2Mi": "6Mi"}, "requests": {"memory": "64Mi"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn every_documented_field_is_shown() {
        let node = NodeFacts {
            name: "n1".into(),
            host_ips: vec!["192.0.2.1".into(), "2001:db8::1".into()],
            allocatable: Amounts::new(),
        };
        let ips = ["10.1.0.2".to_owned(), "fd00::2".to_owned()];
        for (path, expected) in [
            ("metadata.name", "a"),
            ("metadata.namespace", "ns"),
            ("metadata.uid", "u-1"),
            ("metadata.labels['app']", "x"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['k/y']", "v"),
            ("metadata.labels", "app=\"x\"\nb=\"say \\\"hi\\\"\\n\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "192.0.2.1"),
            ("status.hostIPs", "192.0.2.1,2001:db8::1"),
            ("status.podIP", "10.1.0.2"),
            ("status.podIPs", "10.1.0.2,fd00::2"),
            ("metadata.annotations", "k/y=\"v\""),
        ] {
            assert_eq!(field(&pod(), path, &ips, &node).as_deref(), Ok(expected), "{path}");
        }
        assert!(field(&pod(), "spec.nope", &ips, &node).is_err());
    }

    #[test]
    fn a_limit_that_is_not_set_is_the_whole_pods() {
        let mut pod = pod();
        let whole = json!({"limits": {"cpu": "4", "memory": "256Mi"}});
        pod.spec.as_mut().unwrap().resources = Some(serde_json::from_value(whole).unwrap());
        let own = find(&pod, "c").unwrap();
        for (resource_name, expected) in [("limits.cpu", "2"), ("limits.memory", "268435456")] {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                ..ResourceFieldSelector::default()
            };
            let shown = resource(&pod, &selector, own, &NodeFacts::default());
            assert_eq!(shown.as_deref(), Ok(expected), "{resource_name}");
        }
    }

    #[test]
    fn resources_are_divided_and_fall_back_to_the_node() {
        let node = NodeFacts {
            allocatable: [("memory", "1Gi"), ("ephemeral-storage", "2G")]
                .map(|(name, amount)| (name.to_owned(), Quantity(amount.into())))
                .into(),
            ..NodeFacts::default()
        };
        let pod = pod();
        let own = find(&pod, "c").unwrap();
        for (resource_name, divisor, expected) in [
            ("limits.cpu", "0", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.cpu", "1m", "1500"),
            ("requests.memory", "1Mi", "64"),
            ("limits.memory", "1Mi", "1024"),
            ("limits.memory", "1Gi", "1"),
            ("limits.memory", "", "1073741824"),
            ("limits.ephemeral-storage", "1M", "2000"),
            ("requests.ephemeral-storage", "1M", "0"),
            ("requests.hugepages-2Mi", "1Mi", "6"),
            ("limits.hugepages-1Gi", "1", "0"),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: Some(divisor).filter(|d| !d.is_empty()).map(|d| Quantity(d.into())),
                container_name: None,
            };
            assert_eq!(
                resource(&pod, &selector, own, &node).as_deref(),
                Ok(expected),
                "{resource_name}/{divisor}"
            );
        }
    }
}
