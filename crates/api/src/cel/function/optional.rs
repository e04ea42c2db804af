//! Values that may be missing.

use super::Entry;
use crate::cel::eval::Fault;
use crate::cel::value::Value;

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["optional.none() optional(dyn)"],
        run: |_, _| Ok(Some(Value::Optional(None))),
    },
    Entry {
        signatures: &["optional.of(A) optional(A)"],
        run: |_, a| Ok(Some(Value::some(a[0].clone()))),
    },
    Entry {
        signatures: &["optional.ofNonZeroValue(A) optional(A)"],
        run: |_, a| {
            let zero = a[0].is_zero();
            Ok(Some(if zero {
                Value::Optional(None)
            } else {
                Value::some(a[0].clone())
            }))
        },
    },
    Entry {
        signatures: &["optional(A).hasValue() bool"],
        run: |_, a| match &a[0] {
            Value::Optional(inner) => Ok(Some(Value::Bool(inner.is_some()))),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["optional(A).value() A"],
        run: |_, a| match &a[0] {
            Value::Optional(Some(inner)) => Ok(Some(inner.as_ref().clone())),
            Value::Optional(None) => Err(Fault::of("optional.none() dereference")),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["optional(A).orValue(A) A"],
        run: |_, a| match &a[0] {
            Value::Optional(Some(inner)) => Ok(Some(inner.as_ref().clone())),
            Value::Optional(None) => Ok(Some(a[1].clone())),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["optional(A).or(optional(A)) optional(A)"],
        run: |_, a| match &a[0] {
            Value::Optional(Some(_)) => Ok(Some(a[0].clone())),
            Value::Optional(None) => Ok(Some(a[1].clone())),
            _ => Ok(None),
        },
    },
];
