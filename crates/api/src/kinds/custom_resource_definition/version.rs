//! One version of a definition: its schema, subresources, columns and selectable fields.

use serde_json::Value;

use super::{Faults, expressions, schema};
use crate::schema::custom::expression;

/// How many selectable fields a version may have.
const MOST_SELECTABLE: usize = 8;
const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 9] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "name",
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

/// Version number `index`.
pub(super) fn validate(
    version: &Value,
    index: usize,
    shared: &Shared,
    old: Option<&Value>,
    path: &str,
    faults: &mut Faults<'_>,
) {
    // What all versions share is looked at once, with the first.
    let place = |is_shared: bool, above: &str, own: &str| match (is_shared, index) {
        (true, 0) => Some(format!("spec.{above}")),
        (true, _) => None,
        (false, _) => Some(format!("{path}.{own}")),
    };
    let found = version.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object());
    if let Some(root) = place(shared.schema, "validation", "schema") {
        schema_of(version, found, old, &format!("{root}.openAPIV3Schema"), faults);
    }
    if let Some(at) = place(shared.subresources, "subresources", "subresources") {
        scale(version, &at, faults);
    }
    if let Some(at) = place(shared.columns, "additionalPrinterColumns", "additionalPrinterColumns") {
        columns(version, &at, faults);
    }
    if let Some(at) = place(shared.selectable, "selectableFields", "selectableFields") {
        selectable(version, found, &at, faults);
    }
}

fn schema_of(version: &Value, found: Option<&Value>, old: Option<&Value>, root: &str, faults: &mut Faults<'_>) {
    match found {
        None => faults.required(root, "schemas are required"),
        Some(found) => {
            // What is stored already is not checked again: rules may have become stricter.
            let before = old.and_then(|o| o.pointer("/schema/openAPIV3Schema"));
            if before != Some(found) {
                let status = version.pointer("/subresources/status").is_some_and(|s| !s.is_null());
                if status {
                    root_with_status(found, root, faults);
                }
                let errors = faults.errors.len();
                schema::validate(found, root, faults);
                if faults.errors.len() == errors {
                    expressions::validate(found, before, root, faults);
                }
            }
        }
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
    let other = |name: &String| !ALLOWED.iter().any(|(_, field)| field == name);
    if root.as_object().is_some_and(|map| map.keys().any(other)) {
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
        } else if value.contains(['[', ']']) {
            faults.invalid(&at, &json, "must be a simple json path without array access");
        } else if !(value.starts_with(under) || (selector && value.starts_with(".spec."))) {
            let either = if selector {
                ".status or .spec"
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
        match text("jsonPath") {
            "" => faults.required(&at("jsonPath"), ""),
            json_path if !json_path.starts_with('.') => {
                faults.invalid(
                    &at("jsonPath"),
                    &json_path.into(),
                    "must be a simple json path starting with .",
                );
            }
            json_path if json_path.matches('[').count() != json_path.matches(']').count() => {
                faults.invalid(&at("jsonPath"), &json_path.into(), "unterminated array");
            }
            _ => {}
        }
    }
}

fn selectable(version: &Value, schema: Option<&Value>, path: &str, faults: &mut Faults<'_>) {
    let Some(fields) = version.get("selectableFields").and_then(Value::as_array) else {
        return;
    };
    if fields.len() > MOST_SELECTABLE {
        faults.push(
            crate::field::FieldErrorKind::TooMany,
            path,
            fields.len().to_string(),
            format!("must have at most {MOST_SELECTABLE} items"),
        );
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let at = format!("{path}[{i}].jsonPath");
        let json_path = field.get("jsonPath").and_then(Value::as_str).unwrap_or_default();
        if json_path.is_empty() {
            faults.required(&at, "");
            continue;
        }
        if seen.contains(&json_path) {
            let kind = crate::field::FieldErrorKind::Duplicate;
            faults.push(kind, &at, format!("{json_path:?}"), "");
        }
        seen.push(json_path);
        if json_path == ".metadata" || json_path.starts_with(".metadata.") {
            faults.invalid(&at, &json_path.into(), "must not point to fields in metadata");
            continue;
        }
        if json_path.contains('[') {
            faults.invalid(&at, &json_path.into(), "must not contain array notation");
            continue;
        }
        let Some(schema) = schema else { continue };
        if let Err(error) = expression::field_path(json_path, schema) {
            faults.invalid(&at, &json_path.into(), format!("is an invalid path: {error}"));
            continue;
        }
        let mut steps = json_path.trim_start_matches('.').split('.');
        let found = steps.try_fold(schema, |s, name| s.get("properties")?.get(name));
        let kind = found
            .and_then(|s| s.get("type"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !matches!(kind, "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                          with formats are allowed.";
            faults.invalid(&at, &json_path.into(), detail);
        }
    }
}
