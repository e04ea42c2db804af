//! The shape of objects: one tree form for built-in kinds (from a data table) and custom resources (from a
//! CustomResourceDefinition).
//!
//! A [`Schema`] is a cheap cursor into a [`SchemaSet`]. It says what a value may be and how lists and maps merge; it
//! does not validate beyond types.

use serde_json::Value;

/// How a list is owned and merged (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// Elements are found by these fields.
    Map(Vec<Box<str>>),
}

/// `x-kubernetes-patch-strategy` and `-merge-key`: what a strategic merge patch does here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Maps drop keys that the patch does not retain.
    pub retain_keys: bool,
    pub merge_key: Option<Box<str>>,
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Anything (`RawExtension`, `JSON`, preserved unknown fields).
    Any,
    Boolean,
    /// `int32` or `int64` by `bits`.
    Integer {
        bits: u8,
    },
    Number,
    String(StringFormat),
    IntOrString,
    Quantity,
    List {
        items: NodeId,
        list_type: ListType,
    },
    /// String keys, uniform values.
    Map {
        values: NodeId,
        atomic: bool,
    },
    Object(Box<ObjectShape>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringFormat {
    Plain,
    /// base64 in JSON, raw bytes in protobuf.
    Bytes,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ObjectShape {
    /// `io.k8s.api.core.v1.Pod` for built-in types.
    pub name: Option<Box<str>>,
    /// Sorted by name.
    pub properties: Vec<Property>,
    pub required: Vec<Box<str>>,
    /// The object is owned as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Carries apiVersion, kind and metadata of its own (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    pub name: Box<str>,
    pub node: NodeId,
    pub patch: PatchStrategy,
}

/// Index of a node in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub shape: Shape,
    pub nullable: bool,
    /// Filled in where the field is absent (custom resources).
    pub default: Option<Value>,
}

/// Nodes that refer to each other by index; recursion is a cycle of indexes.
#[derive(Clone, Debug, Default)]
pub struct SchemaSet {
    pub nodes: Vec<Node>,
}

impl SchemaSet {
    /// The schema rooted at `id`; an index from another set reads as [`Shape::Any`].
    pub fn at(&self, id: NodeId) -> Schema<'_> {
        static ANY: Node = Node {
            shape: Shape::Any,
            nullable: true,
            default: None,
        };
        Schema {
            set: self,
            node: self.nodes.get(id.0 as usize).unwrap_or(&ANY),
        }
    }
}

/// A node with the set it lives in. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    set: &'a SchemaSet,
    node: &'a Node,
}

impl<'a> Schema<'a> {
    pub fn node(&self) -> &'a Node {
        self.node
    }

    pub fn shape(&self) -> &'a Shape {
        &self.node.shape
    }

    pub fn object(&self) -> Option<&'a ObjectShape> {
        match &self.node.shape {
            Shape::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The row of a property.
    pub fn property_row(&self, name: &str) -> Option<&'a Property> {
        let properties = &self.object()?.properties;
        let at = properties.binary_search_by(|p| p.name.as_ref().cmp(name)).ok()?;
        properties.get(at)
    }

    pub fn property(&self, name: &str) -> Option<Schema<'a>> {
        self.property_row(name).map(|p| self.set.at(p.node))
    }

    /// What the elements of this list are.
    pub fn items(&self) -> Option<Schema<'a>> {
        match &self.node.shape {
            Shape::List { items, .. } => Some(self.set.at(*items)),
            _ => None,
        }
    }

    /// What the values of this map are.
    pub fn values(&self) -> Option<Schema<'a>> {
        match &self.node.shape {
            Shape::Map { values, .. } => Some(self.set.at(*values)),
            _ => None,
        }
    }

    /// An object that refuses (or drops) fields it does not list.
    pub fn is_closed_object(&self) -> bool {
        self.object().is_some_and(|o| !o.preserve_unknown)
    }
}
