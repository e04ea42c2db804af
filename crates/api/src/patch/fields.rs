//! Sets of fields: the paths that a manager owns, as a tree, and their form in `metadata.managedFields` (`FieldsV1`).
//!
//! A set knows nothing of schemas. Children are kept sorted, in upstream's order of path elements, so that two sets
//! are combined in one pass.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::step::show_path;
pub use super::step::{BadStep, Scalar, Step};

/// A tree of paths. Each node may be in the set itself (`member`), and has children; the root is never a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    member: bool,
    /// Sorted by step. No child is without a member in it.
    children: Vec<(Step, FieldSet)>,
}

/// What becomes of a step that is in both sets, in one, or in the other.
enum Both {
    Union,
    Intersection,
    Difference,
    /// Difference that takes away what is below a member, too.
    RecursiveDifference,
}

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of paths of plain field names: `[&["spec", "replicas"], &["status"]]`.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(path.iter().map(|name| Step::field(name)));
        }
        set
    }

    /// A leaf.
    pub(super) fn leaf() -> Self {
        Self {
            member: true,
            children: Vec::new(),
        }
    }

    pub fn insert(&mut self, path: impl IntoIterator<Item = Step>) {
        let mut at = self;
        for step in path {
            at = at.child_mut(step);
        }
        at.member = true;
    }

    fn child_mut(&mut self, step: Step) -> &mut Self {
        let at = match self.children.binary_search_by(|(s, _)| s.cmp(&step)) {
            Ok(at) => at,
            Err(at) => {
                self.children.insert(at, (step, Self::new()));
                at
            }
        };
        &mut self.children[at].1
    }

    /// Adds a child behind the others, unless it is empty; [`sorted`](Self::sorted) afterwards.
    pub(super) fn push(&mut self, step: impl FnOnce() -> Step, child: Self) {
        if !child.is_empty() {
            self.children.push((step(), child));
        }
    }

    /// Puts pushed children in order; of equal ones the union is kept.
    pub(super) fn sorted(mut self) -> Self {
        if !self.children.is_sorted_by(|a, b| a.0 < b.0) {
            self.children.sort_by(|a, b| a.0.cmp(&b.0));
            let mut kept: Vec<(Step, Self)> = Vec::with_capacity(self.children.len());
            for (step, child) in self.children {
                match kept.last_mut() {
                    Some((last, set)) if *last == step => *set = std::mem::take(set).union(child),
                    _ => kept.push((step, child)),
                }
            }
            self.children = kept;
        }
        self
    }

    pub(super) fn set_member(&mut self) {
        self.member = true;
    }

    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    pub(super) fn children(&self) -> &[(Step, Self)] {
        &self.children
    }

    pub(super) fn into_children(self) -> Vec<(Step, Self)> {
        self.children
    }

    pub(super) fn child(&self, step: &Step) -> Option<&Self> {
        let at = self.children.binary_search_by(|(s, _)| s.cmp(step)).ok()?;
        Some(&self.children[at].1)
    }

    /// The child of a field name, without making a step of it.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        let order = |(step, _): &(Step, Self)| match step {
            Step::Field(own) => own.as_ref().cmp(name),
            _ => Ordering::Greater,
        };
        let at = self.children.binary_search_by(order).ok()?;
        Some(&self.children[at].1)
    }

    /// Has neither itself nor anything below.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// How many paths are in it.
    pub fn len(&self) -> usize {
        usize::from(self.member) + self.children.iter().map(|(_, c)| c.len()).sum::<usize>()
    }

    pub fn contains<'s>(&self, path: impl IntoIterator<Item = &'s Step>) -> bool {
        let mut at = self;
        for step in path {
            match at.child(step) {
                Some(child) => at = child,
                None => return false,
            }
        }
        at.member
    }

    pub fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        combine(self, &other, &Both::Union)
    }

    pub fn intersection(self, other: &Self) -> Self {
        combine(self, other, &Both::Intersection)
    }

    /// Without the paths of `other`; what is below them stays.
    pub fn difference(self, other: &Self) -> Self {
        combine(self, other, &Both::Difference)
    }

    /// Without the paths of `other` and all that is below them.
    pub fn recursive_difference(self, other: &Self) -> Self {
        combine(self, other, &Both::RecursiveDifference)
    }

    /// Only the paths that have nothing below them.
    pub fn leaves(&self) -> Self {
        Self {
            member: self.member && self.children.is_empty(),
            children: self.children.iter().map(|(s, c)| (s.clone(), c.leaves())).collect(),
        }
    }

    /// Calls `each` with every path, parents first.
    pub fn for_each(&self, mut each: impl FnMut(&[Step])) {
        fn walk(set: &FieldSet, path: &mut Vec<Step>, each: &mut impl FnMut(&[Step])) {
            // Members of one level come before what is below any of them.
            for (step, child) in &set.children {
                if child.member {
                    path.push(step.clone());
                    each(path);
                    path.pop();
                }
            }
            for (step, child) in &set.children {
                path.push(step.clone());
                walk(child, path, each);
                path.pop();
            }
        }
        walk(self, &mut Vec::new(), &mut each);
    }

    /// The paths as text: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.for_each(|path| paths.push(show_path(path)));
        paths
    }

    /// The `FieldsV1` of the set.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let mut key = String::new();
        if self.member && !self.children.is_empty() {
            out.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            key.clear();
            step.write(&mut key);
            out.insert(key.as_str().into(), Value::Object(child.to_json()));
        }
        out
    }

    /// From a `FieldsV1`. Elements of a kind we do not know are dropped, as upstream does.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, BadStep> {
        let mut set = Self::new();
        for (key, value) in fields {
            if key == "." {
                set.member = true;
                continue;
            }
            let Some(step) = Step::parse(key)? else { continue };
            let mut child = match value {
                Value::Object(map) => Self::from_json(map)?,
                _ => Self::new(),
            };
            // Nothing below it: it is there for its own sake.
            child.member |= child.children.is_empty();
            set.children.push((step, child));
        }
        Ok(set.sorted())
    }

    /// Whether any path of this set is in the `FieldsV1` given, without reading that as a set. The keys there must be
    /// in the form that [`to_json`](Self::to_json) writes.
    pub(super) fn touches(&self, fields: &Map<String, Value>, key: &mut String) -> bool {
        if self.member && (fields.is_empty() || fields.contains_key(".")) {
            return true;
        }
        // Written for the shorter side: most changes are few.
        self.children.iter().any(|(step, child)| {
            key.clear();
            step.write(key);
            match fields.get(key.as_str()) {
                Some(Value::Object(below)) => child.touches(below, key),
                _ => false,
            }
        })
    }
}

fn combine(a: FieldSet, b: &FieldSet, how: &Both) -> FieldSet {
    if b.is_empty() && !matches!(how, Both::Intersection) {
        return a;
    }
    let member = match how {
        Both::Union => a.member || b.member,
        Both::Intersection => a.member && b.member,
        Both::Difference | Both::RecursiveDifference => a.member && !b.member,
    };
    let mut children = Vec::with_capacity(a.children.len());
    let mut right = b.children.iter().peekable();
    for (step, left) in a.children {
        while let Some((other, only_right)) = right.next_if(|(other, _)| *other < step) {
            if matches!(how, Both::Union) {
                children.push((other.clone(), only_right.clone()));
            }
        }
        let child = match right.next_if(|(other, _)| *other == step) {
            Some((_, other)) if matches!(how, Both::RecursiveDifference) && other.member => continue,
            Some((_, other)) => combine(left, other, how),
            None if matches!(how, Both::Intersection) => continue,
            None => left,
        };
        if !child.is_empty() {
            children.push((step, child));
        }
    }
    if matches!(how, Both::Union) {
        children.extend(right.cloned());
    }
    FieldSet { member, children }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_json(value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn the_documented_form_is_read_and_written() {
        let json = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:containers": {
                    "k:{\"name\":\"nginx\"}": {
                        ".": {},
                        "f:image": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    },
                },
                "f:finalizers": {"v:\"a\\\"b\"": {}, "v:1": {}},
                "f:old": {"i:3": {}},
            },
        });
        let fields = set(json.clone());
        assert_eq!(Value::Object(fields.to_json()), json);
        let paths = fields.paths();
        assert!(paths.contains(&".metadata.labels".to_owned()));
        assert!(
            paths.contains(&".spec.containers[name=\"nginx\"].ports[containerPort=80,protocol=\"TCP\"]".to_owned())
        );
        assert!(paths.contains(&".spec.finalizers[=1]".to_owned()));
        assert!(paths.contains(&".spec.finalizers[=\"a\\\"b\"]".to_owned()));
        assert!(paths.contains(&".spec.old[3]".to_owned()));
        assert!(!paths.contains(&".spec".to_owned()));
    }

    #[test]
    fn unknown_elements_are_dropped_and_malformed_ones_refused() {
        assert!(set(json!({"x:later": {}})).is_empty());
        for bad in [
            json!({"spec": {}}),
            json!({"k:[]": {}}),
            json!({"i:x": {}}),
            json!({"": {}}),
        ] {
            assert!(FieldSet::from_json(bad.as_object().unwrap()).is_err());
        }
        // However the key is spaced and ordered, it is the same element.
        let spaced = set(json!({"k:{ \"protocol\": \"TCP\", \"containerPort\": 80 }": {}}));
        assert_eq!(
            spaced,
            set(json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}}))
        );
    }

    #[test]
    fn a_difference_keeps_what_is_below_and_a_recursive_one_does_not() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = set(json!({"f:a": {}}));
        assert_eq!(a.clone().difference(&b).paths(), [".c", ".a.b"]);
        assert_eq!(a.clone().recursive_difference(&b).paths(), [".c"]);
        assert_eq!(a.clone().leaves().paths(), [".c", ".a.b"]);
        assert_eq!(a.len(), 3);
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        let step = prop_oneof![
            "[a-c]".prop_map(|s| Step::field(&s)),
            "[a-c]".prop_map(|s| Step::Value(Scalar::String(s.into()))),
            (0i64..3).prop_map(|n| Step::Key(Box::new([("n".into(), Scalar::Number(n.into()))]))),
            (0i64..3).prop_map(Step::Index),
        ];
        let path = proptest::collection::vec(step, 1..4);
        proptest::collection::vec(path, 0..12).prop_map(|paths| {
            let mut set = FieldSet::new();
            for path in paths {
                set.insert(path);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets(a in sets(), b in sets()) {
            let all = |s: &FieldSet| s.paths().into_iter().collect::<std::collections::BTreeSet<_>>();
            let (pa, pb) = (all(&a), all(&b));
            prop_assert_eq!(all(&a.clone().union(b.clone())), pa.union(&pb).cloned().collect());
            prop_assert_eq!(all(&a.clone().intersection(&b)), pa.intersection(&pb).cloned().collect());
            prop_assert_eq!(all(&a.clone().difference(&b)), pa.difference(&pb).cloned().collect());
            let rest: std::collections::BTreeSet<_> = pa.iter().filter(|p| {
                !pb.iter().any(|q| *p == q || p.strip_prefix(q.as_str()).is_some_and(|r| r.starts_with(['.', '['])))
            }).cloned().collect();
            prop_assert_eq!(all(&a.clone().recursive_difference(&b)), rest);
            prop_assert_eq!(a.len(), pa.len());
            let touches = b.touches(&a.to_json(), &mut String::new());
            prop_assert_eq!(touches, !pa.is_disjoint(&pb));
            prop_assert_eq!(FieldSet::from_json(&a.to_json()).unwrap(), a);
        }
    }
}
