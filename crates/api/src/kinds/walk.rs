//! Walks every strategy over objects made from the schemas, the smallest and the largest ones: a rule that misspells a
//! field meets a cursor that refuses it, and a default that does is an unknown field to the decoder.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::all;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::schema::decode::{Mode, decode};
use crate::schema::{Schema, Shape, StringFormat};

/// A value with everything in it that the schema knows, down to types that hold themselves.
fn largest(schema: Schema<'_>, within: &mut Vec<String>) -> Value {
    match schema.shape() {
        Shape::Any | Shape::SchemaOr { .. } => json!({}),
        Shape::Boolean => json!(true),
        Shape::Integer { .. } | Shape::IntOrString => json!(1),
        Shape::Number => json!(1.5),
        Shape::Quantity => json!("1"),
        Shape::String(StringFormat::Plain) => json!("x"),
        Shape::String(StringFormat::Bytes) => json!("eA=="),
        Shape::String(StringFormat::Time) => json!("2024-01-01T00:00:00Z"),
        Shape::String(StringFormat::MicroTime) => json!("2024-01-01T00:00:00.000000Z"),
        Shape::String(StringFormat::Duration) => json!("1m0s"),
        Shape::List { .. } => {
            let item = schema.items().map(|items| largest(items, within));
            Value::Array(item.into_iter().collect())
        }
        Shape::Map { .. } => {
            let value = schema
                .values()
                .map(|values| ("key".to_owned(), largest(values, within)));
            Value::Object(value.into_iter().collect())
        }
        Shape::Object(object) => {
            let name = object.name.as_deref().unwrap_or_default().to_owned();
            if !name.is_empty() && within.contains(&name) {
                return json!({});
            }
            within.push(name);
            let fields: Map<String, Value> = object
                .properties
                .iter()
                .filter_map(|p| Some((p.name.to_string(), largest(schema.property(&p.name)?, within))))
                .collect();
            within.pop();
            Value::Object(fields)
        }
    }
}

fn objects(row: &Resource) -> [Object; 2] {
    let mut large = largest(row.schema(), &mut Vec::new());
    large["apiVersion"] = json!(row.api_version());
    large["kind"] = json!(row.kind);
    let small = json!({"apiVersion": row.api_version(), "kind": row.kind, "metadata": {"name": "x"}});
    [small, large].map(|object| Object::from_value(object).unwrap())
}

#[test]
fn every_rule_knows_the_fields_it_speaks_of() {
    let now = Timestamp::UNIX_EPOCH;
    for row in all() {
        for object in objects(&row) {
            let strategy = &row.strategy;
            let mut new = object.clone();
            strategy.set_defaults(&mut new);
            let once = new.clone();
            strategy.set_defaults(&mut new);
            assert_eq!(once, new, "defaults of {row:?} are idempotent");
            strategy.prepare_for_create(&mut new);
            let (fresh, stored) = (new.clone().into_value(), object.clone().into_value());
            let at = |value: &Value, rules: &dyn Fn(&Cursor<'_>, &mut ErrorList)| {
                let mut errors = ErrorList::new();
                rules(&Cursor::root(value, Some(row.schema())), &mut errors);
            };
            at(&fresh, &|new, errors| strategy.validate(new, errors));
            for (a, b) in [(&fresh, &stored), (&stored, &fresh)] {
                at(a, &|new, errors| {
                    let old = Cursor::root(b, Some(row.schema()));
                    strategy.validate_update(new, &old, errors);
                    strategy.validate_status_update(new, &old, errors);
                    for part in ["ephemeralcontainers", "resize", "finalize", "approval"] {
                        strategy.validate_subresource_update(part, new, &old, errors);
                    }
                });
            }
            for part in ["ephemeralcontainers", "resize", "finalize", "approval"] {
                let mut part_of = new.clone();
                strategy.prepare_for_subresource_update(part, &mut part_of, &object);
            }
            let mut updated = new.clone();
            strategy.prepare_for_update(&mut updated, &object);
            strategy.prepare_for_status_update(&mut updated, &object);
            strategy.warnings(&new, None);
            strategy.cells(&new, now);
            strategy.deletion_grace(&new, None);
            for path in &row.selectable_fields {
                strategy.selectable_field(&new, path);
            }
        }
    }
}

#[test]
fn defaults_are_fields_that_the_schema_knows() {
    for row in all() {
        for object in objects(&row) {
            let mut new = object;
            row.strategy.set_defaults(&mut new);
            row.strategy.prepare_for_create(&mut new);
            let mut value = new.into_value();
            let decoded = decode(&mut value, row.schema(), Mode::Whole).unwrap();
            assert_eq!(decoded.unknown, [""; 0], "{row:?}");
        }
    }
}

#[test]
fn selectable_fields_are_fields() {
    for row in all() {
        for path in &row.selectable_fields {
            // Names that upstream gives to something else.
            if matches!(path.as_ref(), "status.successful" | "source") {
                continue;
            }
            let found = path
                .split('.')
                .try_fold(row.schema(), |schema, step| schema.property(step));
            assert!(found.is_some(), "{row:?} {path}");
        }
    }
}
