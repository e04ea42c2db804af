//! An eviction takes one from what a budget allows, and none when it allows none. Whoever is preempted makes room for one of
//! higher priority that waits and may preempt.

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

pub struct Disruptions {
    staleness: f64,
    /// Priorities of pods that waited and wait no longer, and since when: whoever heard of them may not know yet.
    waited: Vec<(f64, i64)>,
}

impl Disruptions {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            waited: Vec::new(),
        }
    }
}

fn priority(pod: &Value) -> i64 {
    json::int(pod, "spec.priority")
}

/// Whether it waits for a node, and may make room for itself.
fn waits(pod: &Value) -> bool {
    json::text(pod, "spec.nodeName").is_empty() && json::text(pod, "spec.preemptionPolicy") != "Never"
}

fn disrupted(budget: &Value) -> usize {
    json::at(budget, "status.disruptedPods")
        .as_object()
        .map_or(0, |p| p.len())
}

impl Rule for Disruptions {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("poddisruptionbudgets")
            && commit.actor == "user"
            && let Some((before, after)) = commit.states()
            && disrupted(after) > disrupted(before)
        {
            let allowed = |b: &Value| json::int(b, "status.disruptionsAllowed");
            if allowed(before) < 1 || allowed(after) != allowed(before) - 1 {
                let allowed = (allowed(before), allowed(after));
                faults.push(format!(
                    "{} allowed {allowed:?} disruptions, before and after an eviction",
                    json::name(after)
                ));
            }
        }
        if !commit.is_of("pods") {
            return;
        }
        if let Some(before) = commit.before.as_deref().filter(|p| waits(p))
            && !commit.after.as_deref().is_some_and(waits)
        {
            self.waited.push((commit.seconds, priority(before)));
        }
        if commit.actor == "kube-scheduler"
            && let Some(victim) = commit.doomed()
        {
            let since = commit.seconds - self.staleness - 5.0;
            let of_late = self.waited.iter().rev().take_while(|(when, _)| *when >= since);
            let waiting = model.all("pods").filter(|p| waits(p)).map(priority);
            if !waiting.chain(of_late.map(|(_, p)| *p)).any(|p| p > priority(victim)) {
                faults.push(format!(
                    "{} is preempted, and nobody of higher priority waits",
                    json::name(victim)
                ));
            }
        }
    }
}
