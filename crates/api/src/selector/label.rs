//! Label selectors: requirements that all must hold, from a query's text or from the API's `LabelSelector`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiLabelSelector;
use serde_json::Value;

use super::{SelectorError, parse};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Head;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// Sorted, each once.
    values: Box<[Box<str>]>,
    /// The value as a number, for greater and less than.
    bound: i64,
}

impl Requirement {
    /// Checks the key, the values and how many of them the operator takes.
    pub fn new<V: AsRef<str>>(
        key: &str,
        operator: Operator,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Self, SelectorError> {
        let mut sorted: Vec<Box<str>> = values.into_iter().map(|v| v.as_ref().into()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut faults = Vec::new();
        if let Some(fault) = key_fault("key", key) {
            faults.push(fault);
        }
        let mut bound = 0;
        let wrong_count = match operator {
            Operator::In | Operator::NotIn if sorted.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if sorted.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !sorted.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if sorted.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(text) = wrong_count {
            let shown = serde_json::to_string(&sorted).unwrap_or_default();
            faults.push(format!("values: Invalid value: {shown}: {text}"));
        }
        for (i, value) in sorted.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
                match value.parse() {
                    Ok(number) => bound = number,
                    Err(_) => faults.push(format!(
                        "values[{i}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    )),
                }
            }
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                faults.push(format!(
                    "values[{i}][{key}]: Invalid value: {value:?}: {}",
                    wrong.join("; ")
                ));
            }
        }
        match faults.as_slice() {
            [] => Ok(Self {
                key: key.into(),
                operator,
                values: sorted.into(),
                bound,
            }),
            [one] => Err(SelectorError::new(one)),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(AsRef::as_ref)
    }

    fn has_value(&self, value: &str) -> bool {
        match &*self.values {
            [one] => one.as_ref() == value,
            many => many.binary_search_by(|v| v.as_ref().cmp(value)).is_ok(),
        }
    }

    /// Whether an object whose label of this key has `value` (or is absent) satisfies the requirement.
    pub fn is_met_by(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(|v| self.has_value(v)),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(|v| self.has_value(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number(value).is_some_and(|n| n > self.bound),
            Operator::LessThan => number(value).is_some_and(|n| n < self.bound),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

/// The fault of a label's key as a requirement reports it.
pub(super) fn key_fault(path: &str, key: &str) -> Option<String> {
    let faults = names::qualified_name(key);
    (!faults.is_empty()).then(|| format!("{path}: Invalid value: {key:?}: {}", faults.join("; ")))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::Exists => return f.write_str(&self.key),
            Operator::DoesNotExist => return write!(f, "!{}", self.key),
            Operator::In | Operator::NotIn => {
                let word = if self.operator == Operator::In { "in" } else { "notin" };
                return write!(f, "{} {word} ({})", self.key, self.values.join(","));
            }
            Operator::Equals => "=",
            Operator::DoubleEquals => "==",
            Operator::NotEquals => "!=",
            Operator::GreaterThan => ">",
            Operator::LessThan => "<",
        };
        write!(f, "{}{sign}{}", self.key, self.values.join(","))
    }
}

/// A label selector: nothing at all, or everything that meets all requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    /// Sorted by key.
    requirements: Vec<Requirement>,
    selects_nothing: bool,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::all(Vec::new())
    }

    /// What an absent `LabelSelector` means.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            selects_nothing: true,
        }
    }

    pub fn all(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements,
            selects_nothing: false,
        }
    }

    /// From a query: `a=b,c!=d,e in (f,g),!h,i,j>5`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::requirements(text).map(Self::all)
    }

    /// Every label equal, as a Service's or ReplicationController's `selector`.
    pub fn from_labels<K: AsRef<str>, V: AsRef<str>>(
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, SelectorError> {
        let requirements = labels
            .into_iter()
            .map(|(k, v)| Requirement::new(k.as_ref(), Operator::Equals, [v]));
        Ok(Self::all(requirements.collect::<Result<_, _>>()?))
    }

    /// From the API's `LabelSelector` as JSON: null selects nothing, an empty one everything.
    pub fn from_json(selector: &Value) -> Result<Self, SelectorError> {
        let malformed = || SelectorError::new("not a label selector: expected matchLabels and matchExpressions");
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let selector = selector.as_object().ok_or_else(malformed)?;
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").filter(|v| !v.is_null()) {
            for (key, value) in labels.as_object().ok_or_else(malformed)? {
                let value = value.as_str().ok_or_else(malformed)?;
                requirements.push(Requirement::new(key, Operator::Equals, [value])?);
            }
        }
        if let Some(expressions) = selector.get("matchExpressions").filter(|v| !v.is_null()) {
            for expression in expressions.as_array().ok_or_else(malformed)? {
                let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
                let values = expression.get("values").and_then(Value::as_array);
                let values: Option<Vec<&str>> = values.into_iter().flatten().map(Value::as_str).collect();
                let operator = api_operator(text("operator"))?;
                requirements.push(Requirement::new(text("key"), operator, values.ok_or_else(malformed)?)?);
            }
        }
        Ok(Self::all(requirements))
    }

    /// From the API's `LabelSelector`; an absent one selects nothing.
    pub fn from_typed(selector: Option<&ApiLabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, [value])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = api_operator(&expression.operator)?;
            let values = expression.values.as_deref().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self::all(requirements))
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Selects whatever there is.
    pub fn is_everything(&self) -> bool {
        !self.selects_nothing && self.requirements.is_empty()
    }

    pub fn is_nothing(&self) -> bool {
        self.selects_nothing
    }

    /// Adds a condition.
    pub fn with(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        Self {
            selects_nothing: self.selects_nothing,
            ..Self::all(self.requirements)
        }
    }

    /// Whether labels, looked up by `label`, are selected.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        !self.selects_nothing && self.requirements.iter().all(|r| r.is_met_by(label(&r.key)))
    }

    pub fn matches_head(&self, head: &Head) -> bool {
        !self.selects_nothing && self.requirements.iter().all(|r| r.is_met_by(head.label(&r.key)))
    }

    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches(|key| labels.get(key).map(String::as_str))
    }

    /// The one value that label `key` must have, if the selector says so.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key.as_ref() == key)?;
        match (requirement.operator, &*requirement.values) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

fn api_operator(name: &str) -> Result<Operator, SelectorError> {
    match name {
        "In" => Ok(Operator::In),
        "NotIn" => Ok(Operator::NotIn),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        _ => Err(SelectorError(format!(
            "{name:?} is not a valid label selector operator"
        ))),
    }
}

/// As a query; [`LabelSelector::parse`] reads it back (except a selector of nothing, which has no text).
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

/// The rules for a `LabelSelector` in an object.
pub fn validate_label_selector(at: &Cursor<'_>, errors: &mut ErrorList) {
    names::labels(&at.at("matchLabels"), errors);
    for expression in at.at("matchExpressions").items() {
        let values = expression.at("values");
        match expression.at("operator").str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &values,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.invalid_value(
                &expression.at("operator"),
                &Value::from(other),
                "not a valid selector operator",
            ),
        }
        names::label_name(&expression.at("key"), expression.at("key").str(), errors);
        for value in values.items() {
            for fault in names::label_value(value.str()) {
                errors.invalid(&value, fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        LabelSelector::parse(selector).unwrap().matches_labels(&labels)
    }

    #[test]
    fn every_operator_selects_as_documented() {
        let web = [("app", "web"), ("tier", "front"), ("n", "5")];
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "absent!=x",
            "!absent",
            "app in (db, web)",
            "absent notin (a)",
            "n>4,n<6",
            "app , tier in (front)",
        ] {
            assert!(matches(yes, &web), "{yes}");
        }
        for no in [
            "absent",
            "app=",
            "app=db",
            "!app",
            "app notin (web)",
            "n>5",
            "n<5",
            "app>1",
            "absent in ()",
        ] {
            assert!(!matches(no, &web), "{no}");
        }
    }

    #[test]
    fn the_apis_form_selects_nothing_when_absent_and_all_when_empty() {
        assert!(LabelSelector::from_json(&Value::Null).unwrap().is_nothing());
        assert!(LabelSelector::from_json(&json!({})).unwrap().is_everything());
        let selector = LabelSelector::from_json(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["b", "a"]},
                {"key": "gone", "operator": "DoesNotExist"},
                {"key": "env", "operator": "Exists"},
            ],
        }))
        .unwrap();
        assert_eq!(selector.to_string(), "app=web,env,!gone,tier notin (a,b)");
        assert_eq!(selector.exact("app"), Some("web"));
        assert_eq!(
            LabelSelector::from_json(&json!({"matchExpressions": [{"key": "a", "operator": "in"}]}))
                .unwrap_err()
                .0,
            "\"in\" is not a valid label selector operator"
        );
        assert_eq!(
            LabelSelector::from_json(&json!({"matchExpressions": [{"key": "a", "operator": "In"}]}))
                .unwrap_err()
                .0,
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        );
        assert!(LabelSelector::from_typed(None).unwrap().is_nothing());
        let typed: ApiLabelSelector = serde_json::from_value(json!({"matchLabels": {"a": "b"}})).unwrap();
        assert_eq!(LabelSelector::from_typed(Some(&typed)).unwrap().to_string(), "a=b");
    }

    #[test]
    fn a_selector_in_an_object_is_checked_field_by_field() {
        let value = json!({"selector": {
            "matchLabels": {"a b": "c"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "b", "operator": "Exists", "values": ["x"]},
                {"key": "c", "operator": "Gt", "values": ["x y"]},
            ],
        }});
        let mut errors = ErrorList::new();
        validate_label_selector(&Cursor::root(&value, None).at("selector"), &mut errors);
        let texts: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
        assert!(texts[0].starts_with("selector.matchLabels: Invalid value: \"a b\": name part must consist of"));
        assert_eq!(
            texts[1..4],
            [
                "selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or \
                 'DoesNotExist'",
                "selector.matchExpressions[2].operator: Invalid value: \"Gt\": not a valid selector operator",
            ]
        );
        assert!(texts[4].starts_with("selector.matchExpressions[2].values[0]: Invalid value: \"x y\""));
    }
}
