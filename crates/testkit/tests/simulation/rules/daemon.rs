//! A DaemonSet never has two pods that count for one node, or three with surge; and it takes pods that serve from no more
//! nodes than maxUnavailable before others serve there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use super::deployment::available;
use super::given_up::GivenUp;
use crate::json;
use crate::model::{Commit, Model};

pub struct Daemons {
    staleness: f64,
    given_up: GivenUp,
    /// By the set's uid: when what may be unavailable was changed.
    disturbed: BTreeMap<String, f64>,
    /// By the set's uid: until when it had surge.
    surged: BTreeMap<String, f64>,
}

impl Daemons {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            given_up: GivenUp::default(),
            disturbed: BTreeMap::new(),
            surged: BTreeMap::new(),
        }
    }

    fn is_calm(&self, uid: &str, now: f64) -> bool {
        let own = self.disturbed.get(uid).copied().unwrap_or(f64::MIN);
        now - own > self.staleness + 30.0
    }
}

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

fn strategy(set: &Value) -> [&Value; 2] {
    ["spec.updateStrategy", "spec.minReadySeconds"].map(|path| json::at(set, path))
}

fn rolling<'s>(set: &'s Value, field: &str) -> &'s Value {
    &json::at(set, "spec.updateStrategy.rollingUpdate")[field]
}

fn surges(set: &Value) -> bool {
    let surge = rolling(set, "maxSurge");
    !surge.is_null() && *surge != 0
}

/// Whether the taint keeps new pods of the set away: the one that users set here, if the template does not tolerate it, and
/// that of a node that is not heard of. (Daemons tolerate its `NoExecute`, and go on.)
fn bars(taint: &Value, spec: &Value) -> bool {
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    match taint["key"].as_str() {
        Some("trouble") => json::list(spec, "tolerations").is_empty(),
        Some(key) => lost.contains(&key) && taint["effect"] == "NoSchedule",
        None => false,
    }
}

/// Whether the node is to have a pod of the set, by what the templates here ask for.
fn fits(set: &Value, node: &Value) -> bool {
    let spec = json::at(set, "spec.template.spec");
    let labels = json::at(node, "metadata.labels");
    let selector = json::at(spec, "nodeSelector").as_object();
    let selected = selector.is_none_or(|s| s.iter().all(|(k, v)| &labels[k] == v));
    selected && !json::list(node, "spec.taints").iter().any(|taint| bars(taint, spec))
}

impl Rule for Daemons {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("daemonsets")
            && let Some(set) = commit.after.as_deref()
            && commit.before.as_deref().map(strategy) != Some(strategy(set))
        {
            self.disturbed.insert(json::uid(set).to_owned(), commit.seconds);
            if commit.before.as_deref().is_some_and(surges) {
                self.surged.insert(json::uid(set).to_owned(), commit.seconds);
            }
        }
        if commit.is_of("minions") {
            for set in model.all("daemonsets") {
                let fits = |node: Option<&Value>| node.is_some_and(|node| fits(set, node));
                if fits(commit.before.as_deref()) != fits(commit.after.as_deref()) {
                    self.disturbed.insert(json::uid(set).to_owned(), commit.seconds);
                }
            }
        }
        if !commit.is_of("pods") {
            return;
        }
        let Some(pod) = commit.after.as_deref().or(commit.before.as_deref()) else {
            return;
        };
        let owner = json::controller_uid(pod);
        let Some(set) = model.by_uid(owner).filter(|o| o["kind"] == "DaemonSet") else {
            return;
        };
        if commit.created().is_some() {
            let node = pinned(pod);
            let there = model
                .controlled("pods", owner)
                .filter(|p| json::active(p) && pinned(p) == node)
                .count();
            let until = self.surged.get(owner).copied().unwrap_or(f64::MIN);
            let surges = surges(set) || commit.seconds - until <= self.staleness + 30.0;
            if there > 1 + usize::from(surges) {
                faults.push(format!("{} has {there} pods for node {node}", json::name(set)));
            }
        }
        self.judge_given_up(model, commit, set, faults);
    }
}

impl Daemons {
    fn judge_given_up(&mut self, model: &Model, commit: &Commit, set: &Value, faults: &mut Vec<String>) {
        let min_ready = json::int(set, "spec.minReadySeconds");
        let serves = |pod: &&Value| available(pod, min_ready, commit.now);
        let uid = json::uid(set);
        let states = [commit.before.as_deref(), commit.after.as_deref()];
        for pod in states.into_iter().flatten().filter(serves) {
            self.given_up.serves(uid, pinned(pod));
        }
        let served = commit.before.as_deref().is_some_and(|pod| serves(&pod));
        let by_controller = commit.actor == "daemon-set-controller";
        let Some(doomed) = commit.doomed().filter(|_| served && by_controller) else {
            return;
        };
        let fits = |node: &str| model.named("minions", node).is_some_and(|n| fits(set, n));
        if !fits(pinned(doomed)) || surges(set) || json::terminating(set) || !self.is_calm(uid, commit.seconds) {
            return;
        }
        let is_served = |node: &str| {
            let mut pods = model.controlled("pods", uid);
            pods.any(|p| pinned(p) == node && serves(&p))
        };
        let is_without = |node: &str| fits(node) && !is_served(node);
        let taken = self.given_up.give(uid, pinned(doomed), is_without) as i64;
        let nodes = model.all("minions").filter(|n| fits(json::name(n))).count() as i64;
        let most = json::share(rolling(set, "maxUnavailable"), nodes, true).max(1);
        if taken > most {
            faults.push(format!(
                "{} has taken pods that served from {taken} nodes, and {most} are allowed",
                json::name(set)
            ));
        }
    }
}
