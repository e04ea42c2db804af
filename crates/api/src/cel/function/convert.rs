//! From one type to another, and how large something is.

use crate::cel::eval::{Fault, Run};
use crate::cel::value::Value;
use crate::duration;
use crate::schema::scalar;

use super::text::plain;
use super::{Entry, Found};

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &[
            "size(string) int",
            "size(bytes) int",
            "size(list(A)) int",
            "size(map(A, B)) int",
            "string.size() int",
            "bytes.size() int",
            "list(A).size() int",
            "map(A, B).size() int",
        ],
        run: |run, a| {
            let size = match &a[0] {
                Value::String(s) => {
                    run.pay(a[0].size())?;
                    s.chars().count()
                }
                Value::Bytes(b) => b.len(),
                Value::List(list) => list.items.len(),
                Value::Map(map) => map.len(),
                _ => return Ok(None),
            };
            Ok(Some(Value::Int(size as i64)))
        },
    },
    Entry {
        signatures: &["type(A) type"],
        run: |_, a| Ok(Some(Value::Type(a[0].type_name()))),
    },
    Entry {
        signatures: &["dyn(A) dyn"],
        run: |_, a| Ok(Some(a[0].clone())),
    },
    Entry {
        signatures: &[
            "int(int) int",
            "int(uint) int",
            "int(double) int",
            "int(string) int",
            "int(timestamp) int",
        ],
        run: |_, a| {
            let number = match &a[0] {
                Value::Int(n) => Some(*n),
                Value::Uint(n) => i64::try_from(*n).ok(),
                Value::Double(n) if n.is_finite() && n.abs() < 9.223_372_036_854_776e18 => Some(*n as i64),
                Value::Double(_) => None,
                Value::Timestamp(t) => Some(t.as_second()),
                Value::String(s) => return parsed(s.parse().ok().map(Value::Int), s, "int"),
                _ => return Ok(None),
            };
            overflow(number.map(Value::Int), "integer overflow")
        },
    },
    Entry {
        signatures: &[
            "uint(int) uint",
            "uint(uint) uint",
            "uint(double) uint",
            "uint(string) uint",
        ],
        run: |_, a| {
            let number = match &a[0] {
                Value::Int(n) => u64::try_from(*n).ok(),
                Value::Uint(n) => Some(*n),
                Value::Double(n) if *n >= 0.0 && *n < 1.844_674_407_370_955_2e19 => Some(*n as u64),
                Value::Double(_) => None,
                Value::String(s) => return parsed(s.parse().ok().map(Value::Uint), s, "uint"),
                _ => return Ok(None),
            };
            overflow(number.map(Value::Uint), "unsigned integer overflow")
        },
    },
    Entry {
        signatures: &[
            "double(int) double",
            "double(uint) double",
            "double(double) double",
            "double(string) double",
        ],
        run: |_, a| match &a[0] {
            Value::Int(n) => Ok(Some(Value::Double(*n as f64))),
            Value::Uint(n) => Ok(Some(Value::Double(*n as f64))),
            Value::Double(n) => Ok(Some(Value::Double(*n))),
            Value::String(s) => parsed(s.parse().ok().map(Value::Double), s, "double"),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["bool(bool) bool", "bool(string) bool"],
        run: |_, a| match &a[0] {
            Value::Bool(b) => Ok(Some(Value::Bool(*b))),
            Value::String(s) => {
                let is = match s.as_ref() {
                    "true" | "True" | "TRUE" | "t" | "1" => Some(true),
                    "false" | "False" | "FALSE" | "f" | "0" => Some(false),
                    _ => None,
                };
                parsed(is.map(Value::Bool), s, "bool")
            }
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &["bytes(bytes) bytes", "bytes(string) bytes"],
        run: |run, a| {
            run.pay(a[0].size())?;
            Ok(match &a[0] {
                Value::Bytes(_) => Some(a[0].clone()),
                Value::String(s) => Some(Value::Bytes(s.as_bytes().into())),
                _ => None,
            })
        },
    },
    Entry {
        signatures: &[
            "string(string) string",
            "string(int) string",
            "string(uint) string",
            "string(double) string",
            "string(bool) string",
            "string(bytes) string",
            "string(timestamp) string",
            "string(duration) string",
            "string(IP) string",
            "string(CIDR) string",
        ],
        run: string,
    },
    Entry {
        signatures: &[
            "duration(duration) duration",
            "duration(string) duration",
            "duration(int) duration",
        ],
        run: |_, a| match &a[0] {
            Value::Duration(_) => Ok(Some(a[0].clone())),
            Value::Int(n) => overflow(n.checked_mul(1_000_000_000).map(Value::Duration), "duration overflow"),
            Value::String(s) => parsed(duration::parse(s).map(Value::Duration), s, "duration"),
            _ => Ok(None),
        },
    },
    Entry {
        signatures: &[
            "timestamp(timestamp) timestamp",
            "timestamp(string) timestamp",
            "timestamp(int) timestamp",
        ],
        run: |_, a| match &a[0] {
            Value::Timestamp(_) => Ok(Some(a[0].clone())),
            Value::Int(n) => {
                let time = jiff::Timestamp::from_second(*n).ok();
                overflow(time.map(Value::Timestamp), "timestamp overflow")
            }
            Value::String(s) => parsed(scalar::parse_time(s).ok().map(Value::Timestamp), s, "timestamp"),
            _ => Ok(None),
        },
    },
];

fn overflow(value: Option<Value>, message: &str) -> Found {
    value.map(Some).ok_or_else(|| Fault::of(message))
}

fn parsed(value: Option<Value>, text: &str, into: &str) -> Found {
    value
        .map(Some)
        .ok_or_else(|| Fault::of(format!("type conversion error from '{text}' to '{into}'")))
}

fn string(run: &mut Run<'_>, a: &[Value]) -> Found {
    run.pay(a[0].size())?;
    match &a[0] {
        Value::Bytes(b) => match std::str::from_utf8(b) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(Fault::of("invalid UTF-8 in bytes, cannot convert to string")),
        },
        value => Ok(Some(plain(value).into())),
    }
}
