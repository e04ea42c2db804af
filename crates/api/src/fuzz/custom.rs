//! Custom resources: a line with a schema as a definition has it, and a line with an object of it.

use serde_json::{Value, json};

use super::lines;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::schema::custom::{Validator, apply_defaults, from_schema};
use crate::schema::decode::{self, Mode};
use crate::schema::parse::parse_json;

pub fn structural_schema(bytes: &[u8]) {
    let Some(lines) = lines(bytes) else { return };
    let parse = |line: Option<&&str>| parse_json(line?.as_bytes()).ok().map(|(value, _)| value);
    let Some(schema) = parse(lines.first()) else { return };
    // What the definition's own decoding does not let through never becomes a schema.
    let Some(schema) = accepted(schema) else { return };
    let Some(mut object) = parse(lines.get(1)) else { return };
    let (set, root) = from_schema(Some(&schema));
    let validator = Validator::new(&schema);
    if decode::decode(&mut object, set.at(root), Mode::Whole).is_err() {
        return;
    }
    apply_defaults(&mut object, set.at(root));
    let mut errors = ErrorList::new();
    validator.validate(&object, None, &mut errors);
    let mut against_itself = ErrorList::new();
    validator.validate(&object, Some(&object), &mut against_itself);
    assert!(
        against_itself.len() <= errors.len(),
        "an unchanged object is not worse than a new one"
    );
}

/// The schema as a definition keeps it, if it is not refused.
fn accepted(schema: Value) -> Option<Value> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let row = super::row_of(&Object::from_value(definition.clone())?)?;
    let mut value = definition;
    decode::decode(&mut value, row.schema(), Mode::Whole).ok()?;
    let mut definition = Object::from_value(value)?;
    row.strategy.set_defaults(&mut definition);
    let definition = definition.into_value();
    let mut errors = ErrorList::new();
    row.strategy
        .validate(&Cursor::root(&definition, Some(row.schema())), &mut errors);
    errors
        .is_empty()
        .then(|| definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned())?
}
