//! No pod is evicted for a taint that it tolerates or that its node has not had, and none is given up as an orphan whose node
//! is there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

pub struct Evictions {
    staleness: f64,
    /// By node: when it last had a taint that evicts, and when it was last not there.
    tainted: BTreeMap<String, f64>,
    absent: BTreeMap<String, f64>,
}

impl Evictions {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            tainted: BTreeMap::new(),
            absent: BTreeMap::new(),
        }
    }
}

fn evicts(node: &Value) -> bool {
    json::list(node, "spec.taints")
        .iter()
        .any(|t| t["effect"] == "NoExecute")
}

fn tolerates_everything(pod: &Value) -> bool {
    json::list(pod, "spec.tolerations")
        .iter()
        .any(|t| t["operator"] == "Exists" && t["key"].is_null() && t["tolerationSeconds"].is_null())
}

impl Rule for Evictions {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("minions") {
            let states = [commit.before.as_deref(), commit.after.as_deref()];
            for node in states.into_iter().flatten() {
                let name = json::name(node).to_owned();
                if evicts(node) {
                    self.tainted.insert(name.clone(), commit.seconds);
                }
                if states.contains(&None) {
                    self.absent.insert(name, commit.seconds);
                }
            }
        }
        if !commit.is_of("pods") {
            return;
        }
        let Some(before) = commit.before.as_deref() else { return };
        let (pod, node) = (json::name(before), json::text(before, "spec.nodeName"));
        let lately = |times: &BTreeMap<String, f64>| {
            let last = times.get(node).copied().unwrap_or(f64::MIN);
            commit.seconds - last <= self.staleness + 30.0
        };
        let there = model.named("minions", node);
        if commit.actor == "node-controller" && commit.doomed().is_some() {
            if tolerates_everything(before) {
                faults.push(format!("{pod} is evicted, and tolerates everything"));
            }
            if !there.is_some_and(evicts) && !lately(&self.tainted) {
                faults.push(format!("{pod} is evicted, and {node} has no taint that evicts"));
            }
        }
        let failed = |p: &Value| json::text(p, "status.phase") == "Failed";
        if commit.actor == "pod-garbage-collector-controller"
            && !json::terminating(before)
            && !failed(before)
            && commit.after.as_deref().is_some_and(failed)
            && there.is_some()
            && !lately(&self.absent)
        {
            faults.push(format!("{pod} is given up, and its node {node} is there"));
        }
    }
}
