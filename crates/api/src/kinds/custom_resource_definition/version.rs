//! One version of a definition: its schema, subresources, columns and selectable fields.

use serde_json::Value;

use super::{Faults, expressions, schema};
use crate::field::{FieldErrorKind, show};
use crate::schema::custom::expression;

/// How many selectable fields a version may have.
const MOST_SELECTABLE: usize = 8;
const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

/// What may be said once for all versions: then that is where upstream looks for it.
#[derive(Default)]
pub(super) struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Shared {
    pub fn of(versions: &[Value]) -> Self {
        let same = |field: &str| {
            let of = |version: &Value| version.get(field).filter(|v| !v.is_null()).cloned();
            let first = versions.first().and_then(of);
            first.is_some() && versions.iter().all(|version| of(version) == first)
        };
        Self {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }
}

/// The version of this name.
pub(super) fn named<'v>(versions: &'v [Value], name: &str) -> Option<&'v Value> {
    let name_of = |version: &'v Value| version.get("name").and_then(Value::as_str);
    versions.iter().find(|version| name_of(version) == Some(name))
}

fn has_status(version: &Value) -> bool {
    version.pointer("/subresources/status").is_some_and(|s| !s.is_null())
}

impl Shared {
    /// What is said once for all versions.
    pub fn validate(&self, versions: &[Value], old: Option<&[Value]>, faults: &mut Faults<'_>) {
        let Some(first) = versions.first() else { return };
        let name = first.get("name").and_then(Value::as_str).unwrap_or_default();
        let old = old.and_then(|old| named(old, name));
        if self.schema {
            let status = versions.iter().any(has_status);
            schema_of(first, status, old, "spec.validation.openAPIV3Schema", faults);
        }
        self.parts(true, first, "spec", faults);
    }

    /// What one version says for itself.
    pub fn validate_rest(&self, version: &Value, old: Option<&Value>, path: &str, faults: &mut Faults<'_>) {
        if !self.schema {
            let path = format!("{path}.schema.openAPIV3Schema");
            schema_of(version, has_status(version), old, &path, faults);
        }
        self.parts(false, version, path, faults);
    }

    fn parts(&self, shared: bool, version: &Value, path: &str, faults: &mut Faults<'_>) {
        if self.subresources == shared {
            scale(version, &format!("{path}.subresources"), faults);
        }
        if self.columns == shared {
            columns(version, &format!("{path}.additionalPrinterColumns"), faults);
        }
        if self.selectable == shared {
            selectable(version, &format!("{path}.selectableFields"), faults);
        }
    }
}

/// The schema of a version: missing ones are told elsewhere.
fn schema_of(version: &Value, status: bool, old: Option<&Value>, path: &str, faults: &mut Faults<'_>) {
    let schema = |version: &'_ Value| {
        version
            .pointer("/schema/openAPIV3Schema")
            .filter(|s| s.is_object())
            .cloned()
    };
    let Some(found) = schema(version) else { return };
    // What is stored already is not checked again: rules may have become stricter.
    let before = old.and_then(schema);
    if before.as_ref() == Some(&found) {
        return;
    }
    if status {
        root_with_status(&found, path, faults);
    }
    let errors = faults.errors.len();
    schema::validate(&found, path, faults);
    if faults.errors.len() == errors {
        expressions::validate(&found, before.as_ref(), path, faults);
    }
}

/// Where status is written on its own, the root says nothing of the object as a whole but its fields.
fn root_with_status(root: &Value, path: &str, faults: &mut Faults<'_>) {
    const ALLOWED: [(&str, &str); 22] = [
        ("Description", "description"),
        ("Type", "type"),
        ("Format", "format"),
        ("Title", "title"),
        ("Maximum", "maximum"),
        ("ExclusiveMaximum", "exclusiveMaximum"),
        ("Minimum", "minimum"),
        ("ExclusiveMinimum", "exclusiveMinimum"),
        ("MaxLength", "maxLength"),
        ("MinLength", "minLength"),
        ("Pattern", "pattern"),
        ("MaxItems", "maxItems"),
        ("MinItems", "minItems"),
        ("UniqueItems", "uniqueItems"),
        ("MultipleOf", "multipleOf"),
        ("Required", "required"),
        ("Items", "items"),
        ("Properties", "properties"),
        ("ExternalDocs", "externalDocs"),
        ("Example", "example"),
        ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
        ("XValidations", "x-kubernetes-validations"),
    ];
    // The fields that come before the type, of those that upstream walks through.
    let is_first = |name: &str| matches!(name, "id" | "$schema" | "$ref");
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "";
    let mut others = root
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| is_set(value) && !ALLOWED.iter().any(|(_, field)| field == name))
        .map(|(name, _)| name.as_str())
        .peekable();
    let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
    if !kind.is_empty() && kind != "object" && !others.clone().any(is_first) {
        return faults.invalid(
            &format!("{path}.type"),
            &kind.into(),
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
    }
    if others.peek().is_some() {
        let names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        faults.invalid(
            path,
            root,
            format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            ),
        );
    }
}

fn scale(version: &Value, path: &str, faults: &mut Faults<'_>) {
    let Some(scale) = version.pointer("/subresources/scale").filter(|s| s.is_object()) else {
        return;
    };
    for (field, under, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", ".status.", false),
    ] {
        let at = format!("{path}.scale.{field}");
        let value = scale.get(field).and_then(Value::as_str).unwrap_or_default();
        if value.is_empty() {
            if required {
                faults.required(&at, "");
            }
            continue;
        }
        let json = Value::from(value);
        let selector = field == "labelSelectorPath";
        if !value.starts_with('.') {
            faults.invalid(&at, &json, "must be a simple json path starting with .");
        } else if !(value.starts_with(under) || (selector && value.starts_with(".spec."))) {
            let either = if selector {
                "either .spec or .status"
            } else {
                under.trim_end_matches('.')
            };
            faults.invalid(&at, &json, format!("should be a json path under {either}"));
        }
    }
}

fn columns(version: &Value, path: &str, faults: &mut Faults<'_>) {
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array);
    for (i, column) in columns.into_iter().flatten().enumerate() {
        let text = |field: &str| column.get(field).and_then(Value::as_str).unwrap_or_default();
        let at = |field: &str| format!("{path}[{i}].{field}");
        if text("name").is_empty() {
            faults.required(&at("name"), "");
        }
        if text("type").is_empty() {
            let types = TYPES.map(|t| t.to_owned()).join(",");
            faults.required(&at("type"), format!("must be one of {types}"));
        } else if !TYPES.contains(&text("type")) {
            let types = TYPES.join(",");
            faults.invalid(&at("type"), &text("type").into(), format!("must be one of {types}"));
        }
        if !text("format").is_empty() && !FORMATS.contains(&text("format")) {
            let formats = FORMATS.join(",");
            faults.invalid(
                &at("format"),
                &text("format").into(),
                format!("must be one of {formats}"),
            );
        }
        // Upstream tells this place by the name of the field in its own type.
        match text("jsonPath") {
            "" => faults.required(&at("JSONPath"), ""),
            json_path if !json_path.starts_with('.') => {
                let detail = "must be a simple json path starting with .";
                faults.invalid(&at("JSONPath"), &json_path.into(), detail);
            }
            _ => {}
        }
    }
}

fn selectable(version: &Value, path: &str, faults: &mut Faults<'_>) {
    let schema = version.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object());
    let fields = version.get("selectableFields").and_then(Value::as_array);
    let (Some(schema), Some(fields)) = (schema, fields) else {
        return;
    };
    let mut seen: Vec<String> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let at = format!("{path}[{i}].jsonPath");
        let json_path = field.get("jsonPath").and_then(Value::as_str).unwrap_or_default();
        if json_path.is_empty() {
            faults.required(&at, "");
            continue;
        }
        let shown = Value::from(json_path);
        let found = match json_path.contains('[') {
            true => Err("array notation is not allowed".to_owned()),
            false => expression::field_path(json_path, schema),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                faults.invalid(&at, &shown, format!("is an invalid path: {error}"));
                continue;
            }
        };
        if json_path == ".metadata" || json_path.starts_with(".metadata.") {
            faults.invalid(&at, &shown, "must not point to fields in metadata");
        }
        let mut steps = json_path.trim_start_matches('.').split('.');
        let below = |schema: &'_ Value, name: &str| match schema.get("properties") {
            Some(properties) => properties.get(name).cloned(),
            None => schema.get("additionalProperties").cloned(),
        };
        let pointed = steps.try_fold(schema.clone(), |schema, name| below(&schema, name));
        let kind = pointed.as_ref().and_then(|s| s.get("type")?.as_str());
        if !matches!(kind, Some("string" | "boolean" | "integer")) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                          with formats are allowed.";
            faults.invalid(&at, &shown, detail);
        }
        if seen.contains(&found) {
            faults.push(FieldErrorKind::Duplicate, &at, show(&shown), "");
        } else {
            seen.push(found);
        }
    }
    if seen.len() > MOST_SELECTABLE {
        let detail = format!("must have at most {MOST_SELECTABLE} items");
        faults.push(FieldErrorKind::TooMany, path, seen.len().to_string(), detail);
    }
}
