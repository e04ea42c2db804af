//! How the schema divides a value for ownership: into leaves that are owned whole, and maps and lists whose parts are
//! owned one by one. What becomes of the parts is for those who walk.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::fields::{Scalar, Step};
use crate::schema::{self, ListType, Property, Schema, Shape};

/// The type of a value, as far as ownership goes.
#[derive(Clone, Copy)]
pub(super) enum Type<'a> {
    Schema(Known<'a>),
    /// Guessed from the value: maps are granular, lists are owned whole.
    Guessed,
    /// Owned whole, whatever it is.
    Opaque,
}

#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    schema: Schema<'a>,
    /// Upstream keeps such objects in typed form: unset structs are there, and free-form values are opaque.
    built_in: bool,
    /// Has `apiVersion`, `kind` and `metadata` whether the schema says so or not.
    is_object: bool,
}

/// The parts of a value.
#[derive(Clone, Copy)]
pub(super) enum Atom<'a> {
    Leaf,
    Map,
    List { items: Type<'a>, list_type: &'a ListType },
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
static NULL: Value = Value::Null;

/// `{}`.
pub(super) fn empty() -> &'static Value {
    &EMPTY
}

impl<'a> Type<'a> {
    /// The type of a whole object.
    pub(super) fn root(schema: Schema<'a>) -> Self {
        Self::Schema(Known {
            schema,
            built_in: schema.object().is_some_and(|o| o.name.is_some()),
            is_object: true,
        })
    }

    pub(super) fn is_built_in(self) -> bool {
        matches!(self, Self::Schema(known) if known.built_in)
    }

    /// What parts a value of this type has; `value` matters only where the type is guessed.
    pub(super) fn atom(self, value: &Value) -> Atom<'a> {
        let known = match self {
            Self::Schema(known) => known,
            Self::Opaque => return Atom::Leaf,
            Self::Guessed if value.is_object() => return Atom::Map,
            Self::Guessed => return Atom::Leaf,
        };
        match known.schema.shape() {
            Shape::Object(object) if object.atomic => Atom::Leaf,
            Shape::Object(_) => Atom::Map,
            Shape::Map { atomic: true, .. } => Atom::Leaf,
            Shape::Map { .. } => Atom::Map,
            Shape::List {
                list_type: ListType::Atomic,
                ..
            } => Atom::Leaf,
            Shape::List { list_type, items, .. } => Atom::List {
                items: known.below(known.schema.other(*items)),
                list_type,
            },
            Shape::Any if !known.built_in && value.is_object() => Atom::Map,
            _ => Atom::Leaf,
        }
    }

    /// The atom, where there is no value to guess from.
    pub(super) fn declared_atom(self) -> Atom<'a> {
        self.atom(&NULL)
    }

    /// The type of the field or key `name`.
    pub(super) fn field(self, name: &str) -> Type<'a> {
        match self {
            Self::Schema(known) => known.field(name).unwrap_or(Self::Guessed),
            other => other,
        }
    }

    /// The field is one of the type's own, not a key of a map or an unknown field.
    pub(super) fn declares(self, name: &str) -> bool {
        matches!(self, Self::Schema(known) if known.declares(name))
    }

    pub(super) fn known(self) -> Option<Known<'a>> {
        match self {
            Self::Schema(known) => Some(known),
            _ => None,
        }
    }

    /// The properties that an object of this type has even when they are not set, with what they then are.
    pub(super) fn unset_fields(self) -> impl Iterator<Item = (&'a str, &'static Value)> {
        let object = match self {
            Self::Schema(known) if known.built_in => known.schema.object(),
            _ => None,
        };
        let schema = self.known().map(|k| k.schema);
        object
            .into_iter()
            .flat_map(|o| &o.properties)
            .filter_map(move |p| Some((p.name.as_ref(), unset(schema?, p)?)))
    }

    /// What the field `name` is when it is not set but its object is there.
    pub(super) fn unset_field(self, name: &str) -> Option<&'static Value> {
        match self {
            Self::Schema(known) if known.built_in => unset(known.schema, known.schema.property_row(name)?),
            _ => None,
        }
    }
}

/// Upstream's typed form has structs that are not pointers always, and writes null for lists that must be written.
fn unset(schema: Schema<'_>, property: &Property) -> Option<&'static Value> {
    let field = property.field;
    match schema.other(property.node).shape() {
        Shape::Object(_) if !field.pointer && !field.omit_zero => Some(&EMPTY),
        Shape::Object(_) | Shape::List { .. } | Shape::Map { .. } if !field.omit_empty => Some(&NULL),
        _ => None,
    }
}

impl<'a> Known<'a> {
    pub(super) fn schema(self) -> Schema<'a> {
        self.schema
    }

    /// The type of what is inside a value of this type.
    pub(super) fn below(self, schema: Schema<'a>) -> Type<'a> {
        let is_object = !self.built_in && schema.object().is_some_and(|o| o.embedded_resource);
        match schema.shape() {
            Shape::Any | Shape::SchemaOr { .. } if self.built_in => Type::Opaque,
            Shape::Any => Type::Guessed,
            _ => Type::Schema(Self {
                schema,
                built_in: self.built_in,
                is_object,
            }),
        }
    }

    /// `None` for a field that the schema does not know.
    pub(super) fn field(self, name: &str) -> Option<Type<'a>> {
        if self.is_object && !self.built_in && name == "metadata" {
            let meta = schema::type_node("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
            if let Some(node) = meta {
                return Some(Type::Schema(Known {
                    schema: schema::built_in().at(node),
                    built_in: true,
                    is_object: false,
                }));
            }
        }
        match self.schema.shape() {
            Shape::Object(object) => match self.schema.property(name) {
                Some(schema) => Some(self.below(schema)),
                None if self.is_object && matches!(name, "apiVersion" | "kind") => Some(Type::Opaque),
                None => object.preserve_unknown.then_some(Type::Guessed),
            },
            Shape::Map { values, .. } => Some(self.below(self.schema.other(*values))),
            Shape::Any => Some(Type::Guessed),
            _ => None,
        }
    }

    fn declares(self, name: &str) -> bool {
        (self.is_object && matches!(name, "apiVersion" | "kind" | "metadata"))
            || self.schema.property_row(name).is_some()
    }
}

/// Why an element of a list cannot be told from the others, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoStep {
    #[error("associative list with keys may not have a null element")]
    NullElement,
    #[error("associative list with keys may not have non-map elements")]
    NotAMap,
    #[error(
        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
        .0.iter().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(" ")
    )]
    NoKeys(Vec<String>),
    #[error("associative list without keys has an element that's a map type")]
    MapInSet,
    #[error("not supported: associative list with lists as elements")]
    ListInSet,
    #[error("associative list without keys has an element that's an explicit null")]
    NullInSet,
}

/// The value of a key field of a list's element, or its default.
fn key_value<'v>(items: Type<'v>, item: &'v Value, key: &str) -> Option<KeyValue<'v>> {
    if let Some(value) = item.get(key) {
        return Some(KeyValue::Own(value));
    }
    let known = items.known()?;
    let property = known.schema.property_row(key)?;
    if let Some(default) = &known.schema.other(property.node).node().default {
        return Some(KeyValue::Own(default));
    }
    Some(KeyValue::Published(property.published.as_ref()?.default?))
}

#[derive(Clone, Copy)]
enum KeyValue<'v> {
    Own(&'v Value),
    /// As JSON text.
    Published(&'static str),
}

impl KeyValue<'_> {
    fn scalar(self) -> Scalar {
        match self {
            Self::Own(value) => Scalar::from_value(value),
            Self::Published(json) => Scalar::from_value(&serde_json::from_str(json).unwrap_or_default()),
        }
    }

    fn same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Own(a), Self::Own(b)) => a == b,
            (Self::Published(a), Self::Published(b)) => a == b,
            (a, b) => a.scalar() == b.scalar(),
        }
    }
}

/// The path element of a list's element.
pub(super) fn step_of(items: Type<'_>, list_type: &ListType, item: &Value) -> Result<Step, NoStep> {
    let ListType::Map(keys) = list_type else {
        return match item {
            Value::Object(_) => Err(NoStep::MapInSet),
            Value::Array(_) => Err(NoStep::ListInSet),
            Value::Null => Err(NoStep::NullInSet),
            scalar => Ok(Step::Value(Scalar::from_value(scalar))),
        };
    };
    match item {
        Value::Object(_) => {}
        Value::Null => return Err(NoStep::NullElement),
        _ => return Err(NoStep::NotAMap),
    }
    let mut values: Vec<(Box<str>, Scalar)> = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = key_value(items, item, key) {
            values.push((key.as_ref().into(), value.scalar()));
        }
    }
    if values.is_empty() {
        return Err(NoStep::NoKeys(keys.iter().map(ToString::to_string).collect()));
    }
    values.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Step::Key(values.into()))
}

/// Whether two elements are the same one of their list, without making path elements of them.
pub(super) fn same_step(items: Type<'_>, list_type: &ListType, a: &Value, b: &Value) -> bool {
    let ListType::Map(keys) = list_type else {
        return a == b;
    };
    a.is_object()
        && b.is_object()
        && keys
            .iter()
            .all(|key| match (key_value(items, a, key), key_value(items, b, key)) {
                (None, None) => true,
                (Some(a), Some(b)) => a.same(b),
                _ => false,
            })
}

/// Equal, numbers by what they mean.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
