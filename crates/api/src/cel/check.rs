//! Types an expression before it ever runs: which variable, which function, what comes out. All mistakes are found,
//! and told as clients know them.

use super::Env;
use super::ast::{Each, Expr, Field, Kind, Macro};
use super::function::{self, Entry};
use super::types::{Bound, Type};
use super::value::Value;

/// One mistake, and where (in characters).
pub(super) struct Issue {
    pub at: usize,
    pub message: String,
}

/// What the check found out.
pub(super) struct Checked {
    pub result: Type,
    /// Which of the environment's variables it uses.
    pub used: Vec<bool>,
}

/// Types `expr` and settles its variables and functions.
pub(super) fn check(env: &Env, expr: &mut Expr) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        env,
        scope: env.variables.clone(),
        used: vec![false; env.variables.len()],
        issues: Vec::new(),
    };
    let result = checker.typed(expr);
    if checker.issues.is_empty() {
        Ok(Checked {
            result,
            used: checker.used,
        })
    } else {
        checker.issues.sort_by_key(|i| i.at);
        Err(checker.issues)
    }
}

struct Checker<'e> {
    env: &'e Env,
    /// The environment's variables, then those of the macros around.
    scope: Vec<(String, Type)>,
    used: Vec<bool>,
    issues: Vec<Issue>,
}

/// Types that have a name of their own in an expression.
fn type_named(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "bool",
        "int" => "int",
        "uint" => "uint",
        "double" => "double",
        "string" => "string",
        "bytes" => "bytes",
        "list" => "list",
        "map" => "map",
        "null_type" => "null_type",
        "type" => "type",
        "optional_type" => "optional_type",
        _ => return None,
    })
}

fn shown(args: &[Type], receiver: bool) -> String {
    let list = |types: &[Type]| {
        let names: Vec<String> = types.iter().map(ToString::to_string).collect();
        format!("({})", names.join(", "))
    };
    match args.split_first() {
        Some((first, rest)) if receiver => format!("{first}.{}", list(rest)),
        _ => list(args),
    }
}

impl Checker<'_> {
    fn issue(&mut self, at: usize, message: String) -> Type {
        self.issues.push(Issue { at, message });
        Type::Dyn
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    /// The variable that a field of a name is, if there is one.
    fn dotted_variable(&self, of: &Expr, field: &str) -> Option<String> {
        let Kind::Ident { name, .. } = &of.kind else {
            return None;
        };
        let dotted = format!("{name}.{field}");
        self.find(&dotted).map(|_| dotted)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.scope.iter().rposition(|(n, _)| n == name)
    }

    /// Types `body` with more variables in scope.
    fn within(&mut self, variables: Vec<(String, Type)>, body: impl FnOnce(&mut Self) -> Type) -> Type {
        let before = self.scope.len();
        self.scope.extend(variables);
        let found = body(self);
        self.scope.truncate(before);
        found
    }

    fn typed(&mut self, expr: &mut Expr) -> Type {
        let found = self.step(expr);
        expr.result = Some(Box::new(found.clone()));
        found
    }

    fn step(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        match &mut expr.kind {
            Kind::Literal(value) => literal(value),
            Kind::Ident { name, slot } => match self.find(name) {
                Some(found) => {
                    *slot = found;
                    if let Some(used) = self.used.get_mut(found) {
                        *used = true;
                    }
                    self.scope.get(found).map_or(Type::Dyn, |(_, t)| t.clone())
                }
                None => match type_named(name) {
                    Some(name) => {
                        expr.kind = Kind::Literal(Value::Type(name));
                        Type::Type
                    }
                    None => {
                        let name = name.clone();
                        self.undeclared(at, &name)
                    }
                },
            },
            Kind::Select { of, field, optional } => {
                if let Some(name) = protobuf_type(of, field) {
                    expr.kind = Kind::Literal(Value::Type(name));
                    return Type::Type;
                }
                let optional = *optional;
                if !optional && let Some(name) = self.dotted_variable(of, field) {
                    expr.kind = Kind::Ident { name, slot: 0 };
                    return self.step(expr);
                }
                let within = self.typed(of);
                let found = self.field(at, &within, field);
                match (optional, found) {
                    (true, found @ Type::Optional(_)) => found,
                    (true, found) => Type::optional(found),
                    (false, found) => found,
                }
            }
            Kind::Has { of, field } => {
                let within = self.typed(of);
                self.field(at, &within, field);
                Type::Bool
            }
            Kind::Index { of, index, optional } => {
                let name = if *optional { "_[?_]" } else { "_[_]" };
                let types = [self.typed(of), self.typed(index)];
                self.overload(at, name, &types, false).1
            }
            Kind::Call { .. } => self.call(expr),
            Kind::And(parts) | Kind::Or(parts) => {
                for part in parts {
                    let found = self.typed(part);
                    self.expect(part.at, &Type::Bool, &found);
                }
                Type::Bool
            }
            Kind::If(parts) => {
                let [condition, yes, no] = parts.as_mut();
                let types = [self.typed(condition), self.typed(yes), self.typed(no)];
                self.overload(at, "_?_:_", &types, false).1
            }
            Kind::List(items) => {
                let mut all = None;
                for item in items {
                    let mut found = self.typed(&mut item.expr);
                    if item.optional {
                        found = self.unwrapped(item.expr.at, found);
                    }
                    self.merge(item.expr.at, &mut all, found);
                }
                Type::list(all.unwrap_or(Type::Dyn))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values) = (None, None);
                for (key, value) in entries {
                    let found = self.typed(&mut key.expr);
                    self.merge(key.expr.at, &mut keys, found);
                    let mut found = self.typed(value);
                    if key.optional {
                        found = self.unwrapped(value.at, found);
                    }
                    self.merge(value.at, &mut values, found);
                }
                Type::map(keys.unwrap_or(Type::Dyn), values.unwrap_or(Type::Dyn))
            }
            Kind::Each(each) => self.each(at, each),
            Kind::IfValue { of, name, body, flat } => {
                let found = self.typed(of);
                let inner = self.unwrapped(of.at, found);
                let (name, flat) = (name.clone(), *flat);
                let found = self.within(vec![(name, inner)], |c| c.typed(body));
                if !flat {
                    return Type::optional(found);
                }
                self.unwrapped(body.at, found.clone());
                found
            }
            Kind::Bind { name, value, body } => {
                if !self.env.binds {
                    return self.undeclared(at, "cel.bind");
                }
                let found = self.typed(value);
                let name = name.clone();
                self.within(vec![(name, found)], |c| c.typed(body))
            }
            Kind::Message { name, fields } => self.message(at, name, fields),
        }
    }

    fn message(&mut self, at: usize, name: &str, fields: &mut [Field]) -> Type {
        let types = self.env.types;
        let Some(of) = types.and_then(|types| types(name)) else {
            return self.undeclared(at, name);
        };
        for field in fields {
            let place = field.value.at;
            let mut found = self.typed(&mut field.value);
            if field.optional {
                found = self.unwrapped(place, found);
            }
            let wanted = self.field(place, &of, &field.name);
            if !Bound::default().accepts(&wanted, &found) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{found}'",
                    field.name
                );
                self.issue(place, message);
            }
        }
        of
    }

    fn expect(&mut self, at: usize, wanted: &Type, found: &Type) {
        if found != wanted && *found != Type::Dyn {
            self.issue(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }

    /// Elements of one literal have one type.
    fn merge(&mut self, at: usize, all: &mut Option<Type>, found: Type) {
        *all = Some(match all.take() {
            None => found,
            Some(known) => match known.join(&found) {
                Some(joined) => joined,
                None => {
                    self.issue(at, format!("expected type '{known}' but found '{found}'"));
                    known
                }
            },
        });
    }

    fn unwrapped(&mut self, at: usize, found: Type) -> Type {
        match found {
            Type::Optional(inner) => inner.as_ref().clone(),
            Type::Dyn => Type::Dyn,
            other => self.issue(at, format!("expected type 'optional_type(dyn)' but found '{other}'")),
        }
    }

    fn field(&mut self, at: usize, within: &Type, field: &str) -> Type {
        match within {
            Type::Dyn => Type::Dyn,
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.clone(),
                None if object.open => Type::Dyn,
                None => self.issue(at, format!("undefined field '{field}'")),
            },
            Type::Map(key, value) if matches!(**key, Type::String | Type::Dyn) => value.as_ref().clone(),
            Type::Optional(inner) => match self.field(at, inner, field) {
                found @ Type::Optional(_) => found,
                found => Type::optional(found),
            },
            other => self.issue(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let Kind::Call {
            name,
            receiver,
            args,
            entry,
        } = &mut expr.kind
        else {
            return Type::Dyn;
        };
        // `sets.contains(a, b)`: a function with a dotted name, unless a variable has the first part's.
        if *receiver
            && let Some(Kind::Ident { name: space, .. }) = args.first().map(|a| &a.kind)
            && self.find(space).is_none()
            && function::exists(&format!("{space}.{name}"), false)
        {
            *name = format!("{space}.{name}");
            *receiver = false;
            args.remove(0);
        }
        let formats = *receiver && name == "format";
        let types: Vec<Type> = args
            .iter_mut()
            .enumerate()
            .map(|(i, arg)| match &mut arg.kind {
                // What is to be formatted may be of any types.
                Kind::List(items) if formats && i == 1 => {
                    for item in items {
                        self.typed(&mut item.expr);
                    }
                    Type::list(Type::Dyn)
                }
                _ => self.typed(arg),
            })
            .collect();
        let is_foreign = self.env.types.is_none() && name.starts_with(function::PATCH);
        if is_foreign || !function::exists(name, *receiver) {
            let name = name.clone();
            return self.undeclared(at, &name);
        }
        let (name, receiver) = (name.clone(), *receiver);
        let (found, result) = self.overload(at, &name, &types, receiver);
        *entry = found;
        if let Some(message) = function::literal_mistake(&name, args) {
            return self.issue(at, message);
        }
        result
    }

    /// The function of that name that takes these; several leave the result open.
    fn overload(&mut self, at: usize, name: &str, args: &[Type], receiver: bool) -> (Option<&'static Entry>, Type) {
        let mut found: Option<(&'static Entry, Type)> = None;
        for (entry, signature) in function::signatures(name, receiver) {
            let mut bound = Bound::default();
            let fits =
                signature.args.len() == args.len() && signature.args.iter().zip(args).all(|(w, g)| bound.accepts(w, g));
            if !fits {
                continue;
            }
            let result = bound.fill(&signature.result);
            found = Some(match found {
                Some((entry, known)) if known != result => (entry, Type::Dyn),
                _ => (entry, result),
            });
        }
        match found {
            Some((entry, result)) => (Some(entry), result),
            None => {
                let args = shown(args, receiver);
                let message = format!("found no matching overload for '{name}' applied to '{args}'");
                (None, self.issue(at, message))
            }
        }
    }

    fn each(&mut self, at: usize, each: &mut Each) -> Type {
        let range = self.typed(&mut each.range);
        let (key, value, is_map) = match &range {
            Type::List(of) => (Type::Int, of.as_ref().clone(), false),
            Type::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone(), true),
            Type::Dyn => (Type::Dyn, Type::Dyn, false),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.issue(each.range.at, message);
                (Type::Dyn, Type::Dyn, false)
            }
        };
        let one = if is_map { key.clone() } else { value.clone() };
        let variables = match &each.second {
            Some(second) => vec![(each.first.clone(), key.clone()), (second.clone(), value)],
            None => vec![(each.first.clone(), one.clone())],
        };
        let (filter, body, what) = (&mut each.filter, &mut each.body, each.what);
        let made = self.within(variables, |c| {
            if let Some(filter) = filter {
                let found = c.typed(filter);
                c.expect(filter.at, &Type::Bool, &found);
            }
            let found = c.typed(body);
            if matches!(what, Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter) {
                c.expect(body.at, &Type::Bool, &found);
            }
            found
        });
        match each.what {
            Macro::All | Macro::Exists | Macro::ExistsOne => Type::Bool,
            Macro::Filter => Type::list(one),
            Macro::Map | Macro::TransformList => Type::list(made),
            Macro::TransformMap => Type::map(key, made),
            Macro::TransformMapEntry => match made {
                made @ (Type::Map(..) | Type::Dyn) => made,
                other => self.issue(at, format!("expected type 'map(dyn, dyn)' but found '{other}'")),
            },
        }
    }
}

/// `google.protobuf.Timestamp` and its like, which are types and no fields.
fn protobuf_type(of: &Expr, field: &str) -> Option<&'static str> {
    let Kind::Select {
        of: root,
        field: package,
        ..
    } = &of.kind
    else {
        return None;
    };
    let Kind::Ident { name, .. } = &root.kind else {
        return None;
    };
    match (name.as_str(), package.as_str(), field) {
        ("google", "protobuf", "Timestamp") => Some("google.protobuf.Timestamp"),
        ("google", "protobuf", "Duration") => Some("google.protobuf.Duration"),
        _ => None,
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        Value::Type(_) => Type::Type,
        _ => Type::Dyn,
    }
}
