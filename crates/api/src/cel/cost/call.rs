//! What functions cost beside their arguments, and how large what they make can be.

use super::{Bound, Known, Size, Within, join, share, walk};
use crate::cel::ast::{Expr, Kind};
use crate::cel::types::Type;
use crate::cel::value::Value;

/// Of a function's arguments, the receiver first: whether some may be strings or bytes, lists.
fn may_be(args: &[Expr], wanted: impl Fn(&Type) -> bool) -> bool {
    args.iter().all(|arg| wanted(arg.of()) || *arg.of() == Type::Dyn)
}

fn is_text(of: &Type) -> bool {
    matches!(of, Type::String | Type::Bytes)
}

fn is_list(of: &Type) -> bool {
    matches!(of, Type::List(_))
}

/// The size of the elements of a list.
fn element(known: &Known<'_>) -> Size {
    match known.place {
        Some(Bound {
            within: Within::Items(items),
            ..
        }) => Size {
            min: 0,
            max: items.most,
        },
        _ => Size::UNKNOWN,
    }
}

/// The function's own cost, and the size of its result if it says something about it.
pub(super) fn cost(name: &str, receiver: bool, args: &[Expr], known: &[Known<'_>]) -> (u64, Option<Size>) {
    let size = |i: usize| known.get(i).map_or(Size::UNKNOWN, Known::size);
    let first = size(0);
    match (name, receiver) {
        ("_+_", _) => {
            let sum = first.plus(size(1));
            let text = may_be(args, is_text);
            let sized = text || may_be(args, is_list);
            (if text { walk(sum.max).max(1) } else { 1 }, sized.then_some(sum))
        }
        ("_==_" | "_!=_", _) => (walk(first.max.min(size(1).max)), None),
        ("_<_" | "_<=_" | "_>_" | "_>=_", _) if may_be(args, is_text) => (walk(first.max.min(size(1).max)), None),
        ("@in" | "_in_", _) if args.get(1).is_some_and(|a| is_list(a.of()) || *a.of() == Type::Dyn) => {
            (size(1).max, None)
        }
        ("startsWith" | "endsWith", true) => (walk(size(1).max), None),
        ("contains", true) => (walk(first.max).saturating_mul(walk(size(1).max)), None),
        ("matches", _) => (matching(first, size(1)), None),
        ("find" | "findAll", true) => {
            let found = Size { min: 0, max: first.max };
            (matching(first, size(1)), Some(found))
        }
        ("bytes", false) if may_be(args, is_text) => {
            let max = first.max.saturating_mul(4);
            (walk(first.max), Some(Size { min: first.min, max }))
        }
        ("string", false) if args.first().is_some_and(|a| *a.of() == Type::Bytes) => {
            let min = first.min / 4;
            (walk(first.max), Some(Size { min, max: first.max }))
        }
        ("format", true) => (walk(first.max), None),
        ("strings.quote", false) => {
            let max = first.max.saturating_mul(2).saturating_add(2);
            (
                walk(first.max),
                Some(Size {
                    min: first.min + 2,
                    max,
                }),
            )
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", true) => match args.first().map(Expr::of) {
            Some(Type::List(of)) => {
                let text = if is_text(of) {
                    known.first().map_or(0, |k| walk(element(k).max))
                } else {
                    0
                };
                (first.max.saturating_mul(text.saturating_add(1)), None)
            }
            _ => (walk(first.max), None),
        },
        ("url", false) => (walk(first.max), None),
        ("lowerAscii" | "upperAscii" | "substring" | "trim", true) => (walk(first.max), Some(first)),
        ("replace", true) => (share(first.max, 0.2), Some(replaced(first, size(1), size(2)))),
        ("split", true) => {
            let limit = args.get(2).and_then(|a| match &a.kind {
                Kind::Literal(Value::Int(limit)) => u64::try_from(*limit).ok(),
                _ => None,
            });
            let max = limit.unwrap_or(first.max);
            (share(first.max, 0.2), Some(Size { min: 0, max }))
        }
        ("join", true) => {
            let of = known.first().map_or(Size::UNKNOWN, element);
            let mut sum = first.times(of);
            if args.len() > 1 {
                let between = Size {
                    min: first.min.saturating_sub(1),
                    max: first.max.saturating_sub(1),
                };
                sum = sum.plus(size(1).times(between));
            }
            (walk(sum.max), Some(sum))
        }
        ("containsIP" | "containsCIDR", true) => {
            let both = if name == "containsIP" { 4 } else { 4 + 2 + 1 };
            let read = args
                .get(1)
                .is_some_and(|a| !matches!(a.of(), Type::Opaque("net.IP" | "net.CIDR")));
            (
                if read {
                    walk(size(1).max).saturating_add(both)
                } else {
                    both
                },
                None,
            )
        }
        ("sets.contains" | "sets.intersects", false) => (first.max.saturating_mul(size(1).max).saturating_add(1), None),
        ("sets.equivalent", false) => {
            let both = first.max.saturating_mul(size(1).max).saturating_mul(2);
            (both.saturating_add(1), None)
        }
        _ => (1, None),
    }
}

/// The sizes of what is in the outcome, where lists or maps are joined.
pub(super) fn entry(name: &str, known: &[Known<'_>]) -> Option<(Size, Size)> {
    match known {
        [a, b] if name == "_+_" => join(a.entry, b.entry),
        _ => None,
    }
}

/// A text against an expression of so many characters: each four are guessed to be a state.
fn matching(text: Size, expression: Size) -> u64 {
    walk(text.max.saturating_add(1)).saturating_mul(share(expression.max, 0.25))
}

fn replaced(text: Size, what: Size, by: Size) -> Size {
    let (longest_count, longest_kept) = if what.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if by.max <= what.min {
        (0, text.max)
    } else {
        (text.max.div_ceil(what.min), 0)
    };
    let (shortest_count, shortest_kept) = if what.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if what.max <= by.min {
        (0, text.min)
    } else {
        (text.min.div_ceil(what.max), 0)
    };
    Size {
        min: shortest_count.saturating_mul(by.min).saturating_add(shortest_kept),
        max: longest_count.saturating_mul(by.max).saturating_add(longest_kept),
    }
}
