//! The Common Expression Language with the libraries that Kubernetes adds, as rules of custom resources and policies
//! are written in.
//!
//! An [`Env`] says which variables there are. [`Env::compile`] reads and types an expression; the [`Program`] that comes
//! out runs with values for the variables, within a limit of cost, so that no expression can hold up whoever runs it. It
//! was written because the field's crate types nothing before it runs and has no such limit; what upstream refuses when
//! a rule is stored has to be refused here.

mod ast;
mod check;
mod cost;
mod eval;
mod function;
mod parse;
#[cfg(test)]
mod tests;
mod token;
mod types;
mod value;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex::Regex;

use ast::{Expr, Kind};
pub use cost::{Bound, Within};
pub use eval::Fault;
pub use types::{ObjectType, Type};
pub use value::{Key, List, Merge, Value};

/// What one expression may cost: about a tenth of a second.
pub const CALL_LIMIT: u64 = 1_000_000;

/// Whether a variable may be called this in an expression.
pub fn is_identifier(name: &str) -> bool {
    parse::is_identifier(name)
}

/// The type that asks whether somebody may do something.
pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
/// The type of such a question about a resource.
pub const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";

/// The variables of an expression.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Vec<(String, Type)>,
    types: Option<Messages>,
    binds: bool,
}

/// The types that expressions may make messages of, by their names.
pub type Messages = fn(&str) -> Option<Type>;

/// An expression that can be run.
#[derive(Debug)]
pub struct Program {
    expr: Expr,
    result: Type,
    used: Vec<(String, bool)>,
    /// The regular expressions that are written out in it.
    regexes: BTreeMap<String, Regex>,
}

impl Env {
    pub fn new() -> Self {
        Self::default()
    }

    /// A name may have a dot: `authorizer.requestResource` is a variable, whatever `authorizer` is.
    pub fn variable(mut self, name: &str, of: Type) -> Self {
        self.variables.push((name.to_owned(), of));
        self
    }

    /// Expressions may make messages of these types, and have the functions that patches need.
    pub fn messages(self, types: Messages) -> Self {
        Self {
            types: Some(types),
            ..self
        }
    }

    /// Expressions may name what they compute: `cel.bind(name, value, body)`.
    pub fn binding(self) -> Self {
        Self { binds: true, ..self }
    }

    /// Reads and types an expression. The error shows each mistake and its place, as upstream does.
    pub fn compile(&self, text: &str) -> Result<Program, String> {
        let mut expr = parse::parse(text).map_err(|m| report(text, &[(m.at, m.message)]))?;
        let checked = check::check(self, &mut expr).map_err(|issues| {
            let issues: Vec<_> = issues.into_iter().map(|i| (i.at, i.message)).collect();
            report(text, &issues)
        })?;
        let mut regexes = BTreeMap::new();
        collect_regexes(&expr, &mut regexes);
        let names = self.variables.iter().map(|(name, _)| name.clone());
        Ok(Program {
            expr,
            result: checked.result,
            used: names.zip(checked.used).collect(),
            regexes,
        })
    }
}

impl Program {
    /// The type of what comes out.
    pub fn result(&self) -> &Type {
        &self.result
    }

    pub fn uses(&self, variable: &str) -> bool {
        self.used.iter().any(|(name, used)| *used && name == variable)
    }

    /// Runs it with the environment's variables in their order. The second part is what it cost.
    pub fn run(&self, variables: Vec<Value>, limit: u64) -> (Result<Value, Fault>, u64) {
        let mut run = eval::Run::new(&self.regexes, variables, limit);
        let outcome = run.eval(&self.expr);
        (outcome, run.spent())
    }
}

fn collect_regexes(expr: &Expr, all: &mut BTreeMap<String, Regex>) {
    if let Kind::Call { name, args, .. } = &expr.kind
        && function::takes_regex(name)
        && let Some(Kind::Literal(Value::String(pattern))) = args.get(1).map(|a| &a.kind)
        && let Ok(made) = eval::regex(pattern)
    {
        all.insert(pattern.to_string(), made);
    }
    expr.kind.each(&mut |below| collect_regexes(below, all));
}

/// `ERROR: <input>:1:6: undeclared reference...`, with the line and a mark under the place.
fn report(text: &str, issues: &[(usize, String)]) -> String {
    let mut out = String::new();
    for (at, message) in issues {
        let before: Vec<char> = text.chars().take(*at).collect();
        let line = before.iter().filter(|c| **c == '\n').count();
        let column = before.iter().rev().take_while(|c| **c != '\n').count();
        if !out.is_empty() {
            out.push('\n');
        }
        let shown = text.split('\n').nth(line).unwrap_or_default();
        let _ = write!(
            out,
            "ERROR: <input>:{}:{}: {message}\n | {shown}\n | {}^",
            line + 1,
            column + 1,
            ".".repeat(column)
        );
    }
    out
}

/// A property's name as an expression has it: what the language reserves is wrapped, what it cannot say is replaced.
/// Nothing for a name that no expression can say.
pub fn escape(name: &str) -> Option<String> {
    const WORDS: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if WORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '_' if chars.next_if_eq(&'_').is_some() => out.push_str("__underscores__"),
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c if c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !out.is_empty()) => out.push(c),
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}
