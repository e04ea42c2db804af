//! Arithmetic, comparison, membership. What overflows is an error.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Entry, Found};
use crate::cel::eval::{Fault, Run};
use crate::cel::value::{Key, Value};

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["!_(bool) bool"],
        run: |_, a| Ok(a[0].as_bool().map(|b| Value::Bool(!b))),
    },
    Entry {
        signatures: &["-_(int) int", "-_(double) double", "-_(duration) duration"],
        run: |_, a| match &a[0] {
            Value::Int(n) => whole(n.checked_neg()),
            Value::Double(n) => Ok(Some(Value::Double(-n))),
            Value::Duration(n) => span(n.checked_neg()),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &[
            "_+_(int, int) int",
            "_+_(uint, uint) uint",
            "_+_(double, double) double",
            "_+_(string, string) string",
            "_+_(bytes, bytes) bytes",
            "_+_(list(A), list(A)) list(A)",
            "_+_(duration, duration) duration",
            "_+_(timestamp, duration) timestamp",
            "_+_(duration, timestamp) timestamp",
        ],
        run: plus,
    },
    Entry {
        signatures: &[
            "_-_(int, int) int",
            "_-_(uint, uint) uint",
            "_-_(double, double) double",
            "_-_(duration, duration) duration",
            "_-_(timestamp, duration) timestamp",
            "_-_(timestamp, timestamp) duration",
        ],
        run: |_, a| match (&a[0], &a[1]) {
            (Value::Int(a), Value::Int(b)) => whole(a.checked_sub(*b)),
            (Value::Uint(a), Value::Uint(b)) => natural(a.checked_sub(*b)),
            (Value::Double(a), Value::Double(b)) => Ok(Some(Value::Double(a - b))),
            (Value::Duration(a), Value::Duration(b)) => span(a.checked_sub(*b)),
            (Value::Timestamp(a), Value::Duration(b)) => moved(*a, b.checked_neg()),
            (Value::Timestamp(a), Value::Timestamp(b)) => {
                let nanoseconds = a.as_nanosecond() - b.as_nanosecond();
                span(i64::try_from(nanoseconds).ok())
            }
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &[
            "_*_(int, int) int",
            "_*_(uint, uint) uint",
            "_*_(double, double) double",
        ],
        run: |_, a| match (&a[0], &a[1]) {
            (Value::Int(a), Value::Int(b)) => whole(a.checked_mul(*b)),
            (Value::Uint(a), Value::Uint(b)) => natural(a.checked_mul(*b)),
            (Value::Double(a), Value::Double(b)) => Ok(Some(Value::Double(a * b))),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &[
            "_/_(int, int) int",
            "_/_(uint, uint) uint",
            "_/_(double, double) double",
        ],
        run: |_, a| match (&a[0], &a[1]) {
            (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(Fault::of("division by zero")),
            (Value::Int(a), Value::Int(b)) => whole(a.checked_div(*b)),
            (Value::Uint(a), Value::Uint(b)) => natural(a.checked_div(*b)),
            (Value::Double(a), Value::Double(b)) => Ok(Some(Value::Double(a / b))),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["_%_(int, int) int", "_%_(uint, uint) uint"],
        run: |_, a| match (&a[0], &a[1]) {
            (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(Fault::of("modulus by zero")),
            (Value::Int(a), Value::Int(b)) => whole(a.checked_rem(*b)),
            (Value::Uint(a), Value::Uint(b)) => natural(a.checked_rem(*b)),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["_==_(A, A) bool"],
        run: |run, a| equal(run, a).map(|b| Some(Value::Bool(b))),
    },
    Entry {
        signatures: &["_!=_(A, A) bool"],
        run: |run, a| equal(run, a).map(|b| Some(Value::Bool(!b))),
    },
    Entry {
        signatures: &[
            "_<_(bool, bool) bool",
            "_<_(int, int) bool",
            "_<_(int, uint) bool",
            "_<_(int, double) bool",
            "_<_(uint, uint) bool",
            "_<_(uint, int) bool",
            "_<_(uint, double) bool",
            "_<_(double, double) bool",
            "_<_(double, int) bool",
            "_<_(double, uint) bool",
            "_<_(string, string) bool",
            "_<_(bytes, bytes) bool",
            "_<_(timestamp, timestamp) bool",
            "_<_(duration, duration) bool",
        ],
        run: |run, a| ordered(run, a, Ordering::is_lt),
    },
    Entry {
        signatures: &[
            "_<=_(bool, bool) bool",
            "_<=_(int, int) bool",
            "_<=_(int, uint) bool",
            "_<=_(int, double) bool",
            "_<=_(uint, uint) bool",
            "_<=_(uint, int) bool",
            "_<=_(uint, double) bool",
            "_<=_(double, double) bool",
            "_<=_(double, int) bool",
            "_<=_(double, uint) bool",
            "_<=_(string, string) bool",
            "_<=_(bytes, bytes) bool",
            "_<=_(timestamp, timestamp) bool",
            "_<=_(duration, duration) bool",
        ],
        run: |run, a| ordered(run, a, Ordering::is_le),
    },
    Entry {
        signatures: &[
            "_>_(bool, bool) bool",
            "_>_(int, int) bool",
            "_>_(int, uint) bool",
            "_>_(int, double) bool",
            "_>_(uint, uint) bool",
            "_>_(uint, int) bool",
            "_>_(uint, double) bool",
            "_>_(double, double) bool",
            "_>_(double, int) bool",
            "_>_(double, uint) bool",
            "_>_(string, string) bool",
            "_>_(bytes, bytes) bool",
            "_>_(timestamp, timestamp) bool",
            "_>_(duration, duration) bool",
        ],
        run: |run, a| ordered(run, a, Ordering::is_gt),
    },
    Entry {
        signatures: &[
            "_>=_(bool, bool) bool",
            "_>=_(int, int) bool",
            "_>=_(int, uint) bool",
            "_>=_(int, double) bool",
            "_>=_(uint, uint) bool",
            "_>=_(uint, int) bool",
            "_>=_(uint, double) bool",
            "_>=_(double, double) bool",
            "_>=_(double, int) bool",
            "_>=_(double, uint) bool",
            "_>=_(string, string) bool",
            "_>=_(bytes, bytes) bool",
            "_>=_(timestamp, timestamp) bool",
            "_>=_(duration, duration) bool",
        ],
        run: |run, a| ordered(run, a, Ordering::is_ge),
    },
    Entry {
        signatures: &["@in(A, list(A)) bool", "@in(A, map(A, B)) bool"],
        run: |run, a| match &a[1] {
            Value::List(list) => {
                run.pay(list.items.len() as u64)?;
                Ok(Some(Value::Bool(list.items.contains(&a[0]))))
            }
            Value::Map(map) => Ok(Some(Value::Bool(
                a[0].to_key().is_some_and(|key: Key| map.contains_key(&key)),
            ))),
            _ => Ok(None),
        },
    },
    // These have steps of their own; here is only what they take and make.
    Entry {
        signatures: &[
            "_[_](list(A), int) A",
            "_[_](map(A, B), A) B",
            "_[_](optional(list(A)), int) optional(A)",
            "_[_](optional(map(A, B)), A) optional(B)",
            "_[?_](list(A), int) optional(A)",
            "_[?_](map(A, B), A) optional(B)",
            "_[?_](optional(list(A)), int) optional(A)",
            "_[?_](optional(map(A, B)), A) optional(B)",
            "_?_:_(bool, A, A) A",
        ],
        run: |_, _| Ok(None),
    },
];

fn whole(n: Option<i64>) -> Found {
    n.map(|n| Some(Value::Int(n)))
        .ok_or_else(|| Fault::of("integer overflow"))
}

fn natural(n: Option<u64>) -> Found {
    n.map(|n| Some(Value::Uint(n)))
        .ok_or_else(|| Fault::of("unsigned integer overflow"))
}

fn span(n: Option<i64>) -> Found {
    n.map(|n| Some(Value::Duration(n)))
        .ok_or_else(|| Fault::of("duration overflow"))
}

fn moved(from: Timestamp, by: Option<i64>) -> Found {
    by.and_then(|n| from.checked_add(SignedDuration::from_nanos(n)).ok())
        .map(|t| Some(Value::Timestamp(t)))
        .ok_or_else(|| Fault::of("timestamp overflow"))
}

fn plus(run: &mut Run<'_>, a: &[Value]) -> Found {
    run.pay(a[0].size().saturating_add(a[1].size()) / 2)?;
    match (&a[0], &a[1]) {
        (Value::Int(a), Value::Int(b)) => whole(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => natural(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Some(Value::Double(a + b))),
        (Value::String(a), Value::String(b)) => Ok(Some(Value::from(format!("{a}{b}")))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Some(Value::Bytes([a.as_ref(), b.as_ref()].concat().into()))),
        (Value::List(a), Value::List(b)) => {
            if !matches!(a.merge, crate::cel::value::Merge::Atomic) {
                run.pay((a.items.len() as u64).saturating_mul(b.items.len() as u64))?;
            }
            Ok(Some(Value::List(Arc::new(a.plus(b)))))
        }
        (Value::Duration(a), Value::Duration(b)) => span(a.checked_add(*b)),
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t)) => moved(*t, Some(*d)),
        _ => Ok(None),
    }
}

fn equal(run: &mut Run<'_>, a: &[Value]) -> Result<bool, Fault> {
    let unordered = |v: &Value| match v {
        Value::List(list) if !matches!(list.merge, crate::cel::value::Merge::Atomic) => list.items.len() as u64,
        _ => 0,
    };
    run.pay(unordered(&a[0]).saturating_mul(unordered(&a[1])))?;
    run.pay(a[0].size().min(a[1].size()))?;
    Ok(a[0] == a[1])
}

fn ordered(run: &mut Run<'_>, a: &[Value], is: fn(Ordering) -> bool) -> Found {
    run.pay(a[0].size().min(a[1].size()))?;
    let found = a[0].order(&a[1]);
    Ok(found.map(|order| Value::Bool(order.is_some_and(is))))
}
