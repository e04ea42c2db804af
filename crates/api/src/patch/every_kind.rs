//! Each kind of patch leads from any object of any built-in kind to any other.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::diff::{create_merge_patch, create_strategic_patch};
use super::testing::arbitrary;
use super::{apply_json_patch, apply_merge_patch, apply_strategic_patch};
use crate::resource::Registry;

/// Operations that lead from one value to another: the shortest way is nobody's concern here.
fn json_patch(old: &Value, new: &Value, path: &str, operations: &mut Vec<Value>) {
    let below = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                operations.push(json!({"op": "remove", "path": below(name)}));
            }
            for (name, value) in new {
                match old.get(name) {
                    Some(old) => json_patch(old, value, &below(name), operations),
                    None => operations.push(json!({"op": "add", "path": below(name), "value": value})),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                json_patch(old, new, &format!("{path}/{i}"), operations);
            }
            for i in (new.len()..old.len()).rev() {
                operations.push(json!({"op": "test", "path": format!("{path}/{i}"), "value": old[i]}));
                operations.push(json!({"op": "remove", "path": format!("{path}/{i}")}));
            }
            for value in new.iter().skip(old.len()) {
                operations.push(json!({"op": "add", "path": format!("{path}/-"), "value": value}));
            }
        }
        (_, new) => operations.push(json!({"op": "replace", "path": path, "value": new})),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_patch_leads_from_any_object_of_any_kind_to_any_other(a in any::<u64>(), b in any::<u64>()) {
        for row in Registry::built_in().table().iter() {
            let (old, new) = (arbitrary(row.schema(), a), arbitrary(row.schema(), b));
            let mut operations = Vec::new();
            json_patch(&old, &new, "", &mut operations);
            let mut object = old.clone();
            apply_json_patch(&mut object, &Value::from(operations)).unwrap();
            prop_assert_eq!(&object, &new, "JSON patch of {}", row.kind);

            let mut object = old.clone();
            apply_merge_patch(&mut object, create_merge_patch(&old, &new)).unwrap();
            prop_assert_eq!(&object, &new, "merge patch of {}", row.kind);

            let patch = create_strategic_patch(&old, &new, row.schema());
            let mut object = old.clone();
            apply_strategic_patch(&mut object, patch.clone(), row.schema()).unwrap();
            prop_assert_eq!(&object, &new, "strategic patch of {}: {}", row.kind, patch);
        }
    }
}
