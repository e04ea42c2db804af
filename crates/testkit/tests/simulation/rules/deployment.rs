//! A Deployment's sets are never told to have more pods than replicas and maxSurge allow, and no pod that serves is given up
//! while fewer would serve than maxUnavailable allows. A Recreate rollout never mixes versions.

use std::collections::BTreeMap;

use coracle_clock::Timestamp;
use serde_json::Value;

use super::Rule;
use super::replicas::Sayings;
use crate::json;
use crate::model::{Commit, Model};

pub struct Deployments {
    staleness: f64,
    most: Sayings,
    /// By the Deployment's uid: when something other than its rollout last changed what serves, or what that means.
    disturbed: BTreeMap<String, f64>,
    /// By the Deployment's uid: how few pods were to serve at least, and until when.
    were_enough: BTreeMap<String, Vec<(f64, i64)>>,
    /// By the Deployment's uid: when somebody scaled a set behind its back.
    meddled: BTreeMap<String, f64>,
    everything_disturbed: f64,
}

impl Deployments {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            most: Sayings::default(),
            disturbed: BTreeMap::new(),
            were_enough: BTreeMap::new(),
            meddled: BTreeMap::new(),
            everything_disturbed: f64::MIN,
        }
    }

    fn is_calm(&self, uid: &str, now: f64) -> bool {
        let last = self
            .disturbed
            .get(uid)
            .copied()
            .unwrap_or(f64::MIN)
            .max(self.everything_disturbed);
        now - last > self.patience()
    }

    /// How late the controllers may be. Retries of refused writes come on top.
    fn patience(&self) -> f64 {
        self.staleness + 30.0
    }

    /// How few pods may serve, by what has been declared lately.
    fn least(&self, deployment: &Value, now: f64) -> i64 {
        let earlier = self.were_enough.get(json::uid(deployment)).into_iter().flatten();
        let recent = earlier.filter(|(until, _)| now - until <= self.patience());
        recent.map(|(_, least)| *least).fold(least(deployment), i64::min)
    }
}

/// How few pods may serve while it rolls out.
fn least(deployment: &Value) -> i64 {
    if is_recreate(deployment) {
        return 0;
    }
    json::int(deployment, "spec.replicas") - most_unavailable(deployment)
}

fn is_recreate(deployment: &Value) -> bool {
    json::text(deployment, "spec.strategy.type") == "Recreate"
}

fn rolling(deployment: &Value, field: &str, up: bool) -> i64 {
    if is_recreate(deployment) {
        return 0;
    }
    let rolling = json::at(deployment, "spec.strategy.rollingUpdate");
    json::share(&rolling[field], json::int(deployment, "spec.replicas"), up)
}

fn most_unavailable(deployment: &Value) -> i64 {
    let unavailable = rolling(deployment, "maxUnavailable", false);
    if unavailable == 0 && rolling(deployment, "maxSurge", true) == 0 {
        1
    } else {
        unavailable
    }
}

/// Whether the pod serves, and has for long enough.
pub fn available(pod: &Value, min_ready: i64, now: Timestamp) -> bool {
    let ready = json::condition(pod, "Ready");
    if !json::active(pod) || ready["status"] != "True" {
        return false;
    }
    let since = json::text(ready, "lastTransitionTime").parse::<Timestamp>();
    min_ready == 0 || since.is_ok_and(|since| now.duration_since(since).as_secs() >= min_ready)
}

/// The Deployment of a set, or of a pod of a set.
fn top<'m>(model: &'m Model, object: &Value) -> Option<&'m Value> {
    let owner = json::controller(object)?;
    let found = model.by_uid(json::text(owner, "uid"))?;
    match owner["kind"].as_str()? {
        "Deployment" => Some(found),
        "ReplicaSet" => top(model, found),
        _ => None,
    }
}

impl Rule for Deployments {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("deployments")
            && let Some(deployment) = commit.after.as_deref()
        {
            let wanted = json::int(deployment, "spec.replicas");
            self.most
                .note(deployment, wanted + rolling(deployment, "maxSurge", true));
            let uid = json::uid(deployment).to_owned();
            // Scaled amid a rollout, sets shrink in proportion, whatever serves.
            let scale = |d: &Value| ["spec.minReadySeconds", "spec.replicas"].map(|path| json::int(d, path));
            let meaning = |d: &Value| (is_recreate(d), scale(d));
            if let Some(before) = commit.before.as_deref() {
                if meaning(before) != meaning(deployment) {
                    self.disturbed.insert(uid.clone(), commit.seconds);
                }
                if least(before) != least(deployment) {
                    let were_enough = self.were_enough.entry(uid).or_default();
                    were_enough.push((commit.seconds, least(before)));
                }
            }
        }
        if commit.is_of("minions") {
            let taints = |v: &Option<std::sync::Arc<Value>>| v.as_deref().map(|n| json::at(n, "spec.taints").clone());
            if taints(&commit.before) != taints(&commit.after) {
                self.everything_disturbed = commit.seconds;
            }
        }
        if commit.is_of("replicasets") {
            if let Some(set) = commit.after.as_deref()
                && commit.actor == "user"
            {
                for map in [&mut self.disturbed, &mut self.meddled] {
                    map.insert(json::controller_uid(set).to_owned(), commit.seconds);
                }
            }
            self.judge_set(model, commit, faults);
        }
        if commit.is_of("pods") {
            self.judge_pod(model, commit, faults);
        }
    }
}

impl Deployments {
    fn judge_set(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        let Some(set) = commit.after.as_deref() else { return };
        let size = |v: &Value| json::int(v, "spec.replicas");
        let grown = size(set) > commit.before.as_deref().map_or(0, size);
        let Some(deployment) = top(model, set).filter(|_| grown && commit.actor == "deployment-controller") else {
            return;
        };
        let uid = json::uid(deployment);
        let sum: i64 = model.controlled("replicasets", uid).map(size).sum();
        let most = self.most.most(uid);
        let meddled = self.meddled.get(uid).copied().unwrap_or(f64::MIN);
        if sum > most && commit.seconds - meddled > self.patience() {
            faults.push(format!(
                "the sets of {} are told to have {sum} pods, {most} are allowed",
                json::name(deployment)
            ));
        }
        if is_recreate(deployment) && self.is_calm(uid, commit.seconds) {
            let others = model
                .controlled("replicasets", uid)
                .filter(|s| json::uid(s) != json::uid(set));
            let mixed = others
                .flat_map(|s| model.controlled("pods", json::uid(s)))
                .any(|p| !json::finished(p));
            if mixed {
                faults.push(format!(
                    "{} is to be recreated, and grows beside old pods",
                    json::name(deployment)
                ));
            }
        }
    }

    fn judge_pod(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        let Some((before, owner)) = commit.before.as_deref().and_then(|b| Some((b, top(model, b)?))) else {
            return;
        };
        let min_ready = json::int(owner, "spec.minReadySeconds");
        let served = available(before, min_ready, commit.now);
        let serves = commit
            .after
            .as_deref()
            .is_some_and(|p| available(p, min_ready, commit.now));
        if !served || serves {
            return;
        }
        let uid = json::uid(owner).to_owned();
        if commit.doomed().is_none() || commit.actor != "replicaset-controller" {
            self.disturbed.insert(uid, commit.seconds);
            return;
        }
        if is_recreate(owner) || json::terminating(owner) || !self.is_calm(&uid, commit.seconds) {
            return;
        }
        let sets = model.controlled("replicasets", &uid);
        let pods = sets.flat_map(|s| model.controlled("pods", json::uid(s)));
        // Of those that are ready the set may choose one that has been so for long enough where its Deployment meant one that
        // has not: which pod goes depends on what else is on its node, before that.
        let left = pods.filter(|p| available(p, 0, commit.now)).count() as i64;
        let least = self.least(owner, commit.seconds);
        if left < least {
            faults.push(format!(
                "{} has {left} available pods, and {least} at least were to be",
                json::name(owner)
            ));
        }
    }
}
