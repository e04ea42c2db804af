//! A CustomResourceDefinition's schema as a [`SchemaSet`]: what decoding prunes, what defaulting fills in, how lists and
//! maps merge. Validation keywords (patterns, bounds, rules) are [`Validator`]'s.

pub(crate) mod bounds;
mod embedded;
pub(crate) mod expression;
mod keyed;
mod keyword;
mod tree;
mod typed;
mod validator;

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{ListType, Node, NodeId, ObjectShape, Property, Schema, SchemaSet, Shape, StringFormat, built_in};

pub use validator::Validator;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Deeper schemas are taken for free-form.
pub(crate) const MOST_DEPTH: usize = 100;

/// The set and its root for a version's `openAPIV3Schema`; without one everything is kept.
pub fn from_schema(schema: Option<&Value>) -> (SchemaSet, NodeId) {
    let mut builder = Builder::default();
    let root = match schema {
        Some(schema) => builder.node(schema, 0),
        None => builder.push(Shape::Object(Box::new(ObjectShape {
            preserve_unknown: true,
            ..ObjectShape::default()
        }))),
    };
    builder.embed(root);
    let mut set = SchemaSet::new(builder.nodes);
    set.source = schema.map(|s| s.to_string().into());
    (set, root)
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    /// Copies of built-in nodes.
    grafts: HashMap<NodeId, NodeId>,
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

impl Builder {
    fn push(&mut self, shape: Shape) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node {
            shape,
            nullable: false,
            default: None,
        });
        id
    }

    fn node(&mut self, schema: &Value, depth: usize) -> NodeId {
        let shape = if depth > MOST_DEPTH {
            Shape::Any
        } else {
            self.shape(schema, depth)
        };
        let id = self.push(shape);
        let node = &mut self.nodes[id.0 as usize];
        node.nullable = flag(schema, "nullable") || matches!(node.shape, Shape::Any);
        node.default = schema.get("default").filter(|d| !d.is_null()).cloned();
        if flag(schema, "x-kubernetes-embedded-resource") {
            self.embed(id);
        }
        id
    }

    fn shape(&mut self, schema: &Value, depth: usize) -> Shape {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Shape::IntOrString;
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("boolean") => Shape::Boolean,
            Some("integer") => Shape::Integer { bits: 64 },
            Some("number") => Shape::Number,
            Some("string") => Shape::String(StringFormat::Plain),
            Some("array") => Shape::List {
                items: match schema.get("items") {
                    Some(items) => self.node(items, depth + 1),
                    None => self.free(),
                },
                list_type: list_type(schema),
                message: false,
            },
            Some("object") => self.object(schema, depth),
            _ if schema.get("properties").is_some() => self.object(schema, depth),
            _ => Shape::Any,
        }
    }

    fn free(&mut self) -> NodeId {
        let id = self.push(Shape::Any);
        self.nodes[id.0 as usize].nullable = true;
        id
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Shape {
        let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        let properties = schema.get("properties").and_then(Value::as_object);
        let preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) if properties.is_none() => {
                let values = self.node(values, depth + 1);
                return Shape::Map { values, atomic };
            }
            Some(Value::Bool(true)) if properties.is_none() => {
                let values = self.free();
                return Shape::Map { values, atomic };
            }
            _ => {}
        }
        let mut rows: Vec<Property> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| Property::new(name.clone(), self.node(schema, depth + 1)))
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        Shape::Object(Box::new(ObjectShape {
            properties: rows,
            required: required.filter_map(|r| Some(r.as_str()?.to_owned().into())).collect(),
            atomic,
            preserve_unknown,
            embedded_resource: flag(schema, "x-kubernetes-embedded-resource"),
            ..ObjectShape::default()
        }))
    }

    /// Gives an object apiVersion, kind and metadata, whatever its schema says of them.
    fn embed(&mut self, id: NodeId) {
        let text = self.push(Shape::String(StringFormat::Plain));
        let metadata = built_in().type_node(OBJECT_META).map(|id| self.graft(id));
        let Some(Shape::Object(object)) = self.nodes.get_mut(id.0 as usize).map(|n| &mut n.shape) else {
            return;
        };
        let mut own = vec![Property::new("apiVersion", text), Property::new("kind", text)];
        own.extend(metadata.map(|node| Property::new("metadata", node)));
        object
            .properties
            .retain(|p| !matches!(p.name.as_ref(), "apiVersion" | "kind" | "metadata"));
        object.properties.extend(own);
        object.properties.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// A copy of a built-in node and of all below it.
    fn graft(&mut self, from: NodeId) -> NodeId {
        if let Some(done) = self.grafts.get(&from) {
            return *done;
        }
        let mut node = built_in().at(from).node().clone();
        let id = self.push(Shape::Any);
        self.grafts.insert(from, id);
        match &mut node.shape {
            Shape::List { items: below, .. } | Shape::Map { values: below, .. } => *below = self.graft(*below),
            Shape::Object(object) => {
                for property in &mut object.properties {
                    property.node = self.graft(property.node);
                }
            }
            _ => {}
        }
        self.nodes[id.0 as usize] = node;
        id
    }
}

fn list_type(schema: &Value) -> ListType {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let keys: Vec<_> = keys.filter_map(|k| Some(k.as_str()?.to_owned().into())).collect();
            if keys.is_empty() {
                ListType::Atomic
            } else {
                ListType::Map(keys)
            }
        }
        _ => ListType::Atomic,
    }
}

/// Fills in the defaults of a custom resource's schema, in what is there and in what they bring in themselves.
pub fn apply_defaults(value: &mut Value, schema: Schema<'_>) {
    match value {
        Value::Object(map) => {
            if let Some(object) = schema.object() {
                properties(map, object, schema);
            } else if let Some(of) = schema.values() {
                for item in map.values_mut() {
                    element(item, of);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = schema.items() {
                for item in items {
                    element(item, of);
                }
            }
        }
        _ => {}
    }
}

fn properties(map: &mut Map<String, Value>, object: &ObjectShape, schema: Schema<'_>) {
    for property in &object.properties {
        let here = schema.other(property.node);
        let name = property.name.as_ref();
        if let Some(default) = &here.node().default {
            let absent = match map.get(name) {
                None => true,
                Some(value) => value.is_null() && !here.node().nullable,
            };
            if absent {
                map.insert(name.to_owned(), default.clone());
            }
        }
        if let Some(value) = map.get_mut(name) {
            apply_defaults(value, here);
        }
    }
}

fn element(value: &mut Value, schema: Schema<'_>) {
    if let (true, Some(default)) = (value.is_null() && !schema.node().nullable, &schema.node().default) {
        *value = default.clone();
    }
    apply_defaults(value, schema);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::decode::{Mode, decode};
    use serde_json::json;

    fn widget() -> (SchemaSet, NodeId) {
        from_schema(Some(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "default": 3},
                "color": {"type": "string", "nullable": true, "default": "red"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "known": {"type": "object", "properties": {"a": {"type": "string"}}}}},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {
                        "x-kubernetes-int-or-string": true, "default": "http"}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                    "spec": {"type": "object", "default": {"x": {}}, "properties": {"x": {"type": "object", "properties": {
                        "y": {"type": "boolean", "default": true}}}}}}}}},
            "status": {"type": "object", "default": {}}}})))
    }

    #[test]
    fn unknown_fields_are_pruned_except_where_they_are_preserved() {
        let (set, root) = widget();
        let mut value = json!({"apiVersion": "x/v1", "kind": "Widget", "metadata": {"name": "a", "foo": 1},
            "spec": {"zoom": 1, "free": {"b": {"c": null}, "known": {"a": "x", "d": 1}}, "any": {"q": [null]},
                "labels": {"a": "b", "c": null}, "template": {"metadata": {"name": "t", "bar": 1}, "data": {}}}});
        let decoded = decode(&mut value, set.at(root), Mode::Whole).unwrap();
        let expected = [
            "metadata.foo",
            "spec.free.known.d",
            "spec.template.data",
            "spec.template.metadata.bar",
            "spec.zoom",
        ];
        assert_eq!(decoded.unknown, expected);
        assert_eq!(
            value["spec"],
            json!({"free": {"b": {"c": null}, "known": {"a": "x"}}, "any": {"q": [null]}, "labels": {"a": "b"},
                "template": {"metadata": {"name": "t"}}})
        );
    }

    #[test]
    fn what_a_custom_resource_says_is_kept_as_it_is() {
        let (set, root) = widget();
        let mut value = json!({"metadata": {"creationTimestamp": null, "labels": {}}, "spec": {"size": 0, "color": null, "ports": [],
            "labels": {}}, "status": {}});
        decode(&mut value, set.at(root), Mode::Whole).unwrap();
        assert_eq!(
            value,
            json!({"metadata": {}, "spec": {"size": 0, "color": null, "ports": [], "labels": {}}, "status": {}})
        );
    }

    #[test]
    fn defaults_fill_what_is_absent_and_what_they_bring_in() {
        let (set, root) = widget();
        let mut value = json!({"spec": {"size": null, "color": null, "ports": [{"name": "a"}, {"name": "b", "port": 1}], "template": {}}});
        decode(&mut value, set.at(root), Mode::Whole).unwrap();
        apply_defaults(&mut value, set.at(root));
        assert_eq!(
            value,
            json!({"spec": {"size": 3, "color": null, "ports": [{"name": "a", "port": "http"}, {"name": "b", "port": 1}],
                "template": {"spec": {"x": {"y": true}}}}, "status": {}})
        );
    }

    #[test]
    fn a_wrong_type_reads_as_validation_words_it() {
        let (set, root) = widget();
        let mut value = json!({"spec": {"size": "big"}});
        let error = decode(&mut value, set.at(root), Mode::Whole).unwrap_err().remove(0);
        assert_eq!(
            error.field_error().to_string(),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""
        );
    }

    #[test]
    fn without_a_schema_everything_is_kept() {
        let (set, root) = from_schema(None);
        let mut value = json!({"metadata": {"name": "a"}, "spec": {"x": [null, 1.5]}});
        let before = value.clone();
        assert_eq!(
            decode(&mut value, set.at(root), Mode::Whole).unwrap().unknown,
            Vec::<String>::new()
        );
        assert_eq!(value, before);
    }
}
