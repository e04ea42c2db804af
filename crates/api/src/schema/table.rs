//! Reads `data/types.txt`, the committed table of the built-in types, into a [`SchemaSet`].
//!
//! One pass finds the types, a second reads their fields, a third copies inlined fields to where JSON has them. Strings
//! stay where they are, in the binary. What the lines mean is said in the table's own header.

use std::collections::HashMap;

use super::{
    Field, Inlined, KindRow, ListType, Node, NodeId, ObjectShape, PatchStrategy, Property, Published, SchemaOr,
    SchemaSet, Shape, StringFormat,
};

pub(super) const TYPES: &str = include_str!("../../data/types.txt");

/// A line that the table's reader does not understand.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the type table: {why}; generate the table again")]
pub(super) struct BadTable {
    line: usize,
    why: String,
}

/// The only part of a type's line that matters before all types are known.
struct Head {
    node: NodeId,
    package: &'static str,
    /// Line numbers of its fields.
    fields: std::ops::Range<usize>,
}

pub(super) fn read(text: &'static str) -> Result<SchemaSet, BadTable> {
    let lines: Vec<&'static str> = text.lines().collect();
    let mut table = Reader::default();
    let mut heads: Vec<Head> = Vec::new();
    let mut package = "";
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("  ") {
            if let Some(head) = heads.last_mut() {
                head.fields.end = at + 1;
            }
        } else if let Some(name) = line.strip_prefix("package ") {
            package = name;
        } else if !line.starts_with('#') {
            let node = table
                .head(package, line)
                .map_err(|why| BadTable { line: at + 1, why })?;
            let fields = at + 1..at + 1;
            heads.push(Head { node, package, fields });
        }
    }
    for head in &heads {
        for at in head.fields.clone() {
            table
                .field(head, lines[at])
                .map_err(|why| BadTable { line: at + 1, why })?;
        }
    }
    for head in &heads {
        table.inline(head.node, 0);
    }
    Ok(table.finish(heads.iter().map(|h| h.node).collect()))
}

#[derive(Default)]
struct Reader {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
    /// Nodes without a name, by what the table calls them: each is made once.
    shared: HashMap<String, NodeId>,
    kinds: Vec<KindRow>,
    free_form: Vec<(NodeId, &'static str)>,
}

impl Reader {
    fn push(&mut self, shape: Shape) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node {
            shape,
            nullable: false,
            default: None,
        });
        id
    }

    fn object(&mut self, id: NodeId) -> Option<&mut ObjectShape> {
        match self.nodes.get_mut(id.0 as usize).map(|n| &mut n.shape) {
            Some(Shape::Object(object)) => Some(object),
            _ => None,
        }
    }

    /// `type Pod kind=/v1/Pod map=atomic`.
    fn head(&mut self, package: &'static str, line: &'static str) -> Result<NodeId, String> {
        let mut words = line.split(' ');
        let (Some("type" | "part"), Some(short)) = (words.next(), words.next()) else {
            return Err(format!("not a type: {line:?}"));
        };
        let name = format!("{package}.{short}");
        let mut object = ObjectShape {
            name: Some(name.clone().into()),
            ..ObjectShape::default()
        };
        let node = NodeId(self.nodes.len() as u32);
        for word in words {
            if let Some(kind) = word.strip_prefix("kind=") {
                let mut parts = kind.split('/');
                let (Some(group), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next()) else {
                    return Err(format!("not a kind: {word:?}"));
                };
                self.kinds.push(KindRow {
                    group,
                    version,
                    kind,
                    node,
                });
            } else if word == "map=atomic" {
                object.atomic = true;
            } else {
                return Err(format!("unknown word {word:?}"));
            }
        }
        self.push(Shape::Object(Box::new(object)));
        if self.names.insert(name, node).is_some() {
            return Err(format!("{short} is there twice"));
        }
        Ok(node)
    }

    /// `  replicas int32 1 pointer omitempty`.
    fn field(&mut self, head: &Head, line: &'static str) -> Result<(), String> {
        let mut words = line.trim_start().split(' ');
        let (Some(name), Some(expression), Some(number)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("not a field: {line:?}"));
        };
        let mut field = Field::default();
        if number != "-" {
            field.number = number.parse().map_err(|_| format!("not a field number: {number:?}"))?;
        }
        let mut patch = PatchStrategy::default();
        let mut published = Published::default();
        let (mut list, mut map) = ("", "");
        let (mut required, mut inline) = (false, false);
        for word in words {
            match word.split_once('=') {
                None => match word {
                    "pointer" => field.pointer = true,
                    "omitempty" => field.omit_empty = true,
                    "omitzero" => field.omit_zero = true,
                    "required" => required = true,
                    "inline" => inline = true,
                    _ => return Err(format!("unknown word {word:?}")),
                },
                Some(("list", value)) => list = value,
                Some(("map", value)) => map = value,
                Some(("patch", value)) => {
                    for strategy in value.split(',') {
                        match strategy {
                            "merge" => patch.merge = true,
                            "retainKeys" => patch.retain_keys = true,
                            "replace" => {}
                            _ => return Err(format!("unknown patch strategy {strategy:?}")),
                        }
                    }
                }
                Some(("key", value)) => patch.merge_key = Some(value.into()),
                Some(("default", value)) => published.default = Some(value),
                Some(("enum", value)) => published.values = value.split('|').collect(),
                Some(_) => return Err(format!("unknown word {word:?}")),
            }
        }
        published.implied_list_type = list.is_empty() && expression.starts_with("[]");
        // Without a list type of its own a list is what its patch strategy makes of it.
        let list = match (list, &patch.merge_key) {
            ("", Some(key)) if patch.merge => format!("map({key})"),
            ("", None) if patch.merge => "set".to_owned(),
            (list, _) => list.to_owned(),
        };
        let node = self.node(head.package, expression, &list, map)?;
        let Some(object) = self.object(head.node) else {
            return Err("not in a type".into());
        };
        if inline {
            let number = field.number;
            object.inlined.push(Inlined { number, node });
            return Ok(());
        }
        if required {
            object.required.push(name.into());
        }
        let published = (published != Published::default()).then(|| Box::new(published));
        object.properties.push(Property {
            name: name.into(),
            node,
            patch,
            field,
            published,
        });
        Ok(())
    }

    /// The node of a type expression: `[]@Container`, `map:string`, `int32`.
    fn node(&mut self, package: &'static str, expression: &str, list: &str, map: &str) -> Result<NodeId, String> {
        if let Some(name) = expression.strip_prefix('@') {
            let id = match name.contains('.') {
                true => self.names.get(name),
                false => self.names.get(&format!("{package}.{name}")),
            };
            let id = *id.ok_or_else(|| format!("no type {name:?}"))?;
            return match map {
                "" => Ok(id),
                _ => self.variant(id, map == "atomic"),
            };
        }
        let key = match expression.contains('@') {
            true => format!("{expression} {list} {map} {package}"),
            false => format!("{expression} {list} {map}"),
        };
        if let Some(id) = self.shared.get(&key) {
            return Ok(*id);
        }
        let shape = self.shape(package, expression, list, map)?;
        let id = self.push(shape);
        let free_form = match expression {
            "json" => Some("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON"),
            "raw" => Some("io.k8s.apimachinery.pkg.runtime.RawExtension"),
            "fields" => Some("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
            _ => None,
        };
        self.free_form.extend(free_form.map(|name| (id, name)));
        self.shared.insert(key, id);
        Ok(id)
    }

    fn shape(&mut self, package: &'static str, expression: &str, list: &str, map: &str) -> Result<Shape, String> {
        let message = expression.starts_with("items[]");
        if let Some(items) = expression
            .strip_prefix("items")
            .unwrap_or(expression)
            .strip_prefix("[]")
        {
            return Ok(Shape::List {
                items: self.node(package, items, "", "")?,
                list_type: list_type(list)?,
                message,
            });
        }
        if let Some(values) = expression.strip_prefix("map:") {
            return Ok(Shape::Map {
                values: self.node(package, values, "", "")?,
                atomic: map == "atomic",
            });
        }
        let schema_or = |reader: &Self, or| {
            let schema = reader
                .names
                .get("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
            let schema = *schema.ok_or("no type JSONSchemaProps")?;
            Ok(Shape::SchemaOr { schema, or })
        };
        Ok(match expression {
            "any" | "json" | "raw" | "fields" => Shape::Any,
            "bool" => Shape::Boolean,
            "int32" => Shape::Integer { bits: 32 },
            "int64" => Shape::Integer { bits: 64 },
            "double" => Shape::Number,
            "string" => Shape::String(StringFormat::Plain),
            "bytes" => Shape::String(StringFormat::Bytes),
            "time" => Shape::String(StringFormat::Time),
            "microtime" => Shape::String(StringFormat::MicroTime),
            "duration" => Shape::String(StringFormat::Duration),
            "quantity" => Shape::Quantity,
            "int-or-string" => Shape::IntOrString,
            "schema-or-bool" => return schema_or(self, SchemaOr::Bool),
            "schema-or-array" => return schema_or(self, SchemaOr::Array),
            "schema-or-strings" => return schema_or(self, SchemaOr::Strings),
            _ => return Err(format!("unknown type {expression:?}")),
        })
    }

    /// The same type, owned the other way where one field says so (`PersistentVolumeSpec.claimRef`).
    fn variant(&mut self, id: NodeId, atomic: bool) -> Result<NodeId, String> {
        let Some(object) = self.object(id) else {
            return Err("map= on something that is no object".into());
        };
        if object.atomic == atomic {
            return Ok(id);
        }
        // Its fields may not have been read yet: `finish` copies them.
        let copy = ObjectShape {
            name: object.name.clone(),
            atomic,
            ..ObjectShape::default()
        };
        Ok(self.push(Shape::Object(Box::new(copy))))
    }

    /// Copies the properties of inlined parts, innermost first.
    fn inline(&mut self, id: NodeId, depth: u8) {
        let Some(object) = self.object(id) else { return };
        let parts = object.inlined.clone();
        if parts.is_empty() || depth > 8 || object.properties.iter().any(|p| p.field.inherited) {
            return;
        }
        for part in parts {
            self.inline(part.node, depth + 1);
            let Some(source) = self.object(part.node) else { continue };
            let mut properties = source.properties.clone();
            let required = source.required.clone();
            for property in &mut properties {
                property.field.inherited = true;
            }
            if let Some(object) = self.object(id) {
                object.properties.extend(properties);
                object.required.extend(required);
            }
        }
    }

    fn finish(mut self, mut named: Vec<NodeId>) -> SchemaSet {
        for at in 0..self.nodes.len() {
            if let Shape::Object(object) = &mut self.nodes[at].shape {
                object.properties.sort_by(|a, b| a.name.cmp(&b.name));
                object.properties.shrink_to_fit();
                object.required.sort();
            }
        }
        for at in 0..self.nodes.len() {
            let Shape::Object(object) = &self.nodes[at].shape else {
                continue;
            };
            let original = object.name.as_deref().and_then(|n| self.names.get(n)).copied();
            if let Some(original) = original.filter(|o| o.0 as usize != at)
                && let Shape::Object(source) = &self.nodes[original.0 as usize].shape
            {
                let copy = ObjectShape {
                    atomic: object.atomic,
                    ..(**source).clone()
                };
                self.nodes[at].shape = Shape::Object(Box::new(copy));
            }
        }
        self.nodes.shrink_to_fit();
        let mut set = SchemaSet {
            nodes: self.nodes,
            named: Vec::new(),
            kinds: self.kinds,
            free_form: self.free_form,
            source: None,
        };
        named.sort_by(|a, b| set.name_of(*a).cmp(set.name_of(*b)));
        set.named = named;
        set
    }
}

fn list_type(text: &str) -> Result<ListType, String> {
    Ok(match text {
        "" | "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        _ => {
            let keys = text.strip_prefix("map(").and_then(|t| t.strip_suffix(')'));
            let keys = keys.ok_or_else(|| format!("unknown list type {text:?}"))?;
            ListType::Map(keys.split(',').map(|k| k.to_owned().into()).collect())
        }
    })
}
