//! The garbage collector takes nothing that a living owner holds, and nobody loses its owner unless the owner goes and lets go
//! of it, or it matches the owner's selector no longer. In the end no dependent of an absent owner is left.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

#[derive(Default)]
pub struct Ownership {
    /// Owners that were told to let go of their dependents: by uid, whether so.
    orphaning: BTreeMap<String, bool>,
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    json::list(object, "metadata.finalizers").iter().any(|f| f == finalizer)
}

fn selects(owner: &Value, object: &Value) -> bool {
    let labels = json::at(object, "metadata.labels");
    let wanted = json::at(owner, "spec.selector.matchLabels").as_object();
    wanted.is_some_and(|w| !w.is_empty() && w.iter().all(|(k, v)| &labels[k] == v))
}

/// Whether the owner is there to stay, or at least to wait.
fn holds(model: &Model, reference: &Value) -> bool {
    let owner = model.by_uid(json::text(reference, "uid"));
    owner.is_some_and(|o| !(json::terminating(o) && has_finalizer(o, "foregroundDeletion")))
}

impl Rule for Ownership {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if let Some(after) = commit.after.as_deref()
            && json::terminating(after)
        {
            let orphaning = has_finalizer(after, "orphan");
            *self.orphaning.entry(json::uid(after).to_owned()).or_default() |= orphaning;
        }
        if commit.actor == "generic-garbage-collector-controller"
            && let Some(doomed) = commit.doomed()
        {
            let owners = json::list(doomed, "metadata.ownerReferences");
            if let Some(living) = owners.iter().find(|o| holds(model, o)) {
                let (name, owner) = (json::name(doomed), json::text(living, "name"));
                faults.push(format!("{name} is collected, and its owner {owner} lives"));
            }
            if owners.is_empty() {
                faults.push(format!("{} is collected, and has no owner", json::name(doomed)));
            }
        }
        // Who owns a claim goes by its set's policy, which may change.
        if let Some((before, after)) = commit.states().filter(|_| !commit.is_of("persistentvolumeclaims"))
            && let Some(owner) = json::controller(before)
            && json::controller_uid(after) != json::text(owner, "uid")
        {
            let uid = json::text(owner, "uid");
            let let_go = self.orphaning.get(uid).copied().unwrap_or_default();
            let released = model.by_uid(uid).is_some_and(|o| !selects(o, after));
            if !let_go && !released {
                let name = json::name(after);
                faults.push(format!(
                    "{name} was let go of by {} for no reason",
                    json::text(owner, "name")
                ));
            }
        }
    }

    fn judge_rest(&self, model: &Model, faults: &mut Vec<String>) {
        let kinds = [
            "pods",
            "replicasets",
            "jobs",
            "controllerrevisions",
            "persistentvolumeclaims",
            "configmaps",
            "example.org",
        ];
        for kind in kinds {
            for object in model.all(kind) {
                let owners = json::list(object, "metadata.ownerReferences");
                let absent = |o: &Value| model.by_uid(json::text(o, "uid")).is_none();
                if !owners.is_empty() && owners.iter().all(absent) {
                    faults.push(format!("{} has outlived its owner", json::name(object)));
                }
            }
        }
    }
}
