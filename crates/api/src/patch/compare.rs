//! What changed between two objects, and all that an object sets, as sets of fields.

use serde_json::{Map, Value};

use super::atom::{Atom, Type, empty, same, same_step, step_of};
use super::fields::{FieldSet, Step};
use crate::schema::{ListType, Schema};

/// The fields that differ between two objects. No field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only in the new one.
    pub added: FieldSet,
    /// In both, with different values.
    pub modified: FieldSet,
    /// Only in the old one.
    pub removed: FieldSet,
}

impl Comparison {
    /// How `new` differs from `old`, both objects of this schema. A missing `old` is one that sets nothing.
    pub fn of(old: Option<&Map<String, Value>>, new: &Map<String, Value>, schema: Schema<'_>) -> Self {
        maps(Type::root(schema), old.or(empty().as_object()), Some(new))
    }

    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Without these fields and all below them.
    pub fn without(self, ignored: &FieldSet) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            removed: self.removed.recursive_difference(ignored),
        }
    }

    fn push(&mut self, step: impl Fn() -> Step, below: Self) {
        self.added.push(&step, below.added);
        self.modified.push(&step, below.modified);
        self.removed.push(&step, below.removed);
    }

    fn sorted(self) -> Self {
        Self {
            added: self.added.sorted(),
            modified: self.modified.sorted(),
            removed: self.removed.sorted(),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            added: self.added.union(other.added),
            modified: self.modified.union(other.modified),
            removed: self.removed.union(other.removed),
        }
    }
}

pub(super) fn compare(of: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    match (old, new) {
        (None, None) => Comparison::default(),
        (Some(one), None) | (None, Some(one)) => by_atom(of.atom(one), of, old, new),
        (Some(a), Some(b)) => {
            let (old_atom, new_atom) = (of.atom(a), of.atom(b));
            let changed_kind = matches!(old_atom, Atom::Map) != matches!(new_atom, Atom::Map);
            let first = by_atom(new_atom, of, old, new);
            if changed_kind {
                first.union(by_atom(old_atom, of, old, new))
            } else {
                first
            }
        }
    }
}

fn by_atom(atom: Atom<'_>, of: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let mut out = match atom {
        Atom::Leaf => return leaf(old, new),
        Atom::Map => {
            let (a, b) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            if a.is_none_or(Map::is_empty) && b.is_none_or(Map::is_empty) {
                return leaf(old, new);
            }
            maps(of, a, b)
        }
        Atom::List { items, list_type } => {
            let (a, b) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
            if a.is_none_or(Vec::is_empty) && b.is_none_or(Vec::is_empty) {
                return leaf(old, new);
            }
            let (a, b) = (a.map_or(&[][..], Vec::as_slice), b.map_or(&[][..], Vec::as_slice));
            lists(items, list_type, a, b)
        }
    };
    if old.is_none() {
        out.added.set_member();
    } else if new.is_none() {
        out.removed.set_member();
    }
    out
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let mut out = Comparison::default();
    match (old, new) {
        (None, _) => out.added = FieldSet::leaf(),
        (_, None) => out.removed = FieldSet::leaf(),
        (Some(a), Some(b)) if !same(a, b) => out.modified = FieldSet::leaf(),
        _ => {}
    }
    out
}

fn maps(of: Type<'_>, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) -> Comparison {
    let mut out = Comparison::default();
    // A side that is there has its unset structs, too.
    let mut visit = |key: &str, a: Option<&Value>, b: Option<&Value>| {
        let a = a.or_else(|| old.and(of.unset_field(key)));
        let b = b.or_else(|| new.and(of.unset_field(key)));
        out.push(|| Step::field(key), compare(of.field(key), a, b));
    };
    for (key, a) in old.into_iter().flatten() {
        visit(key, Some(a), new.and_then(|m| m.get(key)));
    }
    let is_in_old = |key: &str| old.is_some_and(|m| m.contains_key(key));
    for (key, b) in new.into_iter().flatten() {
        if !is_in_old(key) {
            visit(key, None, Some(b));
        }
    }
    if old.is_some() != new.is_some() {
        let only = old.or(new);
        for (key, _) in of.unset_fields() {
            if !only.is_some_and(|m| m.contains_key(key)) {
                visit(key, None, None);
            }
        }
    }
    out.sorted()
}

fn lists(items: Type<'_>, list_type: &ListType, old: &[Value], new: &[Value]) -> Comparison {
    aligned(items, list_type, old, new).unwrap_or_else(|| joined(items, list_type, old, new))
}

/// How many changed elements are each looked for in the whole list.
const MAX_ALIGNED: usize = 8;

/// The usual case: the same elements in the same places, few of them changed. `None` when it is not, or when a changed element is not alone
/// with its key.
fn aligned(items: Type<'_>, list_type: &ListType, old: &[Value], new: &[Value]) -> Option<Comparison> {
    if old.len() != new.len() {
        return None;
    }
    let mut out = Comparison::default();
    let mut changed = 0;
    for (i, (a, b)) in old.iter().zip(new).enumerate() {
        if !same_step(items, list_type, a, b) {
            return None;
        }
        let below = compare(items, Some(a), Some(b));
        if below.is_same() {
            continue;
        }
        changed += 1;
        if changed > MAX_ALIGNED {
            return None;
        }
        let is_alone = new
            .iter()
            .enumerate()
            .all(|(k, other)| k == i || !same_step(items, list_type, b, other));
        if !is_alone {
            return None;
        }
        let step = step_of(items, list_type, b).ok()?;
        out.push(|| step.clone(), below);
    }
    Some(out.sorted())
}

/// Elements by their path elements, sorted; those that have none are left out.
fn indexed<'v>(items: Type<'_>, list_type: &ListType, list: &'v [Value]) -> Vec<(Step, &'v Value)> {
    let mut all: Vec<(Step, &Value)> = list
        .iter()
        .filter_map(|item| Some((step_of(items, list_type, item).ok()?, item)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn joined(items: Type<'_>, list_type: &ListType, old: &[Value], new: &[Value]) -> Comparison {
    let (old, new) = (indexed(items, list_type, old), indexed(items, list_type, new));
    let mut old = old.chunk_by(|a, b| a.0 == b.0).peekable();
    let mut new = new.chunk_by(|a, b| a.0 == b.0).peekable();
    let mut out = Comparison::default();
    loop {
        let step = match (old.peek(), new.peek()) {
            (None, None) => return out,
            (Some(a), None) => &a[0].0,
            (None, Some(b)) => &b[0].0,
            (Some(a), Some(b)) => (&a[0].0).min(&b[0].0),
        };
        let step = step.clone();
        let a = old.next_if(|c| c[0].0 == step).unwrap_or(&[]);
        let b = new.next_if(|c| c[0].0 == step).unwrap_or(&[]);
        let below = match (a, b) {
            ([] | [_], [] | [_]) => compare(items, a.first().map(|p| p.1), b.first().map(|p| p.1)),
            // Elements that share a key are owned together.
            (a, b) => {
                let is_same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a.1, b.1));
                let mut below = Comparison::default();
                match (a, b) {
                    ([], _) => below.added = FieldSet::leaf(),
                    (_, []) => below.removed = FieldSet::leaf(),
                    _ if !is_same => below.modified = FieldSet::leaf(),
                    _ => {}
                }
                below
            }
        };
        out.push(|| step.clone(), below);
    }
}

/// All fields that an object of this schema sets: its leaves, the elements of its lists and the keys of its maps.
pub fn fields_of(object: &Value, schema: Schema<'_>) -> FieldSet {
    set_fields(Type::root(schema), object)
}

pub(super) fn set_fields(of: Type<'_>, value: &Value) -> FieldSet {
    let mut out = FieldSet::new();
    match of.atom(value) {
        Atom::Leaf => return FieldSet::leaf(),
        Atom::Map => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let mut below = set_fields(of.field(key), value);
                if value.is_null() || value.as_object().is_some_and(Map::is_empty) || !of.declares(key) {
                    below.set_member();
                }
                out.push(|| Step::field(key), below);
            }
        }
        Atom::List { items, list_type } => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let indexed = indexed(items, list_type, list);
            for same_key in indexed.chunk_by(|a, b| a.0 == b.0) {
                let mut below = match same_key {
                    [(_, one)] => set_fields(items, one),
                    _ => FieldSet::new(),
                };
                below.set_member();
                out.push(|| same_key[0].0.clone(), below);
            }
        }
    }
    out.sorted()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{POD, arbitrary, pod_schemas};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn compared(old: Value, new: Value) -> (Vec<String>, Vec<String>, Vec<String>) {
        let schemas = pod_schemas();
        let c = Comparison::of(old.as_object(), new.as_object().unwrap(), schemas.at(POD));
        (c.added.paths(), c.modified.paths(), c.removed.paths())
    }

    #[test]
    fn lists_are_compared_by_key_set_or_as_a_whole() {
        let (added, modified, removed) = compared(
            json!({"spec": {
                "containers": [{"name": "a", "image": "1"}, {"name": "b"}],
                "finalizers": ["x", "y"],
                "args": ["1"],
                "nodeSelector": {"a": "b"},
            }}),
            json!({"spec": {
                "containers": [{"name": "c"}, {"name": "a", "image": "2"}],
                "finalizers": ["y", "z"],
                "args": ["1", "2"],
                "nodeSelector": {"a": "c"},
            }}),
        );
        assert_eq!(
            added,
            [
                ".spec.containers[name=\"c\"]",
                ".spec.containers[name=\"c\"].name",
                ".spec.finalizers[=\"z\"]"
            ]
        );
        assert_eq!(
            modified,
            [".spec.args", ".spec.nodeSelector", ".spec.containers[name=\"a\"].image"]
        );
        assert_eq!(
            removed,
            [
                ".spec.containers[name=\"b\"]",
                ".spec.containers[name=\"b\"].name",
                ".spec.finalizers[=\"x\"]"
            ]
        );
    }

    #[test]
    fn a_key_that_is_left_out_counts_as_its_default() {
        let port = |port: Value| json!({"spec": {"containers": [{"name": "a", "ports": [port]}]}});
        let (added, modified, removed) = compared(
            port(json!({"containerPort": 80})),
            port(json!({"containerPort": 80, "protocol": "TCP", "name": "x"})),
        );
        let at = ".spec.containers[name=\"a\"].ports[containerPort=80,protocol=\"TCP\"]";
        assert_eq!(added, [format!("{at}.name"), format!("{at}.protocol")]);
        assert!(modified.is_empty() && removed.is_empty());
    }

    #[test]
    fn empty_and_absent_containers_are_leaves_of_their_own() {
        let (added, modified, removed) = compared(
            json!({"data": {"a": "1"}, "metadata": {"labels": {}}}),
            json!({"data": {}, "metadata": {}, "status": {}}),
        );
        assert_eq!(added, [".status"]);
        assert!(modified.is_empty());
        assert_eq!(removed, [".data.a", ".metadata.labels"]);
    }

    #[test]
    fn elements_that_share_a_key_are_compared_together() {
        let env = |values: &[&str]| {
            let env: Vec<Value> = values.iter().map(|v| json!({"name": "x", "value": v})).collect();
            json!({"spec": {"containers": [{"name": "a", "env": env}]}})
        };
        let (added, modified, _) = compared(env(&["1", "2"]), env(&["1", "3"]));
        assert!(added.is_empty());
        assert_eq!(modified, [".spec.containers[name=\"a\"].env[name=\"x\"]"]);
        let schemas = pod_schemas();
        let fields = fields_of(&env(&["1", "2"]), schemas.at(POD));
        assert_eq!(
            fields.paths(),
            [
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].name",
                ".spec.containers[name=\"a\"].env[name=\"x\"]"
            ]
        );
    }

    proptest! {
        #[test]
        fn an_object_does_not_differ_from_itself_and_differs_both_ways(a in any::<u64>(), b in any::<u64>()) {
            let schemas = pod_schemas();
            let schema = schemas.at(POD);
            let (a, b) = (arbitrary(schema, a), arbitrary(schema, b));
            let compared = |a: &Value, b: &Value| Comparison::of(a.as_object(), b.as_object().unwrap(), schema);
            prop_assert!(compared(&a, &a).is_same());
            let there = compared(&a, &b);
            let back = compared(&b, &a);
            prop_assert_eq!(&there.added, &back.removed);
            prop_assert_eq!(&there.removed, &back.added);
            prop_assert_eq!(&there.modified, &back.modified);
            // Everything that a new object sets is added to none.
            let from_none = Comparison::of(None, a.as_object().unwrap(), schema);
            prop_assert!(fields_of(&a, schema).difference(&from_none.added).is_empty());
        }
    }
}
