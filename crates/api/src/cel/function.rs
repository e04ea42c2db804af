//! The functions of the language and of Kubernetes' libraries: each declared once, with what it takes, what it makes
//! and how. The check reads the signatures; a run calls what they stand beside.

mod authorizer;
mod convert;
mod lists;
pub(super) mod named;
mod net;
mod operator;
mod optional;
mod patch;
mod quantity;
pub(super) mod semver;
pub(super) mod text;
mod time;
pub(super) mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::ast::{Expr, Kind};
use super::eval::{self, Fault, Run};
use super::types::Type;
use super::value::Value;

/// `None` says that there is no such overload: only values whose type is known late get there.
type Found = Result<Option<Value>, Fault>;

/// A function with all of its overloads.
pub(super) struct Entry {
    /// `list(A).indexOf(A) int`: receiver, name, arguments, result. Without a receiver a dotted name is one name.
    signatures: &'static [&'static str],
    pub run: fn(&mut Run<'_>, &[Value]) -> Found,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.signatures)
    }
}

/// One overload. The receiver, if any, is the first argument.
pub(super) struct Signature {
    pub args: Vec<Type>,
    pub result: Type,
}

/// By name, then by whether there is a receiver.
type Overloads = HashMap<&'static str, [Vec<(&'static Entry, Signature)>; 2]>;

fn all() -> &'static Overloads {
    static ALL: LazyLock<Overloads> = LazyLock::new(|| {
        let libraries = [
            operator::ALL,
            convert::ALL,
            text::ALL,
            lists::ALL,
            time::ALL,
            optional::ALL,
            quantity::ALL,
            url::ALL,
            net::ALL,
            semver::ALL,
            named::ALL,
            authorizer::ALL,
            patch::ALL,
        ];
        let mut all = Overloads::new();
        for entry in libraries.into_iter().flatten() {
            for text in entry.signatures {
                if let Some((name, receiver, signature)) = read(text) {
                    let [plain, received] = all.entry(name).or_default();
                    let place = if receiver { received } else { plain };
                    place.push((entry, signature));
                }
            }
        }
        all
    });
    &ALL
}

/// What functions for patches are called first; only where patches are made are there any.
pub(super) const PATCH: &str = "jsonpatch.";

pub(super) fn exists(name: &str, receiver: bool) -> bool {
    !signatures(name, receiver).is_empty()
}

pub(super) fn signatures(name: &str, receiver: bool) -> &'static [(&'static Entry, Signature)] {
    let found = all().get(name).and_then(|both| both.get(usize::from(receiver)));
    found.map_or(&[], Vec::as_slice)
}

/// A signature's name, whether it has a receiver, and its types.
fn read(text: &'static str) -> Option<(&'static str, bool, Signature)> {
    let (head, result) = text.rsplit_once(") ")?;
    // The bracket of the arguments: the first that follows a name which is no type's.
    let mut receiver = None;
    let mut rest = head;
    if let Some((first, after)) = read_type(head)
        && let Some(after) = after.strip_prefix('.')
    {
        receiver = Some(first);
        rest = after;
    }
    let (name, args) = rest.split_once('(')?;
    let is_receiver = receiver.is_some();
    let mut types: Vec<Type> = receiver.into_iter().collect();
    let mut args = args;
    while !args.is_empty() {
        let (found, after) = read_type(args)?;
        types.push(found);
        args = after.trim_start_matches([',', ' ']);
    }
    let result = read_type(result)?.0;
    Some((name, is_receiver, Signature { args: types, result }))
}

/// The type that a text begins with, and what follows it.
fn read_type(text: &str) -> Option<(Type, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let of = |rest| {
        let (inner, rest) = read_type(str::strip_prefix(rest, '(')?)?;
        Some((inner, rest))
    };
    let simple = match word {
        "list" => {
            let (inner, rest) = of(rest)?;
            return Some((Type::list(inner), rest.strip_prefix(')')?));
        }
        "optional" => {
            let (inner, rest) = of(rest)?;
            return Some((Type::optional(inner), rest.strip_prefix(')')?));
        }
        "map" => {
            let (key, rest) = of(rest)?;
            let (value, rest) = read_type(rest.trim_start_matches([',', ' ']))?;
            return Some((Type::map(key, value), rest.strip_prefix(')')?));
        }
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "type" => Type::Type,
        "Quantity" => Type::Opaque("kubernetes.Quantity"),
        "URL" => Type::Opaque("kubernetes.URL"),
        "IP" => Type::Opaque("net.IP"),
        "CIDR" => Type::Opaque("net.CIDR"),
        "Semver" => Type::Opaque("kubernetes.Semver"),
        "NamedFormat" => Type::Opaque("kubernetes.NamedFormat"),
        "Authorizer" => Type::Opaque(super::AUTHORIZER),
        "PathCheck" => Type::Opaque("kubernetes.authorization.PathCheck"),
        "GroupCheck" => Type::Opaque("kubernetes.authorization.GroupCheck"),
        "ResourceCheck" => Type::Opaque(super::RESOURCE_CHECK),
        "Decision" => Type::Opaque("kubernetes.authorization.Decision"),
        "A" => Type::Param('A'),
        "B" => Type::Param('B'),
        _ => return None,
    };
    // A type is followed by a sign, never by arguments: `duration(string) duration` is a function.
    if rest.starts_with('(') {
        return None;
    }
    Some((simple, rest))
}

/// Functions whose last argument is a regular expression.
pub(super) fn takes_regex(name: &str) -> bool {
    matches!(name, "matches" | "find" | "findAll")
}

/// What is wrong with an argument that is written out.
pub(super) fn literal_mistake(name: &str, args: &[Expr]) -> Option<String> {
    if !takes_regex(name) {
        return None;
    }
    match &args.get(1)?.kind {
        Kind::Literal(Value::String(pattern)) => eval::regex(pattern).err(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_can_be_read() {
        for entries in [
            operator::ALL,
            convert::ALL,
            text::ALL,
            lists::ALL,
            time::ALL,
            optional::ALL,
            quantity::ALL,
            url::ALL,
            net::ALL,
            semver::ALL,
            named::ALL,
            authorizer::ALL,
        ] {
            for text in entries.iter().flat_map(|e| e.signatures) {
                assert!(read(text).is_some(), "{text}");
            }
        }
        assert!(exists("sets.contains", false) && exists("contains", true) && exists("size", false));
    }
}
