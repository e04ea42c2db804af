//! Semantic versions.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::{Entry, Found};
use crate::cel::eval::Fault;
use crate::cel::value::Value;

/// `1.2.3-rc.1+build`
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
    build: Vec<String>,
}

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["semver(string) Semver", "semver(string, bool) Semver"],
        run: |_, a| {
            let (Some(s), normal) = (a[0].as_str(), loosely(a)) else {
                return Ok(None);
            };
            match parse(s, normal) {
                Some(version) => Ok(Some(Value::Semver(Arc::new(version)))),
                None => Err(Fault::of(format!("semver parse error: invalid version {s:?}"))),
            }
        },
    },
    Entry {
        signatures: &["isSemver(string) bool", "isSemver(string, bool) bool"],
        run: |_, a| Ok(a[0].as_str().map(|s| parse(s, loosely(a)).is_some().into())),
    },
    Entry {
        signatures: &["Semver.major() int"],
        run: |_, a| number(a, 0),
    },
    Entry {
        signatures: &["Semver.minor() int"],
        run: |_, a| number(a, 1),
    },
    Entry {
        signatures: &["Semver.patch() int"],
        run: |_, a| number(a, 2),
    },
    Entry {
        signatures: &["Semver.compareTo(Semver) int"],
        run: |_, a| ordered(a, |o| Value::Int(o as i64)),
    },
    Entry {
        signatures: &["Semver.isLessThan(Semver) bool"],
        run: |_, a| ordered(a, |o| o.is_lt().into()),
    },
    Entry {
        signatures: &["Semver.isGreaterThan(Semver) bool"],
        run: |_, a| ordered(a, |o| o.is_gt().into()),
    },
];

fn loosely(a: &[Value]) -> bool {
    a.get(1).and_then(Value::as_bool).unwrap_or(false)
}

fn number(a: &[Value], which: usize) -> Found {
    match &a[0] {
        Value::Semver(v) => Ok(v.numbers.get(which).map(|n| Value::Int(*n as i64))),
        _ => Ok(None),
    }
}

fn ordered(a: &[Value], say: fn(Ordering) -> Value) -> Found {
    match (&a[0], &a[1]) {
        (Value::Semver(a), Value::Semver(b)) => Ok(Some(say(a.order(b)))),
        _ => Ok(None),
    }
}

/// Loosely, a leading `v`, leading zeros and missing parts are made good.
fn parse(text: &str, loosely: bool) -> Option<Version> {
    let text = if loosely {
        text.strip_prefix('v').unwrap_or(text)
    } else {
        text
    };
    let (text, build) = text.split_once('+').map_or((text, None), |(t, b)| (t, Some(b)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(t, p)| (t, Some(p)));
    let mut numbers = [0; 3];
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > 3 || (parts.len() < 3 && (!loosely || pre.is_some() || build.is_some())) {
        return None;
    }
    for (number, part) in numbers.iter_mut().zip(&parts) {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !plain || (!loosely && part.len() > 1 && part.starts_with('0')) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    let words = |text: Option<&str>, strict: bool| -> Option<Vec<String>> {
        let Some(text) = text else { return Some(Vec::new()) };
        text.split('.')
            .map(|word| {
                let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let padded = word.len() > 1 && word.starts_with('0') && word.bytes().all(|b| b.is_ascii_digit());
                (plain && !(strict && padded)).then(|| word.to_owned())
            })
            .collect()
    };
    Some(Version {
        numbers,
        pre: words(pre, true)?,
        build: words(build, false)?,
    })
}

impl Version {
    /// Precedence: what is built does not count.
    pub fn order(&self, other: &Self) -> Ordering {
        let by_pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let words = self.pre.iter().zip(&other.pre).map(|(a, b)| word_order(a, b));
                let first = words.into_iter().find(|o| o.is_ne());
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(by_pre)
    }
}

fn word_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build.join("."))?;
        }
        Ok(())
    }
}
