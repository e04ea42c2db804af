//! URLs, read as Go reads a request's: absolute, or a path from the root.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Entry, Found};
use crate::cel::eval::Fault;
use crate::cel::value::{Key, Value};

/// A URL in its parts.
#[derive(Debug, Default)]
pub struct Url {
    pub text: String,
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
}

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["url(string) URL"],
        run: |run, a| {
            run.pay(a[0].size())?;
            let Some(s) = a[0].as_str() else { return Ok(None) };
            match parse(s) {
                Some(url) => Ok(Some(Value::Url(Arc::new(url)))),
                None => Err(Fault::of(format!(
                    "URL parse error during conversion from string: parse {s:?}: invalid URI for request"
                ))),
            }
        },
    },
    Entry {
        signatures: &["isURL(string) bool"],
        run: |run, a| {
            run.pay(a[0].size())?;
            Ok(a[0].as_str().map(|s| parse(s).is_some().into()))
        },
    },
    Entry {
        signatures: &["URL.getScheme() string"],
        run: |_, a| part(a, |url| url.scheme.as_str().into()),
    },
    Entry {
        signatures: &["URL.getHost() string"],
        run: |_, a| part(a, |url| url.host.as_str().into()),
    },
    Entry {
        signatures: &["URL.getHostname() string"],
        run: |_, a| part(a, |url| split_port(&url.host).0.into()),
    },
    Entry {
        signatures: &["URL.getPort() string"],
        run: |_, a| part(a, |url| split_port(&url.host).1.into()),
    },
    Entry {
        signatures: &["URL.getEscapedPath() string"],
        run: |_, a| part(a, |url| url.path.as_str().into()),
    },
    Entry {
        signatures: &["URL.getQuery() map(string, list(string))"],
        run: |_, a| part(a, query),
    },
];

fn part(a: &[Value], of: fn(&Url) -> Value) -> Found {
    match &a[0] {
        Value::Url(url) => Ok(Some(of(url))),
        _ => Ok(None),
    }
}

fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        return None;
    }
    let mut url = Url {
        text: text.to_owned(),
        ..Url::default()
    };
    let mut rest = text;
    if !text.starts_with('/') {
        let (scheme, after) = text.split_once(':')?;
        let mut letters = scheme.chars();
        let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
            return None;
        }
        url.scheme = scheme.to_ascii_lowercase();
        if after.is_empty() {
            return None;
        }
        rest = after;
    }
    if let Some(after) = rest.strip_prefix("//").filter(|_| !url.scheme.is_empty()) {
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let authority = after.get(..end)?;
        rest = after.get(end..)?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let port = if host.starts_with('[') {
            let (_, port) = host.split_once(']')?;
            port
        } else {
            host.find(':').and_then(|i| host.get(i..)).unwrap_or_default()
        };
        let digits = port.strip_prefix(':').unwrap_or(port);
        if (!port.is_empty() && !port.starts_with(':')) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if host.contains(['<', '>', '"', '\\', '^', '`', '{', '|', '}']) || !escapes_are_whole(host) {
            return None;
        }
        url.host = host.to_owned();
    } else if !url.scheme.is_empty() && !rest.starts_with('/') {
        // `mailto:x` has neither host nor path.
        return Some(url);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !escapes_are_whole(path) {
        return None;
    }
    url.path = escape_path(path);
    url.query = query.to_owned();
    Some(url)
}

/// Every `%` has two hexadecimal digits behind it.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let bytes = after.as_bytes();
        bytes.len() >= 2 && bytes.iter().take(2).all(u8::is_ascii_hexdigit)
    })
}

fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        let plain = b.is_ascii_alphanumeric() || b"-_.~/$&+,:;=@%!'()*[]".contains(&b);
        if plain {
            out.push(b.into());
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn split_port(host: &str) -> (&str, &str) {
    if let Some(inner) = host.strip_prefix('[') {
        let (name, port) = inner.split_once(']').unwrap_or((inner, ""));
        return (name, port.trim_start_matches(':'));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(b) = bytes.get(i) {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (b, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (b, _) => out.push(*b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn query(url: &Url) -> Value {
    let mut all: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = Key::String(unescape(name).into());
        all.entry(name).or_default().push(unescape(value).into());
    }
    Value::map(all.into_iter().map(|(k, v)| (k, v.into())))
}
