//! Event: what happened to an object. One stored object seen through two kinds: `v1` (the stored form) and
//! `events.k8s.io/v1`, whose fields have other names.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{int_of, name, text};
use super::human_duration::since;
use super::row::{Row, namespaced};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::{Column, Convert, Resource};
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    shared(namespaced("", "v1", "Event", "events"), CORE)
        .fields(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ])
        .build()
}

pub(super) fn events_row() -> Resource {
    shared(namespaced("events.k8s.io", "v1", "Event", "events"), EVENTS)
        .stored_as("v1", Renamed)
        .fields(&[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ])
        .build()
}

fn shared(row: Row, strategy: Event) -> Row {
    row.short(&["ev"])
        .create_on_update()
        .columns(columns())
        .strategy(strategy)
}

fn columns() -> [Column; 10] {
    [
        text("Last Seen", "When it was last seen."),
        text("Type", "Normal or Warning."),
        text("Reason", "Why, in one word, for machines."),
        text("Object", "The object that this is about."),
        text("Subobject", "The part of the object that this is about.").wide(),
        text("Source", "The component that reports this.").wide(),
        text("Message", "What happened, for people."),
        text("First Seen", "When it was first seen.").wide(),
        text("Count", "How often it was seen.").wide(),
        name().wide(),
    ]
}

/// What the version calls the fields that have rules.
struct Event {
    object: &'static str,
    controller: &'static str,
    message: &'static str,
    /// The old fields may not be used in new objects.
    strict: bool,
}

const CORE: Event = Event {
    object: "involvedObject",
    controller: "reportingComponent",
    message: "message",
    strict: false,
};

const EVENTS: Event = Event {
    object: "regarding",
    controller: "reportingController",
    message: "note",
    strict: true,
};

/// The name in `v1` of a field that `events.k8s.io/v1` calls differently.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

struct Renamed;

impl Convert for Renamed {
    fn to_stored(&self, object: &mut Object) {
        for (events, core) in RENAMED {
            rename(object, events, core);
        }
        object.set(&["apiVersion"], "v1");
    }

    fn to_served(&self, object: &mut Object) {
        for (events, core) in RENAMED {
            rename(object, core, events);
        }
        object.set(&["apiVersion"], "events.k8s.io/v1");
    }
}

fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.0.remove(from) {
        object.0.insert(to.to_owned(), value);
    }
}

/// The field under its name in either version.
fn either<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    object.get(path).or_else(|| {
        let (events, _) = RENAMED.iter().find(|(_, core)| core == first)?;
        let steps: Vec<&str> = std::iter::once(*events).chain(rest.iter().copied()).collect();
        object.get(&steps)
    })
}

fn either_str<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    either(object, path).and_then(Value::as_str).unwrap_or_default()
}

fn first_of<'a>(a: &'a str, b: &'a str) -> &'a str {
    if a.is_empty() { b } else { a }
}

impl Event {
    /// The rules of both versions; an event with an eventTime is of the new sort.
    fn validate_any(&self, event: &Cursor<'_>, errors: &mut ErrorList) {
        let metadata = event.at("metadata");
        let namespace = metadata.at("namespace");
        let object = event.at(self.object);
        let of_object = object.at("namespace");
        let new_sort = event.at("eventTime").is_set();
        let agrees = match (of_object.str(), new_sort) {
            ("", false) => matches!(namespace.str(), "" | "default"),
            ("", true) => matches!(namespace.str(), "default" | "kube-system"),
            (own, false) => own == namespace.str(),
            (_, true) => true,
        };
        if !agrees {
            errors.invalid_value(&of_object, &of_object.str().into(), "does not match event.namespace");
        }
        if !new_sort {
            return;
        }
        let controller = event.at(self.controller);
        if controller.is_empty() {
            errors.required(&controller, "");
        }
        for fault in names::qualified_name(controller.str()) {
            errors.invalid_value(&controller, &controller.str().into(), fault);
        }
        for field in ["reportingInstance", "action", "reason"] {
            let text = event.at(field);
            if text.is_empty() {
                errors.required(&text, "");
            }
            at_most(&text, 128, errors);
        }
        at_most(&event.at(self.message), 1024, errors);
    }
}

fn at_most(text: &Cursor<'_>, most: usize, errors: &mut ErrorList) {
    if text.str().len() > most {
        errors.invalid_value(text, &"".into(), format!("can have at most {most} characters"));
    }
}

fn validate_series(event: &Cursor<'_>, errors: &mut ErrorList) {
    let series = event.at("series");
    if !series.is_set() {
        return;
    }
    let count = series.at("count");
    if count.int() < 2 {
        errors.invalid_value(&count, &"".into(), "should be at least 2");
    }
    let last = series.at("lastObservedTime");
    if !last.is_set() {
        errors.required(&last, "");
    }
}

impl Strategy for Event {
    fn validate(&self, event: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate_any(event, errors);
        if !self.strict {
            return;
        }
        validate_series(event, errors);
        let time = event.at("eventTime");
        if !time.is_set() {
            errors.required(&time, "");
        }
        let kind = event.at("type");
        if !matches!(kind.str(), "Normal" | "Warning") {
            errors.invalid_value(&kind, &"".into(), format!("has invalid value: {}", kind.str()));
        }
        for field in [
            "deprecatedFirstTimestamp",
            "deprecatedLastTimestamp",
            "deprecatedCount",
            "deprecatedSource",
        ] {
            let old = event.at(field);
            if !old.is_empty() && old.i64() != Some(0) {
                errors.invalid_value(&old, &"".into(), "needs to be unset");
            }
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate_any(new, errors);
        if !self.strict {
            return;
        }
        validate_series(new, errors);
        for field in [
            "regarding",
            "reason",
            "note",
            "deprecatedSource",
            "deprecatedFirstTimestamp",
            "deprecatedLastTimestamp",
            "deprecatedCount",
            "eventTime",
            "action",
            "related",
            "reportingController",
            "reportingInstance",
            "type",
        ] {
            super::check::immutable(&new.at(field), &old.at(field), errors);
        }
    }

    fn selectable_field(&self, object: &Object, path: &str) -> String {
        if path == "source" {
            let component = either_str(object, &["source", "component"]);
            return first_of(component, either_str(object, &["reportingComponent"])).to_owned();
        }
        // A selector may name the field as either version does.
        let (first, rest) = path.split_once('.').map_or((path, None), |(f, r)| (f, Some(r)));
        let core = RENAMED
            .iter()
            .find(|(events, _)| *events == first)
            .map_or(first, |(_, core)| core);
        match rest {
            Some(rest) => either_str(object, &[core, rest]).to_owned(),
            None => either_str(object, &[core]).to_owned(),
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let ago = |path: &[&str]| either(object, path).map(|time| since(Some(time), now));
        let unknown = || "<unknown>".to_owned();
        let first = ago(&["firstTimestamp"])
            .or_else(|| ago(&["eventTime"]))
            .unwrap_or_else(unknown);
        let mut last = ago(&["lastTimestamp"]).unwrap_or_else(|| first.clone());
        let mut count = either(object, &["count"])
            .and_then(Value::as_i64)
            .unwrap_or_default()
            .max(1);
        if object.get(&["series"]).is_some() {
            last = ago(&["series", "lastObservedTime"]).unwrap_or_else(unknown);
            count = int_of(object, &["series", "count"]);
        }
        let mut target = either_str(object, &["involvedObject", "kind"]).to_lowercase();
        let target_name = either_str(object, &["involvedObject", "name"]);
        if !target_name.is_empty() {
            target = format!("{target}/{target_name}");
        }
        let reporter = |part, instead| first_of(either_str(object, &["source", part]), either_str(object, &[instead]));
        let component = reporter("component", "reportingComponent");
        let instance = reporter("host", "reportingInstance");
        let source = if instance.is_empty() {
            component.to_owned()
        } else {
            format!("{component}, {instance}")
        };
        vec![
            last.into(),
            either_str(object, &["type"]).into(),
            either_str(object, &["reason"]).into(),
            target.into(),
            either_str(object, &["involvedObject", "fieldPath"]).into(),
            source.into(),
            either_str(object, &["message"]).trim().into(),
            first.into(),
            count.into(),
            object.name().into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    fn core() -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1"},
            "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
            "reason": "Pulled", "message": " image pulled\n", "type": "Normal", "count": 3,
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:01:00Z",
        }))
    }

    #[test]
    fn both_versions_are_the_same_object_and_the_same_row() {
        let now = "2024-01-01T00:01:30Z".parse().unwrap();
        let mut events = core();
        Renamed.to_served(&mut events);
        assert_eq!(events.api_version(), "events.k8s.io/v1");
        assert_eq!(events.str(&["regarding", "name"]), Some("web"));
        assert_eq!(events.str(&["note"]), Some(" image pulled\n"));
        assert_eq!(CORE.cells(&core(), now), CORE.cells(&events, now));
        assert_eq!(
            Value::from(CORE.cells(&core(), now)),
            json!([
                "30s",
                "Normal",
                "Pulled",
                "pod/web",
                "spec.containers{a}",
                "kubelet, n1",
                "image pulled",
                "90s",
                3,
                "web.1"
            ])
        );
        Renamed.to_stored(&mut events);
        assert_eq!(events, core());
    }

    #[test]
    fn an_event_of_the_new_form_counts_by_its_series() {
        let now = "2024-01-01T00:01:30Z".parse().unwrap();
        let mut event = object(json!({
            "metadata": {"name": "e"}, "eventTime": "2024-01-01T00:01:00.000000Z",
            "involvedObject": {"kind": "Node"}, "reportingComponent": "c",
        }));
        let cells = CORE.cells(&event, now);
        assert_eq!(
            (&cells[0], &cells[3], &cells[5], &cells[8]),
            (&json!("30s"), &json!("node"), &json!("c"), &json!(1))
        );
        event.set(
            &["series"],
            json!({"count": 7, "lastObservedTime": "2024-01-01T00:01:20.000000Z"}),
        );
        let cells = CORE.cells(&event, now);
        assert_eq!((&cells[0], &cells[8]), (&json!("10s"), &json!(7)));
    }

    #[test]
    fn an_old_event_is_where_its_object_is() {
        let mut valid = core().into_value();
        valid["metadata"]["namespace"] = json!("default");
        valid["involvedObject"]["namespace"] = json!("default");
        refuses(
            &row(),
            &valid,
            &[(
                "/involvedObject/namespace",
                json!("other"),
                "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
            )],
        );
    }

    #[test]
    fn a_new_event_is_complete_and_does_not_change() {
        let valid = json!({
            "metadata": {"name": "e", "namespace": "default"}, "eventTime": "2024-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "n", "type": "Normal",
            "reason": "R", "action": "A", "reportingController": "example.com/c", "reportingInstance": "i",
        });
        refuses(
            &events_row(),
            &valid,
            &[
                ("/reportingInstance", json!(null), "reportingInstance: Required value"),
                ("/action", json!(""), "action: Required value"),
                (
                    "/type",
                    json!("Odd"),
                    "type: Invalid value: \"\": has invalid value: Odd",
                ),
                (
                    "/note",
                    json!("x".repeat(1025)),
                    "note: Invalid value: \"\": can have at most 1024 characters",
                ),
                (
                    "/deprecatedCount",
                    json!(1),
                    "deprecatedCount: Invalid value: \"\": needs to be unset",
                ),
                (
                    "/series",
                    json!({"count": 1, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}),
                    "series.count: Invalid value: \"\": should be at least 2",
                ),
            ],
        );
        refuses_update(
            &events_row(),
            &valid,
            &[(
                "/reason",
                json!("Q"),
                "reason: Invalid value: \"Q\": field is immutable",
            )],
        );
    }

    #[test]
    fn selectors_reach_the_fields_of_both_versions() {
        let event = core();
        assert_eq!(CORE.selectable_field(&event, "source"), "kubelet");
        assert_eq!(CORE.selectable_field(&event, "involvedObject.kind"), "Pod");
        assert_eq!(CORE.selectable_field(&event, "regarding.kind"), "Pod");
        assert_eq!(CORE.selectable_field(&event, "type"), "Normal");
        assert_eq!(CORE.selectable_field(&event, "reportingController"), "");
    }
}
