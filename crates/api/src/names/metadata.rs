//! Names, labels and annotations as the metadata of any object has them.

use serde_json::Value;

use super::{
    dns1035_label, dns1123_label, dns1123_subdomain, label_value, path_segment, path_segment_prefix, qualified_name,
};
use crate::field::{Cursor, ErrorList};
use crate::strategy::NameRule;

/// All of an object's annotations together, keys and values.
pub const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// `metadata.name`, or with `is_prefix` `metadata.generateName`, by a kind's rule.
pub fn object_name(rule: NameRule, name: &str, is_prefix: bool) -> Vec<String> {
    // A prefix may end in a dash, because something follows it.
    let masked = match name.strip_suffix('-') {
        Some(rest) if is_prefix && !rest.is_empty() => format!("{rest}a"),
        _ => String::new(),
    };
    let checked = if masked.is_empty() { name } else { &masked };
    match rule {
        NameRule::DnsSubdomain => dns1123_subdomain(checked),
        NameRule::DnsLabel => dns1123_label(checked),
        NameRule::Dns1035Label => dns1035_label(checked),
        NameRule::PathSegment if is_prefix => path_segment_prefix(name),
        NameRule::PathSegment => path_segment(name),
    }
}

/// A map of labels: every key a qualified name, every value a label value.
pub fn labels(at: &Cursor<'_>, errors: &mut ErrorList) {
    labels_at(at, at, errors);
}

/// [`labels`] that are told of at another place.
pub fn labels_at(place: &Cursor<'_>, labels: &Cursor<'_>, errors: &mut ErrorList) {
    for (key, value) in labels.entries() {
        label_name(place, key, errors);
        for fault in label_value(value.str()) {
            errors.invalid_value(place, &Value::from(value.str()), fault);
        }
    }
}

/// One label's key, reported at `at`.
pub fn label_name(at: &Cursor<'_>, key: &str, errors: &mut ErrorList) {
    for fault in qualified_name(key) {
        errors.invalid_value(at, &Value::from(key), fault);
    }
}

/// A map of annotations: keys are qualified names in any case, and all of it has a size.
pub fn annotations(at: &Cursor<'_>, errors: &mut ErrorList) {
    annotations_at(at, at, errors);
}

/// [`annotations`] that are told of at another place.
pub fn annotations_at(place: &Cursor<'_>, annotations: &Cursor<'_>, errors: &mut ErrorList) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        for fault in qualified_name(&key.to_ascii_lowercase()) {
            errors.invalid_value(place, &Value::from(key), fault);
        }
        bytes += key.len() + value.str().len();
    }
    if bytes > MAX_ANNOTATIONS_BYTES {
        errors.too_long(place, MAX_ANNOTATIONS_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_names_prefix_may_end_in_a_dash() {
        assert!(object_name(NameRule::DnsSubdomain, "web-", true).is_empty());
        assert!(!object_name(NameRule::DnsSubdomain, "web-", false).is_empty());
        assert!(!object_name(NameRule::DnsSubdomain, "-", true).is_empty());
        assert!(object_name(NameRule::PathSegment, "system:node", false).is_empty());
        assert_eq!(object_name(NameRule::PathSegment, "..", false), vec!["may not be '..'"]);
        assert_eq!(
            object_name(NameRule::PathSegment, "a/b%", false),
            vec!["may not contain '/'", "may not contain '%'"]
        );
    }

    #[test]
    fn annotations_take_keys_of_any_case_up_to_a_size() {
        let value = serde_json::json!({"Example.COM/a": "x".repeat(MAX_ANNOTATIONS_BYTES)});
        let mut errors = ErrorList::new();
        annotations(&Cursor::root(&value, None), &mut errors);
        assert_eq!(errors.len(), 1);
        assert_eq!(
            errors.as_slice()[0].body(),
            "Too long: may not be more than 262144 bytes"
        );
    }
}
