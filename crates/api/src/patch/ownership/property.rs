//! What holds of ownership whatever is written: properties of any writes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::patch::testing::arbitrary;

/// Only what can be in an applied configuration, and only under `spec` and `data`.
fn config(schemas: &SchemaSet, seed: u64) -> Value {
    let all = arbitrary(schemas.at(POD), seed);
    let mut value = json!({});
    for key in ["spec", "data"] {
        if let Some(part) = all.get(key) {
            value[key] = part.clone();
        }
    }
    value
}

/// Nobody owns what is not there.
fn assert_all_there(world: &World, object: &Object) {
    let there = crate::patch::Comparison::of(None, &object.0, world.schemas.at(POD)).added;
    let there: std::collections::HashSet<String> = there.paths().into_iter().collect();
    for (name, paths) in owners(object) {
        for path in paths {
            assert!(there.contains(&path), "{name} owns {path}, which is not there");
        }
    }
}

proptest! {
    #[test]
    fn applying_twice_is_as_applying_once(live in any::<u64>(), a in any::<u64>()) {
        let world = World::custom();
        let live = world.create("someone", config(world.schemas, live));
        let config = config(world.schemas, a);
        let once = world.apply_or("me", Some(&live), config.clone(), true).unwrap();
        let twice = world.apply_or("me", Some(&once), config, false).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(live in any::<u64>(), a in any::<u64>(), b in any::<u64>()) {
        let world = World::custom();
        let live = world.create("someone", config(world.schemas, live));
        let first = world.apply_or("me", Some(&live), config(world.schemas, a), true).unwrap();
        let wanted = config(world.schemas, b);
        let second = world.apply_or("me", Some(&first), wanted.clone(), true).unwrap();
        let schema = world.schemas.at(POD);
        let wanted_set = crate::patch::fields_of(&wanted, schema);
        let there = crate::patch::fields_of(&second.clone().into_value(), schema);
        // (An empty map is there as soon as anything is in it.)
        let there_paths = there.paths();
        for leaf in wanted_set.leaves().paths() {
            prop_assert!(there_paths.iter().any(|t| t.starts_with(&leaf)), "{} is missing", leaf);
        }
        let mut all = wanted_set.paths();
        let mut mine = owned(&second, "me Apply");
        all.sort();
        mine.sort();
        prop_assert_eq!(mine, all);
        assert_all_there(&world, &second);
    }

    #[test]
    fn two_appliers_of_different_fields_may_come_in_any_order(a in any::<u64>(), b in any::<u64>()) {
        let world = World::custom();
        let mut mine = config(world.schemas, a);
        let yours = config(world.schemas, b);
        mine.as_object_mut().unwrap().remove("data");
        let yours = json!({"data": yours.get("data").cloned().unwrap_or_else(|| json!({"k": "v"}))});
        let base = world.create("someone", json!({"metadata": {"labels": {"a": "b"}}}));
        let one = world.apply("me", Some(&base), mine.clone());
        let one = world.apply("you", Some(&one), yours.clone());
        let two = world.apply("you", Some(&base), yours);
        let two = world.apply("me", Some(&two), mine);
        prop_assert_eq!(one.get(&["spec"]), two.get(&["spec"]));
        prop_assert_eq!(one.get(&["data"]), two.get(&["data"]));
        let mut owners = (owners(&one), owners(&two));
        owners.0.sort();
        owners.1.sort();
        prop_assert_eq!(owners.0, owners.1);
    }

    #[test]
    fn nobody_owns_what_an_update_took_away(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) {
        let world = World::custom();
        let object = world.create("one", config(world.schemas, a));
        let object = world.apply_or("two", Some(&object), config(world.schemas, b), true).unwrap();
        let next = config(world.schemas, c);
        let object = world.update("three", &object, |o| {
            for key in ["spec", "data"] {
                o.as_object_mut().unwrap().remove(key);
                if let Some(part) = next.get(key) {
                    o[key] = part.clone();
                }
            }
        });
        assert_all_there(&world, &object);
        // And everything that changed has an owner: the same update again finds nothing to book.
        let again = world.update("four", &object, |_| {});
        prop_assert_eq!(again, object);
    }
}
