//! The documents as clients read them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::resource::Registry;
use crate::schema::custom::from_schema;

fn documents() -> (OpenApi, Registry) {
    (OpenApi::new("v1.37.0"), Registry::built_in())
}

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.plain()).unwrap()
}

/// All `$ref`s in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.insert(reference.clone());
            }
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn the_index_lists_every_group_version_with_a_document_behind_it() {
    let (open_api, registry) = documents();
    let table = registry.table();
    let index: Value = serde_json::from_slice(&open_api.index(&table)).unwrap();
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for (path, entry) in paths {
        let document = open_api.v3(&table, path).unwrap();
        let url = entry["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, format!("/openapi/v3/{path}?hash={}", document.etag));
    }
    assert!(open_api.v3(&table, "apis/none/v1").is_none());
}

#[test]
fn every_reference_in_every_document_leads_somewhere() {
    let (open_api, registry) = documents();
    let table = registry.table();
    let mut all = vec![parsed(&open_api.v2(&table))];
    all.extend(
        group_versions(&table)
            .keys()
            .map(|path| parsed(&open_api.v3(&table, path).unwrap())),
    );
    for document in all {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn types_carry_what_patches_and_explain_need() {
    let (open_api, registry) = documents();
    let document = parsed(&open_api.v3(&registry.table(), "api/v1").unwrap());
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
    assert_eq!(spec["required"], json!(["containers"]));
    let containers = &spec["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    let container = "#/components/schemas/io.k8s.api.core.v1.Container";
    assert_eq!(
        containers["items"],
        json!({"allOf": [{"$ref": container}], "default": {}})
    );
    assert_eq!(
        spec["properties"]["volumes"]["x-kubernetes-patch-strategy"],
        "merge,retainKeys"
    );
    assert_eq!(
        spec["properties"]["restartPolicy"]["enum"],
        json!(["Always", "Never", "OnFailure"])
    );
    let port = &schemas["io.k8s.api.core.v1.ContainerPort"]["properties"];
    assert_eq!(port["containerPort"]["default"], 0);
    assert_eq!(port["protocol"]["default"], "TCP");
    assert_eq!(
        schemas["io.k8s.api.core.v1.LocalObjectReference"]["x-kubernetes-map-type"],
        "atomic"
    );
    let gvk = json!([{"group": "", "kind": "Pod", "version": "v1"}]);
    assert_eq!(
        schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"],
        gvk
    );
    assert!(
        schemas["io.k8s.api.core.v1.Pod"]["description"]
            .as_str()
            .unwrap()
            .starts_with("Pod is")
    );
}

#[test]
fn patch_operations_name_their_kind_and_their_parameters() {
    let (open_api, registry) = documents();
    let table = registry.table();
    let v3 = parsed(&open_api.v3(&table, "apis/apps/v1").unwrap());
    let v2 = parsed(&open_api.v2(&table));
    for document in [v3, v2] {
        let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["x-kubernetes-action"], "patch");
        let gvk = json!({"group": "apps", "kind": "Deployment", "version": "v1"});
        assert_eq!(patch["x-kubernetes-group-version-kind"], gvk);
        let names: Vec<&str> = patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    }
}

/// A row for `widgets.example.com`.
fn widget(size: &str) -> Resource {
    let pods = Registry::built_in().table();
    let mut row = Resource::clone(pods.get("", "v1", "configmaps").unwrap());
    let (schema, root) = from_schema(Some(
        &json!({"type": "object", "description": "A widget.", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": size, "nullable": true}}}}}),
    ));
    row.group = "example.com".into();
    row.kind = "Widget".into();
    row.plural = "widgets".into();
    row.custom = true;
    row.protobuf = false;
    row.schema = Arc::new(schema);
    row.schema_root = root;
    row
}

#[test]
fn custom_resources_are_published_and_change_only_their_own_document() {
    let (open_api, registry) = documents();
    registry.set_custom("example.com", "widgets", vec![widget("integer")]);
    let before = registry.table();
    let document = parsed(&open_api.v3(&before, "apis/example.com/v1").unwrap());
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["type"], "integer");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    assert!(document["components"]["schemas"]["com.example.v1.WidgetList"].is_object());
    let v2 = parsed(&open_api.v2(&before));
    let size = &v2["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]["size"];
    assert_eq!(
        *size,
        json!({}),
        "null must be acceptable to readers that know no nullable"
    );

    registry.set_custom("example.com", "widgets", vec![widget("string")]);
    let after = registry.table();
    let etag = |table: &Table, path: &str| open_api.v3(table, path).unwrap().etag;
    assert_ne!(
        etag(&before, "apis/example.com/v1"),
        etag(&after, "apis/example.com/v1")
    );
    assert_eq!(etag(&before, "apis/apps/v1"), etag(&after, "apis/apps/v1"));
}

#[test]
fn version_2_has_a_protobuf_form() {
    let (open_api, registry) = documents();
    let bytes = open_api.v2_protobuf(&registry.table()).plain();
    // Field 1, swagger.
    assert_eq!(&bytes[..5], b"\x0a\x032.0");
    let needle = b"#/definitions/io.k8s.api.apps.v1.DeploymentSpec";
    assert!(bytes.windows(needle.len()).any(|w| w == needle));
}
