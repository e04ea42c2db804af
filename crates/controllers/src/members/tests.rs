//! Whatever happens to objects and to what selects them: members are what asking every object anew gives.

use coracle_informer::Indexer;
use k8s_openapi::api::core::v1::Service;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::owner::controller_of;

#[derive(Clone, Debug)]
enum Step {
    /// A pod as it is now: its labels, and whether somebody controls it.
    Put(u8, u8, bool, bool),
    Remove(u8),
    Select(u8, usize),
    Forget(u8),
    Look(u8),
}

const SELECTORS: [&str; 6] = ["app=a", "app=b", "app=a,tier=x", "tier", "app in (a,b),!tier", ""];

fn pod(name: &str, app: u8, tier: bool, controlled: bool) -> Pod {
    let app = ["a", "b", "c"][usize::from(app % 3)];
    let mut labels = json!({"app": app});
    if tier {
        labels["tier"] = "x".into();
    }
    let owner = json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": controlled}]);
    let meta = json!({"namespace": "x", "name": name, "labels": labels, "ownerReferences": owner});
    serde_json::from_value(json!({"metadata": meta})).unwrap()
}

fn key<K>(number: u8) -> ObjectKey<K> {
    ObjectKey::new("x", format!("{number}"))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..8u8, 0..3u8, any::<bool>(), proptest::bool::weighted(0.2))
            .prop_map(|(name, app, tier, controlled)| Step::Put(name, app, tier, controlled)),
        2 => (0..8u8).prop_map(Step::Remove),
        2 => (0..3u8, 0..SELECTORS.len()).prop_map(|(of, selector)| Step::Select(of, selector)),
        1 => (0..3u8).prop_map(Step::Forget),
        6 => (0..3u8).prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 1..80)
}

fn sorted<T>(mut keys: Vec<ObjectKey<T>>) -> Vec<String> {
    let mut names: Vec<String> = keys.drain(..).map(|key| key.to_string()).collect();
    names.sort();
    names
}

fn orphaned(pod: &Pod) -> bool {
    controller_of(&pod.metadata).is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn members_are_what_asking_every_object_anew_gives(steps in steps()) {
        let indexer = Arc::new(Indexer::<Pod>::new());
        let members = Members::<Service>::new(orphaned);
        indexer.observe(members.observer());
        let lister = Lister::new(indexer.clone());
        let selectors: Vec<_> = SELECTORS.iter().map(|s| LabelSelector::parse(s).unwrap()).collect();
        let mut wanted = [0, 1, 2];
        let mut known: BTreeMap<u8, usize> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(name, app, tier, controlled) => {
                    let pod = pod(&name.to_string(), app, tier, controlled);
                    let selecting = sorted(members.selecting(&pod));
                    let selects = |(_, s): &(&u8, &usize)| {
                        orphaned(&pod) && selectors[**s].matches_labels(labels_of(&pod))
                    };
                    let all = known.iter().filter(selects).map(|(of, _)| key::<Service>(*of)).collect();
                    prop_assert_eq!(selecting, sorted(all));
                    indexer.insert(key(name), Arc::new(pod));
                }
                Step::Remove(name) => drop(indexer.remove(&key(name))),
                Step::Select(of, selector) => wanted[usize::from(of)] = selector,
                Step::Forget(of) => {
                    members.forget(&key(of));
                    known.remove(&of);
                }
                Step::Look(of) => {
                    let selector = &selectors[wanted[usize::from(of)]];
                    known.insert(of, wanted[usize::from(of)]);
                    let found = members.of(&key(of), selector, &lister);
                    let found = found.iter().map(|pod| ObjectKey::of(&**pod)).collect();
                    let all = lister.matching("x", selector);
                    let all = all.iter().filter(|p| orphaned(p)).map(|p| ObjectKey::of(&**p)).collect();
                    prop_assert_eq!(sorted::<Pod>(found), sorted(all));
                }
            }
        }
        // Nothing is kept of what is gone.
        (0..3).for_each(|of| members.forget(&key(of)));
        let state = members.state.lock();
        prop_assert!(state.selected.is_empty() && state.selectors.is_empty());
    }
}

#[test]
fn a_look_asks_for_members_alone_and_a_change_for_those_that_may_select_it() {
    let indexer = Arc::new(Indexer::<Pod>::new());
    let members = Members::<Service>::new(|_| true);
    indexer.observe(members.observer());
    let lister = Lister::new(indexer.clone());
    for name in 0..200 {
        let app = u8::from(name >= 3);
        indexer.insert(key(name), Arc::new(pod(&name.to_string(), app, false, false)));
    }
    for of in 0..100 {
        let selector = LabelSelector::parse(&format!("app=a,of={of}")).unwrap();
        assert!(members.of(&key(of), &selector, &lister).is_empty());
    }
    let own = LabelSelector::parse("app=a").unwrap();
    assert_eq!(members.of(&key(100), &own, &lister).len(), 3);
    let state = members.state.lock();
    assert_eq!(state.selected[&key(100)].members.len(), 3);
    let other = labels_of(&*lister.get(&key(100)).unwrap()).clone();
    assert_eq!(state.selectors["x"].candidates(&other).count(), 0);
}
