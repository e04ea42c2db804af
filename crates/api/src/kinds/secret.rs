//! Secret: bytes by key, of a type that says which keys there must be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::config_map::{MAX_BYTES, check_key, decoded_len, stays};
use super::fill::{fill_empty, map_made};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Secret", "secrets")
        .fields(&["type"])
        .columns([
            name(),
            text("Type", "What the secret is for."),
            text("Data", "How many keys the secret has."),
            age(),
        ])
        .strategy(Secret)
        .build()
}

struct Secret;

impl Strategy for Secret {
    /// `stringData` is a way to write `data`; it is never kept.
    fn set_defaults(&self, object: &mut Object) {
        fill_empty(&mut object.0, "type", "Opaque");
        let Some(Value::Object(texts)) = object.0.remove("stringData") else {
            return;
        };
        if texts.is_empty() {
            return;
        }
        if let Some(data) = map_made(&mut object.0, "data") {
            for (key, text) in texts {
                let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
                data.insert(key, encoded.into());
            }
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let data = object.at("data");
        let mut bytes = 0;
        for (key, value) in data.entries() {
            check_key(key, &value, errors);
            bytes += decoded_len(value.str());
        }
        if bytes > MAX_BYTES {
            errors.too_long(&data, MAX_BYTES);
        }
        match object.at("type").str() {
            "kubernetes.io/service-account-token" => {
                let metadata = object.at("metadata");
                let annotations = metadata.at("annotations");
                let account = annotations.key("kubernetes.io/service-account.name");
                if account.is_empty() {
                    errors.required(&account, "");
                }
            }
            "kubernetes.io/dockercfg" => json_in(&data.key(".dockercfg"), errors),
            "kubernetes.io/dockerconfigjson" => json_in(&data.key(".dockerconfigjson"), errors),
            "kubernetes.io/basic-auth" => {
                let (user, password) = (data.key("username"), data.key("password"));
                if !user.is_set() && !password.is_set() {
                    errors.required(&user, "");
                    errors.required(&password, "");
                }
            }
            "kubernetes.io/ssh-auth" => {
                let key = data.key("ssh-privatekey");
                if key.is_empty() {
                    errors.required(&key, "");
                }
            }
            "kubernetes.io/tls" => {
                for key in ["tls.crt", "tls.key"] {
                    let value = data.key(key);
                    if !value.is_set() {
                        errors.required(&value, "");
                    }
                }
            }
            _ => {}
        }
    }

    fn prepare_for_update(&self, new: &mut Object, old: &Object) {
        // Upstream keeps the type when an update does not tell one; the default would be another.
        if new.str(&["type"]).unwrap_or_default().is_empty()
            && let Some(kind) = old.get(&["type"]).cloned()
        {
            new.set(&["type"], kind);
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        errors.immutable(&new.at("type"), &old.at("type"));
        stays(new, old, &["data"], errors);
        self.validate(new, errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let keys = object.get(&["data"]).and_then(Value::as_object).map_or(0, |m| m.len());
        vec![
            object.name().into(),
            str_of(object, &["type"]),
            keys.into(),
            age_of(object, now),
        ]
    }
}

/// Base64 of a JSON map; the value is not shown.
fn json_in(value: &Cursor<'_>, errors: &mut ErrorList) {
    if !value.is_set() {
        errors.required(value, "");
        return;
    }
    let decoded = STANDARD.decode(value.str()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded) {
        errors.invalid_value(value, &"<secret contents redacted>".into(), error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let secret = json!({"metadata": {"name": "s"}, "data": {"a": "AA==", "b": "AA=="}, "stringData": {"b": "hi"}});
        assert_eq!(
            defaulted(&row(), secret),
            json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "AA==", "b": "aGk="}})
        );
    }

    #[test]
    fn types_say_which_keys_there_must_be() {
        for (kind, data, expected) in [
            (
                "kubernetes.io/tls",
                json!({"tls.crt": ""}),
                vec!["data[tls.key]: Required value"],
            ),
            (
                "kubernetes.io/ssh-auth",
                json!({}),
                vec!["data[ssh-privatekey]: Required value"],
            ),
            (
                "kubernetes.io/basic-auth",
                json!({}),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            ("kubernetes.io/basic-auth", json!({"username": ""}), vec![]),
            (
                "kubernetes.io/dockerconfigjson",
                json!({}),
                vec!["data[.dockerconfigjson]: Required value"],
            ),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "eA=="}),
                vec![
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": expected value at line 1 \
                     column 1",
                ],
            ),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            ("example.com/own", json!({}), vec![]),
        ] {
            let secret = json!({"metadata": {"name": "s"}, "type": kind, "data": data});
            assert_eq!(created(&row(), secret), expected, "{kind}");
        }
    }

    #[test]
    fn the_type_stays_and_so_does_what_is_immutable() {
        let valid = json!({"metadata": {"name": "s"}, "type": "a/b", "immutable": true, "data": {"a": "AA=="}});
        refuses_update(
            &row(),
            &valid,
            &[
                (
                    "/type",
                    json!("c/d"),
                    "type: Invalid value: \"c/d\": field is immutable",
                ),
                (
                    "/data/a",
                    json!("AAA="),
                    "data: Forbidden: field is immutable when `immutable` is set",
                ),
            ],
        );
    }
}
