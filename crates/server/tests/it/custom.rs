//! Custom resources: served from the moment their definition is established until it goes.

use std::time::Duration;

use coracle_api::object::Object;
use coracle_api::service::{DeleteOptions, ListOptions, Operation, PatchKind, WriteOptions};
use coracle_clock::Clock;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{Cluster, at, named, object, options, sub};

const DEFINITIONS: &str = "/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "example.com/v1/things";

fn definition() -> Value {
    json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList", "shortNames": ["th"]},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["color"],
                            "properties": {
                                "size": {"type": "integer", "minimum": 1, "default": 3},
                                "color": {"type": "string", "enum": ["red", "blue"]},
                            },
                        },
                        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    },
                }},
            }],
        },
    })
}

fn established(definition: &Object) -> bool {
    definition
        .array(&["status", "conditions"])
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

async fn with_things() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.create(at(DEFINITIONS), definition()).await.unwrap();
    cluster
        .wait(named(DEFINITIONS, "things.example.com"), established)
        .await;
    cluster
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
}

#[tokio::test]
async fn an_established_kind_is_defaulted_pruned_and_validated_by_its_schema() {
    let cluster = with_things().await;
    let made = cluster
        .create(at(THINGS), thing(json!({"color": "red", "odd": 1})))
        .await
        .unwrap();
    assert_eq!(made.get(&["spec"]), Some(&json!({"color": "red", "size": 3})));
    assert_eq!(made.generation(), 1);
    for (spec, text) in [
        (
            json!({"color": "green"}),
            "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
        ),
        (
            json!({"color": "red", "size": 0}),
            "spec.size in body should be greater than or equal to 1",
        ),
        (json!({"size": 1}), "spec.color: Required value"),
        (json!({"color": 5}), "must be of type string"),
    ] {
        let refused = cluster.create(at(THINGS), thing(spec)).await.unwrap_err();
        assert_eq!(refused.code, 422, "{}", refused.message);
        assert!(refused.message.contains(text), "{}", refused.message);
    }
    let status = json!({"status": {"size": 2}, "spec": {"size": 9}});
    let changed = cluster
        .patch(sub(THINGS, "a", "status"), PatchKind::Merge, status)
        .await
        .unwrap();
    assert_eq!(
        (changed.i64(&["status", "size"]), changed.i64(&["spec", "size"])),
        (Some(2), Some(3))
    );
    let scale = cluster.get(sub(THINGS, "a", "scale")).await.unwrap();
    assert_eq!(
        (scale.i64(&["spec", "replicas"]), scale.i64(&["status", "replicas"])),
        (Some(3), Some(2))
    );
}

#[tokio::test]
async fn a_definition_goes_after_its_objects() {
    let cluster = with_things().await;
    cluster
        .create(at(THINGS), thing(json!({"color": "red"})))
        .await
        .unwrap();
    cluster
        .delete(named(DEFINITIONS, "things.example.com"), DeleteOptions::default())
        .await
        .unwrap();
    cluster.wait_gone(named(DEFINITIONS, "things.example.com")).await;
    let again = cluster.create(at(DEFINITIONS), definition()).await.unwrap();
    assert!(!again.uid().is_empty());
    cluster
        .wait(named(DEFINITIONS, "things.example.com"), established)
        .await;
    assert!(cluster.get(named(THINGS, "a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_custom_kind_is_discovered_and_printed_like_any_other() {
    let cluster = with_things().await;
    cluster
        .create(at(THINGS), thing(json!({"color": "red"})))
        .await
        .unwrap();
    let mut http = cluster.http(true).await;
    let groups = http.get("/apis").await.json();
    assert!(
        groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|g| g["name"] == "example.com")
    );
    let resources = http.get("/apis/example.com/v1").await.json();
    assert_eq!(resources["resources"][0]["shortNames"], json!(["th"]));
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/apis/example.com/v1/namespaces/default/things";
    let table = http.send(http::Method::GET, path, &accept, "").await.json();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3]));
    let document = http.get("/openapi/v3/apis/example.com/v1").await;
    assert!(document.text().contains("example.com"), "{}", document.code);
}

/// The definition of things with another schema of their spec.
fn with_spec(spec: Value) -> Value {
    let mut whole = definition();
    whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec;
    whole
}

async fn defined(definition: Value) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.create(at(DEFINITIONS), definition).await.unwrap();
    cluster
        .wait(named(DEFINITIONS, "things.example.com"), established)
        .await;
    cluster
}

/// Changes the stored definition and waits until it is in force.
async fn redefine(cluster: &Cluster, change: impl Fn(&mut Value)) {
    let stored = cluster.get(named(DEFINITIONS, "things.example.com")).await.unwrap();
    let mut value = stored.into_value();
    change(&mut value);
    let before = cluster.server.service().registry().table().generation;
    cluster
        .update(named(DEFINITIONS, "things.example.com"), object(value))
        .await
        .unwrap();
    // Requests go by the old table until the definition's follower has seen the new state.
    let in_force = async {
        while cluster.server.service().registry().table().generation == before {
            tokio::task::yield_now().await;
        }
    };
    Clock::system()
        .timeout(Duration::from_secs(20), in_force)
        .await
        .expect("the definition never came into force");
}

#[tokio::test]
async fn a_definition_with_a_mistake_is_refused_and_told_where() {
    let cluster = Cluster::start().await;
    let spec = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.b > 0"}]});
    let refused = cluster.create(at(DEFINITIONS), with_spec(spec)).await.unwrap_err();
    assert_eq!(refused.code, 422);
    let place = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value";
    assert!(refused.message.contains(place), "{}", refused.message);
    assert!(refused.message.contains("undefined field 'b'"), "{}", refused.message);
    let spec = json!({"type": "object", "properties": {"a": {"properties": {"b": {"type": "string"}}}}});
    let refused = cluster.create(at(DEFINITIONS), with_spec(spec)).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("properties[a].type: Required value: must not be empty for specified object fields"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn rules_are_kept_on_create_update_and_status() {
    let spec = json!({"type": "object", "required": ["min", "max"],
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "messageExpression": "'min %d exceeds max %d'.format([self.min, self.max])", "fieldPath": ".min"},
            {"rule": "self.max >= oldSelf.max", "message": "max cannot shrink", "reason": "FieldValueForbidden"}],
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "size": {"type": "integer"}}});
    let cluster = defined(with_spec(spec)).await;
    let refused = cluster
        .create(at(THINGS), thing(json!({"min": 3, "max": 2})))
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        "Thing.example.com \"a\" is invalid: spec.min: Invalid value: \"object\": min 3 exceeds max 2"
    );
    cluster
        .create(at(THINGS), thing(json!({"min": 1, "max": 2})))
        .await
        .unwrap();
    let shrink = json!({"spec": {"max": 1}});
    let refused = cluster
        .patch(named(THINGS, "a"), PatchKind::Merge, shrink)
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        "Thing.example.com \"a\" is invalid: spec: Forbidden: max cannot shrink"
    );
    let grow = json!({"spec": {"max": 5}});
    cluster.patch(named(THINGS, "a"), PatchKind::Merge, grow).await.unwrap();
}

#[tokio::test]
async fn what_was_fine_when_it_was_stored_does_not_stand_in_the_way_of_other_changes() {
    let spec = |pattern: &str| {
        json!({"type": "object", "properties": {
            "a": {"type": "string", "pattern": pattern, "x-kubernetes-validations": [{"rule": format!("self.matches('{pattern}')")}]},
            "b": {"type": "string", "maxLength": 5}}})
    };
    let cluster = defined(with_spec(spec("^.*$"))).await;
    cluster
        .create(at(THINGS), thing(json!({"a": "Old", "b": "x"})))
        .await
        .unwrap();
    redefine(&cluster, |value| {
        value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec("^[a-z]+$");
    })
    .await;
    let patch = |value: Value| cluster.patch(named(THINGS, "a"), PatchKind::Merge, json!({"spec": value}));
    patch(json!({"b": "y"})).await.unwrap();
    let refused = patch(json!({"a": "Other"})).await.unwrap_err();
    assert!(
        refused.message.contains("should match '^[a-z]+$'"),
        "{}",
        refused.message
    );
    let refused = cluster.create(at(THINGS), {
        let mut other = thing(json!({"a": "Old"}));
        other["metadata"]["name"] = "b".into();
        other
    });
    assert_eq!(refused.await.unwrap_err().code, 422);
    patch(json!({"a": "new"})).await.unwrap();
}

#[tokio::test]
async fn keyed_lists_are_applied_by_their_keys_and_have_none_twice() {
    let spec = json!({"type": "object", "properties": {
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}}}});
    let cluster = defined(with_spec(spec)).await;
    let apply = async |manager: &str, ports: Value| {
        let options = WriteOptions {
            field_manager: manager.into(),
            ..options()
        };
        let patch = thing(json!({"ports": ports}));
        let kind = PatchKind::Apply;
        cluster
            .call(named(THINGS, "a"), Operation::Patch { kind, patch, options })
            .await
    };
    apply("one", json!([{"name": "http", "port": 80}])).await.unwrap();
    apply("two", json!([{"name": "https", "port": 443}])).await.unwrap();
    let both = cluster.get(named(THINGS, "a")).await.unwrap();
    assert_eq!(
        both.get(&["spec", "ports"]),
        Some(&json!([{"name": "http", "port": 80}, {"name": "https", "port": 443}]))
    );
    let conflict = apply("two", json!([{"name": "http", "port": 81}])).await.err().unwrap();
    assert!(
        conflict.message.contains(".spec.ports[name=\"http\"].port"),
        "{}",
        conflict.message
    );
    apply("one", json!([])).await.unwrap();
    let left = cluster.get(named(THINGS, "a")).await.unwrap();
    assert_eq!(
        left.get(&["spec", "ports"]),
        Some(&json!([{"name": "https", "port": 443}]))
    );
    let twice = json!({"spec": {"ports": [{"name": "a"}, {"name": "a"}]}});
    let refused = cluster
        .patch(named(THINGS, "a"), PatchKind::Merge, twice)
        .await
        .unwrap_err();
    assert!(
        refused
            .message
            .contains("spec.ports[1]: Duplicate value: {\"name\":\"a\"}"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn every_served_version_shows_the_same_objects() {
    let mut whole = definition();
    let mut second = whole["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    whole["spec"]["versions"].as_array_mut().unwrap().push(second);
    whole["spec"]["names"]["listKind"] = "ThingCollection".into();
    let cluster = defined(whole).await;
    cluster
        .create(at(THINGS), thing(json!({"color": "red"})))
        .await
        .unwrap();
    let newer = THINGS.replace("/v1/", "/v2/");
    let seen = cluster.get(named(&newer, "a")).await.unwrap();
    assert_eq!(seen.api_version(), "example.com/v2");
    let select = |color: &str| ListOptions {
        field_selector: format!("spec.color={color}"),
        ..ListOptions::default()
    };
    assert_eq!(cluster.list(at(&newer), select("red")).await.unwrap().items.len(), 1);
    assert_eq!(cluster.list(at(&newer), select("blue")).await.unwrap().items.len(), 0);
    assert_eq!(cluster.list(at(THINGS), select("red")).await.err().unwrap().code, 400);
    let mut http = cluster.http(true).await;
    let list = http.get("/apis/example.com/v1/things").await.json();
    assert_eq!(list["kind"], "ThingCollection");
    // The storage version moves, and the old one has to stay.
    redefine(&cluster, |value| {
        value["spec"]["versions"][0]["storage"] = false.into();
        value["spec"]["versions"][1]["storage"] = true.into();
    })
    .await;
    // What was stored before is shown in each version under its name, with the defaults of now.
    redefine(&cluster, |value| {
        let properties = "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties";
        value.pointer_mut(properties).unwrap()["late"] = json!({"type": "string", "default": "here"});
    })
    .await;
    let seen = cluster.get(named(&newer, "a")).await.unwrap();
    assert_eq!(
        (seen.api_version(), seen.str(&["spec", "late"])),
        ("example.com/v2", Some("here"))
    );
    assert_eq!(
        cluster.get(named(THINGS, "a")).await.unwrap().api_version(),
        "example.com/v1"
    );
    let list = cluster.list(at(&newer), ListOptions::default()).await.unwrap();
    assert_eq!(list.items[0].to_object().str(&["spec", "late"]), Some("here"));
    let mut watched = http
        .open(http::Method::GET, "/apis/example.com/v2/things?watch=1", &[], "")
        .await;
    let line = watched.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(
        (&line["object"]["apiVersion"], &line["object"]["spec"]["late"]),
        (&json!("example.com/v2"), &json!("here"))
    );
    let stored = cluster.get(named(DEFINITIONS, "things.example.com")).await.unwrap();
    assert_eq!(stored.get(&["status", "storedVersions"]), Some(&json!(["v1", "v2"])));
    let mut without = stored.into_value();
    without["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = cluster
        .update(named(DEFINITIONS, "things.example.com"), object(without))
        .await
        .unwrap_err();
    assert!(
        refused
            .message
            .contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn strict_validation_names_the_fields_that_nobody_knows() {
    let cluster = with_things().await;
    let mut http = cluster.http(true).await;
    let body = thing(json!({"color": "red", "odd": 1})).to_string();
    let json = [("content-type", "application/json")];
    let path = "/apis/example.com/v1/namespaces/default/things";
    let strict = format!("{path}?fieldValidation=Strict");
    let refused = http.send(http::Method::POST, &strict, &json, body.clone()).await;
    assert_eq!(refused.code, 400);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("strict decoding error: unknown field \"spec.odd\""),
        "{message}"
    );
    let warned = http.send(http::Method::POST, path, &json, body).await;
    assert_eq!(warned.code, 201);
    let warning = warned.headers.get("warning").unwrap().to_str().unwrap();
    assert!(warning.contains("unknown field \\\"spec.odd\\\""), "{warning}");
}

#[tokio::test]
async fn a_definition_waits_for_objects_that_somebody_holds() {
    let cluster = with_things().await;
    let mut held = thing(json!({"color": "red"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(at(THINGS), held).await.unwrap();
    cluster
        .delete(named(DEFINITIONS, "things.example.com"), DeleteOptions::default())
        .await
        .unwrap();
    let going = |definition: &Object| {
        let conditions = definition.array(&["status", "conditions"]);
        conditions
            .iter()
            .any(|c| c["type"] == "Terminating" && c["status"] == "True" && c["reason"] == "InstanceDeletionInProgress")
    };
    cluster.wait(named(DEFINITIONS, "things.example.com"), going).await;
    cluster.wait(named(THINGS, "a"), Object::is_terminating).await;
    let refused = cluster
        .create(at(THINGS), thing(json!({"color": "red"})))
        .await
        .unwrap_err();
    assert_eq!(refused.code, 405, "{}", refused.message);
    let release = json!({"metadata": {"finalizers": null}});
    cluster
        .patch(named(THINGS, "a"), PatchKind::Merge, release)
        .await
        .unwrap();
    cluster.wait_gone(named(DEFINITIONS, "things.example.com")).await;
}

#[tokio::test]
async fn clients_of_a_deprecated_version_are_warned() {
    let mut whole = definition();
    let mut second = whole["spec"]["versions"][0].clone();
    second["name"] = "v1beta1".into();
    second["storage"] = false.into();
    second["deprecated"] = true.into();
    whole["spec"]["versions"].as_array_mut().unwrap().push(second);
    let cluster = defined(whole).await;
    let mut http = cluster.http(true).await;
    let fine = http.get("/apis/example.com/v1/things").await;
    assert!(fine.headers.get("warning").is_none());
    let warned = http.get("/apis/example.com/v1beta1/things").await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"example.com/v1beta1 Thing is deprecated; use example.com/v1 Thing\""
    );
}

#[tokio::test]
async fn names_that_become_free_are_taken_by_who_waited_for_them() {
    let cluster = with_things().await;
    let mut other = definition();
    other["metadata"]["name"] = "objects.example.com".into();
    other["spec"]["names"]["plural"] = "objects".into();
    cluster.create(at(DEFINITIONS), other).await.unwrap();
    let refused = |definition: &Object| {
        let conditions = definition.array(&["status", "conditions"]);
        conditions
            .iter()
            .any(|c| c["type"] == "NamesAccepted" && c["status"] == "False" && c["reason"] == "SingularConflict")
    };
    cluster.wait(named(DEFINITIONS, "objects.example.com"), refused).await;
    cluster
        .delete(named(DEFINITIONS, "things.example.com"), DeleteOptions::default())
        .await
        .unwrap();
    cluster
        .wait(named(DEFINITIONS, "objects.example.com"), established)
        .await;
}
