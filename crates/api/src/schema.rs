//! The shape of objects: one tree form for built-in kinds (from a data table) and custom resources (from a
//! CustomResourceDefinition).
//!
//! A [`Schema`] is a cheap cursor into a [`SchemaSet`]. It says what a value may be and how lists and maps merge; it
//! does not validate beyond types. [`built_in`] is the set of all built-in types, [`table`] reads it.

#[cfg(test)]
mod agreement;
pub mod custom;
pub mod decode;
pub mod formats;
pub mod parse;
pub(crate) mod scalar;
pub(crate) mod syntax;
mod table;

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::resource::Name;

/// The types of the built-in kinds, read from the data table at the first call.
pub fn built_in() -> &'static Arc<SchemaSet> {
    static SET: LazyLock<Arc<SchemaSet>> = LazyLock::new(|| {
        // A test reads the committed table strictly, so that there is no error left to meet here.
        Arc::new(table::read(table::TYPES).unwrap_or_default())
    });
    &SET
}

/// The node of a built-in type by its OpenAPI name: `io.k8s.api.core.v1.Pod`.
pub fn type_node(name: &str) -> Option<NodeId> {
    built_in().type_node(name)
}

/// How a list is owned and merged (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// Elements are found by these fields.
    Map(Vec<Name>),
}

/// `x-kubernetes-patch-strategy` and `-merge-key`: what a strategic merge patch does here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Maps drop keys that the patch does not retain.
    pub retain_keys: bool,
    pub merge_key: Option<Name>,
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
    /// A JSON schema or something simpler, in CustomResourceDefinitions.
    SchemaOr {
        schema: NodeId,
        or: SchemaOr,
    },
    List {
        items: NodeId,
        list_type: ListType,
        /// In protobuf a message `{repeated items = 1}` of its own (`ExtraValue`, `Verbs`).
        message: bool,
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
    /// `1m30s`; nanoseconds in protobuf.
    Duration,
}

/// What may stand where a schema could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOr {
    /// `additionalProperties`: `true`, `false` or a schema.
    Bool,
    /// `items`: one schema or a list of them.
    Array,
    /// `dependencies`: a schema or a list of property names.
    Strings,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ObjectShape {
    /// `io.k8s.api.core.v1.Pod` for built-in types.
    pub name: Option<Box<str>>,
    /// Sorted by name; those of inlined parts are among them.
    pub properties: Vec<Property>,
    pub required: Vec<Name>,
    /// Messages in protobuf whose fields are this object's own in JSON (`Volume` has its `VolumeSource`).
    pub inlined: Vec<Inlined>,
    /// The object is owned as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Carries apiVersion, kind and metadata of its own (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
}

/// A part of an object that protobuf keeps in a message of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Inlined {
    pub number: u16,
    pub node: NodeId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    pub name: Name,
    pub node: NodeId,
    pub patch: PatchStrategy,
    pub field: Field,
    /// What only OpenAPI says of it.
    pub published: Option<Box<Published>>,
}

impl Property {
    /// A property of a custom resource, of which nothing is known but its shape.
    pub fn new(name: impl Into<Name>, node: NodeId) -> Self {
        Self {
            name: name.into(),
            node,
            patch: PatchStrategy::default(),
            field: Field::default(),
            published: None,
        }
    }
}

/// How upstream's Go type holds a property, which decides what "unset" means, and where protobuf has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Field {
    /// Field number; 0 when protobuf does not carry it (`apiVersion` and `kind` are in the envelope).
    pub number: u16,
    /// It is one of an inlined part's, which has its number and writes it.
    pub inherited: bool,
    /// Zero and unset differ.
    pub pointer: bool,
    /// Zero (unless a pointer's) is not written in JSON.
    pub omit_empty: bool,
    /// A zero struct is not written in JSON.
    pub omit_zero: bool,
}

/// Facts for readers of OpenAPI. The server itself takes defaults and rules from the kind's strategy.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Published {
    /// As JSON.
    pub default: Option<&'static str>,
    pub values: Vec<&'static str>,
    /// No marker says how this list merges: its list type follows from the patch strategy.
    pub implied_list_type: bool,
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
    /// Objects that have a name, sorted by it.
    named: Vec<NodeId>,
    kinds: Vec<KindRow>,
    /// Free-form nodes of built-in types with the name of their type.
    free_form: Vec<(NodeId, &'static str)>,
    /// The schema as the CustomResourceDefinition has it, as JSON: OpenAPI publishes it.
    pub(crate) source: Option<Box<str>>,
}

/// Which type a group, version and kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindRow {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub node: NodeId,
}

impl SchemaSet {
    /// A set without named types.
    pub fn new(nodes: Vec<Node>) -> Self {
        Self {
            nodes,
            ..Self::default()
        }
    }

    /// The node of the type `io.k8s.api.core.v1.Pod`.
    pub fn type_node(&self, name: &str) -> Option<NodeId> {
        let at = self.named.binary_search_by(|id| self.name_of(*id).cmp(name)).ok()?;
        self.named.get(at).copied()
    }

    /// The node of `apps`, `v1`, `Deployment`, and of lists.
    pub fn kind_node(&self, group: &str, version: &str, kind: &str) -> Option<NodeId> {
        let found = |row: &&KindRow| row.kind == kind && row.version == version && row.group == group;
        self.kinds.iter().find(found).map(|row| row.node)
    }

    /// All types with their names, in order.
    pub fn types(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.named.iter().map(|id| (self.name_of(*id), *id))
    }

    /// Which type a free-form node of a built-in type is: `io.k8s.apimachinery.pkg.runtime.RawExtension`.
    pub fn free_form_name(&self, id: NodeId) -> Option<&'static str> {
        self.free_form
            .iter()
            .find(|(node, _)| *node == id)
            .map(|(_, name)| *name)
    }

    pub fn kinds(&self) -> &[KindRow] {
        &self.kinds
    }

    fn name_of(&self, id: NodeId) -> &str {
        match self.nodes.get(id.0 as usize).map(|n| &n.shape) {
            Some(Shape::Object(object)) => object.name.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

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
    pub fn set(&self) -> &'a SchemaSet {
        self.set
    }

    /// Another node of the same set.
    pub fn other(&self, id: NodeId) -> Schema<'a> {
        self.set.at(id)
    }

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

    /// What upstream prints of a property that nobody has set, if it prints anything. Nothing is printed of a custom
    /// resource's.
    pub fn zero_of(&self, name: &str) -> Option<Value> {
        let property = self.property_row(name).filter(|_| self.is_built_in())?;
        decode::zero(property, self.other(property.node))
    }

    /// Whether this is an object of a built-in type.
    fn is_built_in(&self) -> bool {
        self.object().is_some_and(|o| o.name.is_some())
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
