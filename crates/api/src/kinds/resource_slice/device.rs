//! One device of a slice: its attributes, taints, counters and where it is.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{Ways, capacity, validate_counters};
use crate::field::{Cursor, ErrorList};
use crate::kinds::check::same;
use crate::kinds::device::{at_most, binding_conditions, distinct, label, qualified_name, taint};

/// Attributes and capacities together.
const MOST_PROPERTIES: usize = 32;
const MOST_TAINTS: usize = 16;
const MOST_COUNTER_SETS: usize = 2;
/// Bytes.
const LONGEST_VALUE: usize = 64;
const LONGEST_KEY: usize = 63 + 1 + 32;

/// A semantic version of the second edition.
static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = r"(0|[1-9][0-9]*)";
    let before = r"(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = r"[0-9a-zA-Z-]+";
    let pattern = format!(r"^{number}\.{number}\.{number}(-{before}(\.{before})*)?(\+{build}(\.{build})*)?$");
    Regex::new(&pattern).ok()
});

const OF_DEVICE: Ways<'static> = Ways {
    no_name: "must not be empty",
    flags: &["allNodes"],
    terms: None,
    one: "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true \
          in the ResourceSlice spec",
    several: "",
};

pub(super) fn validate(device: &Cursor<'_>, old: Option<&Cursor<'_>>, per_device: bool, errors: &mut ErrorList) {
    label(&device.at("name"), errors);
    let (attributes, capacities) = (device.at("attributes"), device.at("capacity"));
    let properties = attributes.len() + capacities.len();
    if properties > MOST_PROPERTIES {
        errors.invalid_value(
            device,
            &Value::from(properties),
            format!("the total number of attributes and capacities must not exceed {MOST_PROPERTIES}"),
        );
    }
    for (name, _) in attributes.entries() {
        qualified_name(&attributes, name, errors);
        let shown = shortened(name);
        attribute(&attributes.key(name), &attributes.key(&shown), errors);
    }
    // What is as it was is not judged by newer rules.
    let is_new = |field| old.is_none_or(|old| !same(device.at(field).value(), old.at(field).value()));
    if is_new("capacity") {
        let shared = device.at("allowMultipleAllocations").is_true();
        for (name, of) in capacities.entries() {
            qualified_name(&capacities, name, errors);
            capacity::validate(&of, shared, errors);
        }
    }
    if is_new("taints") {
        for of in at_most(&device.at("taints"), MOST_TAINTS, errors) {
            taint(&of, None, errors);
        }
    }
    let consumed = device.at("consumesCounters");
    for of in at_most(&consumed, MOST_COUNTER_SETS, errors) {
        validate_counters(&of, "counterSet", errors);
    }
    distinct(&consumed, MOST_COUNTER_SETS, "counterSet", errors);
    where_it_is(device, per_device, errors);
    binding_conditions(device, errors);
}

/// A key as it is told of: a long one without its middle.
fn shortened(key: &str) -> String {
    if key.len() <= LONGEST_KEY {
        return key.to_owned();
    }
    let kept = LONGEST_KEY - 3;
    let (head, tail) = (kept.div_ceil(2), key.len() - kept / 2);
    let part = |range: std::ops::Range<usize>| {
        let bytes = key.as_bytes().get(range).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    format!("{}...{}", part(0..head), part(tail..key.len()))
}

/// Exactly one value.
fn attribute(attribute: &Cursor<'_>, place: &Cursor<'_>, errors: &mut ErrorList) {
    let (text, version) = (attribute.at("string"), attribute.at("version"));
    let (text_place, version_place) = (place.said("string"), place.said("version"));
    if text.str().len() > LONGEST_VALUE {
        errors.too_long(&text_place, LONGEST_VALUE);
    }
    if version.is_set() {
        if !VERSION.as_ref().is_some_and(|v| v.is_match(version.str())) {
            errors.invalid_value(
                &version_place,
                &version.str().into(),
                "must be a string compatible with semver.org spec 2.0.0",
            );
        }
        if version.str().len() > LONGEST_VALUE {
            errors.too_long(&version_place, LONGEST_VALUE);
        }
    }
    let values = [attribute.at("bool"), attribute.at("int"), text, version];
    let shown = match values.iter().filter(|v| v.is_set()).count() {
        0 => Value::from(""),
        1 => return,
        _ => attribute.value().cloned().unwrap_or_default(),
    };
    errors.invalid_value(place, &shown, "exactly one value must be specified");
}

/// Where a device is, if each of a slice says so itself.
fn where_it_is(device: &Cursor<'_>, per_device: bool, errors: &mut ErrorList) {
    if !per_device {
        if ["nodeName", "nodeSelector", "allNodes"]
            .iter()
            .any(|field| device.at(field).is_set())
        {
            errors.invalid_value(
                device,
                &Value::Null,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in \
                 the ResourceSlice spec",
            );
        }
        return;
    }
    OF_DEVICE.validate(device, errors);
}
