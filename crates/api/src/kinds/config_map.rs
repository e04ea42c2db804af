//! ConfigMap: text and bytes by key, at most 1 MiB of them.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns([name(), text("Data", "How many keys the map has."), age()])
        .strategy(ConfigMap)
        .build()
}

struct ConfigMap;

/// All values of a ConfigMap or Secret together.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

pub(super) const IMMUTABLE: &str = "field is immutable when `immutable` is set";

impl Strategy for ConfigMap {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let (data, binary) = (object.at("data"), object.at("binaryData"));
        let mut bytes = 0;
        for (key, value) in data.entries() {
            check_key(key, &value, errors);
            if binary.key(key).is_set() {
                errors.invalid_value(&value, &key.into(), "duplicate of key present in binaryData");
            }
            bytes += value.str().len();
        }
        for (key, value) in binary.entries() {
            check_key(key, &value, errors);
            bytes += decoded_len(value.str());
        }
        if bytes > MAX_BYTES {
            errors.too_long(object, MAX_BYTES);
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        stays(new, old, &["data", "binaryData"], errors);
        self.validate(new, errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = |field| object.get(&[field]).and_then(Value::as_object).map_or(0, |m| m.len());
        let keys = count("data") + count("binaryData");
        vec![object.name().into(), keys.into(), age_of(object, now)]
    }
}

pub(super) fn check_key(key: &str, value: &Cursor<'_>, errors: &mut ErrorList) {
    for fault in names::config_map_key(key) {
        errors.invalid_value(value, &key.into(), fault);
    }
}

/// How many bytes a text in base64 stands for.
pub(super) fn decoded_len(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// What is marked immutable stays so, with its contents.
pub(super) fn stays(new: &Cursor<'_>, old: &Cursor<'_>, contents: &[&str], errors: &mut ErrorList) {
    if !old.at("immutable").is_true() {
        return;
    }
    let immutable = new.at("immutable");
    if !immutable.is_true() {
        errors.forbidden(&immutable, IMMUTABLE);
    }
    for field in contents {
        let (now, before) = (new.at(field), old.at(field));
        if !(now.is_empty() && before.is_empty()) && now.value() != before.value() {
            errors.forbidden(&now, IMMUTABLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_and_size_are_checked() {
        let valid = json!({"metadata": {"name": "m"}, "data": {"a.b_C-1": "x"}, "binaryData": {"b": "AAAA"}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/data/b",
                    json!("x"),
                    "data[b]: Invalid value: \"b\": duplicate of key present in binaryData",
                ),
                (
                    "/data/a b",
                    json!("x"),
                    "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, \
                     '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
                     '[-._a-zA-Z0-9]+')",
                ),
                (
                    "/data/..a",
                    json!("x"),
                    "data[..a]: Invalid value: \"..a\": must not start with '..'",
                ),
            ],
        );
        let large = json!({"metadata": {"name": "m"}, "data": {"a": "x".repeat(MAX_BYTES + 1)}});
        assert_eq!(
            created(&row(), large),
            [": Too long: may not be more than 1048576 bytes"]
        );
        assert_eq!(
            (decoded_len("QQ=="), decoded_len("QUI="), decoded_len("QUJD")),
            (1, 2, 3)
        );
    }

    #[test]
    fn an_immutable_map_does_not_change() {
        let valid = json!({"metadata": {"name": "m"}, "immutable": true, "data": {"a": "1"}});
        refuses_update(
            &row(),
            &valid,
            &[
                (
                    "/data/a",
                    json!("2"),
                    "data: Forbidden: field is immutable when `immutable` is set",
                ),
                (
                    "/immutable",
                    json!(false),
                    "immutable: Forbidden: field is immutable when `immutable` is set",
                ),
                (
                    "/binaryData",
                    json!({"b": "AAAA"}),
                    "binaryData: Forbidden: field is immutable when `immutable` is set",
                ),
            ],
        );
    }
}
