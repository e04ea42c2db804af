//! `addedAffinity` of NodeAffinity, read term by term so that what is wrong in it is told with its field and line. What
//! matches no node is refused as the API refuses it in a pod.

use coracle_api::configuration::{ConfigError, Field};
use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm,
};

const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
/// Of `matchFields`.
const FIELD_OPERATORS: [&str; 2] = ["In", "NotIn"];

pub fn read(field: &Field<'_>) -> Result<Box<NodeAffinity>, ConfigError> {
    let mut fields = field.map()?;
    let required = fields.take("requiredDuringSchedulingIgnoredDuringExecution");
    let preferred = fields.take("preferredDuringSchedulingIgnoredDuringExecution");
    fields.end()?;
    Ok(Box::new(NodeAffinity {
        required_during_scheduling_ignored_during_execution: required.as_ref().map(selector).transpose()?,
        preferred_during_scheduling_ignored_during_execution: preferred
            .map(|list| list.each(preferred_term))
            .transpose()?,
    }))
}

fn selector(field: &Field<'_>) -> Result<NodeSelector, ConfigError> {
    let mut fields = field.map()?;
    let list = fields.require("nodeSelectorTerms")?;
    fields.end()?;
    let node_selector_terms = list.each(term)?;
    match node_selector_terms.is_empty() {
        true => Err(list.error("needs at least one term")),
        false => Ok(NodeSelector { node_selector_terms }),
    }
}

fn preferred_term(field: &Field<'_>) -> Result<PreferredSchedulingTerm, ConfigError> {
    let mut fields = field.map()?;
    let weight = fields.require("weight")?.int(1, 100)?;
    let preference = term(&fields.require("preference")?)?;
    fields.end()?;
    Ok(PreferredSchedulingTerm { weight, preference })
}

fn term(field: &Field<'_>) -> Result<NodeSelectorTerm, ConfigError> {
    let mut fields = field.map()?;
    let expressions = fields.take("matchExpressions");
    let names = fields.take("matchFields");
    fields.end()?;
    let expression = |f: &Field<'_>| requirement(f, &OPERATORS);
    Ok(NodeSelectorTerm {
        match_expressions: expressions.map(|list| list.each(expression)).transpose()?,
        match_fields: names.map(|list| list.each(name_requirement)).transpose()?,
    })
}

fn name_requirement(field: &Field<'_>) -> Result<NodeSelectorRequirement, ConfigError> {
    let out = requirement(field, &FIELD_OPERATORS)?;
    if out.key != "metadata.name" {
        return Err(field.error(format!("key must be metadata.name, not {:?}", out.key)));
    }
    match out.values.as_ref().map_or(0, Vec::len) {
        1 => Ok(out),
        _ => Err(field.error("needs exactly one value")),
    }
}

fn requirement(field: &Field<'_>, operators: &[&str]) -> Result<NodeSelectorRequirement, ConfigError> {
    let mut fields = field.map()?;
    let key = fields.require("key")?.label_name()?.to_owned();
    let operator = fields.require("operator")?;
    let list = fields.take("values");
    fields.end()?;
    let text = |f: &Field<'_>| f.text().map(str::to_owned);
    let values = list.as_ref().map_or_else(|| Ok(Vec::new()), |list| list.each(text))?;
    let at = list.as_ref().unwrap_or(field);
    let operator = match operator.text()? {
        known if operators.contains(&known) => known,
        other => return Err(operator.error(format!("must be one of {}, not {other:?}", operators.join(", ")))),
    };
    let is_number = || matches!(values.as_slice(), [one] if one.parse::<i64>().is_ok());
    let problem = match operator {
        "In" | "NotIn" => values.is_empty().then_some("needs values with this operator"),
        "Exists" | "DoesNotExist" => (!values.is_empty()).then_some("must have no values with this operator"),
        _ => (!is_number()).then_some("needs one value, a whole number, with this operator"),
    };
    match problem {
        Some(problem) => Err(at.error(problem)),
        None => Ok(NodeSelectorRequirement {
            key,
            operator: operator.to_owned(),
            values: list.is_some().then_some(values),
        }),
    }
}
