//! No pod is bound where a filter forbids it, by this page's own plain reading of the filters, and no node is promised more than
//! it has.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rule;
use super::daemon::pinned;
use crate::json;
use crate::model::{Commit, Model};

pub struct Scheduling {
    staleness: f64,
    /// By node: when it last changed in what the filters look at.
    changed: BTreeMap<String, f64>,
}

impl Scheduling {
    pub fn new(staleness: f64) -> Self {
        Self {
            staleness,
            changed: BTreeMap::new(),
        }
    }
}

/// Thousandths of a processor.
fn milli(quantity: &Value) -> i64 {
    match quantity.as_str() {
        Some(text) => match text.strip_suffix('m') {
            Some(milli) => milli.parse().unwrap_or(0),
            None => text.parse::<i64>().unwrap_or(0) * 1000,
        },
        None => quantity.as_i64().unwrap_or(0) * 1000,
    }
}

fn requests(pod: &Value) -> i64 {
    let containers = json::list(pod, "spec.containers");
    containers
        .iter()
        .map(|c| milli(json::at(c, "resources.requests.cpu")))
        .sum()
}

fn tolerates(pod: &Value, taint: &Value) -> bool {
    json::list(pod, "spec.tolerations").iter().any(|t| {
        let of_key = t["key"].is_null() && t["operator"] == "Exists" || t["key"] == taint["key"];
        let of_effect = t["effect"].is_null() || t["effect"] == taint["effect"];
        of_key && of_effect && (t["operator"] == "Exists" || json::text(t, "value") == json::text(taint, "value"))
    })
}

fn forbidden(pod: &Value, node: &Value) -> Option<String> {
    let unschedulable = serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if *json::at(node, "spec.unschedulable") == true && !tolerates(pod, &unschedulable) {
        return Some("it is cordoned".into());
    }
    let taints = json::list(node, "spec.taints").iter();
    let mut barred = taints.filter(|t| t["effect"] != "PreferNoSchedule" && !tolerates(pod, t));
    if let Some(taint) = barred.next() {
        return Some(format!("it has the taint {taint}"));
    }
    let labels = json::at(node, "metadata.labels");
    let selector = json::at(pod, "spec.nodeSelector").as_object();
    let mut unmet = selector.into_iter().flatten().filter(|(k, v)| labels[k] != **v);
    if let Some((key, value)) = unmet.next() {
        return Some(format!("it has not the label {key}={value}"));
    }
    None
}

fn looks(node: &Value) -> [&Value; 4] {
    [
        "spec.unschedulable",
        "spec.taints",
        "metadata.labels",
        "status.allocatable",
    ]
    .map(|path| json::at(node, path))
}

impl Rule for Scheduling {
    fn judge(&mut self, model: &Model, commit: &Commit, faults: &mut Vec<String>) {
        if commit.is_of("minions")
            && let Some(node) = commit.after.as_deref().or(commit.before.as_deref())
            && commit
                .states()
                .is_none_or(|(before, after)| looks(before) != looks(after))
        {
            self.changed.insert(json::name(node).to_owned(), commit.seconds);
        }
        if !commit.is_of("pods") {
            return;
        }
        let Some((before, pod)) = commit.states() else { return };
        let bound = json::text(pod, "spec.nodeName");
        if !json::text(before, "spec.nodeName").is_empty() || bound.is_empty() {
            return;
        }
        let name = json::name(pod);
        let meant = pinned(before);
        if !meant.is_empty() && meant != bound {
            faults.push(format!("{name} is meant for {meant}, and bound to {bound}"));
        }
        let changed = self.changed.get(bound).copied().unwrap_or(f64::MIN);
        let news = commit.seconds - changed <= self.staleness;
        let Some(node) = model.named("minions", bound) else {
            if !news {
                faults.push(format!("{name} is bound to {bound}, which is not there"));
            }
            return;
        };
        if let Some(why) = forbidden(pod, node).filter(|_| !news) {
            faults.push(format!("{name} is bound to {bound}: {why}"));
        }
        let there = model
            .all("pods")
            .filter(|p| json::text(p, "spec.nodeName") == bound && !json::finished(p));
        let (mut promised, mut count) = (0, 0);
        for pod in there {
            promised += requests(pod);
            count += 1;
        }
        let has = milli(json::at(node, "status.allocatable.cpu"));
        let room = json::text(node, "status.allocatable.pods").parse().unwrap_or(i64::MAX);
        if !news && (promised > has || count > room) {
            faults.push(format!(
                "{bound} is promised {promised}m to {count} pods, and has {has}m for {room}"
            ));
        }
    }
}
