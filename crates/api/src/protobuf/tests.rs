//! The transcoder against bytes that kubectl sent, against random objects of every kind, and against damaged bytes.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::*;
use crate::schema::decode::{self, Mode};
use crate::schema::{SchemaOr, Shape, StringFormat};

fn captured(resource: &str) -> Vec<u8> {
    let all = include_str!("../../data/kubectl-bodies.txt");
    let line = all
        .lines()
        .find_map(|l| l.strip_prefix(resource)?.strip_prefix(' '))
        .unwrap();
    let digits: Vec<u32> = line.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[test]
fn a_deployment_that_kubectl_sent_is_what_it_meant() {
    let object = decode_object(&captured("deployments")).unwrap().into_value();
    assert_eq!(
        object,
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "strategy": {},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                    {"name": "nginx", "image": "nginx:1", "ports": [{"containerPort": 80}], "resources": {}}]}}},
            "status": {}})
    );
}

#[test]
fn special_values_that_kubectl_sent_are_what_it_meant() {
    let get = |resource: &str| decode_object(&captured(resource)).unwrap().into_value();
    assert_eq!(get("secrets")["data"], json!({"a": "Yg=="}));
    assert_eq!(get("poddisruptionbudgets")["spec"]["minAvailable"], json!("50%"));
    assert_eq!(
        get("services")["spec"]["ports"],
        json!([{"name": "80-web", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30080}])
    );
    assert_eq!(
        get("resourcequotas")["spec"]["hard"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    assert_eq!(
        get("ingresses")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"],
        json!({"number": 80})
    );
    assert_eq!(get("roles")["rules"][0]["verbs"], json!(["get", "list"]));
    assert_eq!(get("token")["kind"], "TokenRequest");
    assert_eq!(
        get("selfsubjectaccessreviews")["spec"]["resourceAttributes"]["resource"],
        "pods"
    );
}

#[test]
fn whatever_kubectl_sent_survives_being_written_again() {
    for line in include_str!("../../data/kubectl-bodies.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        let resource = line.split(' ').next().unwrap();
        let object = decode_object(&captured(resource)).unwrap();
        let again = decode_object(&encode_object(&object).unwrap()).unwrap();
        assert_eq!(object, again, "{resource}");
        let mut value = object.clone().into_value();
        let node = type_of(object.api_version(), object.kind()).unwrap();
        assert_eq!(
            decode::decode(&mut value, built_in().at(node), Mode::Whole),
            Ok(Default::default())
        );
        assert_eq!(value, object.into_value(), "{resource}");
    }
}

/// A random value of this schema.
fn random(schema: Schema<'_>, rng: &mut StdRng, depth: usize) -> Value {
    let words = ["", "a", "x-y", "é☃", "80", "kube-system"];
    match schema.shape() {
        Shape::Any => [
            json!({"a": null, "b": [1, {}]}),
            json!({}),
            json!([]),
            json!("x"),
            json!(0),
        ]
        .choose(rng)
        .unwrap()
        .clone(),
        Shape::Boolean => rng.random::<bool>().into(),
        Shape::Integer { bits: 32 } => [0, 1, -1, i32::MIN, i32::MAX].choose(rng).copied().unwrap().into(),
        Shape::Integer { .. } => [0, 7, -1, i64::MIN, i64::MAX].choose(rng).copied().unwrap().into(),
        Shape::Number => [0.0, 1.5, -3.0, 1e300].choose(rng).copied().unwrap().into(),
        Shape::String(StringFormat::Plain) => (*words.choose(rng).unwrap()).into(),
        Shape::String(StringFormat::Bytes) => (*["", "aGVsbG8=", "AA=="].choose(rng).unwrap()).into(),
        Shape::String(StringFormat::Duration) => (*["0s", "1m30s", "-5ms"].choose(rng).unwrap()).into(),
        Shape::String(_) => {
            let times = [
                "1970-01-01T00:00:00Z",
                "2024-02-29T12:30:00.123456Z",
                "1969-12-31T23:59:59.5Z",
                "0001-01-01T00:00:00Z",
            ];
            (*times.choose(rng).unwrap()).into()
        }
        Shape::IntOrString => [json!(0), json!(80), json!(-1), json!("web"), json!("")]
            .choose(rng)
            .unwrap()
            .clone(),
        Shape::Quantity => [json!("0"), json!("100m"), json!(1.5), json!("1Gi"), json!("-2e3")]
            .choose(rng)
            .unwrap()
            .clone(),
        Shape::SchemaOr { schema: node, or } => match (rng.random::<bool>(), or) {
            (true, _) => random(schema.other(*node), rng, depth + 1),
            (_, SchemaOr::Bool) => rng.random::<bool>().into(),
            (_, SchemaOr::Array) => json!([random(schema.other(*node), rng, depth + 1)]),
            (_, SchemaOr::Strings) => json!(["a", ""]),
        },
        Shape::List { .. } => {
            let length = if depth > 6 { 0 } else { rng.random_range(0..3) };
            (0..length)
                .map(|_| random(schema.items().unwrap(), rng, depth + 1))
                .collect()
        }
        Shape::Map { .. } => {
            let length = if depth > 6 { 0 } else { rng.random_range(0..3) };
            let entry = |_| {
                (
                    words.choose(rng).unwrap().to_string(),
                    random(schema.values().unwrap(), rng, depth + 1),
                )
            };
            Value::Object((0..length).map(entry).collect())
        }
        Shape::Object(object) => {
            let share = if depth > 4 { 0.1 } else { 0.6 };
            let mut map = Map::new();
            for property in object.properties.iter().filter(|p| p.field.number > 0) {
                if depth < 10 && rng.random_bool(share) {
                    map.insert(
                        property.name.to_string(),
                        random(schema.other(property.node), rng, depth + 1),
                    );
                }
            }
            Value::Object(map)
        }
    }
}

/// A random object of a type as it would be stored.
fn stored(schema: Schema<'_>, rng: &mut StdRng) -> Value {
    let mut value = random(schema, rng, 0);
    assert_eq!(decode::decode(&mut value, schema, Mode::Whole), Ok(Default::default()));
    value
}

#[test]
fn any_object_of_any_type_comes_back_from_protobuf_as_it_was() {
    let mut rng = StdRng::seed_from_u64(1);
    for (name, id) in built_in().types().filter(|(name, _)| !name.contains(".meta.v1.Table")) {
        for _ in 0..8 {
            let schema = built_in().at(id);
            let value = stored(schema, &mut rng);
            let bytes = encode(&value, schema);
            assert_eq!(super::decode(&bytes, schema).unwrap(), value, "{name}");
        }
    }
}

#[test]
fn decoding_what_is_decoded_changes_nothing() {
    let mut rng = StdRng::seed_from_u64(2);
    for (name, id) in built_in().types() {
        let schema = built_in().at(id);
        let value = stored(schema, &mut rng);
        let mut again = value.clone();
        decode::decode(&mut again, schema, Mode::Whole).unwrap();
        assert_eq!(again, value, "{name}");
    }
}

#[test]
fn damaged_bytes_are_an_error_or_an_object_but_never_a_panic() {
    let mut rng = StdRng::seed_from_u64(3);
    for row in built_in().kinds().iter().filter(|k| !k.kind.ends_with("List")) {
        let schema = built_in().at(row.node);
        let good = encode(&stored(schema, &mut rng), schema);
        for _ in 0..40 {
            let mut bad = good.clone();
            for _ in 0..rng.random_range(1..4) {
                if let Some(at) = (0..bad.len()).collect::<Vec<_>>().choose(&mut rng) {
                    bad[*at] = rng.random();
                }
            }
            bad.truncate(rng.random_range(0..=bad.len()));
            let _ = super::decode(&bad, schema);
            let _ = decode_object(&bad);
        }
    }
    assert_eq!(decode_object(b""), Err(ProtobufError::NoPrefix));
    assert_eq!(decode_object(b"{}"), Err(ProtobufError::NoPrefix));
    let pods = wrap("v1", "Pod", &[0x0a, 0x7f, 0x0a]);
    assert_eq!(decode_object(&pods), Err(ProtobufError::UnexpectedEnd));
    assert!(matches!(
        decode_object(&wrap("x/v1", "Thing", b"")),
        Err(ProtobufError::UnknownKind { .. })
    ));
}

#[test]
fn nesting_is_bounded() {
    let props = built_in().type_node("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let schema = built_in().at(props.unwrap());
    let mut bytes = Vec::new();
    for _ in 0..5_000 {
        let mut out = Writer::default();
        // `not` is field 28.
        out.bytes(28, &bytes);
        bytes = out.finish();
    }
    assert_eq!(super::decode(&bytes, schema), Err(ProtobufError::TooDeep));
}

#[test]
fn packed_numbers_are_read_too() {
    let schema = built_in().at(built_in().type_node("io.k8s.api.core.v1.PodSecurityContext").unwrap());
    let mut out = Writer::default();
    // supplementalGroups, packed and then alone.
    out.bytes(4, &[1, 0x80, 2]);
    out.varint_field(4, 3);
    assert_eq!(
        super::decode(&out.finish(), schema).unwrap(),
        json!({"supplementalGroups": [1, 256, 3]})
    );
}

#[test]
fn a_list_has_its_metadata_and_its_items() {
    let schema = built_in().at(type_of("v1", "ConfigMap").unwrap());
    let items: Vec<Vec<u8>> = ["a", "b"]
        .iter()
        .map(|n| encode(&json!({"metadata": {"name": n}}), schema))
        .collect();
    let head = ListHead {
        resource_version: "7".into(),
        continue_token: "next".into(),
        remaining: Some(3),
    };
    let bytes = encode_list("v1", "ConfigMapList", &head, items.iter().map(Vec::as_slice));
    assert_eq!(
        decode_object(&bytes).unwrap().into_value(),
        json!({"apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": {"resourceVersion": "7", "continue": "next", "remainingItemCount": 3},
            "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]})
    );
}

#[test]
fn a_watch_frame_holds_the_event_behind_its_length() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}, "status": {}});
    let object = Object::from_value(pod).unwrap();
    let frame = encode_watch_frame("ADDED", &encode_object(&object).unwrap());
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(length as usize, frame.len() - 4);
    assert_eq!(decode_watch_event(&frame[4..]).unwrap(), ("ADDED".to_owned(), object));
}

#[test]
fn delete_options_travel_under_any_version() {
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan",
        "preconditions": {"uid": "u"}});
    let object = Object::from_value(options).unwrap();
    assert_eq!(decode_object(&encode_object(&object).unwrap()).unwrap(), object);
}
