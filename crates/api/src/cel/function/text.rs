//! Strings: looking into them, changing them, matching them, and values as text.

use super::{Entry, Found};
use crate::cel::eval::{Fault, Run, regex};
use crate::cel::value::{Key, Value};
use crate::schema::scalar;

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["string.contains(string) bool"],
        run: |run, a| {
            run.pay(a[0].size().saturating_mul(a[1].size()))?;
            Ok(two(a).map(|(s, t)| s.contains(t).into()))
        },
    },
    Entry {
        signatures: &["string.startsWith(string) bool"],
        run: |run, a| {
            run.pay(a[1].size())?;
            Ok(two(a).map(|(s, t)| s.starts_with(t).into()))
        },
    },
    Entry {
        signatures: &["string.endsWith(string) bool"],
        run: |run, a| {
            run.pay(a[1].size())?;
            Ok(two(a).map(|(s, t)| s.ends_with(t).into()))
        },
    },
    Entry {
        signatures: &["matches(string, string) bool", "string.matches(string) bool"],
        run: |run, a| with_regex(run, a, |r, s| r.is_match(s).into()),
    },
    Entry {
        signatures: &["string.find(string) string"],
        run: |run, a| with_regex(run, a, |r, s| r.find(s).map_or("", |m| m.as_str()).into()),
    },
    Entry {
        signatures: &[
            "string.findAll(string) list(string)",
            "string.findAll(string, int) list(string)",
        ],
        run: |run, a| {
            let most = match a.get(2) {
                Some(Value::Int(n)) => usize::try_from(*n).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            with_regex(run, a, |r, s| {
                let found = r.find_iter(s).take(most).map(|m| Value::from(m.as_str()));
                found.collect::<Vec<_>>().into()
            })
        },
    },
    Entry {
        signatures: &["string.charAt(int) string"],
        run: |run, a| {
            run.pay(a[0].size())?;
            let (Some(s), Value::Int(at)) = (a[0].as_str(), &a[1]) else {
                return Ok(None);
            };
            let chars: Vec<char> = s.chars().collect();
            match usize::try_from(*at) {
                Ok(i) if i == chars.len() => Ok(Some("".into())),
                Ok(i) if i < chars.len() => Ok(chars.get(i).map(|c| c.to_string().into())),
                _ => Err(Fault::of(format!("index out of range: {at}"))),
            }
        },
    },
    Entry {
        signatures: &["string.indexOf(string) int", "string.indexOf(string, int) int"],
        run: |run, a| index_of(run, a, false),
    },
    Entry {
        signatures: &["string.lastIndexOf(string) int", "string.lastIndexOf(string, int) int"],
        run: |run, a| index_of(run, a, true),
    },
    Entry {
        signatures: &["string.lowerAscii() string"],
        run: |run, a| changed(run, a, |s| s.to_ascii_lowercase()),
    },
    Entry {
        signatures: &["string.upperAscii() string"],
        run: |run, a| changed(run, a, |s| s.to_ascii_uppercase()),
    },
    Entry {
        signatures: &["string.trim() string"],
        run: |run, a| changed(run, a, |s| s.trim().to_owned()),
    },
    Entry {
        signatures: &["string.reverse() string"],
        run: |run, a| changed(run, a, |s| s.chars().rev().collect()),
    },
    Entry {
        signatures: &["strings.quote(string) string"],
        run: |run, a| changed(run, a, quoted),
    },
    Entry {
        signatures: &[
            "string.replace(string, string) string",
            "string.replace(string, string, int) string",
        ],
        run: replace,
    },
    Entry {
        signatures: &[
            "string.split(string) list(string)",
            "string.split(string, int) list(string)",
        ],
        run: |run, a| {
            run.pay(a[0].size())?;
            let Some((s, by)) = two(a) else { return Ok(None) };
            let most = match a.get(2) {
                Some(Value::Int(n)) => usize::try_from(*n).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            run.pay(s.len() as u64 / 4)?;
            let parts: Vec<Value> = if by.is_empty() {
                let mut chars = s.chars();
                let mut parts: Vec<Value> = Vec::new();
                while parts.len() + 1 < most {
                    let Some(c) = chars.next() else { break };
                    parts.push(c.to_string().into());
                }
                if !chars.as_str().is_empty() && most > 0 {
                    parts.push(chars.as_str().into());
                }
                parts
            } else {
                s.splitn(most, by).map(Value::from).collect()
            };
            Ok(Some(parts.into()))
        },
    },
    Entry {
        signatures: &["string.substring(int) string", "string.substring(int, int) string"],
        run: |run, a| {
            run.pay(a[0].size())?;
            let (Some(s), Value::Int(from)) = (a[0].as_str(), &a[1]) else {
                return Ok(None);
            };
            let chars: Vec<char> = s.chars().collect();
            let to = match a.get(2) {
                Some(Value::Int(to)) => *to,
                _ => chars.len() as i64,
            };
            if *from > to {
                return Err(Fault::of(format!("invalid substring range. start: {from}, end: {to}")));
            }
            let range = usize::try_from(*from).ok().zip(usize::try_from(to).ok());
            match range.and_then(|(from, to)| chars.get(from..to)) {
                Some(part) => Ok(Some(part.iter().collect::<String>().into())),
                None => Err(Fault::of(format!(
                    "index out of range: {}",
                    if *from < 0 { *from } else { to }
                ))),
            }
        },
    },
    Entry {
        signatures: &["list(string).join() string", "list(string).join(string) string"],
        run: |run, a| {
            let Some(items) = a[0].as_list() else { return Ok(None) };
            let by = a.get(1).and_then(Value::as_str).unwrap_or_default();
            run.pay(a[0].size().saturating_add(items.len() as u64 * (by.len() as u64 / 10)))?;
            let parts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Ok(parts.map(|parts| parts.join(by).into()))
        },
    },
    Entry {
        signatures: &["string.format(list(dyn)) string"],
        run: |run, a| {
            let (Some(s), Some(args)) = (a[0].as_str(), a[1].as_list()) else {
                return Ok(None);
            };
            run.pay(a[0].size().saturating_add(a[1].size().saturating_mul(2)))?;
            format(run, s, args).map(|text| Some(text.into()))
        },
    },
];

fn two(a: &[Value]) -> Option<(&str, &str)> {
    Some((a[0].as_str()?, a[1].as_str()?))
}

fn changed(run: &mut Run<'_>, a: &[Value], change: fn(&str) -> String) -> Found {
    run.pay(a[0].size())?;
    Ok(a[0].as_str().map(|s| change(s).into()))
}

fn with_regex(run: &mut Run<'_>, a: &[Value], take: impl FnOnce(&regex::Regex, &str) -> Value) -> Found {
    let Some((text, pattern)) = two(a) else { return Ok(None) };
    run.pay(a[0].size().saturating_mul(1 + pattern.len() as u64 / 4))?;
    if let Some(known) = run.regexes.get(pattern) {
        return Ok(Some(take(known, text)));
    }
    run.pay(200 + 10 * pattern.len() as u64)?;
    let made = regex(pattern).map_err(Fault::of)?;
    Ok(Some(take(&made, text)))
}

fn index_of(run: &mut Run<'_>, a: &[Value], last: bool) -> Found {
    let Some((text, wanted)) = two(a) else { return Ok(None) };
    run.pay(a[0].size().saturating_mul(a[1].size()))?;
    let length = text.chars().count();
    let bound = match a.get(2) {
        Some(Value::Int(n)) => match usize::try_from(*n) {
            Ok(n) if n <= length => Some(n),
            _ => return Err(Fault::of(format!("index out of range: {n}"))),
        },
        _ => None,
    };
    let at_char = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
    let found = if last {
        // It may begin no later than at the bound.
        let end = bound.map_or(text.len(), |n| (at_char(n) + wanted.len()).min(text.len()));
        text.get(..end).and_then(|head| head.rfind(wanted))
    } else {
        let from = bound.map_or(0, at_char);
        text.get(from..).and_then(|tail| tail.find(wanted)).map(|i| i + from)
    };
    let index = found.map_or(-1, |i| text.get(..i).map_or(0, |head| head.chars().count()) as i64);
    Ok(Some(Value::Int(index)))
}

fn replace(run: &mut Run<'_>, a: &[Value]) -> Found {
    let (Some((s, from)), Some(to)) = (two(a), a[2].as_str()) else {
        return Ok(None);
    };
    run.pay(a[0].size())?;
    let most = match a.get(3) {
        Some(Value::Int(n)) => usize::try_from(*n).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let times = if from.is_empty() {
        s.len() + 1
    } else {
        s.matches(from).count()
    };
    run.pay((times.min(most) as u64).saturating_mul(to.len() as u64) / 10)?;
    Ok(Some(s.replacen(from, to, most).into()))
}

fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number as Go prints it with as few digits as will do.
fn double(n: f64) -> String {
    if n.is_nan() {
        return "NaN".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if n != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{n}")
}

/// A value as `string()` and error messages have it.
pub(in crate::cel) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => double(*n),
        Value::String(s) => s.to_string(),
        Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
        Value::Duration(n) => {
            let seconds = *n / 1_000_000_000;
            let fraction = (*n % 1_000_000_000).unsigned_abs();
            let sign = if *n < 0 && seconds == 0 { "-" } else { "" };
            let fraction = match fraction {
                0 => String::new(),
                f => format!(".{f:09}").trim_end_matches('0').to_owned(),
            };
            format!("{sign}{seconds}{fraction}s")
        }
        Value::Timestamp(time) => match time.subsec_nanosecond() {
            0 => scalar::format_time(*time),
            _ => time.to_string(),
        },
        Value::List(list) => {
            let items: Vec<String> = list.items.iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", key(k), plain(v))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(None) => "optional.none()".into(),
        Value::Optional(Some(inner)) => format!("optional({})", plain(inner)),
        Value::Type(name) => (*name).to_owned(),
        Value::Quantity(q) => q.to_string(),
        Value::Url(url) => url.text.clone(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(ip, length) => format!("{ip}/{length}"),
        Value::Semver(version) => version.to_string(),
        Value::Format(format) => format.name.to_owned(),
    }
}

fn key(key: &Key) -> String {
    plain(&key.to_value())
}

/// `'%s is %d'.format([a, b])`
fn format(run: &mut Run<'_>, pattern: &str, args: &[Value]) -> Result<String, Fault> {
    let mut out = String::new();
    let mut args = args.iter().enumerate();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            let read = digits.parse::<usize>().ok().filter(|p| *p <= 100);
            precision = Some(read.ok_or_else(|| Fault::of("could not parse formatting clause: invalid precision"))?);
        }
        let Some(verb) = chars.next() else {
            return Err(Fault::of("unexpected end of string"));
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some((at, arg)) = args.next() else {
            return Err(Fault::of(format!("index {} out of range", args.len())));
        };
        run.pay(arg.size())?;
        let text = clause(verb, arg, precision);
        out.push_str(&text.ok_or_else(|| {
            let kind = arg.type_name();
            Fault::of(format!(
                "error during formatting: argument {at} of type {kind} does not fit %{verb}"
            ))
        })?);
    }
    Ok(out)
}

fn clause(verb: char, arg: &Value, precision: Option<usize>) -> Option<String> {
    let float = |arg: &Value| match arg {
        Value::Int(n) => Some(*n as f64),
        Value::Uint(n) => Some(*n as f64),
        Value::Double(n) => Some(*n),
        _ => None,
    };
    let signed = |negative: bool, digits: String| format!("{}{digits}", if negative { "-" } else { "" });
    match verb {
        's' => Some(plain(arg)),
        'd' => match arg {
            Value::Int(_) | Value::Uint(_) => Some(plain(arg)),
            _ => None,
        },
        'f' => float(arg).map(|n| format!("{n:.*}", precision.unwrap_or(6))),
        'e' => float(arg).map(|n| {
            let text = format!("{n:.*e}", precision.unwrap_or(6));
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }),
        'b' => match arg {
            Value::Bool(b) => Some(u8::from(*b).to_string()),
            Value::Int(n) => Some(signed(*n < 0, format!("{:b}", n.unsigned_abs()))),
            Value::Uint(n) => Some(format!("{n:b}")),
            _ => None,
        },
        'o' => match arg {
            Value::Int(n) => Some(signed(*n < 0, format!("{:o}", n.unsigned_abs()))),
            Value::Uint(n) => Some(format!("{n:o}")),
            _ => None,
        },
        'x' | 'X' => {
            let text = match arg {
                Value::Int(n) => signed(*n < 0, format!("{:x}", n.unsigned_abs())),
                Value::Uint(n) => format!("{n:x}"),
                Value::String(s) => s.bytes().map(|b| format!("{b:02x}")).collect(),
                Value::Bytes(b) => b.iter().map(|b| format!("{b:02x}")).collect(),
                _ => return None,
            };
            Some(if verb == 'X' { text.to_uppercase() } else { text })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_go_writes_them() {
        for (n, text) in [
            (1.5, "1.5"),
            (1e6, "1e+06"),
            (100000.0, "100000"),
            (1234567.0, "1.234567e+06"),
            (123456789.5, "1.234567895e+08"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.0, "0"),
        ] {
            assert_eq!(double(n), text);
        }
    }
}
