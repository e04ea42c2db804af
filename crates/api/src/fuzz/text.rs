//! Values written as text: selectors, quantities, names, schedules.

use std::str::FromStr;

use serde_json::json;

use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::selector::{FieldSelector, LabelSelector};
use crate::{names as rules, schema};

pub fn label_selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let shown = selector.to_string();
        assert_eq!(LabelSelector::parse(&shown), Ok(selector.clone()), "{shown}");
        for value in [None, Some(""), Some("a")] {
            selector.matches(|_| value);
        }
    }
    if let Ok((value, _)) = schema::parse::parse_json(bytes) {
        let _ = LabelSelector::from_json(&value);
    }
}

pub fn field_selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = FieldSelector::parse(text) {
        let shown = selector.to_string();
        let again = FieldSelector::parse(&shown).map(|s| in_order(&s));
        assert_eq!(again, Ok(in_order(&selector)), "{shown}");
        selector.matches(|_| None);
    }
}

/// Terms stand in the order of their texts, of which one term may have several: `a=b` is `a==b`.
fn in_order(selector: &FieldSelector) -> Vec<(String, String, bool)> {
    let requirements = selector.requirements().iter();
    let mut all: Vec<_> = requirements
        .map(|r| (r.field.to_string(), r.value.to_string(), r.negated))
        .collect();
    all.sort_unstable();
    all
}

pub fn quantity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(quantity) = Quantity::from_str(text) else { return };
    let shown = quantity.to_string();
    let again = Quantity::from_str(&shown);
    assert_eq!(again, Ok(quantity), "{shown}");
    assert_eq!(again.map(|q| q.to_string()), Ok(shown));
    let _ = (quantity.value(), quantity.milli_value(), quantity.as_f64());
    let _ = (quantity + quantity, quantity.times(-3) - quantity);
}

const FORMATS: [&str; 19] = [
    "date-time",
    "date",
    "duration",
    "byte",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "email",
    "hostname",
    "uri",
    "hexcolor",
    "bsonobjectid",
    "k8s-short-name",
    "k8s-long-name",
];

/// Every rule for names, and every format of strings.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for rule in [
        rules::dns1123_label,
        rules::dns1123_subdomain,
        rules::wildcard_subdomain,
        rules::dns1035_label,
        rules::qualified_name,
        rules::domain_prefixed_key,
        rules::label_value,
        rules::path_segment,
        rules::port_name,
        rules::percent,
        rules::c_identifier,
        rules::env_var_name,
        rules::strict_env_var_name,
        rules::config_map_key,
        rules::http_header_name,
        rules::condition_reason,
        rules::domain_prefixed_path,
        rules::fully_qualified_name,
    ] {
        rule(text);
    }
    for format in FORMATS {
        schema::formats::is_well_formed(format, text);
    }
}

/// A CronJob's schedule.
pub fn schedule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (schedule, zone) = text.split_once('\n').unwrap_or((text, ""));
    let cron = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "a"},
        "spec": {"schedule": schedule, "timeZone": zone, "jobTemplate": {}},
    });
    let Some(row) = Object::from_value(cron.clone()).and_then(|o| super::row_of(&o)) else {
        return;
    };
    let mut errors = ErrorList::new();
    row.strategy
        .validate(&Cursor::root(&cron, Some(row.schema())), &mut errors);
}
