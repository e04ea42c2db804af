//! An ordered StatefulSet makes a pod only when all before it are there and ready. None gives up more pods that serve, of those
//! that it wants, than maxUnavailable allows before others serve in their place.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use super::deployment::available;
use super::given_up::GivenUp;
use crate::json;
use crate::model::{Commit, Model};

pub struct StatefulSets {
    staleness: f64,
    given_up: GivenUp,
    /// By the set's uid: when what it wants, or what may be unavailable, was changed.
    changed: BTreeMap<String, f64>,
    /// By the set's uid: when a pod of it last failed, went or lost its readiness by another's hand, or it was changed.
    disturbed: BTreeMap<String, f64>,
}

impl StatefulSets {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            given_up: GivenUp::default(),
            changed: BTreeMap::new(),
            disturbed: BTreeMap::new(),
        }
    }
}

fn ordinal(pod: &Value) -> i64 {
    json::name(pod)
        .rsplit('-')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(-1)
}

impl Rule for StatefulSets {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("statefulsets")
            && let Some(set) = commit.after.as_deref()
            && commit.before.as_deref().map(|b| json::at(b, "spec")) != Some(json::at(set, "spec"))
        {
            self.disturbed.insert(json::uid(set).to_owned(), commit.seconds);
            if commit.before.as_deref().map(wishes) != Some(wishes(set)) {
                self.changed.insert(json::uid(set).to_owned(), commit.seconds);
            }
        }
        if !commit.is_of("pods") {
            return;
        }
        let Some(pod) = commit.after.as_deref().or(commit.before.as_deref()) else {
            return;
        };
        let owner = json::controller_uid(pod);
        let Some(set) = model.by_uid(owner).filter(|o| o["kind"] == "StatefulSet") else {
            return;
        };
        let by_controller = commit.actor == "statefulset-controller";
        let was_ready = commit
            .before
            .as_deref()
            .is_some_and(|b| json::is_true(b, "Ready") && json::active(b));
        let is_ready = commit
            .after
            .as_deref()
            .is_some_and(|a| json::is_true(a, "Ready") && json::active(a));
        if was_ready && !is_ready && !by_controller {
            self.disturbed.insert(owner.to_owned(), commit.seconds);
        }
        self.judge_given_up(model, commit, set, faults);
        let calm = commit.seconds - self.disturbed.get(owner).copied().unwrap_or(f64::MIN) > self.staleness + 30.0;
        if json::text(set, "spec.podManagementPolicy") == "Parallel" || !calm || !by_controller {
            return;
        }
        if commit.created().is_some() {
            let first = json::int(set, "spec.ordinals.start");
            let ready = |n: &i64| {
                let mut pods = model.controlled("pods", owner);
                pods.any(|p| ordinal(p) == *n && json::is_true(p, "Ready"))
            };
            if let Some(missing) = (first..ordinal(pod)).find(|n| !ready(n)) {
                faults.push(format!("{} is made before ordinal {missing} is ready", json::name(pod)));
            }
        }
    }
}

/// All of the spec but the template.
fn wishes(set: &Value) -> [&Value; 4] {
    ["replicas", "ordinals", "updateStrategy", "minReadySeconds"].map(|field| &json::at(set, "spec")[field])
}

impl StatefulSets {
    fn judge_given_up(&mut self, model: &Model, commit: &Commit, set: &Value, faults: &mut Vec<String>) {
        let min_ready = json::int(set, "spec.minReadySeconds");
        let serves = |pod: &&Value| available(pod, min_ready, commit.now);
        let uid = json::uid(set);
        let states = [commit.before.as_deref(), commit.after.as_deref()];
        for pod in states.into_iter().flatten().filter(serves) {
            self.given_up.serves(uid, &ordinal(pod).to_string());
        }
        let served = commit.before.as_deref().is_some_and(|pod| serves(&pod));
        let by_controller = commit.actor == "statefulset-controller";
        let Some(doomed) = commit.doomed().filter(|_| served && by_controller) else {
            return;
        };
        let (first, replicas) = (json::int(set, "spec.ordinals.start"), json::int(set, "spec.replicas"));
        let wants = |place: &str| {
            let ordinal = place.parse::<i64>();
            ordinal.is_ok_and(|n| (first..first + replicas).contains(&n))
        };
        let place = ordinal(doomed).to_string();
        let changed = self.changed.get(uid).copied().unwrap_or(f64::MIN);
        if !wants(&place) || json::terminating(set) || commit.seconds - changed <= self.staleness + 30.0 {
            return;
        }
        let is_served = |place: &str| {
            let mut pods = model.controlled("pods", uid);
            pods.any(|p| ordinal(p).to_string() == place && serves(&p))
        };
        let is_without = |place: &str| wants(place) && !is_served(place);
        let taken = self.given_up.give(uid, &place, is_without) as i64;
        let most = json::at(set, "spec.updateStrategy.rollingUpdate.maxUnavailable");
        let most = json::share(most, replicas, true).max(1);
        if taken > most {
            faults.push(format!(
                "{} has given up {taken} pods that served, and {most} are allowed",
                json::name(set)
            ));
        }
    }
}
