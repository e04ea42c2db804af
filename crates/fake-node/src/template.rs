//! What fake nodes look like: a Node in YAML of which labels, annotations, taints, capacity, allocatable, images and
//! nodeInfo count. Labels and annotations may differ by node: `zone-{index%3}`.

use std::collections::BTreeMap;

use coracle_api::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::config::ConfigError;
use crate::config::field::Field;

type Entries = BTreeMap<String, Spanned<Value>>;

/// What every node of a fleet has.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeTemplate {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub taints: Vec<api::Taint>,
    pub capacity: BTreeMap<String, Quantity>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub images: Vec<api::ContainerImage>,
    pub architecture: String,
    pub operating_system: String,
}

impl Default for NodeTemplate {
    /// A machine of 32 CPUs, 128 GiB of memory and 110 pods.
    fn default() -> Self {
        let room = [
            ("cpu", "32"),
            ("memory", "128Gi"),
            ("ephemeral-storage", "1Ti"),
            ("pods", "110"),
        ];
        let room: BTreeMap<_, _> = room
            .into_iter()
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .collect();
        Self {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            capacity: room.clone(),
            allocatable: room,
            images: Vec::new(),
            architecture: "amd64".into(),
            operating_system: "linux".into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: Option<Spanned<Value>>,
    kind: Option<Spanned<Value>>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    /// Nodes are named by number; a name in the template is a mistake.
    name: Option<Spanned<Value>>,
    #[serde(default)]
    labels: Entries,
    #[serde(default)]
    annotations: Entries,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    taints: Vec<Spanned<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    capacity: Entries,
    #[serde(default)]
    allocatable: Entries,
    #[serde(default)]
    images: Vec<Spanned<Value>>,
    #[serde(default)]
    node_info: NodeInfo,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NodeInfo {
    architecture: Option<Spanned<Value>>,
    operating_system: Option<Spanned<Value>>,
}

impl NodeTemplate {
    /// Reads the text of a template file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text
            .lines()
            .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).map_err(|e| crate::config::syntax(&e))?;
        let mut template = Self::default();
        for (path, entry, wanted) in [("apiVersion", &file.api_version, "v1"), ("kind", &file.kind, "Node")] {
            if let Some(entry) = entry {
                let field = Field::new(path, entry);
                if field.text()? != wanted {
                    return Err(field.wrong(format!("must be {wanted}")));
                }
            }
        }
        if let Some(name) = &file.metadata.name {
            return Err(Field::new("metadata.name", name).wrong("must not be set: nodes are named by number"));
        }
        template.labels = texts("metadata.labels", &file.metadata.labels)?;
        template.annotations = texts("metadata.annotations", &file.metadata.annotations)?;
        for (n, entry) in file.spec.taints.iter().enumerate() {
            template
                .taints
                .push(taint(&Field::new(format!("spec.taints[{n}]"), entry))?);
        }
        let capacity = amounts("status.capacity", &file.status.capacity)?;
        // What can be given to pods is all there is, unless it is said.
        template.allocatable.extend(capacity.clone());
        template.capacity.extend(capacity);
        template
            .allocatable
            .extend(amounts("status.allocatable", &file.status.allocatable)?);
        for (n, entry) in file.status.images.iter().enumerate() {
            let field = Field::new(format!("status.images[{n}]"), entry);
            template.images.push(decode(&field)?);
        }
        let info = &file.status.node_info;
        if let Some(entry) = &info.architecture {
            template.architecture = Field::new("status.nodeInfo.architecture", entry).text()?.to_owned();
        }
        if let Some(entry) = &info.operating_system {
            template.operating_system = Field::new("status.nodeInfo.operatingSystem", entry).text()?.to_owned();
        }
        Ok(template)
    }
}

fn decode<T: serde::de::DeserializeOwned>(field: &Field<'_>) -> Result<T, ConfigError> {
    serde_json::from_value(field.value.clone()).map_err(|e| field.wrong(e.to_string()))
}

fn taint(field: &Field<'_>) -> Result<api::Taint, ConfigError> {
    let taint: api::Taint = decode(field)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
        return Err(field.wrong(format!(
            "effect {:?} must be NoSchedule, PreferNoSchedule or NoExecute",
            taint.effect
        )));
    }
    Ok(taint)
}

/// Values that may have placeholders, which are tried with the first node's.
fn texts(path: &str, entries: &Entries) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut out = BTreeMap::new();
    for (key, entry) in entries {
        let field = Field::new(format!("{path}[{key}]"), entry);
        let text = field.text()?;
        fill(text, "fake-0", 0).map_err(|e| field.wrong(e))?;
        out.insert(key.clone(), text.to_owned());
    }
    Ok(out)
}

fn amounts(path: &str, entries: &Entries) -> Result<BTreeMap<String, Quantity>, ConfigError> {
    let mut out = BTreeMap::new();
    for (key, entry) in entries {
        let field = Field::new(format!("{path}[{key}]"), entry);
        let amount = Amount::from_json(field.value).map_err(|e| field.wrong(e.to_string()))?;
        if amount.is_negative() {
            return Err(field.wrong("must not be negative"));
        }
        let text = match field.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        out.insert(key.clone(), Quantity(text));
    }
    Ok(out)
}

/// Puts in `{name}`, `{index}`, `{index%N}` and `{index/N}`.
pub(crate) fn fill(text: &str, name: &str, index: u32) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let behind = &rest[open + 1..];
        let close = behind
            .find('}')
            .ok_or_else(|| format!("{text:?} has a {{ without its }}"))?;
        out.push_str(&rest[..open]);
        out.push_str(&placeholder(&behind[..close], name, index)?);
        rest = &behind[close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn placeholder(word: &str, name: &str, index: u32) -> Result<String, String> {
    let unknown = || format!("{{{word}}} is unknown; there are {{name}}, {{index}}, {{index%N}} and {{index/N}}");
    let divisor = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(unknown);
    match word.trim() {
        "name" => Ok(name.to_owned()),
        "index" => Ok(index.to_string()),
        other => match other.strip_prefix("index").map(str::trim_start) {
            Some(rest) if rest.starts_with('%') => Ok((index % divisor(&rest[1..])?).to_string()),
            Some(rest) if rest.starts_with('/') => Ok((index / divisor(&rest[1..])?).to_string()),
            _ => Err(unknown()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_overrides_what_it_says_and_leaves_the_rest() {
        let template = NodeTemplate::parse(
            "apiVersion: v1\nkind: Node\nmetadata:\n  labels: {topology.kubernetes.io/zone: 'zone-{index%3}'}\nspec:\n  \
             taints: [{key: a, effect: NoSchedule}]\nstatus:\n  capacity: {cpu: 4, example.com/gpu: \"8\"}\n  \
             allocatable: {cpu: 3500m}\n  images: [{names: ['a:1'], sizeBytes: 5}]\n  nodeInfo: {architecture: arm64}\n",
        )
        .unwrap();
        assert_eq!(template.capacity["cpu"].0, "4");
        assert_eq!(template.allocatable["cpu"].0, "3500m");
        assert_eq!(template.allocatable["example.com/gpu"].0, "8");
        assert_eq!(template.allocatable["pods"].0, "110");
        assert_eq!(template.taints.len(), 1);
        assert_eq!(template.images.len(), 1);
        assert_eq!(template.architecture, "arm64");
        let zone = &template.labels["topology.kubernetes.io/zone"];
        assert_eq!(fill(zone, "fake-4", 4).unwrap(), "zone-1");
        assert_eq!(NodeTemplate::parse("").unwrap(), NodeTemplate::default());
    }

    #[test]
    fn placeholders_are_filled_or_refused() {
        for (text, expected) in [
            ("{name}", "fake-25"),
            ("r{index/10}-{ index % 10 }", "r2-5"),
            ("{index}", "25"),
            ("x", "x"),
        ] {
            assert_eq!(fill(text, "fake-25", 25).unwrap(), expected);
        }
        for text in ["{index%0}", "{zone}", "{index", "{index*2}"] {
            assert!(fill(text, "fake-25", 25).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_by_field_and_line() {
        for (text, line, words) in [
            ("kind: Pod\n", 1, "kind: must be Node"),
            ("metadata:\n  name: x\n", 2, "metadata.name: must not be set"),
            ("metadata:\n  lables: {}\n", 2, "lables"),
            (
                "metadata:\n  labels:\n    zone: '{zone}'\n",
                3,
                "metadata.labels[zone]: {zone} is unknown",
            ),
            (
                "metadata:\n  labels:\n    n: 5\n",
                3,
                "metadata.labels[n]: 5 is not a text",
            ),
            (
                "spec:\n  taints:\n  - {key: a, effect: Never}\n",
                3,
                "spec.taints[0]: effect \"Never\"",
            ),
            ("status:\n  capacity:\n    cpu: lots\n", 3, "status.capacity[cpu]"),
            (
                "status:\n  allocatable:\n    cpu: -1\n",
                3,
                "status.allocatable[cpu]: must not be negative",
            ),
        ] {
            let error = NodeTemplate::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?} says {error}");
            assert!(error.to_string().contains(words), "{text:?} says {error}");
        }
    }
}
