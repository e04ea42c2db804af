//! Expressions: whatever compiles runs within its limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cel::{Env, ObjectType, Type, Value};

const LIMIT: u64 = 20_000;

pub fn cel(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let fields = BTreeMap::from([
        ("count".to_owned(), Type::Int),
        ("name".to_owned(), Type::String),
        ("ratio".to_owned(), Type::Double),
        ("any".to_owned(), Type::Dyn),
        ("list".to_owned(), Type::list(Type::String)),
        ("map".to_owned(), Type::map(Type::String, Type::Int)),
    ]);
    let this = Type::Object(Arc::new(ObjectType {
        open: false,
        name: "self".to_owned(),
        fields,
    }));
    let env = Env::new().binding().messages(message).variable("self", this);
    let Ok(program) = env.compile(text) else { return };
    let value =
        json!({"count": -3, "name": "x-1", "ratio": 0.5, "any": [1, "a", null], "list": ["b", "a"], "map": {"k": 9}});
    let (_, spent) = program.run(vec![Value::from_json(&value)], LIMIT);
    assert!(spent <= 100 * LIMIT, "{spent}");
}

/// The types of what mutations are made of.
fn message(name: &str) -> Option<Type> {
    let is_object = name == "Object" || name.starts_with("Object.");
    is_object.then(|| {
        Type::Object(Arc::new(ObjectType {
            open: true,
            name: name.to_owned(),
            fields: BTreeMap::new(),
        }))
    })
}
