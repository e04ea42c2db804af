//! Whether an applied configuration conforms to the schema, and sets of fields brought in line with it.

use std::collections::HashSet;

use serde_json::Value;

use super::atom::{Atom, Type, step_of};
use super::fields::{FieldSet, Step};
use super::show;
use crate::schema::{Schema, Shape};

/// What is wrong with a configuration, one line each (`.spec.replicas: expected numeric (int or float), got string`).
pub(super) fn faults(of: Type<'_>, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(of, value, &mut Vec::new(), &mut faults);
    faults
}

/// More faults than anybody reads are not told.
const MAX_FAULTS: usize = 100;

fn report(path: &[String], text: impl std::fmt::Display, faults: &mut Vec<String>) {
    if faults.len() >= MAX_FAULTS {
        return;
    }
    faults.push(match path {
        [] => text.to_string(),
        path => format!("{}: {text}", path.concat()),
    });
}

fn check(of: Type<'_>, value: &Value, path: &mut Vec<String>, faults: &mut Vec<String>) {
    let Some(known) = of.known() else {
        return;
    };
    if value.is_null() {
        return;
    }
    match known.schema().shape() {
        Shape::Object(_) | Shape::Map { .. } => match value {
            Value::Object(map) => {
                for (key, value) in map {
                    path.push(format!(".{key}"));
                    match known.field(key) {
                        Some(field) => check(field, value, path, faults),
                        None => report(path, "field not declared in schema", faults),
                    }
                    path.pop();
                }
            }
            _ => report(
                path,
                format_args!("expected map, got &{{{}}}", show::plain(value)),
                faults,
            ),
        },
        Shape::List { .. } => match value {
            Value::Array(list) => check_list(of, known.schema(), list, path, faults),
            _ => report(
                path,
                format_args!("expected list, got &{{{}}}", show::plain(value)),
                faults,
            ),
        },
        shape => check_scalar(shape, value, path, faults),
    }
}

fn check_list(of: Type<'_>, schema: Schema<'_>, list: &[Value], path: &mut Vec<String>, faults: &mut Vec<String>) {
    match of.declared_atom() {
        Atom::List { items, list_type } => {
            let mut seen = HashSet::with_capacity(list.len());
            for (i, item) in list.iter().enumerate() {
                let step = match step_of(items, list_type, item) {
                    Ok(step) => step.to_string(),
                    Err(why) => {
                        report(path, format_args!("element {i}: {why}"), faults);
                        continue;
                    }
                };
                if seen.contains(&step) {
                    report(path, format_args!("duplicate entries for key {step}"), faults);
                }
                path.push(step.clone());
                seen.insert(step);
                check(items, item, path, faults);
                path.pop();
            }
        }
        _ => {
            let items = schema
                .items()
                .and_then(|items| of.known().map(|known| known.below(items)));
            for (i, item) in list.iter().enumerate() {
                path.push(format!("[{i}]"));
                if let Some(items) = items {
                    check(items, item, path, faults);
                }
                path.pop();
            }
        }
    }
}

fn check_scalar(shape: &Shape, value: &Value, path: &[String], faults: &mut Vec<String>) {
    match shape {
        Shape::Integer { .. } | Shape::Number if !value.is_number() => report(
            path,
            format_args!("expected numeric (int or float), got {}", show::type_name(value)),
            faults,
        ),
        Shape::String(_) if !value.is_string() => report(
            path,
            format_args!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                show::source(value)
            ),
            faults,
        ),
        Shape::Boolean if !value.is_boolean() => {
            report(
                path,
                format_args!("expected boolean, got &{{{}}}", show::plain(value)),
                faults,
            );
        }
        Shape::IntOrString | Shape::Quantity if value.is_array() || value.is_object() => {
            report(
                path,
                format_args!("expected any scalar, got &{{{}}}", show::plain(value)),
                faults,
            );
        }
        _ => {}
    }
}

/// The set with every declared field that leads to a member as a member, too. (Who owns `.spec.replicas` holds `.spec`.)
pub(super) fn with_named_parents(of: Type<'_>, set: &FieldSet) -> FieldSet {
    let mut out = FieldSet::new();
    if set.is_member() {
        out.set_member();
    }
    for (step, child) in set.children() {
        let mut below = with_named_parents(below(of, step), child);
        if let Step::Field(name) = step
            && !child.children().is_empty()
            && of.declares(name)
        {
            below.set_member();
        }
        out.push(|| step.clone(), below);
    }
    out
}

/// The set with fields that the schema has come to own as a whole as leaves.
pub(super) fn with_atomic_leaves(of: Type<'_>, set: FieldSet) -> FieldSet {
    if matches!(of, Type::Guessed) || set.children().is_empty() {
        return set;
    }
    if matches!(of.declared_atom(), Atom::Leaf) {
        // A scalar or free-form value with something below it was written by another schema.
        return FieldSet::leaf();
    }
    let mut out = FieldSet::new();
    if set.is_member() {
        out.set_member();
    }
    for (step, child) in set.into_children() {
        let below = with_atomic_leaves(below(of, &step), child);
        out.push(|| step, below);
    }
    out
}

fn below<'a>(of: Type<'a>, step: &Step) -> Type<'a> {
    match (step, of.declared_atom()) {
        (Step::Field(name), _) => of.field(name),
        (_, Atom::List { items, .. }) => items,
        _ => Type::Guessed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{POD, pod_schemas};
    use super::*;
    use serde_json::json;

    #[test]
    fn what_does_not_conform_is_told_with_its_path() {
        let schemas = pod_schemas();
        let told = faults(
            Type::root(schemas.at(POD)),
            &json!({
                "bogus": 1,
                "data": ["x"],
                "spec": {
                    "replicas": "three",
                    "nodeName": 7,
                    "anything": {"goes": [1]},
                    "containers": [{"name": "a", "stdin": "no"}, {"name": "a"}, {"image": "x"}, null],
                    "finalizers": ["x", {}],
                    "args": [1],
                    "strategy": null,
                    "selector": {"matchLabels": {"a": 1}, "x": 1},
                },
                "metadata": [],
            }),
        );
        assert_eq!(
            told,
            [
                ".bogus: field not declared in schema",
                ".data: expected map, got &{[x]}",
                ".metadata: expected map, got &{[]}",
                ".spec.args[0]: expected string, got &value.valueUnstructured{Value:1}",
                ".spec.containers[name=\"a\"].stdin: expected boolean, got &{no}",
                ".spec.containers: duplicate entries for key [name=\"a\"]",
                ".spec.containers: element 2: associative list with keys has an element that omits all key fields \
                 [\"name\"] (and doesn't have default values for any key fields)",
                ".spec.containers: element 3: associative list with keys may not have a null element",
                ".spec.finalizers: element 1: associative list without keys has an element that's a map type",
                ".spec.nodeName: expected string, got &value.valueUnstructured{Value:7}",
                ".spec.replicas: expected numeric (int or float), got string",
                ".spec.selector.matchLabels.a: expected string, got &value.valueUnstructured{Value:1}",
                ".spec.selector.x: field not declared in schema",
            ]
        );
    }

    #[test]
    fn named_parents_are_fields_of_objects_only() {
        let schemas = pod_schemas();
        let set = json!({"f:data": {"f:a": {}}, "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:resources": {"f:limits": {"f:cpu": {}}}}}}});
        let set = FieldSet::from_json(set.as_object().unwrap()).unwrap();
        assert_eq!(
            with_named_parents(Type::root(schemas.at(POD)), &set).paths(),
            [
                ".data",
                ".spec",
                ".data.a",
                ".spec.containers",
                ".spec.containers[name=\"a\"].resources",
                ".spec.containers[name=\"a\"].resources.limits",
                ".spec.containers[name=\"a\"].resources.limits.cpu",
            ]
        );
    }

    #[test]
    fn what_became_atomic_is_owned_whole() {
        let schemas = pod_schemas();
        let set = json!({"f:spec": {"f:nodeSelector": {"f:a": {}}, "f:args": {"i:0": {}}, "f:anything": {"f:x": {}}}});
        let set = FieldSet::from_json(set.as_object().unwrap()).unwrap();
        assert_eq!(
            with_atomic_leaves(Type::root(schemas.at(POD)), set).paths(),
            [".spec.args", ".spec.nodeSelector", ".spec.anything.x"]
        );
    }
}
