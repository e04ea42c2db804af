//! What the checks are made of: a pod to look at, ways to walk its containers, and the words of findings.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::Version;

/// One rule of a level.
pub(super) struct Check {
    pub id: &'static str,
    /// The first version that has it.
    pub since: Version,
    /// The rule of the level below that it makes superfluous.
    pub replaces: &'static str,
    pub run: fn(&Pod<'_>, Version) -> Option<Violation>,
}

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub reason: String,
    pub detail: String,
}

pub(super) fn violation(reason: &str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation {
        reason: reason.into(),
        detail: detail.into(),
    })
}

/// `reason (detail), reason (detail)`.
pub(super) fn details(found: &[Violation]) -> String {
    let texts: Vec<String> = found
        .iter()
        .map(|v| match v.detail.as_str() {
            "" => v.reason.clone(),
            detail => format!("{} ({detail})", v.reason),
        })
        .collect();
    texts.join(", ")
}

/// A pod or a template of one.
pub(super) struct Pod<'a> {
    pub metadata: Option<&'a Value>,
    pub spec: Option<&'a Value>,
}

impl<'a> Pod<'a> {
    /// At a JSON pointer in the spec.
    pub fn at(&self, pointer: &str) -> Option<&'a Value> {
        self.spec?.pointer(pointer).filter(|v| !v.is_null())
    }

    pub fn is(&self, pointer: &str) -> bool {
        self.at(pointer).and_then(Value::as_bool) == Some(true)
    }

    pub fn items(&self, pointer: &str) -> &'a [Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let all = self
            .metadata
            .and_then(|m| m.get("annotations"))
            .and_then(Value::as_object);
        all.into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
    }

    /// All containers: initial, plain and ephemeral ones.
    pub fn containers(&self) -> Vec<Container<'a>> {
        ["/initContainers", "/containers", "/ephemeralContainers"]
            .iter()
            .flat_map(|list| self.items(list))
            .map(Container)
            .collect()
    }

    /// Windows has no Linux security context.
    pub fn is_windows(&self) -> bool {
        self.at("/os/name").and_then(Value::as_str) == Some("windows")
    }

    /// Its root is nobody outside.
    pub fn has_own_users(&self) -> bool {
        self.at("/hostUsers").and_then(Value::as_bool) == Some(false)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Container<'a>(pub &'a Value);

impl<'a> Container<'a> {
    pub fn name(self) -> &'a str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn at(self, pointer: &str) -> Option<&'a Value> {
        self.0.pointer(pointer).filter(|v| !v.is_null())
    }

    pub fn items(self, pointer: &str) -> &'a [Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// `"a", "b"`.
pub(super) fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let all: Vec<String> = items.into_iter().map(|i| format!("\"{}\"", i.as_ref())).collect();
    all.join(", ")
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who set what must not be set: the pod, containers.
#[derive(Default)]
pub(super) struct Setters<'a> {
    pub pod: bool,
    pub containers: Vec<&'a str>,
    pub values: BTreeSet<String>,
}

impl Setters<'_> {
    pub fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    pub fn names(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.pod {
            all.push("pod".to_owned());
        }
        if !self.containers.is_empty() {
            all.push(containers(&self.containers));
        }
        all
    }

    /// `pod and containers "a", "b"`.
    pub fn text(&self) -> String {
        self.names().join(" and ")
    }
}

/// Who has a value at `pointer` of the security context that `is_bad`, and the values.
pub(super) fn setters<'a>(pod: &Pod<'a>, pointer: &str, is_bad: impl Fn(&Value) -> bool) -> Setters<'a> {
    let pointer = format!("/securityContext{pointer}");
    let mut found = Setters::default();
    let mut bad = |value: Option<&Value>| {
        let Some(value) = value.filter(|v| is_bad(v)) else {
            return false;
        };
        found.values.insert(match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        true
    };
    let of_pod = bad(pod.at(&pointer));
    let of_containers = pod
        .containers()
        .into_iter()
        .filter(|c| bad(c.at(&pointer)))
        .map(Container::name)
        .collect();
    found.pod = of_pod;
    found.containers = of_containers;
    found
}

/// Containers that have no value at `pointer`, when the pod has none that `is_good` for all.
pub(super) fn unset<'a>(pod: &Pod<'a>, pointer: &str, is_good: impl Fn(&Value) -> bool) -> Vec<&'a str> {
    let pointer = format!("/securityContext{pointer}");
    if pod.at(&pointer).is_some_and(is_good) {
        return Vec::new();
    }
    pod.containers()
        .into_iter()
        .filter(|c| c.at(&pointer).is_none())
        .map(Container::name)
        .collect()
}
