//! Custom resources: served from the moment their definition is established until it goes.

use coracle_api::object::Object;
use coracle_api::service::{DeleteOptions, PatchKind};
use serde_json::{Value, json};

use crate::harness::{Cluster, at, named, sub};

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
