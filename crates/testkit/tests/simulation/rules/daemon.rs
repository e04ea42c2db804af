//! A DaemonSet without surge never has two pods that count for one node.

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

pub struct Daemons;

/// The node that a daemon's pod is on, or pinned to.
pub fn pinned(pod: &Value) -> &str {
    let bound = json::text(pod, "spec.nodeName");
    if !bound.is_empty() {
        return bound;
    }
    let required = json::at(
        pod,
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
    );
    let terms = json::list(required, "nodeSelectorTerms");
    let fields = terms.first().map_or(&[][..], |t| json::list(t, "matchFields"));
    fields.first().and_then(|f| f["values"][0].as_str()).unwrap_or_default()
}

impl Rule for Daemons {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        let Some(pod) = commit.created().filter(|_| commit.is_of("pods")) else {
            return;
        };
        let owner = json::controller_uid(pod);
        let Some(set) = model.by_uid(owner).filter(|o| o["kind"] == "DaemonSet") else {
            return;
        };
        let surge = json::at(set, "spec.updateStrategy.rollingUpdate.maxSurge");
        if !(surge.is_null() || *surge == 0) {
            return;
        }
        let node = pinned(pod);
        let there = model
            .controlled("pods", owner)
            .filter(|p| json::active(p) && pinned(p) == node)
            .count();
        if there > 1 {
            faults.push(format!("{} has {there} pods for node {node}", json::name(set)));
        }
    }
}
