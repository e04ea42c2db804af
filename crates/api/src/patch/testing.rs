//! A small schema with every way of merging in it, and arbitrary objects of any schema. Only for tests.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};

use crate::schema::{
    ListType, Node, NodeId, ObjectShape, PatchStrategy, Property, Schema, SchemaSet, Shape, StringFormat,
};

/// The root of [`pod_schemas`].
pub(super) const POD: NodeId = NodeId(0);

#[derive(Default)]
struct Builder {
    set: SchemaSet,
}

impl Builder {
    fn add(&mut self, shape: Shape) -> NodeId {
        self.set.nodes.push(Node {
            shape,
            nullable: false,
            default: None,
        });
        NodeId(self.set.nodes.len() as u32 - 1)
    }

    fn object(&mut self, properties: &[(&str, NodeId, PatchStrategy)]) -> ObjectShape {
        let mut properties: Vec<Property> = properties
            .iter()
            .map(|(name, node, patch)| Property {
                patch: patch.clone(),
                ..Property::new(name.to_string(), *node)
            })
            .collect();
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        ObjectShape {
            properties,
            ..ObjectShape::default()
        }
    }

    fn list(&mut self, items: NodeId, list_type: ListType) -> NodeId {
        self.add(Shape::List {
            items,
            list_type,
            message: false,
        })
    }
}

fn by(key: &str) -> PatchStrategy {
    PatchStrategy {
        merge: true,
        merge_key: Some(key.to_owned().into()),
        ..PatchStrategy::default()
    }
}

/// Something like a Pod and a Deployment in one: keyed lists, sets, atomic lists and maps, granular maps.
pub(super) fn pod_schemas() -> SchemaSet {
    let mut b = Builder::default();
    let plain = PatchStrategy::default;
    let merge = || PatchStrategy {
        merge: true,
        ..PatchStrategy::default()
    };
    let retain = || PatchStrategy {
        retain_keys: true,
        ..PatchStrategy::default()
    };
    assert_eq!(b.add(Shape::Any), POD);
    let string = b.add(Shape::String(StringFormat::Plain));
    let int = b.add(Shape::Integer { bits: 32 });
    let boolean = b.add(Shape::Boolean);
    let quantity = b.add(Shape::Quantity);
    let int_or_string = b.add(Shape::IntOrString);
    let any = b.add(Shape::Any);
    let strings = b.add(Shape::Map {
        values: string,
        atomic: false,
    });
    let atomic_strings = b.add(Shape::Map {
        values: string,
        atomic: true,
    });
    let quantities = b.add(Shape::Map {
        values: quantity,
        atomic: false,
    });
    let atomic_list = b.list(string, ListType::Atomic);
    let set = b.list(string, ListType::Set);
    let protocol = b.add(Shape::String(StringFormat::Plain));
    b.set.nodes[protocol.0 as usize].default = Some("TCP".into());
    let port = b.object(&[
        ("containerPort", int, plain()),
        ("protocol", protocol, plain()),
        ("name", string, plain()),
    ]);
    let port = b.add(Shape::Object(Box::new(port)));
    let ports = b.list(port, ListType::Map(vec!["containerPort".into(), "protocol".into()]));
    let env = b.object(&[("name", string, plain()), ("value", string, plain())]);
    let env = b.add(Shape::Object(Box::new(env)));
    let env = b.list(env, ListType::Map(vec!["name".into()]));
    let resources = b.object(&[("limits", quantities, plain()), ("requests", quantities, plain())]);
    let resources = b.add(Shape::Object(Box::new(resources)));
    let container = b.object(&[
        ("name", string, plain()),
        ("image", string, plain()),
        ("args", atomic_list, plain()),
        ("env", env, by("name")),
        ("ports", ports, by("containerPort")),
        ("resources", resources, plain()),
        ("stdin", boolean, plain()),
    ]);
    let container = b.add(Shape::Object(Box::new(container)));
    let containers = b.list(container, ListType::Map(vec!["name".into()]));
    let rolling = b.object(&[("maxSurge", int_or_string, plain())]);
    let rolling = b.add(Shape::Object(Box::new(rolling)));
    let strategy = b.object(&[("type", string, plain()), ("rollingUpdate", rolling, plain())]);
    let strategy = b.add(Shape::Object(Box::new(strategy)));
    let mut selector = b.object(&[("matchLabels", strings, plain())]);
    selector.atomic = true;
    let selector = b.add(Shape::Object(Box::new(selector)));
    let spec = b.object(&[
        ("replicas", int, plain()),
        ("nodeName", string, plain()),
        ("args", atomic_list, plain()),
        ("finalizers", set, merge()),
        ("containers", containers, by("name")),
        ("nodeSelector", atomic_strings, plain()),
        ("strategy", strategy, retain()),
        ("selector", selector, plain()),
        ("anything", any, plain()),
    ]);
    let spec = b.add(Shape::Object(Box::new(spec)));
    let condition = b.object(&[("type", string, plain()), ("status", string, plain())]);
    let condition = b.add(Shape::Object(Box::new(condition)));
    let conditions = b.list(condition, ListType::Map(vec!["type".into()]));
    let status = b.object(&[("phase", string, plain()), ("conditions", conditions, by("type"))]);
    let status = b.add(Shape::Object(Box::new(status)));
    let owner = b.object(&[("uid", string, plain()), ("name", string, plain())]);
    let owner = b.add(Shape::Object(Box::new(owner)));
    let owners = b.list(owner, ListType::Map(vec!["uid".into()]));
    let metadata = b.object(&[
        ("name", string, plain()),
        ("namespace", string, plain()),
        ("uid", string, plain()),
        ("resourceVersion", string, plain()),
        ("generation", int, plain()),
        ("creationTimestamp", string, plain()),
        ("labels", strings, plain()),
        ("annotations", strings, plain()),
        ("finalizers", set, merge()),
        ("ownerReferences", owners, by("uid")),
        ("managedFields", any, plain()),
    ]);
    let metadata = b.add(Shape::Object(Box::new(metadata)));
    let root = b.object(&[
        ("apiVersion", string, plain()),
        ("kind", string, plain()),
        ("metadata", metadata, plain()),
        ("spec", spec, plain()),
        ("status", status, plain()),
        ("data", strings, plain()),
    ]);
    b.set.nodes[0].shape = Shape::Object(Box::new(root));
    b.set
}

/// Some object of the schema: the same for the same seed, without nulls, keyed and set lists without duplicates.
pub(super) fn arbitrary(schema: Schema<'_>, seed: u64) -> Value {
    value(schema, &mut StdRng::seed_from_u64(seed), 0)
}

/// Elements that a patch finds by a key have it, and each another one.
fn keep_distinct(items: &mut Vec<Value>, key: Option<&str>, of: Option<Schema<'_>>, rng: &mut StdRng, depth: usize) {
    let mut seen: Vec<Value> = Vec::new();
    items.retain_mut(|item| {
        let identity = match (key, &mut *item) {
            (Some(key), Value::Object(map)) => {
                let mut make = || of.and_then(|s| s.property(key)).map(|s| value(s, rng, depth));
                map.entry(key).or_insert_with(|| make().unwrap_or_default()).clone()
            }
            _ => item.clone(),
        };
        let is_new = !seen.contains(&identity);
        seen.push(identity);
        is_new
    });
}

fn value(schema: Schema<'_>, rng: &mut StdRng, depth: usize) -> Value {
    match schema.shape() {
        Shape::Any | Shape::SchemaOr { .. } => match rng.random_range(0..3) {
            0 => Value::from("x"),
            1 => serde_json::json!({"a": {"b": rng.random_range(0..3)}}),
            _ => serde_json::json!([{"a": rng.random_range(0..2)}, {"a": 1}]),
        },
        Shape::Boolean => Value::from(rng.random_bool(0.5)),
        Shape::Integer { .. } | Shape::Number => Value::from(rng.random_range(0..4)),
        Shape::Quantity => Value::from(["1", "100m", "1Gi"][rng.random_range(0..3)]),
        Shape::String(_) => Value::from(["a", "b", "c", "d"][rng.random_range(0..4)]),
        Shape::IntOrString => match rng.random_range(0..2) {
            0 => Value::from(1),
            _ => Value::from("25%"),
        },
        Shape::List { list_type, .. } => {
            let mut items: Vec<Value> = Vec::new();
            for _ in 0..rng.random_range(0..4) {
                let Some(item_schema) = schema.items() else { break };
                let mut item = value(item_schema, rng, depth + 1);
                let is_new = match list_type {
                    ListType::Atomic => true,
                    ListType::Set => !items.contains(&item),
                    ListType::Map(keys) => {
                        // The first key is what patches merge by, so it alone must be unique.
                        for key in keys.iter().take(1) {
                            let key_schema = item_schema.property(key).unwrap();
                            item[&**key] = value(key_schema, rng, depth + 1);
                        }
                        items.iter().all(|i| i[&*keys[0]] != item[&*keys[0]])
                    }
                };
                if is_new {
                    items.push(item);
                }
            }
            Value::Array(items)
        }
        Shape::Map { .. } => {
            let mut map = Map::new();
            for key in ["k1", "k2", "k3"] {
                if rng.random_bool(0.4)
                    && let Some(values) = schema.values()
                {
                    map.insert(key.into(), value(values, rng, depth + 1));
                }
            }
            Value::Object(map)
        }
        Shape::Object(object) => {
            let mut map = Map::new();
            // Types that hold themselves end somewhere.
            let share = match depth {
                0..5 => 0.6,
                5..8 => 0.2,
                _ => 0.0,
            };
            for property in &object.properties {
                let skipped = &*property.name == "managedFields";
                if !skipped
                    && rng.random_bool(share)
                    && let Some(schema) = schema.property(&property.name)
                {
                    let mut made = value(schema, rng, depth + 1);
                    if let (true, Value::Array(items)) = (property.patch.merge, &mut made) {
                        keep_distinct(
                            items,
                            property.patch.merge_key.as_deref(),
                            schema.items(),
                            rng,
                            depth + 2,
                        );
                    }
                    map.insert(property.name.to_string(), made);
                }
            }
            Value::Object(map)
        }
    }
}
