//! Runs a checked expression. Every step has its price, so that no expression runs for long.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::ast::{Each, Expr, Item, Kind, Macro};
use super::function;
use super::value::{Key, Value};

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The expression went wrong: no such key, division by zero...
    #[error("{0}")]
    Failed(String),
    /// It cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooCostly,
}

impl Fault {
    pub(super) fn of(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

pub(super) type Outcome = Result<Value, Fault>;

/// One run: the variables, and what it may still cost.
pub struct Run<'p> {
    pub(super) regexes: &'p BTreeMap<String, Regex>,
    /// The environment's variables in their order, then those of the macros around.
    stack: Vec<Value>,
    spent: u64,
    limit: u64,
}

/// A regular expression that nothing can make huge.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|e| {
            format!(
                "error parsing regexp: {}",
                e.to_string().lines().last().unwrap_or_default().trim()
            )
        })
}

impl<'p> Run<'p> {
    pub(super) fn new(regexes: &'p BTreeMap<String, Regex>, variables: Vec<Value>, limit: u64) -> Self {
        Self {
            regexes,
            stack: variables,
            spent: 0,
            limit,
        }
    }

    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// Pays for something before it is done.
    pub(super) fn pay(&mut self, cost: u64) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit {
            return Err(Fault::TooCostly);
        }
        Ok(())
    }

    pub(super) fn eval(&mut self, expr: &Expr) -> Outcome {
        self.pay(1)?;
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Ident { name, slot } => {
                let found = self.stack.get(*slot).cloned();
                found.ok_or_else(|| Fault::of(format!("no such attribute(s): {name}")))
            }
            Kind::Select { of, field, optional } => {
                let of = self.eval(of)?;
                select(&of, field, *optional)
            }
            Kind::Has { of, field } => {
                let of = self.eval(of)?;
                has(&of, field).map(Value::Bool)
            }
            Kind::Index { of, index, optional } => {
                let of = self.eval(of)?;
                let index = self.eval(index)?;
                at(&of, &index, *optional)
            }
            Kind::Call { name, args, entry, .. } => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    values.push(self.eval(arg)?);
                }
                let entry = entry.ok_or_else(|| Fault::of("no such overload"))?;
                let found = (entry.run)(self, &values)?;
                found.ok_or_else(|| no_overload(name, &values))
            }
            Kind::And(parts) => self.logic(parts, false),
            Kind::Or(parts) => self.logic(parts, true),
            Kind::If(parts) => {
                let [condition, yes, no] = parts.as_ref();
                match self.eval(condition)? {
                    Value::Bool(true) => self.eval(yes),
                    Value::Bool(false) => self.eval(no),
                    _ => Err(Fault::of("no such overload")),
                }
            }
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Each(each) => self.each(each),
            Kind::IfValue { of, body, flat, .. } => match self.eval(of)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(inner)) => {
                    self.stack.push(inner.as_ref().clone());
                    let found = self.eval(body);
                    self.stack.pop();
                    found.map(|value| if *flat { value } else { Value::some(value) })
                }
                _ => Err(Fault::of("no such overload")),
            },
            Kind::Bind { value, body, .. } => {
                let value = self.eval(value)?;
                self.stack.push(value);
                let found = self.eval(body);
                self.stack.pop();
                found
            }
            Kind::Message { fields, .. } => {
                let mut map = BTreeMap::new();
                for field in fields {
                    let value = self.eval(&field.value)?;
                    if let Some(value) = kept(value, field.optional)? {
                        map.insert(Key::String(field.name.as_str().into()), value);
                    }
                }
                Ok(Value::Map(Arc::new(map)))
            }
        }
    }

    /// A part that decides, decides even when another one failed.
    fn logic(&mut self, parts: &[Expr], decides: bool) -> Outcome {
        let mut fault = None;
        for part in parts {
            match self.eval(part) {
                Ok(Value::Bool(b)) if b == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => fault = fault.or(Some(Fault::of("no such overload"))),
                Err(Fault::TooCostly) => return Err(Fault::TooCostly),
                Err(failed) => fault = fault.or(Some(failed)),
            }
        }
        fault.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn list(&mut self, items: &[Item]) -> Outcome {
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let value = self.eval(&item.expr)?;
            list.extend(kept(value, item.optional)?);
        }
        Ok(list.into())
    }

    fn map(&mut self, entries: &[(Item, Expr)]) -> Outcome {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let found = self.eval(&key.expr)?;
            let value = self.eval(value)?;
            let Some(value) = kept(value, key.optional)? else {
                continue;
            };
            insert(&mut map, &found, value)?;
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn each(&mut self, each: &Each) -> Outcome {
        let range = self.eval(&each.range)?;
        let pairs: Vec<(Value, Value)> = match &range {
            Value::List(list) => {
                let items = list.items.iter().enumerate();
                items.map(|(i, v)| (Value::Int(i as i64), v.clone())).collect()
            }
            Value::Map(map) => map.iter().map(|(k, v)| (k.to_value(), v.clone())).collect(),
            _ => return Err(Fault::of("no such overload")),
        };
        let is_map = matches!(range, Value::Map(_));
        self.pay(pairs.len() as u64)?;
        let depth = self.stack.len();
        let mut made = Made::default();
        for (key, value) in pairs {
            let one = if is_map { key.clone() } else { value.clone() };
            match each.second {
                Some(_) => self.stack.extend([key.clone(), value]),
                None => self.stack.push(one.clone()),
            }
            let enough = self.round(each, key, one, &mut made);
            self.stack.truncate(depth);
            if enough? {
                break;
            }
        }
        made.result(each.what)
    }

    /// One element of a macro's range; true when the others do not matter any more.
    fn round(&mut self, each: &Each, key: Value, one: Value, made: &mut Made) -> Result<bool, Fault> {
        if let Some(filter) = &each.filter
            && self.eval(filter)? != Value::Bool(true)
        {
            return Ok(false);
        }
        let body = match (self.eval(&each.body), each.what) {
            (Err(fault @ Fault::Failed(_)), Macro::All | Macro::Exists) => {
                made.fault.get_or_insert(fault);
                return Ok(false);
            }
            (body, _) => body?,
        };
        match (each.what, body) {
            (Macro::All, Value::Bool(b)) => made.decided = !b,
            (Macro::Exists, Value::Bool(b)) => made.decided = b,
            (Macro::ExistsOne, Value::Bool(b)) => made.count += u64::from(b),
            (Macro::Filter, Value::Bool(true)) => made.list.push(one),
            (Macro::Filter, Value::Bool(false)) => {}
            (Macro::Map | Macro::TransformList, value) => made.list.push(value),
            (Macro::TransformMap, value) => insert(&mut made.map, &key, value)?,
            (Macro::TransformMapEntry, Value::Map(entries)) => {
                for (key, value) in entries.iter() {
                    insert(&mut made.map, &key.to_value(), value.clone())?;
                }
            }
            _ => return Err(Fault::of("no such overload")),
        }
        Ok(made.decided)
    }
}

/// What a macro has made so far.
#[derive(Default)]
struct Made {
    list: Vec<Value>,
    map: BTreeMap<Key, Value>,
    count: u64,
    /// `all` met a false, `exists` a true.
    decided: bool,
    /// What went wrong, if nothing decides.
    fault: Option<Fault>,
}

impl Made {
    fn result(self, what: Macro) -> Outcome {
        match (what, self.fault) {
            (Macro::All, _) if self.decided => Ok(Value::Bool(false)),
            (Macro::Exists, _) if self.decided => Ok(Value::Bool(true)),
            (Macro::All | Macro::Exists, Some(fault)) => Err(fault),
            (Macro::All, None) => Ok(Value::Bool(true)),
            (Macro::Exists, None) => Ok(Value::Bool(false)),
            (Macro::ExistsOne, _) => Ok(Value::Bool(self.count == 1)),
            (Macro::Map | Macro::Filter | Macro::TransformList, _) => Ok(self.list.into()),
            (Macro::TransformMap | Macro::TransformMapEntry, _) => Ok(Value::Map(Arc::new(self.map))),
        }
    }
}

fn no_overload(name: &str, args: &[Value]) -> Fault {
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    Fault::of(format!("no such overload: {name}({})", types.join(", ")))
}

/// An element as it is, or as an optional that may leave it out.
fn kept(value: Value, optional: bool) -> Result<Option<Value>, Fault> {
    match value {
        Value::Optional(inner) if optional => Ok(inner.map(|v| v.as_ref().clone())),
        _ if optional => Err(Fault::of("cannot initialize optional entry from non-optional value")),
        value => Ok(Some(value)),
    }
}

fn insert(map: &mut BTreeMap<Key, Value>, key: &Value, value: Value) -> Result<(), Fault> {
    let Some(key) = key.to_key() else {
        return Err(Fault::of(format!("unsupported key type: {}", key.type_name())));
    };
    if map.insert(key, value).is_some() {
        return Err(Fault::of("insert failed: key already exists"));
    }
    Ok(())
}

fn member<'v>(of: &'v Value, field: &str) -> Result<Option<&'v Value>, Fault> {
    match of {
        Value::Map(map) => Ok(map.get(&Key::String(field.into()))),
        _ => Err(Fault::of("no such overload")),
    }
}

fn has(of: &Value, field: &str) -> Result<bool, Fault> {
    match of {
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(inner)) => has(inner, field),
        _ => Ok(member(of, field)?.is_some()),
    }
}

fn select(of: &Value, field: &str, optional: bool) -> Outcome {
    match of {
        Value::Optional(None) => Ok(of.clone()),
        Value::Optional(Some(inner)) => select(inner, field, true),
        _ => match member(of, field)? {
            Some(found) if optional => Ok(Value::some(found.clone())),
            Some(found) => Ok(found.clone()),
            None if optional => Ok(Value::Optional(None)),
            None => Err(Fault::of(format!("no such key: {field}"))),
        },
    }
}

/// `of[index]`
fn at(of: &Value, index: &Value, optional: bool) -> Outcome {
    let found = match of {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => return at(inner, index, true),
        Value::List(list) => match index.to_key() {
            Some(Key::Int(i)) => usize::try_from(i).ok().and_then(|i| list.items.get(i)),
            _ => {
                return Err(Fault::of(format!(
                    "unsupported index type '{}' in list",
                    index.type_name()
                )));
            }
        },
        Value::Map(map) => index.to_key().and_then(|key| map.get(&key)),
        _ => return Err(Fault::of("no such overload")),
    };
    match found {
        Some(found) if optional => Ok(Value::some(found.clone())),
        Some(found) => Ok(found.clone()),
        None if optional => Ok(Value::Optional(None)),
        None if matches!(of, Value::List(_)) => Err(Fault::of(format!(
            "index out of bounds: {}",
            function::text::plain(index)
        ))),
        None => Err(Fault::of(format!("no such key: {}", function::text::plain(index)))),
    }
}
