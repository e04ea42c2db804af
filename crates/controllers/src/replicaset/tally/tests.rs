//! Whatever happens to pods, to sets and to the clock: a tally is what counting all pods anew gives.

use coracle_informer::Indexer;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pods::{Availability, availability, is_finished};

const SETS: [&str; 2] = ["web", "db"];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A set as it may be now; another incarnation has another uid.
#[derive(Clone, Debug, Default)]
struct Spec {
    incarnation: u8,
    min_ready_seconds: i32,
    /// Whether it wants the label that some pods have.
    tier: bool,
    /// Whether its template has it.
    labeled: bool,
}

impl Spec {
    fn set(&self, name: &str) -> ReplicaSet {
        let mut selector = json!({"app": name});
        let mut labels = json!({"app": name});
        if self.tier {
            selector["tier"] = "x".into();
        }
        if self.tier || self.labeled {
            labels["tier"] = "x".into();
        }
        serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": name, "uid": format!("{name}-{}", self.incarnation)},
            "spec": {
                "minReadySeconds": self.min_ready_seconds,
                "selector": {"matchLabels": selector},
                "template": {"metadata": {"labels": labels}},
            },
        }))
        .unwrap()
    }

    fn basis(&self, name: &str) -> Basis {
        let set = self.set(name);
        let selector = LabelSelector::from_typed(Some(&set.spec.selector)).unwrap();
        Basis::of(&set, selector)
    }
}

#[derive(Clone, Debug)]
struct PodState {
    owner: Option<(usize, u8)>,
    app: usize,
    tier: bool,
    phase: &'static str,
    ready_since: Option<i64>,
    going: bool,
}

impl PodState {
    fn pod(&self, name: &str) -> Pod {
        let owner = self.owner.map(|(set, incarnation)| {
            let name = SETS[set];
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "controller": true,
                "uid": format!("{name}-{incarnation}")})
        });
        let mut labels = json!({"app": SETS[self.app]});
        if self.tier {
            labels["tier"] = "x".into();
        }
        let ready = self.ready_since.map_or(
            json!({"type": "Ready", "status": "False"}),
            |since| json!({"type": "Ready", "status": "True", "lastTransitionTime": at(since).to_string()}),
        );
        serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": name, "labels": labels, "ownerReferences": Vec::from_iter(owner),
                "deletionTimestamp": self.going.then(|| at(0).to_string())},
            "status": {"phase": self.phase, "conditions": [ready]},
        }))
        .unwrap()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, PodState),
    Remove(u8),
    Change(usize, Spec),
    Forget(usize),
    Turn(i64),
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = proptest::option::weighted(0.8, (0..2usize, 0..2u8));
    let phase = prop_oneof![6 => Just("Running"), 1 => Just("Failed"), 1 => Just("Succeeded")];
    let ready = proptest::option::weighted(0.7, 0..60i64);
    let state = (
        owner,
        0..2usize,
        any::<bool>(),
        phase,
        ready,
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(owner, app, tier, phase, ready_since, going)| PodState {
            owner,
            app,
            tier,
            phase,
            ready_since,
            going,
        });
    let spec = (0..2u8, 0..3i32, any::<bool>(), any::<bool>()).prop_map(|(incarnation, tens, tier, labeled)| Spec {
        incarnation,
        min_ready_seconds: 10 * tens,
        tier,
        labeled,
    });
    let step = prop_oneof![
        8 => (0..12u8, state).prop_map(|(name, state)| Step::Put(name, state)),
        2 => (0..12u8).prop_map(Step::Remove),
        1 => (0..2usize, spec).prop_map(|(set, spec)| Step::Change(set, spec)),
        1 => (0..2usize).prop_map(Step::Forget),
        2 => (0..90i64).prop_map(Step::Turn),
        6 => (0..2usize).prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 1..80)
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    let mut names: Vec<String> = pods.iter().filter_map(|p| p.metadata.name.clone()).collect();
    names.sort();
    names
}

/// Every pod of the cache, asked one by one.
fn counted(set: &ReplicaSet, basis: &Basis, all: &[Arc<Pod>], now: Timestamp) -> (Totals, Vec<String>, Vec<String>) {
    let controller = |p: &Pod| controller_of(&p.metadata).map(|o| o.uid.clone());
    let ours = |p: &&Arc<Pod>| controller(p) == set.metadata.uid;
    let owned: Vec<_> = all.iter().filter(ours).filter(|p| basis.selects(p)).collect();
    let active: Vec<_> = owned.iter().filter(|p| is_active(p)).collect();
    let number = |n: usize| i32::try_from(n).unwrap();
    let labels = set
        .spec
        .template
        .as_ref()
        .unwrap()
        .metadata
        .as_ref()
        .unwrap()
        .labels
        .clone()
        .unwrap();
    let labeled = |p: &Pod| {
        labels
            .iter()
            .all(|(k, v)| p.metadata.labels.as_ref().unwrap().get(k) == Some(v))
    };
    let when = |p: &Pod| availability(p, set.spec.min_ready_seconds.unwrap(), now);
    let later = |p: &Pod| match when(p) {
        Availability::At(at) => Some(at),
        _ => None,
    };
    let totals = Totals {
        active: number(active.len()),
        labeled: number(active.iter().filter(|p| labeled(p)).count()),
        ready: number(active.iter().filter(|p| is_ready(p)).count()),
        available: number(active.iter().filter(|p| when(p) == Availability::Available).count()),
        terminating: number(owned.iter().filter(|p| is_terminating(p) && !is_finished(p)).count()),
        next: active.iter().filter_map(|p| later(p)).min(),
    };
    let orphan = |p: &&Arc<Pod>| controller(p).is_none() && basis.selects(p) && p.metadata.deletion_timestamp.is_none();
    let orphans: Vec<_> = all.iter().filter(orphan).cloned().collect();
    let strangers: Vec<_> = all.iter().filter(ours).filter(|p| !basis.selects(p)).cloned().collect();
    (totals, names(&orphans), names(&strangers))
}

fn cache() -> (Arc<Indexer<Pod>>, Lister<Pod>, Tallies<ReplicaSet>) {
    let indexer = Arc::new(Indexer::new());
    indexer.add_index(
        coracle_informer::indexer::CONTROLLER,
        coracle_informer::indexer::by_controller,
    );
    let tallies = Tallies::default();
    indexer.observe(tallies.observer());
    (indexer.clone(), Lister::new(indexer), tallies)
}

fn key<K>(name: &str) -> ObjectKey<K> {
    ObjectKey::new("x", name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn a_tally_is_what_all_pods_counted_anew_add_up_to(steps in steps()) {
        let (indexer, lister, tallies) = cache();
        let mut specs = [Spec::default(), Spec::default()];
        let mut now = at(30);
        for step in steps {
            match step {
                Step::Put(name, state) => {
                    let name = format!("p{name}");
                    indexer.insert(key(&name), Arc::new(state.pod(&name)));
                }
                Step::Remove(name) => drop(indexer.remove(&key(&format!("p{name}")))),
                Step::Change(set, spec) => specs[set] = spec,
                Step::Forget(set) => tallies.forget(&key(SETS[set])),
                Step::Turn(second) => now = at(second),
                Step::Look(set) => {
                    let (name, spec) = (SETS[set], &specs[set]);
                    let basis = spec.basis(name);
                    let look = tallies.look(&key(name), &basis, &lister, now);
                    let seen = (look.totals, names(&look.orphans), names(&look.strangers));
                    prop_assert_eq!(seen, counted(&spec.set(name), &basis, &lister.list(), now));
                }
            }
        }
        // Nothing is kept of sets that are gone.
        SETS.iter().for_each(|set| tallies.forget(&key(set)));
        prop_assert!(tallies.tallies.lock().is_empty() && tallies.changed.lock().is_empty());
    }
}

#[test]
fn a_look_asks_only_for_the_pods_that_changed() {
    let (indexer, lister, tallies) = cache();
    let state = PodState {
        owner: Some((0, 0)),
        app: 0,
        tier: false,
        phase: "Running",
        ready_since: Some(0),
        going: false,
    };
    for n in 0..10 {
        let name = format!("p{n}");
        indexer.insert(key(&name), Arc::new(state.pod(&name)));
    }
    let (spec, now) = (Spec::default(), at(1));
    let basis = spec.basis("web");
    let ready = |tallies: &Tallies<ReplicaSet>| tallies.look(&key("web"), &basis, &lister, now).totals.ready;
    assert_eq!(ready(&tallies), 10);
    let pending = || tallies.changed.lock()["web-0"].len();
    assert_eq!(pending(), 0);
    let waits = PodState {
        ready_since: None,
        ..state
    };
    indexer.insert(key("p3"), Arc::new(waits.pod("p3")));
    indexer.insert(key("p3"), Arc::new(waits.pod("p3")));
    assert_eq!(pending(), 1);
    assert_eq!((ready(&tallies), pending()), (9, 0));
}
