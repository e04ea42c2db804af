//! `x-kubernetes-validations`: rules in the expression language, each at its place in the schema.

use serde_json::Value as Json;

use super::typed::Typed;
use crate::cel::{CALL_LIMIT, Env, Fault, Program, Type, Value};
use crate::field::{ErrorList, FieldError, FieldErrorKind};

/// What all rules of one object may cost together.
const BUDGET: u64 = 10 * CALL_LIMIT;
/// The longest message that an expression may make.
const MOST_MESSAGE: usize = 5 * 1024;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A schema's rules, those below it, and how its values correlate with older ones.
pub(super) struct Expressions {
    typed: Option<Typed>,
    /// The schema's type: what upstream shows as the value.
    kind: String,
    rules: Vec<Rule>,
    properties: Vec<(String, Expressions)>,
    values: Option<Box<Expressions>>,
    items: Option<Box<Expressions>>,
    /// An object's fields and a map's entries have predecessors, unless it is atomic.
    correlates: bool,
    /// What the elements of a keyed list are found by.
    keys: Vec<String>,
}

/// One rule.
struct Rule {
    source: Source,
    program: Result<Program, String>,
    message: Option<Program>,
    field_path: String,
}

/// A rule as it is written down.
pub(crate) struct Source {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    pub reason: String,
    pub optional_old_self: Option<bool>,
}

/// A rule's two expressions, compiled.
pub(crate) struct Compiled {
    pub rule: Result<Program, String>,
    pub message: Option<Result<Program, String>>,
}

impl Source {
    pub fn new(rule: &Json) -> Self {
        let text = |key: &str| rule.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Json::as_bool),
        }
    }

    /// How the rule is told when it fails.
    fn told(&self) -> String {
        let message = self.message.trim();
        if message.is_empty() {
            self.rule.trim().to_owned()
        } else {
            message.to_owned()
        }
    }

    fn env(&self, this: &Type) -> Env {
        let old = match self.optional_old_self {
            Some(true) => Type::optional(this.clone()),
            _ => this.clone(),
        };
        Env::new().variable("self", this.clone()).variable("oldSelf", old)
    }

    /// Compiles the rule for values of this type.
    pub fn compile(&self, this: &Type) -> Compiled {
        let env = self.env(this);
        let of_type = |text: &str, wanted: Type, must: &str| {
            let program = env.compile(text).map_err(|e| format!("compilation failed: {e}"))?;
            if *program.result() == wanted {
                Ok(program)
            } else {
                Err(must.to_owned())
            }
        };
        let expression = self.message_expression.trim();
        Compiled {
            rule: of_type(self.rule.trim(), Type::Bool, "cel expression must evaluate to a bool"),
            message: (!expression.is_empty()).then(|| {
                of_type(expression, Type::String, "messageExpression must evaluate to a string").map_err(|e| {
                    format!("messageExpression {e}").replace("messageExpression messageExpression", "messageExpression")
                })
            }),
        }
    }
}

/// The type that rules of this schema are compiled for.
pub(crate) fn type_of(schema: &Json, is_resource: bool) -> Option<Type> {
    Typed::new(schema, is_resource).map(|t| t.to_type("self"))
}

/// `.a.b['c.d']` as it is appended to a path: `a.b[c.d]`, with a name in brackets if it is a map's key.
pub(crate) fn field_path(path: &str, schema: &Json) -> Result<String, String> {
    let mut out = String::new();
    let mut schema = schema;
    let mut rest = path;
    let refers = || "does not refer to a valid field".to_owned();
    while !rest.is_empty() {
        let name = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() {
                return Err("unexpected end of JSON path".into());
            }
            rest = after;
            name.to_owned()
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some(quoted) = after.strip_prefix('\'') else {
                return Err(format!("expected single quoted string but got {after}"));
            };
            let mut name = String::new();
            let mut chars = quoted.char_indices();
            let mut end = None;
            while let Some((i, c)) = chars.next() {
                match c {
                    '\\' => name.extend(chars.next().map(|(_, c)| c)),
                    '\'' => {
                        end = Some(i + 1);
                        break;
                    }
                    c => name.push(c),
                }
            }
            let after = end.and_then(|end| quoted.get(end..)).and_then(|r| r.strip_prefix(']'));
            rest = after.ok_or("unexpected end of JSON path")?;
            name
        } else {
            return Err(format!("expected [ or . but got: {rest}"));
        };
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            schema = properties.get(&name).ok_or_else(refers)?;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&name);
        } else {
            schema = schema
                .get("additionalProperties")
                .filter(|v| v.is_object())
                .ok_or_else(refers)?;
            out.push_str(&format!("[{name}]"));
        }
    }
    Ok(out)
}

impl Expressions {
    /// The rules of a resource's schema; nothing if it has none.
    pub fn new(schema: &Json, is_resource: bool) -> Option<Self> {
        Self::at(schema, is_resource, 0)
    }

    fn at(schema: &Json, is_resource: bool, depth: usize) -> Option<Self> {
        if depth > super::MOST_DEPTH {
            return None;
        }
        let embedded = |s: &Json| s.get("x-kubernetes-embedded-resource") == Some(&Json::Bool(true));
        let below = |s: &Json| Self::at(s, embedded(s), depth + 1);
        let schema_at = |key: &str| schema.get(key).filter(|v| v.is_object());
        let properties: Vec<(String, Self)> = schema
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, s)| Some((name.clone(), below(s)?)))
            .collect();
        let values = schema_at("additionalProperties").and_then(below).map(Box::new);
        let items = schema_at("items").and_then(below).map(Box::new);
        let sources = schema.get("x-kubernetes-validations").and_then(Json::as_array);
        let sources = sources.map_or(&[][..], Vec::as_slice);
        if sources.is_empty() && properties.is_empty() && values.is_none() && items.is_none() {
            return None;
        }
        let typed = if sources.is_empty() {
            None
        } else {
            Typed::new(schema, is_resource)
        };
        let this = typed.as_ref().map(|t| t.to_type("self"));
        let rule = |json: &Json| {
            let source = Source::new(json);
            let compiled = source.compile(this.as_ref().unwrap_or(&Type::Dyn));
            let path = json.get("fieldPath").and_then(Json::as_str).unwrap_or_default();
            Rule {
                program: compiled.rule,
                message: compiled.message.and_then(Result::ok),
                field_path: field_path(path, schema).unwrap_or_default(),
                source,
            }
        };
        let text = |key: &str| schema.get(key).and_then(Json::as_str).unwrap_or_default();
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
        let keyed = text("x-kubernetes-list-type") == "map";
        Some(Self {
            rules: sources
                .iter()
                .filter(|s| !Source::new(s).rule.trim().is_empty())
                .map(rule)
                .collect(),
            typed,
            kind: text("type").to_owned(),
            properties,
            values,
            items,
            correlates: text("x-kubernetes-map-type") != "atomic",
            keys: keys
                .into_iter()
                .flatten()
                .filter_map(|k| Some(k.as_str()?.to_owned()))
                .filter(|_| keyed)
                .collect(),
        })
    }

    /// Runs the rules; with `old`, those about changes too, and what has not changed is let pass.
    pub fn validate(&self, new: &Json, old: Option<&Json>, errors: &mut ErrorList) {
        let mut run = Evaluation {
            budget: BUDGET,
            is_update: old.is_some(),
            errors,
        };
        let _ = run.node(self, new, old, false, &mut String::new());
    }
}

/// Nothing more is to be run.
struct Exhausted;

struct Evaluation<'e> {
    budget: u64,
    is_update: bool,
    errors: &'e mut ErrorList,
}

/// The element of an older keyed list with the same keys.
pub(super) fn predecessor<'o>(item: &Json, keys: &[String], old: Option<&'o Json>) -> Option<&'o Json> {
    if keys.is_empty() {
        return None;
    }
    let same = |other: &&Json| keys.iter().all(|key| item.get(key) == other.get(key));
    old?.as_array()?.iter().find(same)
}

/// Runs `inside` with more behind the path.
fn longer<T>(path: &mut String, step: impl FnOnce(&mut String), inside: impl FnOnce(&mut String) -> T) -> T {
    let before = path.len();
    step(path);
    let found = inside(path);
    path.truncate(before);
    found
}

pub(super) fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

impl Evaluation<'_> {
    fn node(
        &mut self,
        at: &Expressions,
        new: &Json,
        old: Option<&Json>,
        parent_is_same: bool,
        path: &mut String,
    ) -> Result<(), Exhausted> {
        if new.is_null() {
            return Ok(());
        }
        let same = match old {
            Some(old) => old == new,
            None => parent_is_same,
        };
        let old = old.filter(|o| !o.is_null());
        self.rules(at, new, old, same, path)?;
        match new {
            Json::Object(map) => {
                let before = |name: &str| old.filter(|_| at.correlates).and_then(|o| o.get(name));
                for (name, below) in &at.properties {
                    if let Some(value) = map.get(name) {
                        longer(
                            path,
                            |p| push_field(p, name),
                            |p| self.node(below, value, before(name), same, p),
                        )?;
                    }
                }
                if let Some(below) = &at.values {
                    for (name, value) in map {
                        let step = |p: &mut String| p.push_str(&format!("[{name}]"));
                        longer(path, step, |p| self.node(below, value, before(name), same, p))?;
                    }
                }
            }
            Json::Array(items) => {
                if let Some(below) = &at.items {
                    for (i, item) in items.iter().enumerate() {
                        let before = predecessor(item, &at.keys, old);
                        let step = |p: &mut String| p.push_str(&format!("[{i}]"));
                        longer(path, step, |p| self.node(below, item, before, same, p))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(
        &mut self,
        at: &Expressions,
        new: &Json,
        old: Option<&Json>,
        same: bool,
        path: &str,
    ) -> Result<(), Exhausted> {
        if at.rules.is_empty() {
            return Ok(());
        }
        let value = |json: &Json| {
            at.typed
                .as_ref()
                .map_or_else(|| Value::from_json(json), |t| t.value(json))
        };
        let this = value(new);
        let before = old.map(value);
        for rule in &at.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(error) => {
                    self.invalid(at, path, format!("rule compile error: {error}"));
                    continue;
                }
            };
            let uses_old = program.uses("oldSelf");
            let optional = rule.source.optional_old_self == Some(true);
            if uses_old && before.is_none() && !optional {
                continue;
            }
            let old_self = match (&before, optional) {
                (Some(before), true) => Value::some(before.clone()),
                (Some(before), false) => before.clone(),
                (None, true) => Value::Optional(None),
                (None, false) => Value::Null,
            };
            let variables = || vec![this.clone(), old_self.clone()];
            let told = rule.source.told();
            if self.budget == 0 {
                self.invalid(at, path, OUT_OF_BUDGET.to_owned());
                return Err(Exhausted);
            }
            let (outcome, cost) = program.run(variables(), CALL_LIMIT.min(self.budget));
            self.budget = self.budget.saturating_sub(cost);
            match outcome {
                Ok(Value::Bool(true)) => {}
                Ok(_) => {
                    // A rule about a change is never let pass; any other is, where nothing changed.
                    let passes = self.is_update && same && !uses_old;
                    let detail = self.detail(rule, variables);
                    if !passes {
                        self.fail(at, rule, path, detail);
                    }
                }
                Err(Fault::TooCostly) => {
                    let text = if self.budget == 0 {
                        OUT_OF_BUDGET.to_owned()
                    } else {
                        format!(
                            "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {told}"
                        )
                    };
                    self.invalid(at, path, text);
                    return Err(Exhausted);
                }
                Err(Fault::Failed(error)) if error.starts_with("no such overload") => self.invalid(
                    at,
                    path,
                    format!(
                        "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
                    ),
                ),
                Err(Fault::Failed(error)) => self.invalid(at, path, format!("{error} evaluating rule: {told}")),
            }
        }
        Ok(())
    }

    /// What a failed rule says: its expression's text if that is one, its message, or itself.
    fn detail(&mut self, rule: &Rule, variables: impl Fn() -> Vec<Value>) -> String {
        if let Some(message) = &rule.message {
            let (outcome, cost) = message.run(variables(), CALL_LIMIT.min(self.budget));
            self.budget = self.budget.saturating_sub(cost);
            if let Ok(Value::String(text)) = outcome {
                let text = text.trim();
                if !text.is_empty() && text.len() <= MOST_MESSAGE && !text.contains('\n') {
                    return text.to_owned();
                }
            }
        }
        let message = rule.source.message.trim();
        if message.is_empty() {
            format!("failed rule: {}", rule.source.rule.trim())
        } else {
            message.to_owned()
        }
    }

    fn fail(&mut self, at: &Expressions, rule: &Rule, path: &str, detail: String) {
        let mut path = path.to_owned();
        if rule.field_path.starts_with('[') {
            path.push_str(&rule.field_path);
        } else if !rule.field_path.is_empty() {
            push_field(&mut path, &rule.field_path);
        }
        let (kind, detail) = match rule.source.reason.as_str() {
            "FieldValueForbidden" => (FieldErrorKind::Forbidden, detail),
            "FieldValueRequired" => (FieldErrorKind::Required, detail),
            "FieldValueDuplicate" => (FieldErrorKind::Duplicate, String::new()),
            _ => (FieldErrorKind::Invalid, detail),
        };
        self.errors.push(FieldError {
            kind,
            path,
            value: format!("{:?}", at.kind),
            detail,
        });
    }

    fn invalid(&mut self, at: &Expressions, path: &str, detail: String) {
        self.errors.push(FieldError {
            kind: FieldErrorKind::Invalid,
            path: path.to_owned(),
            value: format!("{:?}", at.kind),
            detail,
        });
    }
}

#[cfg(test)]
mod tests;
