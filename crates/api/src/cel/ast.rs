//! What an expression is once it is read. Macros are steps of their own, so that each is checked and run directly.

use super::function::Entry;
use super::types::Type;
use super::value::Value;

/// One step, and where in the text it is.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    /// In characters.
    pub at: usize,
    /// How many steps are below each other here: what runs it recurses that deep.
    pub depth: usize,
    /// What comes out, once it is checked. In a box: steps are handed from one reader to the next on the stack.
    pub result: Option<Box<Type>>,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Value),
    /// `slot` is set by the check: the variable's place.
    Ident {
        name: String,
        slot: usize,
    },
    Select {
        of: Box<Expr>,
        field: String,
        /// `.?field`
        optional: bool,
    },
    /// `has(of.field)`
    Has {
        of: Box<Expr>,
        field: String,
    },
    Index {
        of: Box<Expr>,
        index: Box<Expr>,
        /// `[?index]`
        optional: bool,
    },
    /// A function; the receiver, if any, is the first argument. `entry` is set by the check.
    Call {
        name: String,
        receiver: bool,
        args: Vec<Expr>,
        entry: Option<&'static Entry>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    If(Box<[Expr; 3]>),
    List(Vec<Item>),
    Map(Vec<(Item, Expr)>),
    Each(Box<Each>),
    /// `of.optMap(name, body)`; `flat` when the body is an optional itself.
    IfValue {
        of: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
    /// `cel.bind(name, value, body)`
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `Object.spec{field: value, ?other: optional}`
    Message {
        name: String,
        fields: Vec<Field>,
    },
}

/// A field of a message that is written out; `?` leaves it out when its value is an empty optional.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub name: String,
    pub optional: bool,
    pub value: Expr,
}

/// An element of a literal list, or a key of a literal map: `?` leaves it out when it is an empty optional.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub expr: Expr,
    pub optional: bool,
}

/// A macro over a list or map.
#[derive(Clone, Debug)]
pub(super) struct Each {
    pub what: Macro,
    pub range: Expr,
    pub first: String,
    pub second: Option<String>,
    pub filter: Option<Expr>,
    pub body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
}

impl Expr {
    pub fn new(at: usize, kind: Kind) -> Self {
        let mut deepest = 0;
        kind.each(&mut |e| deepest = deepest.max(e.depth));
        Self {
            at,
            depth: deepest + 1,
            result: None,
            kind,
        }
    }

    /// The name of a type, if that is what this can be: `Object.spec`.
    pub fn type_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident { name, .. } => Some(name.clone()),
            Kind::Select {
                of,
                field,
                optional: false,
            } => Some(format!("{}.{field}", of.type_name()?)),
            _ => None,
        }
    }

    pub fn of(&self) -> &Type {
        self.result.as_deref().unwrap_or(&Type::Dyn)
    }
}

impl Kind {
    /// The steps directly below.
    pub fn each(&self, take: &mut dyn FnMut(&Expr)) {
        match self {
            Self::Literal(_) | Self::Ident { .. } => {}
            Self::Select { of, .. } | Self::Has { of, .. } => take(of),
            Self::Index { of, index, .. } => {
                take(of);
                take(index);
            }
            Self::Call { args, .. } | Self::And(args) | Self::Or(args) => args.iter().for_each(take),
            Self::If(parts) => parts.iter().for_each(take),
            Self::List(items) => items.iter().for_each(|i| take(&i.expr)),
            Self::Map(entries) => {
                for (key, value) in entries {
                    take(&key.expr);
                    take(value);
                }
            }
            Self::Each(each) => {
                take(&each.range);
                each.filter.iter().for_each(&mut *take);
                take(&each.body);
            }
            Self::IfValue { of: value, body, .. } | Self::Bind { value, body, .. } => {
                take(value);
                take(body);
            }
            Self::Message { fields, .. } => fields.iter().for_each(|f| take(&f.value)),
        }
    }
}
