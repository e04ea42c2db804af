//! The hot paths of an object: decoding, defaulting, validating, encoding as JSON and protobuf, selecting, booking owners.
//!
//! ```sh
//! cargo bench -p coracle-api
//! ```
#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::sync::{Arc, LazyLock};

use coracle_api::field::{Cursor, ErrorList};
use coracle_api::object::{Object, StoredObject};
use coracle_api::patch::fields::FieldSet;
use coracle_api::patch::managed::{self, Form, Manager};
use coracle_api::resource::{Registry, Resource};
use coracle_api::schema::decode::{Mode, decode};
use coracle_api::schema::parse::parse_json;
use coracle_api::selector::LabelSelector;
use coracle_api::{meta, protobuf};
use divan::{Bencher, black_box};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// The kinds that are measured: small and flat, and large and deep.
const KINDS: [&str; 2] = ["ConfigMap", "Pod"];

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::built_in);

fn row(kind: &str) -> Arc<Resource> {
    REGISTRY.table().by_kind("", "v1", kind).unwrap().clone()
}

/// As a client sends it.
fn sent(kind: &str) -> Value {
    let metadata =
        json!({"name": "web-0", "namespace": "default", "labels": {"app": "web", "tier": "front", "version": "7"}});
    match kind {
        "ConfigMap" => json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "value ".repeat(100)},
        }),
        _ => json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {
                "nodeSelector": {"disk": "fast"},
                "initContainers": [{"name": "prepare", "image": "registry.example/tools:1", "command": ["sh", "-c", "true"]}],
                "containers": [{
                    "name": "web", "image": "registry.example/web:7",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "env": [
                        {"name": "MODE", "value": "production"},
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    ],
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5},
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}],
                }],
                "volumes": [{"name": "config", "configMap": {"name": "web"}}],
                "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
            },
        }),
    }
}

fn object(kind: &str) -> Object {
    Object::from_value(sent(kind)).unwrap()
}

fn defaulted(kind: &str) -> Object {
    let mut object = object(kind);
    row(kind).strategy.set_defaults(&mut object);
    object
}

fn booked(live: Option<&Object>, mut new: Object, row: &Resource) -> Object {
    let reset = FieldSet::of_fields(&[&["status"]]);
    let form = Form {
        api_version: "v1",
        kind: &row.kind,
        schema: row.schema(),
        reset: &reset,
    };
    let by = Manager {
        name: "bench",
        subresource: "",
        time: jiff::Timestamp::UNIX_EPOCH,
    };
    managed::update(live, &mut new, &form, &by);
    new
}

#[divan::bench(args = KINDS)]
fn decode_json(bencher: Bencher<'_, '_>, kind: &str) {
    let (row, bytes) = (row(kind), serde_json::to_vec(&sent(kind)).unwrap());
    bencher.bench(|| {
        let (mut value, _) = parse_json(black_box(&bytes)).unwrap();
        decode(&mut value, row.schema(), Mode::Whole).unwrap();
        value
    });
}

#[divan::bench(args = KINDS)]
fn decode_protobuf(bencher: Bencher<'_, '_>, kind: &str) {
    let bytes = protobuf::encode_object(&object(kind)).unwrap();
    bencher.bench(|| protobuf::decode_object(black_box(&bytes)).unwrap());
}

#[divan::bench(args = KINDS)]
fn set_defaults(bencher: Bencher<'_, '_>, kind: &str) {
    let row = row(kind);
    bencher.with_inputs(|| object(kind)).bench_values(|mut object| {
        row.strategy.set_defaults(&mut object);
        object
    });
}

#[divan::bench(args = KINDS)]
fn validate(bencher: Bencher<'_, '_>, kind: &str) {
    let (row, value) = (row(kind), defaulted(kind).into_value());
    bencher.bench(|| {
        let (at, mut errors) = (Cursor::root(black_box(&value), Some(row.schema())), ErrorList::new());
        meta::validate(&at, row.is_namespaced(), row.strategy.name_rule(), &mut errors);
        row.strategy.validate(&at, &mut errors);
        assert!(errors.is_empty());
    });
}

#[divan::bench(args = KINDS)]
fn store_object(bencher: Bencher<'_, '_>, kind: &str) {
    bencher
        .with_inputs(|| defaulted(kind))
        .bench_values(|object| StoredObject::from_object(object).unwrap());
}

#[divan::bench(args = KINDS)]
fn encode_json(bencher: Bencher<'_, '_>, kind: &str) {
    let raw = StoredObject::from_object(defaulted(kind)).unwrap().raw().clone();
    let stored = StoredObject::from_bytes(raw, 1_000_000).unwrap();
    let mut out = Vec::with_capacity(1 << 16);
    bencher.bench_local(|| {
        out.clear();
        black_box(&stored).write_json(&mut out);
        out.len()
    });
}

#[divan::bench(args = KINDS)]
fn encode_protobuf(bencher: Bencher<'_, '_>, kind: &str) {
    let object = defaulted(kind);
    bencher.bench(|| protobuf::encode_object(black_box(&object)).unwrap());
}

#[divan::bench]
fn match_labels(bencher: Bencher<'_, '_>) {
    let stored = StoredObject::from_object(object("Pod")).unwrap();
    let selector = LabelSelector::parse("app=web,tier in (front,back),version!=8,canary notin (yes)").unwrap();
    bencher.bench(|| assert!(black_box(&selector).matches_head(black_box(stored.head()))));
}

#[divan::bench(args = KINDS)]
fn book_fields_of_a_create(bencher: Bencher<'_, '_>, kind: &str) {
    let row = row(kind);
    bencher
        .with_inputs(|| defaulted(kind))
        .bench_values(|new| booked(None, new, &row));
}

#[divan::bench(args = KINDS)]
fn book_fields_of_an_update(bencher: Bencher<'_, '_>, kind: &str) {
    let row = row(kind);
    let live = booked(None, defaulted(kind), &row);
    bencher
        .with_inputs(|| {
            let mut new = live.clone();
            new.set(&["metadata", "labels", "version"], "8");
            new
        })
        .bench_values(|new| booked(Some(&live), new, &row));
}
