//! What the tables of many kinds have in common: the Name and Age columns, containers and images, selectors as text.
//! Formats are upstream's; a cell that is particular to one kind is in that kind's file.

use jiff::Timestamp;
use serde_json::Value;

use super::human_duration::since;
use crate::object::Object;
use crate::resource::Column;
use crate::selector::LabelSelector;

/// The first column of nearly every table.
pub(super) fn name() -> Column {
    Column::new(
        "Name",
        "string",
        "Name must be unique within a namespace. It is chosen at creation and cannot be updated.",
    )
    .format("name")
}

pub(super) fn age() -> Column {
    Column::new(
        "Age",
        "string",
        "Time since the object was created, by the server's clock.",
    )
}

pub(super) fn text(name: &'static str, description: &'static str) -> Column {
    Column::new(name, "string", description)
}

pub(super) fn integer(name: &'static str, description: &'static str) -> Column {
    Column::new(name, "integer", description)
}

pub(super) fn boolean(name: &'static str, description: &'static str) -> Column {
    Column::new(name, "boolean", description)
}

pub(super) fn containers() -> Column {
    text("Containers", "Names of each container in the template.").wide()
}

pub(super) fn images() -> Column {
    text("Images", "Images referenced by each container in the template.").wide()
}

pub(super) fn selector() -> Column {
    text("Selector", "Label selector for the objects that belong to this one.").wide()
}

/// The table of a kind without one of its own.
pub(super) fn created_at_columns() -> [Column; 2] {
    [
        name(),
        Column::new(
            "Created At",
            "date",
            "When the object was created, by the server's clock.",
        ),
    ]
}

pub(super) fn created_at_cells(object: &Object) -> Vec<Value> {
    vec![object.name().into(), str_of(object, &["metadata", "creationTimestamp"])]
}

/// The cell of [`age`].
pub(super) fn age_of(object: &Object, now: Timestamp) -> Value {
    since(object.get(&["metadata", "creationTimestamp"]), now).into()
}

/// The string at `path`, or `instead` when it is absent or empty.
pub(super) fn str_or(object: &Object, path: &[&str], instead: &str) -> Value {
    match object.str(path) {
        Some(s) if !s.is_empty() => s.into(),
        _ => instead.into(),
    }
}

/// The string at `path`, or nothing.
pub(super) fn str_of(object: &Object, path: &[&str]) -> Value {
    str_or(object, path, "")
}

/// The integer at `path`, or 0.
pub(super) fn int_of(object: &Object, path: &[&str]) -> i64 {
    object.i64(path).unwrap_or_default()
}

/// A scalar as text: strings bare, everything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// The elements of a list of strings, joined.
pub(super) fn join(values: &[Value], separator: &str) -> String {
    let texts: Vec<String> = values.iter().map(plain).collect();
    texts.join(separator)
}

/// The names and the images of the containers at `path`.
pub(super) fn names_and_images(object: &Object, path: &[&str]) -> (Value, Value) {
    let list = |field: &str| {
        let texts: Vec<&str> = object
            .array(path)
            .iter()
            .map(|c| c.get(field).and_then(Value::as_str).unwrap_or_default())
            .collect();
        Value::from(texts.join(","))
    };
    (list("name"), list("image"))
}

/// `a=b,c=d`, sorted; `<none>` when there are none.
pub(super) fn format_labels(labels: Option<&Value>) -> String {
    let mut texts: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", plain(v)))
        .collect();
    texts.sort();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}

/// A LabelSelector as the text of its requirements, sorted by key; empty when it has none.
pub(super) fn selector_text(selector: Option<&Value>) -> String {
    match selector.map(LabelSelector::from_json) {
        Some(Ok(selector)) => selector.to_string(),
        Some(Err(_)) => "<invalid>".to_owned(),
        None => String::new(),
    }
}

/// [`selector_text`], with `<none>` for one that selects everything or is absent.
pub(super) fn format_selector(selector: Option<&Value>) -> String {
    let text = selector_text(selector);
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// At most three, and how many more there are: `a,b,c + 2 more...`.
pub(super) fn first_three(texts: &[String], instead: &str) -> String {
    if texts.len() > 3 {
        format!("{} + {} more...", texts[..3].join(","), texts.len() - 3)
    } else if texts.is_empty() {
        instead.to_owned()
    } else {
        texts.join(",")
    }
}

/// Whether the condition of this type in `status.conditions` is True.
pub(super) fn has_condition(object: &Object, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| c.get("status").and_then(Value::as_str) == Some("True"))
}

/// The condition of this type in `status.conditions`.
pub(super) fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    object
        .array(&["status", "conditions"])
        .iter()
        .find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_read_as_their_requirements_sorted_by_key() {
        let selector = json!({
            "matchLabels": {"b": "2"},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["y", "x"]},
                {"key": "c", "operator": "NotIn", "values": ["z"]},
                {"key": "d", "operator": "Exists"},
                {"key": "e", "operator": "DoesNotExist"},
            ],
        });
        assert_eq!(format_selector(Some(&selector)), "a in (x,y),b=2,c notin (z),d,!e");
        assert_eq!(format_selector(Some(&json!({}))), "<none>");
        assert_eq!(format_selector(None), "<none>");
        assert_eq!(format_labels(Some(&json!({"b": "1", "a": "2"}))), "a=2,b=1");
    }

    #[test]
    fn long_lists_are_cut_after_three() {
        let texts: Vec<String> = ["a", "b", "c", "d", "e"].map(String::from).into();
        assert_eq!(first_three(&texts, "<unset>"), "a,b,c + 2 more...");
        assert_eq!(first_three(&texts[..3], "<unset>"), "a,b,c");
        assert_eq!(first_three(&[], "<unset>"), "<unset>");
    }
}
