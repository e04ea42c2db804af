//! An ordered StatefulSet makes a pod only when all before it are there and ready, and gives one up only when none behind it is
//! left.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

pub struct StatefulSets {
    staleness: f64,
    /// By the set's uid: when a pod of it last failed, went or lost its readiness by another's hand, or it was changed.
    disturbed: BTreeMap<String, f64>,
}

impl StatefulSets {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
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
