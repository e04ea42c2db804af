//! What the fuzzers of `fuzz/` call: one function for each way in which clients' bytes come into this crate. Compiled
//! for tests and for the fuzzers only.
//!
//! Each takes any bytes at all. Besides not to panic, it asserts what holds of every input that is taken: what is read,
//! written and read again is the same.

mod certificate;
mod custom;
mod expression;
mod object;
mod patch;
mod text;

pub use certificate::certificates;
pub use custom::structural_schema;
pub use expression::cel;
pub use object::{json, managed_fields, protobuf, transcode, watch_event, yaml};
pub use patch::{apply_patch, json_patch, merge_patch, strategic_patch};
pub use text::{field_selector, label_selector, names, quantity, schedule};

use serde_json::Value;

use crate::object::Object;
use crate::resource::{Registry, Resource};
use crate::schema::decode::{self, Mode};

std::thread_local! {
    static BUILT_IN: Registry = Registry::built_in();
}

/// The kind that an object says it is.
fn row_of(object: &Object) -> Option<std::sync::Arc<Resource>> {
    let table = BUILT_IN.with(Registry::table);
    table.by_api_version(object.api_version(), object.kind()).cloned()
}

/// The lines of an input that consists of several texts.
fn lines(bytes: &[u8]) -> Option<Vec<&str>> {
    Some(std::str::from_utf8(bytes).ok()?.lines().collect())
}

/// An object as the server would have it after decoding: nothing if it has no known kind or does not fit it.
fn decoded(text: &str, mode: Mode) -> Option<(Object, std::sync::Arc<Resource>)> {
    let (value, _) = crate::schema::parse::parse_json(text.as_bytes()).ok()?;
    let object = Object::from_value(value)?;
    let row = row_of(&object)?;
    let mut value = object.into_value();
    decode::decode(&mut value, row.schema(), mode).ok()?;
    Some((Object::from_value(value)?, row))
}

/// Whether a value has a null anywhere.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    type Target = fn(&[u8]);

    #[test]
    fn every_input_of_the_corpora_and_what_is_near_it_holds() {
        let targets: &[(&str, Target)] = &[
            ("json", json),
            ("yaml", yaml),
            ("protobuf", protobuf),
            ("transcode", transcode),
            ("watch_event", watch_event),
            ("managed_fields", managed_fields),
            ("label_selector", label_selector),
            ("field_selector", field_selector),
            ("json_patch", json_patch),
            ("merge_patch", merge_patch),
            ("strategic_patch", strategic_patch),
            ("apply_patch", apply_patch),
            ("quantity", quantity),
            ("names", names),
            ("schedule", schedule),
            ("cel", cel),
            ("certificates", certificates),
            ("structural_schema", structural_schema),
        ];
        for (name, target) in targets {
            replay(name, *target);
        }
    }
}
