//! Field selectors: `metadata.name=a,status.phase!=Running`, values escaped by backslashes.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::{MAX_SELECTOR_BYTES, SelectorError};
use crate::object::{Head, Object};
use crate::resource::Name;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: Box<str>,
    pub value: Box<str>,
    /// The field must differ from the value.
    pub negated: bool,
}

impl FieldRequirement {
    pub fn is_met_by(&self, value: &str) -> bool {
        (value == &*self.value) != self.negated
    }
}

/// Conditions that all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// The parts between unescaped commas.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.bytes().enumerate().find_map(|(i, b)| match b {
        b'=' => Some(i),
        b'!' if term.as_bytes().get(i + 1) == Some(&b'=') => Some(i),
        _ => None,
    })?;
    let (field, rest) = term.split_at(at);
    for (sign, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some(value) = rest.strip_prefix(sign) {
            return Some((field, negated, value));
        }
    }
    None
}

fn unescape(value: &str) -> Result<Cow<'_, str>, SelectorError> {
    if !value.contains(['\\', ',', '=']) {
        return Ok(Cow::Borrowed(value));
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(Cow::Owned(out))
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    /// `field=value`.
    pub fn equals(field: &str, value: &str) -> Self {
        Self {
            requirements: vec![FieldRequirement {
                field: field.into(),
                value: value.into(),
                negated: false,
            }],
        }
    }

    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError(format!(
                "a selector may not be longer than {MAX_SELECTOR_BYTES} bytes: select by fewer values"
            )));
        }
        let mut parts = terms(text);
        parts.sort_unstable();
        let mut requirements = Vec::new();
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            let Some((field, negated, value)) = split_term(part) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            requirements.push(FieldRequirement {
                field: field.into(),
                value: unescape(value)?.into(),
                negated,
            });
        }
        Ok(Self { requirements })
    }

    /// Refuses fields that are neither `metadata.name` and `metadata.namespace` nor among the kind's `selectable`.
    pub fn check_supported(&self, selectable: &[Name]) -> Result<(), SelectorError> {
        for requirement in &self.requirements {
            let field = &*requirement.field;
            if matches!(field, "metadata.name" | "metadata.namespace") || selectable.iter().any(|s| s == field) {
                continue;
            }
            return Err(SelectorError(if selectable.is_empty() {
                format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            } else {
                format!("field label not supported: {field}")
            }));
        }
        Ok(())
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Needs nothing but an object's name and namespace.
    pub fn needs_only_head(&self) -> bool {
        self.requirements
            .iter()
            .all(|r| matches!(&*r.field, "metadata.name" | "metadata.namespace"))
    }

    /// Whether the fields, looked up by `field`, are selected. A field that is absent is the empty string.
    pub fn matches<'f>(&self, field: impl Fn(&str) -> Option<Cow<'f, str>>) -> bool {
        self.requirements
            .iter()
            .all(|r| r.is_met_by(field(&r.field).as_deref().unwrap_or_default()))
    }

    /// For selectors that [need only the head](Self::needs_only_head); other fields count as empty.
    pub fn matches_head(&self, head: &Head) -> bool {
        self.matches(|field| match field {
            "metadata.name" => Some(Cow::Borrowed(&*head.name)),
            "metadata.namespace" => Some(Cow::Borrowed(&*head.namespace)),
            _ => None,
        })
    }

    /// Fields are found by their dotted path. Where a kind counts an absent field as something (`spec.unschedulable`
    /// is `false`), its decoder has filled it in or the caller uses [`matches`](Self::matches).
    pub fn matches_object(&self, object: &Object) -> bool {
        self.requirements
            .iter()
            .all(|r| r.is_met_by(&field_text(object, &r.field)))
    }

    /// The one value that `field` must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let found = self.requirements.iter().find(|r| !r.negated && &*r.field == field)?;
        Some(&found.value)
    }
}

fn field_text<'o>(object: &'o Object, path: &str) -> Cow<'o, str> {
    let mut steps = path.trim_start_matches('.').split('.');
    let mut value = steps.next().and_then(|step| object.0.get(step));
    for step in steps {
        value = value.and_then(|v| v.as_object()?.get(step));
    }
    match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other @ (Value::Bool(_) | Value::Number(_))) => Cow::Owned(other.to_string()),
        _ => Cow::Borrowed(""),
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let sign = if requirement.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{sign}", requirement.field)?;
            for c in requirement.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn fields_are_selected_by_equality_and_difference() {
        let object = Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"nodeName": "x", "hostNetwork": true},
        }))
        .unwrap();
        for (selector, selects) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,metadata.namespace!=m", true),
            ("metadata.name!=a", false),
            ("spec.nodeName=x,spec.hostNetwork=true", true),
            ("status.phase=", true),
            ("status.phase!=Running", true),
            ("status.phase=Running", false),
        ] {
            let parsed = FieldSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches_object(&object), selects, "{selector}");
        }
        assert_eq!(FieldSelector::parse("b!=c,a=d").unwrap().exact("a"), Some("d"));
    }

    #[test]
    fn a_term_means_the_same_however_its_sign_is_written() {
        let of = |text: &str| FieldSelector::parse(text).unwrap();
        assert_eq!(of("a==b,c=d"), of("c==d,a=b"));
        // The order is that of the texts, as upstream's is; which it is changes nothing.
        let (one, other) = (of("c==,c=\u{1f}"), of("c=,c=\u{1f}"));
        assert_ne!(one, other);
        for value in ["", "\u{1f}", "x"] {
            assert_eq!(
                one.matches(|_| Some(value.into())),
                other.matches(|_| Some(value.into()))
            );
        }
    }

    #[test]
    fn mistakes_are_named_in_upstreams_words() {
        for (text, error) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().0, error);
        }
        let selector = FieldSelector::parse("spec.foo=a").unwrap();
        assert_eq!(
            selector.check_supported(&[]).unwrap_err().0,
            "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(
            selector.check_supported(&["spec.bar".into()]).unwrap_err().0,
            "field label not supported: spec.foo"
        );
        assert!(selector.check_supported(&["spec.foo".into()]).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(
            all in proptest::collection::vec(("[a-z.]{1,6}", "[a-z\\\\,=]{0,6}", any::<bool>()), 0..4)
        ) {
            let requirements = all.into_iter().map(|(field, value, negated)| FieldRequirement {
                field: field.into(),
                value: value.into(),
                negated,
            });
            let selector = FieldSelector { requirements: requirements.collect() };
            let mut back = FieldSelector::parse(&selector.to_string()).unwrap();
            let mut selector = selector;
            let order = |a: &FieldRequirement, b: &FieldRequirement| {
                (&a.field, &a.value, a.negated).cmp(&(&b.field, &b.value, b.negated))
            };
            back.requirements.sort_by(order);
            selector.requirements.sort_by(order);
            prop_assert_eq!(back, selector);
        }
    }
}
