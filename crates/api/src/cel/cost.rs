//! What an expression may cost at most, known before it ever runs: from the bounds that a schema sets to its variables.
//! The numbers are upstream's, since they decide which rules a definition may have.

mod call;

use std::collections::BTreeMap;

use super::Program;
use super::ast::{Each, Expr, Item, Kind, Macro};
use super::types::Type;
use super::value::Value;

/// How large a value can be, and what is in it.
#[derive(Debug, Default)]
pub struct Bound {
    /// Characters of a string, elements of a list or map; 0 for what has no size.
    pub most: u64,
    pub within: Within,
}

#[derive(Debug, Default)]
pub enum Within {
    #[default]
    Nothing,
    /// Elements of a list, values of a map.
    Items(Box<Bound>),
    Map(Box<Bound>),
    /// By the names that expressions have for them.
    Fields(BTreeMap<String, Bound>),
}

/// The keys of a map are not bounded one by one.
const KEY: Bound = Bound {
    most: 0,
    within: Within::Nothing,
};
const LIST: u64 = 10;
const MAP: u64 = 30;
const MESSAGE: u64 = 40;

impl Program {
    /// The most that a run can cost if each of the environment's variables is within `bound`.
    pub fn most_cost(&self, bound: &Bound) -> u64 {
        let variables = self.used.iter().map(|(name, _)| {
            let known = Known {
                place: Some(bound),
                ..Known::default()
            };
            (name.clone(), known)
        });
        let mut estimate = Estimate {
            root: bound,
            scope: variables.collect(),
        };
        estimate.cost(&self.expr).cost
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Size {
    min: u64,
    max: u64,
}

impl Size {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    fn of(exactly: u64) -> Self {
        Self {
            min: exactly,
            max: exactly,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// A part of a number, rounded up.
fn share(of: u64, factor: f64) -> u64 {
    // Beyond what a float holds exactly, it is the largest number there is, as upstream has it.
    (of as f64 * factor).ceil() as u64
}

/// Walking through a string costs a tenth of its length.
fn walk(length: u64) -> u64 {
    share(length, 0.1)
}

/// What is known of a step's outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Known<'b> {
    cost: u64,
    /// Where in the variables it is, if it is there as such.
    place: Option<&'b Bound>,
    size: Option<Size>,
    /// Of a literal list or map: the sizes of its keys and of its values.
    entry: Option<(Size, Size)>,
}

impl Known<'_> {
    fn size(&self) -> Size {
        self.size.unwrap_or(Size::UNKNOWN)
    }
}

struct Estimate<'b> {
    root: &'b Bound,
    scope: Vec<(String, Known<'b>)>,
}

/// Types whose values are all of one size.
fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

fn literal_size(value: &Value) -> Option<Size> {
    match value {
        Value::String(text) => Some(Size::of(text.chars().count() as u64)),
        Value::Bytes(bytes) => Some(Size::of(bytes.len() as u64)),
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Null => Some(Size::of(1)),
        _ => None,
    }
}

impl<'b> Estimate<'b> {
    /// What a step costs with all that is below it.
    fn cost(&mut self, expr: &Expr) -> Known<'b> {
        let mut known = self.step(expr);
        // In upstream's order: what was computed, what the schema says, what the type says.
        let by_place = known.place.map(|bound| Size {
            min: 0,
            max: bound.most,
        });
        known.size = match &expr.kind {
            // A variable's own size is asked for last.
            Kind::Ident { .. } => by_place
                .or_else(|| is_scalar(expr.of()).then_some(Size::of(1)))
                .or(known.size),
            _ => known
                .size
                .or(by_place)
                .or_else(|| is_scalar(expr.of()).then_some(Size::of(1))),
        };
        known
    }

    fn sum<'e>(&mut self, parts: impl IntoIterator<Item = &'e Expr>) -> u64 {
        parts
            .into_iter()
            .fold(0, |sum: u64, part| sum.saturating_add(self.cost(part).cost))
    }

    fn of_cost(cost: u64) -> Known<'b> {
        Known {
            cost,
            ..Known::default()
        }
    }

    fn step(&mut self, expr: &Expr) -> Known<'b> {
        match &expr.kind {
            // The name of a type is a variable of the environment.
            Kind::Literal(Value::Type(_)) => Known {
                cost: 1,
                place: Some(self.root),
                ..Known::default()
            },
            Kind::Literal(value) => Known {
                size: literal_size(value),
                ..Known::default()
            },
            Kind::Ident { name, .. } => {
                let found = self.scope.iter().rev().find(|(n, _)| n == name);
                let found = found.map_or_else(Known::default, |(_, known)| *known);
                Known { cost: 1, ..found }
            }
            Kind::Select { of, field, optional } => {
                let inner = self.cost(of);
                let costs = *optional || !matches!(of.of(), Type::Dyn | Type::Optional(_));
                Known {
                    cost: inner.cost.saturating_add(u64::from(costs)),
                    place: match inner.place.map(|b| &b.within) {
                        Some(Within::Fields(fields)) if !*optional => fields.get(field),
                        _ => None,
                    },
                    ..Known::default()
                }
            }
            Kind::Has { of, .. } => Self::of_cost(self.cost(of).cost),
            Kind::Index { of, index, optional } => {
                let (inner, by) = (self.cost(of), self.cost(index));
                let place = match inner.place.map(|b| &b.within) {
                    Some(Within::Items(items) | Within::Map(items)) if !*optional => Some(items.as_ref()),
                    _ => None,
                };
                Known {
                    cost: inner.cost.saturating_add(by.cost).saturating_add(1),
                    place,
                    size: inner.entry.map(|(_, value)| value),
                    entry: None,
                }
            }
            Kind::Call {
                name, receiver, args, ..
            } => {
                let known: Vec<Known<'b>> = args.iter().map(|arg| self.cost(arg)).collect();
                let all = known.iter().fold(0, |sum: u64, k| sum.saturating_add(k.cost));
                if name == "dyn" {
                    let inner = known.first().copied().unwrap_or_default();
                    return Known {
                        cost: all.saturating_add(1),
                        place: None,
                        size: inner.size,
                        entry: inner.entry,
                    };
                }
                let (own, size) = call::cost(name, *receiver, args, &known);
                Known {
                    cost: all.saturating_add(own),
                    place: None,
                    size,
                    entry: call::entry(name, &known),
                }
            }
            Kind::And(parts) | Kind::Or(parts) => Self::of_cost(self.sum(parts)),
            Kind::If(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let condition = self.cost(condition);
                let (yes, no) = (self.cost(yes), self.cost(no));
                Known {
                    cost: condition.cost.saturating_add(yes.cost.max(no.cost)),
                    place: None,
                    size: Some(yes.size().or(no.size())),
                    entry: join(yes.entry, no.entry),
                }
            }
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => {
                let (mut cost, mut keys, mut values) = (MAP, None, None);
                for (key, value) in entries {
                    let (key, value) = (self.cost(&key.expr), self.cost(value));
                    cost = cost.saturating_add(key.cost).saturating_add(value.cost);
                    keys = Some(union(keys, key.size()));
                    values = Some(union(values, value.size()));
                }
                let none = Size::of(0);
                Known {
                    cost,
                    place: None,
                    size: Some(Size::of(entries.len() as u64)),
                    entry: Some((keys.unwrap_or(none), values.unwrap_or(none))),
                }
            }
            Kind::Each(each) => self.each(each),
            Kind::IfValue { of, name, body, flat } => {
                // Asked whether there is a value; then it is taken, bound and used.
                let inner = self.cost(of).cost;
                self.scope.push((name.clone(), Known::default()));
                let body = self.cost(body).cost;
                self.scope.pop();
                let made = 1 + u64::from(!*flat) + LIST;
                let some = inner.saturating_add(made).saturating_add(body);
                Self::of_cost(inner.saturating_add(1).saturating_add(some))
            }
            Kind::Bind { name, value, body } => {
                let value = self.cost(value);
                self.scope.push((name.clone(), value));
                let body = self.cost(body);
                self.scope.pop();
                // It is a loop over nothing that starts with the value.
                Known {
                    cost: value.cost.saturating_add(body.cost).saturating_add(1),
                    ..body
                }
            }
            Kind::Message { fields, .. } => {
                let fields = self.sum(fields.iter().map(|f| &f.value));
                Self::of_cost(fields.saturating_add(MESSAGE))
            }
        }
    }

    fn list(&mut self, items: &[Item]) -> Known<'b> {
        let (mut cost, mut values) = (LIST, None);
        for item in items {
            let item = self.cost(&item.expr);
            cost = cost.saturating_add(item.cost);
            values = Some(union(values, item.size()));
        }
        Known {
            cost,
            place: None,
            size: Some(Size::of(items.len() as u64)),
            entry: Some((Size::of(1), values.unwrap_or(Size::of(0)))),
        }
    }

    /// A macro costs what the loop that it stands for does.
    fn each(&mut self, each: &Each) -> Known<'b> {
        let range = self.cost(&each.range);
        let place = range.place.map(|b| &b.within);
        let values = Known {
            place: match place {
                Some(Within::Items(items) | Within::Map(items)) => Some(items.as_ref()),
                _ => None,
            },
            size: range.entry.map(|(_, value)| value),
            ..Known::default()
        };
        let is_map = matches!(each.range.of(), Type::Map(..));
        let keys = Known {
            place: matches!(place, Some(Within::Map(_))).then_some(&KEY),
            size: range.entry.map(|(key, _)| key),
            ..Known::default()
        };
        let before = self.scope.len();
        match &each.second {
            Some(second) => {
                self.scope.push((each.first.clone(), keys));
                self.scope.push((second.clone(), values));
            }
            None if is_map => self.scope.push((each.first.clone(), keys)),
            None => self.scope.push((each.first.clone(), values)),
        }
        let filter = each.filter.as_ref().map_or(0, |filter| self.cost(filter).cost);
        let body = self.cost(&each.body).cost;
        self.scope.truncate(before);
        // What the loop starts with and ends in, and what each turn costs beside the body.
        let (around, turn) = match each.what {
            Macro::All => (1, 3),
            Macro::Exists => (1, 4),
            Macro::ExistsOne => (2, 2),
            Macro::Map | Macro::TransformList => (LIST + 1, LIST + 2),
            Macro::Filter => (LIST + 1, LIST + 3),
            Macro::TransformMap => (MAP + 1, 3),
            Macro::TransformMapEntry => (MAP + 1, 2),
        };
        let turn = filter.saturating_add(body).saturating_add(turn);
        let size = match each.what {
            Macro::All | Macro::Exists | Macro::ExistsOne => Some(Size::of(1)),
            _ => Some(range.size()),
        };
        let loops = range.size().max.saturating_mul(turn);
        Known {
            cost: range.cost.saturating_add(around).saturating_add(loops),
            place: None,
            size,
            entry: None,
        }
    }
}

fn union(known: Option<Size>, size: Size) -> Size {
    known.map_or(size, |known| known.or(size))
}

fn join(a: Option<(Size, Size)>, b: Option<(Size, Size)>) -> Option<(Size, Size)> {
    let ((key, value), (other_key, other_value)) = (a?, b?);
    Some((key.or(other_key), value.or(other_value)))
}

#[cfg(test)]
mod tests;
