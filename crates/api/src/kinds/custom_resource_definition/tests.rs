//! Definitions by tables: one thing wrong, and the one error that says so.

use serde_json::{Value, json};

use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::strategy::Strategy as _;

use super::CustomResourceDefinition;

mod schema;

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {
                    "size": {"type": "integer"}, "name": {"type": "string"},
                    "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                        "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}}}}}}}}}]},
    })
}

fn defaulted(value: Value) -> Value {
    let mut object = Object::from_value(value).unwrap();
    CustomResourceDefinition.set_defaults(&mut object);
    object.into_value()
}

fn errors(value: Value) -> Vec<String> {
    let value = defaulted(value);
    let mut errors = ErrorList::new();
    CustomResourceDefinition.validate(&Cursor::root(&value, None), &mut errors);
    errors.as_slice().iter().map(ToString::to_string).collect()
}

/// The definition with a value at a pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut whole = definition();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = whole.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        parent => parent[key] = value,
    }
    whole
}

#[test]
fn a_plain_definition_is_completed_and_accepted() {
    assert_eq!(errors(definition()), Vec::<String>::new());
    let done = defaulted(definition());
    assert_eq!(done["spec"]["names"]["singular"], "thing");
    assert_eq!(done["spec"]["names"]["listKind"], "ThingList");
    assert_eq!(done["spec"]["conversion"], json!({"strategy": "None"}));
}

#[test]
fn each_mistake_of_the_spec_is_told_where_it_is() {
    for (pointer, value, expected) in [
        (
            "/metadata/name",
            json!("other.example.com"),
            "metadata.name: Invalid value: \"other.example.com\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "/spec/scope",
            json!("Galaxy"),
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            "/spec/versions/0/storage",
            json!(false),
            "must have exactly one version marked as storage version",
        ),
        (
            "/spec/versions/0/schema",
            json!(null),
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            "/spec/names/listKind",
            json!("Thing"),
            "spec.names.listKind: Invalid value: \"Thing\": kind and listKind may not be the same",
        ),
        (
            "/spec/names/shortNames",
            json!(["A B"]),
            "spec.names.shortNames[0]: Invalid value: \"A B\": a DNS-1035 label must consist",
        ),
        (
            "/spec/preserveUnknownFields",
            json!(true),
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Magic"}),
            "spec.conversion.strategy: Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\"",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"}}}),
            "spec.conversion.conversionReviewVersions: Required value",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"},
                "conversionReviewVersions": ["v1", "v1"]}}),
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"},
                "conversionReviewVersions": ["v2"]}}),
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"clientConfig": {"service": {"name": "s", "namespace": "n",
                "port": 443, "path": "/a//b"}}, "conversionReviewVersions": ["v1"]}}),
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "thing", "jsonPath": ".a"}]),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"thing\": must be one of boolean,date,integer,number,string",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "string", "jsonPath": "a"}]),
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "string", "format": "name", "jsonPath": ".a"}]),
            "spec.additionalPrinterColumns[0].format: Invalid value: \"name\": must be one of \
             byte,date,date-time,double,float,int32,int64,password",
        ),
        (
            "/spec/versions/0/deprecationWarning",
            json!("old"),
            "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.name"}, {"jsonPath": ".spec.name"}]),
            "spec.selectableFields[1].jsonPath: Duplicate value: \".spec.name\"",
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec['name']"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec['name']\": is an invalid path: array notation is not \
             allowed",
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.other"}]),
            "is an invalid path: does not refer to a valid field",
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".spec.x", "statusReplicasPath": ".status.x", "labelSelectorPath": ".x"}}),
            "spec.subresources.scale.labelSelectorPath: Invalid value: \".x\": should be a json path under either .spec or \
             .status",
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.replicas"}}),
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.ports"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.ports\": must point to a field of type",
        ),
    ] {
        let found = errors(with(pointer, value));
        assert_eq!(found.len(), 1, "{pointer}: {found:?}");
        assert!(found[0].contains(expected), "{pointer}: {found:?}");
    }
}

#[test]
fn what_is_stored_may_not_be_forgotten() {
    let mut old = defaulted(definition());
    old["status"] = json!({"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": "True"}]});
    let mut new = old.clone();
    new["spec"]["versions"][0]["name"] = "v2".into();
    new["spec"]["scope"] = "Cluster".into();
    let mut errors = ErrorList::new();
    CustomResourceDefinition.validate_update(&Cursor::root(&new, None), &Cursor::root(&old, None), &mut errors);
    let errors: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors[0], "spec.scope: Invalid value: \"Cluster\": field is immutable");
    assert!(errors[1].starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1"));
}

#[test]
fn a_deprecation_is_printable_and_short() {
    let warning = |text: &str| {
        let mut whole = with("/spec/versions/0/deprecated", json!(true));
        whole["spec"]["versions"][0]["deprecationWarning"] = json!(text);
        errors(whole)
    };
    assert_eq!(warning("use v2"), [""; 0]);
    for (text, expected) in [
        ("", "must not be an empty string"),
        (&"x".repeat(257), "must be <= 256 characters long"),
        (
            "a\nb",
            "must only contain printable UTF-8 characters; non-printable character found at index 1",
        ),
    ] {
        let told = format!("spec.versions[0].deprecationWarning: Invalid value: {text:?}: {expected}");
        assert_eq!(warning(text), [told]);
    }
}

#[test]
fn the_first_version_is_told_twice() {
    let found = errors(with("/spec/versions/0/name", json!("V1")));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label"));
    assert!(found[1].starts_with("spec.version: Invalid value: \"V1\": a DNS-1035 label"));
}

/// What is told of a change of a stored definition.
fn changed(old: &Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let old = defaulted(old.clone());
    let mut new = old.clone();
    change(&mut new);
    let new = defaulted(new);
    let mut errors = ErrorList::new();
    CustomResourceDefinition.validate_update(&Cursor::root(&new, None), &Cursor::root(&old, None), &mut errors);
    errors.as_slice().iter().map(ToString::to_string).collect()
}

#[test]
fn a_change_is_judged_by_what_was_there() {
    let established = json!([{"type": "Established", "status": "True"}]);
    let webhook = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a", "caBundle": "Cg=="},
        "conversionReviewVersions": ["v1"]}});
    let fault = "spec.conversion.webhookClientConfig.caBundle: Invalid value: \"Cg==\": unable to load root certificates: \
                 unable to parse bytes as PEM block";
    // A bundle of authorities matters once there may be objects, unless it was as bad before.
    let mut old = definition();
    old["status"] = json!({"storedVersions": ["v1"]});
    let convert = |new: &mut Value| new["spec"]["conversion"] = webhook.clone();
    assert_eq!(errors(with("/spec/conversion", webhook.clone())), [""; 0]);
    assert_eq!(changed(&old, convert), [""; 0]);
    old["status"]["conditions"] = established;
    assert_eq!(changed(&old, convert), [fault]);
    old["spec"]["conversion"] = webhook.clone();
    assert_eq!(changed(&old, |_| {}), [""; 0]);
    // The name is for good, whatever it should have been.
    assert_eq!(
        changed(&old, |new| new["spec"]["group"] = json!("other.example.com")),
        ["spec.group: Invalid value: \"other.example.com\": field is immutable"]
    );
    // A protected group's approval may stay away, but not go.
    let mut protected = old.clone();
    protected["metadata"]["name"] = json!("things.x.k8s.io");
    protected["spec"]["group"] = json!("x.k8s.io");
    assert_eq!(changed(&protected, |_| {}), [""; 0]);
    let approve = |new: &mut Value, by: &str| {
        new["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": by});
    };
    for (by, is_fine) in [
        ("https://github.com/kubernetes/enhancements/pull/1", true),
        ("unapproved, experimental", true),
        ("perhaps", false),
        ("https://", false),
    ] {
        assert_eq!(changed(&protected, |new| approve(new, by)).is_empty(), is_fine, "{by}");
    }
    approve(&mut protected, "unapproved");
    let found = changed(&protected, |new| new["metadata"]["annotations"] = json!({}));
    assert_eq!(
        found,
        [
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \
          \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
        ]
    );
}
