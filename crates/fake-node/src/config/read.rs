//! From the text of the file to [`Config`].

use coracle_api::configuration::{ConfigError, Document, Field};

use super::rule::{Match, Rule, Stages};
use super::values::Values;
use super::{Cidr, Cidr6, Config, Delay, NodeLife, Outage};

pub(super) fn config(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let document = Document::parse(text)?;
    let mut fields = document.root().map()?;
    if let Some(field) = fields.take("seed") {
        config.seed = field.seed()?;
    }
    if let Some(field) = fields.take("nodes") {
        config.nodes = node_life(&field)?;
    }
    if let Some(field) = fields.take("rules") {
        config.rules = field.each(rule)?;
    }
    fields.end()?;
    Ok(config)
}

fn node_life(field: &Field<'_>) -> Result<NodeLife, ConfigError> {
    let mut life = NodeLife::default();
    let mut fields = field.map()?;
    let range = fields.take("podCIDR");
    if let Some(field) = &range {
        life.pod_cidr = Cidr::parse(field.text()?).map_err(|e| field.error(e))?;
    }
    let prefix = fields.take("podPrefixLength");
    if let Some(field) = &prefix {
        life.pod_prefix_length = field.prefix_length()?;
    }
    let cut = (life.pod_cidr.prefix()..=30).contains(&life.pod_prefix_length);
    if let (false, Some(field)) = (cut, prefix.or(range)) {
        return Err(ConfigError {
            field: "nodes.podPrefixLength".into(),
            ..field.error(format!(
                "{} must be from {} (podCIDR's own) to 30",
                life.pod_prefix_length,
                life.pod_cidr.prefix()
            ))
        });
    }
    if let Some(field) = fields.take("podCIDR6") {
        life.pod_cidr6 = Some(Cidr6::parse(field.text()?).map_err(|e| field.error(e))?);
    }
    if let Some(field) = fields.take("leaseInterval") {
        life.lease_interval = field.interval()?;
    }
    if let Some(field) = fields.take("statusInterval") {
        life.status_interval = field.interval()?;
    }
    if let Some(field) = fields.take("events") {
        life.events = field.bool()?;
    }
    if let Some(field) = fields.take("outages") {
        life.outages = field.each(outage)?;
    }
    fields.end()?;
    Ok(life)
}

fn outage(field: &Field<'_>) -> Result<Outage, ConfigError> {
    let mut fields = field.map()?;
    let nodes = fields.take("nodes");
    let name = |f: &Field<'_>| f.text().map(str::to_owned);
    let out = Outage {
        nodes: nodes.map_or_else(|| Ok(Vec::new()), |f| f.each(name))?,
        fraction: fields.take("fraction").map_or(Ok(1.0), |f| f.fraction())?,
        after: fields.take("after").map_or(Ok(Delay::ZERO), |f| f.delay())?,
        lasting: fields.take("lasting").map_or(Ok(None), |f| f.delay_or("forever"))?,
    };
    fields.end()?;
    Ok(out)
}

fn rule(field: &Field<'_>) -> Result<Rule, ConfigError> {
    let mut fields = field.map()?;
    let matching = fields.take("match");
    let mut rule = Rule {
        matches: matching.map_or_else(|| Ok(Match::default()), |f| matches(&f))?,
        stages: Stages::default(),
    };
    for (name, field) in fields.rest() {
        rule.stages.set(name, &field)?;
    }
    Ok(rule)
}

fn matches(field: &Field<'_>) -> Result<Match, ConfigError> {
    let mut fields = field.map()?;
    let mut text = |name| fields.take(name).map(|f| f.text().map(str::to_owned)).transpose();
    let mut out = Match {
        namespace: text("namespace")?,
        owner_kind: text("ownerKind")?,
        node: text("node")?,
        ..Match::default()
    };
    if let Some(field) = fields.take("labels") {
        out.labels = field.named(|f| f.text().map(str::to_owned))?;
    }
    fields.end()?;
    Ok(out)
}
