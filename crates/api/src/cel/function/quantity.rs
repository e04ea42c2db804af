//! Kubernetes' quantities.

use std::cmp::Ordering;

use super::{Entry, Found};
use crate::cel::eval::Fault;
use crate::cel::value::Value;
use crate::quantity::{Quantity, QuantityFormat};

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["quantity(string) Quantity"],
        run: |_, a| {
            let Some(s) = a[0].as_str() else { return Ok(None) };
            match s.parse::<Quantity>() {
                Ok(q) => Ok(Some(Value::Quantity(q))),
                Err(error) => Err(Fault::of(error.to_string())),
            }
        },
    },
    Entry {
        signatures: &["isQuantity(string) bool"],
        run: |_, a| Ok(a[0].as_str().map(|s| s.parse::<Quantity>().is_ok().into())),
    },
    Entry {
        signatures: &["Quantity.isInteger() bool"],
        run: |_, a| Ok(one(a).map(|q| q.as_i64().is_some().into())),
    },
    Entry {
        signatures: &["Quantity.asInteger() int"],
        run: |_, a| match one(a).map(|q| q.as_i64()) {
            Some(Some(n)) => Ok(Some(Value::Int(n))),
            Some(None) => Err(Fault::of("cannot convert value to integer")),
            None => Ok(None),
        },
    },
    Entry {
        signatures: &["Quantity.asApproximateFloat() double"],
        run: |_, a| Ok(one(a).map(|q| Value::Double(q.as_f64()))),
    },
    Entry {
        signatures: &["Quantity.sign() int"],
        run: |_, a| Ok(one(a).map(|q| Value::Int(q.cmp(&Quantity::ZERO) as i64))),
    },
    Entry {
        signatures: &["Quantity.add(Quantity) Quantity", "Quantity.add(int) Quantity"],
        run: |_, a| combined(a, |a, b| a + b),
    },
    Entry {
        signatures: &["Quantity.sub(Quantity) Quantity", "Quantity.sub(int) Quantity"],
        run: |_, a| combined(a, |a, b| a - b),
    },
    Entry {
        signatures: &["Quantity.compareTo(Quantity) int"],
        run: |_, a| ordered(a, |o| Value::Int(o as i64)),
    },
    Entry {
        signatures: &["Quantity.isLessThan(Quantity) bool"],
        run: |_, a| ordered(a, |o| o.is_lt().into()),
    },
    Entry {
        signatures: &["Quantity.isGreaterThan(Quantity) bool"],
        run: |_, a| ordered(a, |o| o.is_gt().into()),
    },
];

fn one(a: &[Value]) -> Option<Quantity> {
    match a.first() {
        Some(Value::Quantity(q)) => Some(*q),
        _ => None,
    }
}

fn combined(a: &[Value], with: fn(Quantity, Quantity) -> Quantity) -> Found {
    let other = match a.get(1) {
        Some(Value::Int(n)) => Some(Quantity::new(*n, QuantityFormat::DecimalSi)),
        _ => one(&a[1..]),
    };
    Ok(one(a).zip(other).map(|(a, b)| Value::Quantity(with(a, b))))
}

fn ordered(a: &[Value], say: fn(Ordering) -> Value) -> Found {
    Ok(one(a).zip(one(&a[1..])).map(|(a, b)| say(a.cmp(&b))))
}
