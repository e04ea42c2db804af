//! A claim stays with the volume that it was given, and a volume with its claim; no pod is bound to a node before its claims
//! are bound to volumes that can be there; nothing that is used is taken away.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

pub struct Volumes {
    staleness: f64,
    /// By the claim's uid: its volume.
    given: BTreeMap<String, String>,
    /// By the claim's name: when one of that name has gone, or has come again after that.
    gone: BTreeMap<String, f64>,
}

impl Volumes {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            given: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }
}

/// Names of the claims that a pod uses.
pub fn claims_of(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = json::list(pod, "spec.volumes").iter();
    let claims = volumes.map(|v| json::text(v, "persistentVolumeClaim.claimName"));
    claims.filter(|c| !c.is_empty())
}

fn claimant(volume: &Value) -> &str {
    json::text(volume, "spec.claimRef.uid")
}

/// Whether the volume can be had on the node, by the only kind of affinity that is made here.
fn is_at(volume: &Value, node: &Value) -> bool {
    let terms = json::list(volume, "spec.nodeAffinity.required.nodeSelectorTerms");
    let Some(term) = terms.first() else { return true };
    let labels = json::at(node, "metadata.labels");
    json::list(term, "matchExpressions").iter().all(|e| {
        let label = &labels[json::text(e, "key")];
        json::list(e, "values").contains(label)
    })
}

impl Rule for Volumes {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("persistentvolumeclaims") {
            self.judge_claim(model, commit, faults);
            // Who has not heard that one is gone takes what it had for what the next of its name has.
            let of_name = commit.after.as_deref().or(commit.before.as_deref()).map(json::name);
            if let Some(name) = of_name {
                if commit.after.is_none() {
                    self.gone.insert(name.to_owned(), commit.seconds);
                } else if commit.before.is_none()
                    && let Some(when) = self.gone.get_mut(name)
                {
                    *when = commit.seconds;
                }
            }
        }
        if commit.is_of("persistentvolumes")
            && let Some((before, after)) = commit.states()
        {
            let (was, is) = (claimant(before), claimant(after));
            if !was.is_empty() && !is.is_empty() && was != is {
                faults.push(format!("{} goes from claim {was} to {is}", json::name(after)));
            }
        }
        if commit.is_of("pods")
            && let Some((before, pod)) = commit.states()
            && json::text(before, "spec.nodeName") != json::text(pod, "spec.nodeName")
        {
            let late = |claim: &str| {
                let again = self.gone.get(claim);
                again.is_some_and(|when| commit.seconds - when <= self.staleness + 30.0)
            };
            judge_bound(model, pod, late, faults);
        }
    }
}

impl Volumes {
    fn judge_claim(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        let Some(claim) = commit.after.as_deref() else {
            let Some(gone) = commit.before.as_deref() else { return };
            let uses = |p: &&Value| {
                let lives = !json::finished(p) && !json::text(p, "spec.nodeName").is_empty();
                lives && claims_of(p).any(|c| c == json::name(gone))
            };
            if let Some(pod) = model.all("pods").find(uses) {
                faults.push(format!("{} is gone, and {} uses it", json::name(gone), json::name(pod)));
            }
            return;
        };
        let volume = json::text(claim, "spec.volumeName");
        if volume.is_empty() {
            return;
        }
        let given = self.given.entry(json::uid(claim).to_owned());
        let given = given.or_insert_with(|| volume.to_owned());
        if given != volume {
            faults.push(format!("{} goes from volume {given} to {volume}", json::name(claim)));
        }
        let other = |c: &&Value| json::uid(c) != json::uid(claim) && json::text(c, "spec.volumeName") == volume;
        if let Some(other) = model.all("persistentvolumeclaims").find(other) {
            let names = (json::name(claim), json::name(other));
            faults.push(format!("{} and {} both have {volume}", names.0, names.1));
        }
    }
}

/// `late` are claims that the scheduler may still take for others.
fn judge_bound(model: &Model, pod: &Value, late: impl Fn(&str) -> bool, faults: &mut Vec<String>) {
    let name = json::name(pod);
    let node = model.named("minions", json::text(pod, "spec.nodeName"));
    for wanted in claims_of(pod).filter(|claim| !late(claim)) {
        let Some(claim) = model.named("persistentvolumeclaims", wanted) else {
            faults.push(format!("{name} is bound, and its claim {wanted} is not there"));
            continue;
        };
        let volume = model.named("persistentvolumes", json::text(claim, "spec.volumeName"));
        let Some(volume) = volume.filter(|v| claimant(v) == json::uid(claim)) else {
            faults.push(format!("{name} is bound, and its claim {wanted} has no volume"));
            continue;
        };
        if node.is_some_and(|n| !is_at(volume, n)) {
            faults.push(format!("{name} is bound where {} cannot be had", json::name(volume)));
        }
    }
}
