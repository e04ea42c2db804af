//! The definitions of types: built-in ones from the table, custom ones from their CustomResourceDefinition.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Form;
use super::descriptions::Descriptions;
use super::json::Json;
use crate::resource::Resource;
use crate::schema::{
    ListType, NodeId, ObjectShape, Property, Schema, SchemaOr, SchemaSet, Shape, StringFormat, built_in,
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// The name a shape has as a definition of its own, if it has one.
fn reference(set: &SchemaSet, id: NodeId) -> Option<String> {
    match set.at(id).shape() {
        Shape::Any => set.free_form_name(id).map(str::to_owned),
        Shape::String(StringFormat::Time) => Some(format!("{META}.Time")),
        Shape::String(StringFormat::MicroTime) => Some(format!("{META}.MicroTime")),
        Shape::String(StringFormat::Duration) => Some(format!("{META}.Duration")),
        Shape::IntOrString => Some("io.k8s.apimachinery.pkg.util.intstr.IntOrString".into()),
        Shape::Quantity => Some("io.k8s.apimachinery.pkg.api.resource.Quantity".into()),
        Shape::SchemaOr { or, .. } => Some(format!(
            "{EXTENSIONS}.JSONSchemaPropsOr{}",
            match or {
                SchemaOr::Bool => "Bool",
                SchemaOr::Array => "Array",
                SchemaOr::Strings => "StringArray",
            }
        )),
        Shape::Object(object) => object.name.as_deref().map(str::to_owned),
        _ => None,
    }
}

/// Adds the names of a type and of all it refers to.
pub(super) fn collect(id: NodeId, names: &mut BTreeSet<String>) {
    let set = built_in().as_ref();
    if let Some(name) = reference(set, id)
        && !names.insert(name)
    {
        return;
    }
    match set.at(id).shape() {
        Shape::List { items: below, .. } | Shape::Map { values: below, .. } | Shape::SchemaOr { schema: below, .. } => {
            collect(*below, names);
        }
        Shape::Object(object) => object.properties.iter().for_each(|p| collect(p.node, names)),
        _ => {}
    }
}

/// Writes definitions into the object that `json` is in.
pub(super) struct Writer<'a> {
    pub form: Form,
    pub descriptions: &'a Descriptions,
    /// The group-versions whose DeleteOptions and WatchEvents these are.
    pub group_versions: &'a [(String, String)],
}

impl Writer<'_> {
    pub fn definition(&self, json: &mut Json, name: &str) {
        json.object_field(name, |json| {
            if let Some(text) = self.descriptions.get(name, "") {
                json.escaped_field("description", text);
            }
            match built_in().type_node(name).and_then(|id| built_in().at(id).object()) {
                Some(object) => self.object(json, name, object),
                None => self.special(json, name),
            }
        });
    }

    /// The types that are not objects with properties.
    fn special(&self, json: &mut Json, name: &str) {
        let one_of = |json: &mut Json, types: [&str; 2]| {
            json.array_field("oneOf", |json| {
                for kind in types {
                    json.object(|json| json.field("type", kind));
                }
            });
        };
        match (name.rsplit('.').next().unwrap_or_default(), self.form) {
            ("Time" | "MicroTime", _) => {
                json.field("type", "string");
                json.field("format", "date-time");
            }
            ("Duration", _) | ("Quantity", Form::V2) => json.field("type", "string"),
            ("Quantity", Form::V3) => one_of(json, ["string", "number"]),
            ("IntOrString", Form::V2) => {
                json.field("type", "string");
                json.field("format", "int-or-string");
            }
            ("IntOrString", Form::V3) => {
                json.field("format", "int-or-string");
                one_of(json, ["integer", "string"]);
            }
            ("RawExtension" | "FieldsV1" | "Patch", _) => json.field("type", "object"),
            // Any JSON at all.
            _ => {}
        }
    }

    fn object(&self, json: &mut Json, name: &str, object: &ObjectShape) {
        json.field("type", "object");
        if !object.required.is_empty() {
            json.strings_field("required", object.required.iter().map(AsRef::as_ref));
        }
        if !object.properties.is_empty() {
            json.object_field("properties", |json| {
                for property in &object.properties {
                    json.object_field(&property.name, |json| self.property(json, name, property));
                }
            });
        }
        let mut kinds: Vec<(String, String, String)> = Vec::new();
        let everywhere = ["DeleteOptions", "WatchEvent"]
            .into_iter()
            .find(|k| name == format!("{META}.{k}"));
        match everywhere {
            Some(kind) => {
                let all = self
                    .group_versions
                    .iter()
                    .map(|(g, v)| (g.clone(), kind.to_owned(), v.clone()));
                kinds.extend(all);
            }
            None => {
                let set = built_in();
                let rows = set.kinds().iter().filter(|k| set.type_node(name) == Some(k.node));
                kinds.extend(rows.map(|k| (k.group.to_owned(), k.kind.to_owned(), k.version.to_owned())));
            }
        }
        if !kinds.is_empty() {
            json.array_field("x-kubernetes-group-version-kind", |json| {
                for (group, kind, version) in &kinds {
                    json.object(|json| {
                        json.field("group", group);
                        json.field("kind", kind);
                        json.field("version", version);
                    });
                }
            });
        }
        if object.atomic {
            json.field("x-kubernetes-map-type", "atomic");
        }
    }

    fn property(&self, json: &mut Json, type_name: &str, property: &Property) {
        let schema = built_in().at(property.node);
        if let Some(text) = self.descriptions.get(type_name, &property.name) {
            json.escaped_field("description", text);
        }
        let published = property.published.as_deref();
        let values = published.map_or(&[][..], |p| &p.values);
        let field = property.field;
        let default = published.and_then(|p| p.default);
        self.value(
            json,
            property.node,
            values,
            default.or(zero(schema, !field.pointer, field.omit_empty)),
        );
        match schema.shape() {
            Shape::List { list_type, .. } if !published.is_some_and(|p| p.implied_list_type) => match list_type {
                ListType::Atomic => json.field("x-kubernetes-list-type", "atomic"),
                ListType::Set => json.field("x-kubernetes-list-type", "set"),
                ListType::Map(keys) => {
                    json.strings_field("x-kubernetes-list-map-keys", keys.iter().map(AsRef::as_ref));
                    json.field("x-kubernetes-list-type", "map");
                }
            },
            Shape::Map { atomic: true, .. } => json.field("x-kubernetes-map-type", "atomic"),
            _ => {}
        }
        if let Some(key) = &property.patch.merge_key {
            json.field("x-kubernetes-patch-merge-key", key);
        }
        match (property.patch.merge, property.patch.retain_keys) {
            (true, true) => json.field("x-kubernetes-patch-strategy", "merge,retainKeys"),
            (true, false) => json.field("x-kubernetes-patch-strategy", "merge"),
            (false, true) => json.field("x-kubernetes-patch-strategy", "retainKeys"),
            (false, false) => {}
        }
    }

    /// The fields of a schema for this node; a reference where the type has a definition of its own.
    fn value(&self, json: &mut Json, id: NodeId, values: &[&str], default: Option<&str>) {
        let schema = built_in().at(id);
        if let Some(name) = reference(built_in(), id) {
            let prefix = match self.form {
                Form::V2 => "#/definitions/",
                Form::V3 => "#/components/schemas/",
            };
            match (self.form, default) {
                // Beside a reference nothing else counts, unless it is one of several.
                (Form::V3, Some(default)) => {
                    json.array_field("allOf", |json| {
                        json.object(|json| json.field("$ref", &format!("{prefix}{name}")));
                    });
                    json.raw_field("default", default);
                }
                (Form::V3, None) => json.array_field("allOf", |json| {
                    json.object(|json| json.field("$ref", &format!("{prefix}{name}")));
                }),
                (Form::V2, _) => json.field("$ref", &format!("{prefix}{name}")),
            }
            return;
        }
        if let (Form::V3, Some(default)) = (self.form, default) {
            json.raw_field("default", default);
        }
        match schema.shape() {
            Shape::Boolean => json.field("type", "boolean"),
            Shape::Integer { bits } => {
                json.field("type", "integer");
                json.field("format", if *bits == 32 { "int32" } else { "int64" });
            }
            Shape::Number => {
                json.field("type", "number");
                json.field("format", "double");
            }
            Shape::String(format) => {
                json.field("type", "string");
                if *format == StringFormat::Bytes {
                    json.field("format", "byte");
                }
                if !values.is_empty() {
                    json.strings_field("enum", values.iter().copied());
                }
            }
            Shape::List { items, .. } => {
                json.field("type", "array");
                json.object_field("items", |json| {
                    self.value(json, *items, values, zero(built_in().at(*items), true, false));
                });
            }
            Shape::Map { values: below, .. } => {
                json.field("type", "object");
                json.object_field("additionalProperties", |json| {
                    self.value(json, *below, values, zero(built_in().at(*below), true, false));
                });
            }
            _ => {}
        }
    }
}

/// The default that upstream publishes for what Go always prints.
fn zero(schema: Schema<'_>, by_value: bool, omit_empty: bool) -> Option<&'static str> {
    if !by_value {
        return None;
    }
    match schema.shape() {
        Shape::Object(_) => Some("{}"),
        Shape::Boolean if !omit_empty => Some("false"),
        Shape::Integer { .. } | Shape::Number if !omit_empty => Some("0"),
        Shape::String(StringFormat::Plain) if !omit_empty => Some("\"\""),
        _ => None,
    }
}

/// The definition's name of a custom resource: `com.example.stable.v1.CronTab`.
pub(super) fn custom_name(row: &Resource) -> String {
    let mut labels: Vec<&str> = row.group.split('.').collect();
    labels.reverse();
    format!("{}.{}.{}", labels.join("."), row.version, row.kind)
}

/// The definition of a custom resource and that of its list.
pub(super) fn custom(json: &mut Json, row: &Resource, form: Form, descriptions: &Descriptions) {
    let prefix = match form {
        Form::V2 => "#/definitions/",
        Form::V3 => "#/components/schemas/",
    };
    let describe = |type_name: &str, field: &str| -> Value {
        let text = descriptions.get(type_name, field).unwrap_or_default();
        serde_json::from_str(&format!("\"{text}\"")).unwrap_or_default()
    };
    let pod = "io.k8s.api.core.v1.Pod";
    let text = |field: &str| json!({"type": "string", "description": describe(pod, field)});
    let refer = |name: &str, description: &str| match form {
        Form::V2 => json!({"$ref": format!("{prefix}{name}"), "description": description}),
        Form::V3 => json!({"allOf": [{"$ref": format!("{prefix}{name}")}], "description": description}),
    };
    let gvk = |kind: &str| json!([{"group": row.group, "kind": kind, "version": row.version}]);
    let name = custom_name(row);

    let source = row.schema.source.as_deref().and_then(|s| serde_json::from_str(s).ok());
    let mut schema = source.unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    if form == Form::V2 {
        simplify(&mut schema);
    }
    if let Value::Object(map) = &mut schema {
        if let Value::Object(properties) = map.entry("properties").or_insert_with(|| Value::Object(Map::new())) {
            properties.insert("apiVersion".into(), text("apiVersion"));
            properties.insert("kind".into(), text("kind"));
            let metadata = refer(&format!("{META}.ObjectMeta"), "Standard object's metadata.");
            properties.insert("metadata".into(), metadata);
        }
        map.insert("x-kubernetes-group-version-kind".into(), gvk(&row.kind));
    }
    json.raw_field(&name, &schema.to_string());

    let list = format!("{}List", row.kind);
    let definition = json!({
        "description": format!("{list} is a list of {}", row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"),
            "kind": text("kind"),
            "items": {"type": "array", "items": {"$ref": format!("{prefix}{name}")}, "description": format!("List of {}.", row.plural)},
            "metadata": refer(&format!("{META}.ListMeta"), "Standard list metadata."),
        },
        "x-kubernetes-group-version-kind": gvk(&row.list_kind),
    });
    json.raw_field(&format!("{name}List"), &definition.to_string());
}

/// Takes out of a schema what version 2 of OpenAPI cannot say, so that its readers accept every valid object.
fn simplify(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for key in [
        "oneOf",
        "anyOf",
        "allOf",
        "not",
        "default",
        "nullable",
        "x-kubernetes-validations",
    ] {
        let nullable = key == "nullable" && map.get(key) == Some(&Value::Bool(true));
        map.remove(key);
        if nullable {
            for typed in ["type", "items", "properties", "additionalProperties"] {
                map.remove(typed);
            }
        }
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        map.remove("type");
    }
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        for typed in ["items", "properties", "additionalProperties"] {
            map.remove(typed);
        }
    }
    for below in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(below) {
            simplify(below);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
}
