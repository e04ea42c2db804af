//! Lists, and lists as sets.

use std::cmp::Ordering;

use super::operator::ALL as OPERATORS;
use super::{Entry, Found};
use crate::cel::eval::{Fault, Run};
use crate::cel::value::Value;

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &[
            "list(int).isSorted() bool",
            "list(uint).isSorted() bool",
            "list(double).isSorted() bool",
            "list(bool).isSorted() bool",
            "list(string).isSorted() bool",
            "list(bytes).isSorted() bool",
            "list(duration).isSorted() bool",
            "list(timestamp).isSorted() bool",
        ],
        run: |run, a| {
            let Some(items) = a[0].as_list() else { return Ok(None) };
            run.pay(a[0].size())?;
            let mut sorted = true;
            for pair in items.windows(2) {
                match pair[0].order(&pair[1]) {
                    Some(order) => sorted &= order.is_some_and(Ordering::is_le),
                    None => return Ok(None),
                }
            }
            Ok(Some(Value::Bool(sorted)))
        },
    },
    Entry {
        signatures: &[
            "list(int).sum() int",
            "list(uint).sum() uint",
            "list(double).sum() double",
            "list(duration).sum() duration",
        ],
        run: sum,
    },
    Entry {
        signatures: &[
            "list(int).min() int",
            "list(uint).min() uint",
            "list(double).min() double",
            "list(bool).min() bool",
            "list(string).min() string",
            "list(bytes).min() bytes",
            "list(duration).min() duration",
            "list(timestamp).min() timestamp",
        ],
        run: |run, a| extreme(run, a, Ordering::Less, "min"),
    },
    Entry {
        signatures: &[
            "list(int).max() int",
            "list(uint).max() uint",
            "list(double).max() double",
            "list(bool).max() bool",
            "list(string).max() string",
            "list(bytes).max() bytes",
            "list(duration).max() duration",
            "list(timestamp).max() timestamp",
        ],
        run: |run, a| extreme(run, a, Ordering::Greater, "max"),
    },
    Entry {
        signatures: &["list(A).indexOf(A) int"],
        run: |run, a| {
            run.pay(a[0].size())?;
            Ok(a[0].as_list().map(|items| place(items.iter().position(|v| *v == a[1]))))
        },
    },
    Entry {
        signatures: &["list(A).lastIndexOf(A) int"],
        run: |run, a| {
            run.pay(a[0].size())?;
            Ok(a[0]
                .as_list()
                .map(|items| place(items.iter().rposition(|v| *v == a[1]))))
        },
    },
    Entry {
        signatures: &["sets.contains(list(A), list(A)) bool"],
        run: |run, a| sets(run, a, |a, b| b.iter().all(|v| a.contains(v))),
    },
    Entry {
        signatures: &["sets.equivalent(list(A), list(A)) bool"],
        run: |run, a| {
            sets(run, a, |a, b| {
                a.iter().all(|v| b.contains(v)) && b.iter().all(|v| a.contains(v))
            })
        },
    },
    Entry {
        signatures: &["sets.intersects(list(A), list(A)) bool"],
        run: |run, a| sets(run, a, |a, b| a.iter().any(|v| b.contains(v))),
    },
];

fn place(at: Option<usize>) -> Value {
    Value::Int(at.map_or(-1, |i| i as i64))
}

fn sets(run: &mut Run<'_>, a: &[Value], is: fn(&[Value], &[Value]) -> bool) -> Found {
    run.pay(a[0].size().saturating_mul(a[1].size()))?;
    match (a[0].as_list(), a[1].as_list()) {
        (Some(a), Some(b)) => Ok(Some(Value::Bool(is(a, b)))),
        _ => Ok(None),
    }
}

fn extreme(run: &mut Run<'_>, a: &[Value], wanted: Ordering, name: &str) -> Found {
    let Some(items) = a[0].as_list() else { return Ok(None) };
    run.pay(a[0].size())?;
    let mut best: Option<&Value> = None;
    for item in items {
        best = Some(match best {
            None => item,
            Some(best) => match item.order(best) {
                Some(order) if order == Some(wanted) => item,
                Some(_) => best,
                None => return Ok(None),
            },
        });
    }
    match best {
        Some(best) => Ok(Some(best.clone())),
        None => Err(Fault::of(format!("{name} called on empty list"))),
    }
}

fn sum(run: &mut Run<'_>, a: &[Value]) -> Found {
    let Some(items) = a[0].as_list() else { return Ok(None) };
    run.pay(a[0].size())?;
    let plus = OPERATORS.iter().find(|e| e.signatures.contains(&"_+_(int, int) int"));
    let Some(plus) = plus else { return Ok(None) };
    let mut total: Option<Value> = None;
    for item in items {
        total = Some(match total {
            None => item.clone(),
            Some(total) => match (plus.run)(run, &[total, item.clone()])? {
                Some(total) => total,
                None => return Ok(None),
            },
        });
    }
    Ok(Some(total.unwrap_or(Value::Int(0))))
}
