//! What the check knows of a value before there is one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type. `Dyn` is known only when the expression runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Object(Arc<ObjectType>),
    Optional(Arc<Type>),
    /// A type as a value.
    Type,
    /// One of Kubernetes' own: `kubernetes.Quantity`.
    Opaque(&'static str),
    /// Stands for any type in a signature, for the same one wherever it is named.
    Param(char),
}

/// Named fields. Two are the same when their names are.
#[derive(Debug)]
pub struct ObjectType {
    pub name: String,
    pub fields: BTreeMap<String, Type>,
    /// It has any other field too, of a type that is known when the expression runs.
    pub open: bool,
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(name) => write!(f, "{name}"),
        }
    }
}

impl Type {
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// What types are the same where either may stand; nothing if none.
    pub(super) fn join(&self, other: &Self) -> Option<Self> {
        if self == other {
            return Some(self.clone());
        }
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => Some(Self::Dyn),
            (Self::List(a), Self::List(b)) => Some(Self::list(a.join(b)?)),
            (Self::Optional(a), Self::Optional(b)) => Some(Self::optional(a.join(b)?)),
            (Self::Map(k, v), Self::Map(l, w)) => Some(Self::map(k.join(l)?, v.join(w)?)),
            (Self::Null, some) | (some, Self::Null) if some.may_be_null() => Some(some.clone()),
            _ => None,
        }
    }

    fn may_be_null(&self) -> bool {
        matches!(
            self,
            Self::Object(_) | Self::Duration | Self::Timestamp | Self::Opaque(_) | Self::Optional(_)
        )
    }
}

/// What a signature's parameters turned out to be.
#[derive(Default)]
pub(super) struct Bound(Vec<(char, Type)>);

impl Bound {
    /// Whether `given` may stand where a signature says `wanted`.
    pub fn accepts(&mut self, wanted: &Type, given: &Type) -> bool {
        match (wanted, given) {
            (Type::Param(name), _) => {
                let Some((_, known)) = self.0.iter_mut().find(|(n, _)| n == name) else {
                    self.0.push((*name, given.clone()));
                    return true;
                };
                match known.join(given) {
                    Some(joined) => {
                        *known = joined;
                        true
                    }
                    None => false,
                }
            }
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.accepts(a, b),
            (Type::Map(k, v), Type::Map(l, w)) => self.accepts(k, l) && self.accepts(v, w),
            (wanted, given) => wanted == given,
        }
    }

    /// A signature's type with what its parameters are.
    pub fn fill(&self, of: &Type) -> Type {
        match of {
            Type::Param(name) => {
                let known = self.0.iter().find(|(n, _)| n == name);
                known.map_or(Type::Dyn, |(_, t)| t.clone())
            }
            Type::List(a) => Type::list(self.fill(a)),
            Type::Optional(a) => Type::optional(self.fill(a)),
            Type::Map(k, v) => Type::map(self.fill(k), self.fill(v)),
            other => other.clone(),
        }
    }
}
