//! From the text of the file to [`Config`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::field::Field;
use super::rule::{Match, Rule, Stages};
use super::{Cidr, Cidr6, Config, ConfigError, Delay, NodeLife, Outage};

type Entry = Option<Spanned<Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seed: Entry,
    nodes: Option<Nodes>,
    #[serde(default)]
    rules: Vec<BTreeMap<String, Spanned<Value>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Nodes {
    #[serde(rename = "podCIDR")]
    pod_cidr: Entry,
    pod_prefix_length: Entry,
    lease_interval: Entry,
    status_interval: Entry,
    #[serde(rename = "podCIDR6")]
    pod_cidr6: Entry,
    events: Entry,
    #[serde(default)]
    outages: Vec<OutageFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageFile {
    #[serde(default)]
    nodes: Vec<String>,
    fraction: Entry,
    after: Entry,
    lasting: Entry,
}

/// An error of the parser, by its place. The place is told once, and how to program the parser not at all.
pub(crate) fn syntax(error: &serde_saphyr::Error) -> ConfigError {
    let text = error.without_snippet().to_string();
    let end = [" at line ", ", set DuplicateKeyPolicy"]
        .into_iter()
        .filter_map(|mark| text.find(mark));
    let message = text[..end.min().unwrap_or(text.len())].to_owned();
    ConfigError {
        field: String::new(),
        line: error.location().map_or(0, |l| l.line()),
        message,
    }
}

pub(super) fn config(text: &str) -> Result<Config, ConfigError> {
    if text
        .lines()
        .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'))
    {
        return Ok(Config::default());
    }
    let file: File = serde_saphyr::from_str(text).map_err(|e| syntax(&e))?;
    let mut config = Config::default();
    if let Some(seed) = &file.seed {
        config.seed = Field::new("seed", seed).seed()?;
    }
    if let Some(nodes) = &file.nodes {
        config.nodes = node_life(nodes)?;
    }
    for (n, entries) in file.rules.iter().enumerate() {
        config.rules.push(rule(&format!("rules[{n}]"), entries)?);
    }
    Ok(config)
}

fn node_life(file: &Nodes) -> Result<NodeLife, ConfigError> {
    let mut life = NodeLife::default();
    if let Some(entry) = &file.pod_cidr {
        let field = Field::new("nodes.podCIDR", entry);
        life.pod_cidr = Cidr::parse(field.text()?).map_err(|e| field.wrong(e))?;
    }
    let prefix = file.pod_prefix_length.as_ref();
    if let Some(entry) = prefix {
        life.pod_prefix_length = Field::new("nodes.podPrefixLength", entry).prefix_length()?;
    }
    let cut = (life.pod_cidr.prefix()..=30).contains(&life.pod_prefix_length);
    if let (false, Some(entry)) = (cut, prefix.or(file.pod_cidr.as_ref())) {
        return Err(Field::new("nodes.podPrefixLength", entry).wrong(format!(
            "{} must be from {} (podCIDR's own) to 30",
            life.pod_prefix_length,
            life.pod_cidr.prefix()
        )));
    }
    if let Some(entry) = &file.lease_interval {
        life.lease_interval = Field::new("nodes.leaseInterval", entry).interval()?;
    }
    if let Some(entry) = &file.status_interval {
        life.status_interval = Field::new("nodes.statusInterval", entry).interval()?;
    }
    if let Some(entry) = &file.pod_cidr6 {
        let field = Field::new("nodes.podCIDR6", entry);
        life.pod_cidr6 = Some(Cidr6::parse(field.text()?).map_err(|e| field.wrong(e))?);
    }
    if let Some(entry) = &file.events {
        life.events = Field::new("nodes.events", entry).switch()?;
    }
    for (n, outage) in file.outages.iter().enumerate() {
        let field = |name: &str, entry| Field::new(format!("nodes.outages[{n}].{name}"), entry);
        let after = outage.after.as_ref().map(|e| field("after", e).delay());
        let lasting = outage.lasting.as_ref().map(|e| field("lasting", e).delay_or("forever"));
        let fraction = outage.fraction.as_ref().map(|e| field("fraction", e).fraction());
        life.outages.push(Outage {
            nodes: outage.nodes.clone(),
            fraction: fraction.transpose()?.unwrap_or(1.0),
            after: after.transpose()?.unwrap_or(Delay::ZERO),
            lasting: lasting.transpose()?.flatten(),
        });
    }
    Ok(life)
}

fn rule(path: &str, entries: &BTreeMap<String, Spanned<Value>>) -> Result<Rule, ConfigError> {
    let mut rule = Rule {
        matches: Match::default(),
        stages: Stages::default(),
    };
    for (name, entry) in entries {
        let field = Field::new(format!("{path}.{name}"), entry);
        if name == "match" {
            rule.matches = matches(&field)?;
        } else {
            rule.stages.set(name, &field)?;
        }
    }
    Ok(rule)
}

fn matches(field: &Field<'_>) -> Result<Match, ConfigError> {
    let Value::Object(map) = field.value else {
        return Err(field.wrong("must be a map of namespace, labels, ownerKind and node"));
    };
    let mut out = Match::default();
    for (name, value) in map {
        let field = Field {
            path: format!("{}.{name}", field.path),
            line: field.line,
            value,
        };
        match name.as_str() {
            "namespace" => out.namespace = Some(field.text()?.to_owned()),
            "ownerKind" => out.owner_kind = Some(field.text()?.to_owned()),
            "node" => out.node = Some(field.text()?.to_owned()),
            "labels" => {
                let labels: Result<_, _> = serde_json::from_value(value.clone());
                out.labels = labels.map_err(|_| field.wrong("must be a map of texts"))?;
            }
            _ => return Err(field.wrong("unknown field; there are namespace, labels, ownerKind and node")),
        }
    }
    Ok(out)
}
