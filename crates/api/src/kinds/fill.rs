//! Filling in defaults: small steps on maps of decoded JSON. A field with a pointer type is defaulted when it is absent,
//! one without also when it is empty or zero; which is which is the caller's to know.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Sets the field unless it is there.
pub(super) fn fill(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Sets the string field unless it is there and not empty.
pub(super) fn fill_empty(map: &mut Map<String, Value>, field: &str, value: &str) {
    let there = map.get(field).and_then(Value::as_str).is_some_and(|s| !s.is_empty());
    if !there {
        map.insert(field.to_owned(), value.into());
    }
}

/// Sets the number unless it is there and not zero.
pub(super) fn fill_zero(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if map.get(field).and_then(Value::as_i64).unwrap_or_default() == 0 {
        map.insert(field.to_owned(), value.into());
    }
}

/// A time as the API writes it.
pub(super) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The map in a field, if there is one.
pub(super) fn at<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field)?.as_object_mut()
}

/// The map at a path, if there is one.
pub(super) fn map_at<'a>(map: &'a mut Map<String, Value>, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    path.iter().try_fold(map, |map, field| at(map, field))
}

/// The map at a path, made where there is none.
pub(super) fn map_made<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    fill(map, field, Map::new());
    at(map, field)
}

/// Every map in the list in a field.
pub(super) fn each(map: &mut Map<String, Value>, field: &str, mut visit: impl FnMut(&mut Map<String, Value>)) {
    let items = map.get_mut(field).and_then(Value::as_array_mut);
    for item in items.into_iter().flatten().filter_map(Value::as_object_mut) {
        visit(item);
    }
}
