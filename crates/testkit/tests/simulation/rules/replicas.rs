//! A ReplicaSet never has more pods that count than it was told to have, whatever it was told since it last said what it
//! had seen.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use crate::json;
use crate::model::{Commit, Model};

/// What a spec said, generation by generation, as far back as its controller may not have looked.
#[derive(Default)]
pub struct Sayings(BTreeMap<String, BTreeMap<i64, i64>>);

impl Sayings {
    /// Notes what the object says now.
    pub fn note(&mut self, object: &Value, says: i64) {
        let said = self.0.entry(json::uid(object).to_owned()).or_default();
        said.insert(json::int(object, "metadata.generation"), says);
        let seen = json::int(object, "status.observedGeneration");
        said.retain(|generation, _| *generation >= seen);
    }

    /// The most that it may still be taken to say.
    pub fn most(&self, uid: &str) -> i64 {
        self.0
            .get(uid)
            .and_then(|said| said.values().max().copied())
            .unwrap_or(0)
    }
}

#[derive(Default)]
pub struct Replicas {
    sizes: Sayings,
}

impl Rule for Replicas {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("replicasets")
            && let Some(set) = commit.after.as_deref()
        {
            self.sizes.note(set, json::int(set, "spec.replicas"));
        }
        if !commit.is_of("pods") {
            return;
        }
        let Some(pod) = commit.created() else { return };
        let owner = json::controller_uid(pod);
        if json::controller(pod).is_none_or(|o| o["kind"] != "ReplicaSet") {
            return;
        }
        let count = model.controlled("pods", owner).filter(|p| json::active(p)).count() as i64;
        let most = self.sizes.most(owner);
        if count > most {
            faults.push(format!(
                "{} has {count} pods, and was told to have {most}",
                json::name(pod)
            ));
        }
    }
}
