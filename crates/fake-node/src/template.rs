//! What fake nodes look like: a Node in YAML of which labels, annotations, taints, capacity, allocatable, images and
//! nodeInfo count. Labels and annotations may differ by node: `zone-{index%3}`.

use std::collections::BTreeMap;

use coracle_api::configuration::{ConfigError, Document, Field};
use coracle_api::names::{label_value, qualified_name};
use coracle_api::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::config::values::Values;

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

impl NodeTemplate {
    /// Reads the text of a template file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut template = Self::default();
        let document = Document::parse(text)?;
        let mut fields = document.root().map()?;
        for (name, wanted) in [("apiVersion", "v1"), ("kind", "Node")] {
            fields.take(name).map_or(Ok(()), |field| field.expect(wanted))?;
        }
        if let Some(field) = fields.take("metadata") {
            template.read_metadata(&field)?;
        }
        if let Some(field) = fields.take("spec") {
            let mut spec = field.map()?;
            if let Some(list) = spec.take("taints") {
                template.taints = list.each(taint)?;
            }
            spec.end()?;
        }
        if let Some(field) = fields.take("status") {
            template.read_status(&field)?;
        }
        fields.end()?;
        Ok(template)
    }

    fn read_metadata(&mut self, field: &Field<'_>) -> Result<(), ConfigError> {
        let mut fields = field.map()?;
        if let Some(name) = fields.take("name") {
            return Err(name.error("must not be set: nodes are named by number"));
        }
        if let Some(labels) = fields.take("labels") {
            self.labels = labels.named(|f| {
                let (text, first) = with_placeholders(f)?;
                match label_value(&first).first() {
                    Some(problem) => Err(f.error(format!("{first:?} is no value of a label: {problem}"))),
                    None => Ok(text),
                }
            })?;
        }
        if let Some(annotations) = fields.take("annotations") {
            self.annotations = annotations.named(|f| Ok(with_placeholders(f)?.0))?;
        }
        fields.end()
    }

    fn read_status(&mut self, field: &Field<'_>) -> Result<(), ConfigError> {
        let mut fields = field.map()?;
        if let Some(capacity) = fields.take("capacity") {
            let capacity = capacity.named(amount)?;
            // What can be given to pods is all there is, unless it is said.
            self.allocatable.extend(capacity.clone());
            self.capacity.extend(capacity);
        }
        if let Some(allocatable) = fields.take("allocatable") {
            self.allocatable.extend(allocatable.named(amount)?);
        }
        if let Some(images) = fields.take("images") {
            self.images = images.each(image)?;
        }
        if let Some(info) = fields.take("nodeInfo") {
            let mut info = info.map()?;
            if let Some(field) = info.take("architecture") {
                self.architecture = field.text()?.to_owned();
            }
            if let Some(field) = info.take("operatingSystem") {
                self.operating_system = field.text()?.to_owned();
            }
            info.end()?;
        }
        fields.end()
    }
}

fn taint(field: &Field<'_>) -> Result<api::Taint, ConfigError> {
    let mut fields = field.map()?;
    let (key, value, effect) = (fields.take("key"), fields.take("value"), fields.take("effect"));
    fields.end()?;
    let (Some(key), Some(effect)) = (key, effect) else {
        return Err(field.error("needs a key and an effect"));
    };
    if let Some(problem) = qualified_name(key.text()?).first() {
        return Err(key.error(problem.clone()));
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !effects.contains(&effect.text()?) {
        return Err(effect.error(format!(
            "{:?} must be NoSchedule, PreferNoSchedule or NoExecute",
            effect.text()?
        )));
    }
    let value = value.as_ref().map(|f| match label_value(f.text()?).first() {
        Some(problem) => Err(f.error(problem.clone())),
        None => Ok(f.text()?.to_owned()),
    });
    Ok(api::Taint {
        key: key.text()?.to_owned(),
        value: value.transpose()?,
        effect: effect.text()?.to_owned(),
        time_added: None,
    })
}

fn image(field: &Field<'_>) -> Result<api::ContainerImage, ConfigError> {
    let mut fields = field.map()?;
    let (names, size) = (fields.take("names"), fields.take("sizeBytes"));
    fields.end()?;
    Ok(api::ContainerImage {
        names: names
            .map(|list| list.each(|f| f.text().map(str::to_owned)))
            .transpose()?,
        size_bytes: size.map(|f| f.size()).transpose()?,
    })
}

/// A text that may have placeholders, and what it is for the first node.
fn with_placeholders(field: &Field<'_>) -> Result<(String, String), ConfigError> {
    let text = field.text()?;
    let first = fill(text, "fake-0", 0).map_err(|e| field.error(e))?;
    Ok((text.to_owned(), first))
}

fn amount(field: &Field<'_>) -> Result<Quantity, ConfigError> {
    let Some(value) = field.scalar() else {
        return Err(field.error("must be a quantity, such as 4, 500m or 16Gi"));
    };
    let amount = Amount::from_json(value).map_err(|e| field.error(e.to_string()))?;
    if amount.is_negative() {
        return Err(field.error("must not be negative"));
    }
    Ok(Quantity(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }))
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
            (
                "metadata:\n  lables: {}\n",
                2,
                "metadata.lables: unknown field; there are name, labels and annotations",
            ),
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
                "spec.taints[0].effect: \"Never\" must be NoSchedule",
            ),
            (
                "spec:\n  taints:\n  - key: a\n",
                3,
                "spec.taints[0]: needs a key and an effect",
            ),
            ("spec:\n  taints: {}\n", 2, "spec.taints: a map is not a list"),
            (
                "spec:\n  unschedulable: true\n",
                2,
                "spec.unschedulable: unknown field; there is taints",
            ),
            (
                "metadata:\n  labels:\n    a b: x\n",
                3,
                "metadata.labels[a b]: is no name: ",
            ),
            (
                "metadata:\n  labels:\n    zone: 'in {name}'\n",
                3,
                "metadata.labels[zone]: \"in fake-0\" is no value of a label: ",
            ),
            (
                "status:\n  images:\n  - names: [a]\n    size: 5\n",
                4,
                "status.images[0].size: unknown field; there are names and sizeBytes",
            ),
            (
                "status:\n  capacity:\n    cpu: [1]\n",
                3,
                "status.capacity[cpu]: must be a quantity",
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
