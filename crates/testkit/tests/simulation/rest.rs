//! What all must look like once nothing goes wrong and nothing is changed any more, and which writes are then still in order.

use std::collections::BTreeSet;

use coracle_clock::Timestamp;
use serde_json::Value;

use crate::json;
use crate::model::Model;
use crate::rules::{claims_of, deployment_available};
use crate::user::TARGET;

/// What is not yet as it is declared.
pub fn unrest(model: &Model, now: Timestamp) -> Vec<String> {
    let mut unrest = Vec::new();
    let mut say = |object: &Value, what: String| {
        unrest.push(format!("{} {}: {what}", json::text(object, "kind"), json::name(object)));
    };
    let kinds = [
        "pods",
        "replicasets",
        "deployments",
        "daemonsets",
        "statefulsets",
        "jobs",
        "cronjobs",
        "poddisruptionbudgets",
        "controllerrevisions",
        "minions",
        "horizontalpodautoscalers",
        "persistentvolumeclaims",
        "persistentvolumes",
        "configmaps",
        "example.org",
    ];
    for object in kinds.iter().flat_map(|k| model.all(k)) {
        if json::terminating(object) {
            say(object, "is still going".into());
        }
        let seen = json::at(object, "status.observedGeneration");
        // Kinds that tell it, tell the truth.
        if seen.is_i64() && seen != json::at(object, "metadata.generation") && json::text(object, "kind") != "Pod" {
            say(object, "its newest generation has not been seen".into());
        }
    }
    for pod in model.all("pods").filter(|p| !json::finished(p)) {
        if json::text(pod, "spec.nodeName").is_empty() {
            say(pod, format!("has no node: {}", json::condition(pod, "PodScheduled")));
        } else if !json::is_true(pod, "Ready") {
            say(pod, format!("is not ready: {}", json::at(pod, "status")));
        }
    }
    for pod in model.all("pods") {
        let node = json::text(pod, "spec.nodeName");
        if !node.is_empty() && model.named("minions", node).is_none() {
            say(pod, format!("is of node {node}, which is gone"));
        }
    }
    for node in model.all("minions") {
        if !json::is_true(node, "Ready") || !json::list(node, "spec.taints").is_empty() {
            say(node, format!("is not well: {}", json::at(node, "spec")));
        }
    }
    for set in model.all("replicasets") {
        sized(
            model,
            set,
            &["replicas", "readyReplicas", "availableReplicas"],
            now,
            &mut say,
        );
    }
    for set in model.all("statefulsets") {
        sized(
            model,
            set,
            &["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"],
            now,
            &mut say,
        );
        let revisions = ["status.currentRevision", "status.updateRevision"].map(|p| json::at(set, p));
        if revisions[0] != revisions[1] {
            say(set, format!("is between revisions {revisions:?}"));
        }
    }
    for deployment in model.all("deployments") {
        let fields = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
        for field in fields {
            let (told, wanted) = (
                json::int(json::at(deployment, "status"), field),
                json::int(deployment, "spec.replicas"),
            );
            if told != wanted {
                say(deployment, format!("{field} is {told} of {wanted}"));
            }
        }
        let progressing = json::condition(deployment, "Progressing");
        if progressing["reason"] != "NewReplicaSetAvailable" || !json::is_true(deployment, "Available") {
            say(
                deployment,
                format!("its conditions: {}", json::at(deployment, "status.conditions")),
            );
        }
    }
    for set in model.all("daemonsets") {
        let wanted = model.all("minions").filter(|n| selects(set, n)).count() as i64;
        let fields = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "updatedNumberScheduled",
            "numberReady",
            "numberAvailable",
        ];
        for field in fields {
            let told = json::int(json::at(set, "status"), field);
            if told != wanted {
                say(set, format!("{field} is {told} of {wanted}"));
            }
        }
    }
    for job in model.all("jobs") {
        let suspended = *json::at(job, "spec.suspend") == true;
        let at_work = model
            .controlled("pods", json::uid(job))
            .filter(|p| !json::finished(p))
            .count();
        if !json::job_finished(job) && !suspended {
            say(job, format!("is not finished: {}", json::at(job, "status")));
        }
        if json::job_finished(job) && json::at(job, "spec.ttlSecondsAfterFinished").is_i64() {
            say(job, "has not been cleaned up".into());
        }
        if at_work > 0 || json::int(job, "status.active") > 0 {
            say(job, format!("{at_work} pods are at work: {}", json::at(job, "status")));
        }
    }
    for cronjob in model.all("cronjobs") {
        if !json::list(cronjob, "status.active").is_empty() {
            say(cronjob, "has active Jobs".into());
        }
    }
    for budget in model.all("poddisruptionbudgets") {
        let selects = |p: &&Value| {
            let wanted = json::at(budget, "spec.selector.matchLabels").as_object();
            wanted.is_some_and(|w| w.iter().all(|(k, v)| &json::at(p, "metadata.labels")[k] == v))
        };
        let pods = || model.all("pods").filter(selects);
        let is_healthy = |p: &&Value| !json::terminating(p) && json::is_true(p, "Ready");
        let healthy = pods().filter(is_healthy).count() as i64;
        let (expected, desired) = (pods().count() as i64, json::int(budget, "spec.minAvailable"));
        let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
        for (field, wanted) in [
            ("currentHealthy", healthy),
            ("expectedPods", expected),
            ("desiredHealthy", desired),
            ("disruptionsAllowed", allowed),
        ] {
            let told = json::int(json::at(budget, "status"), field);
            if told != wanted {
                say(budget, format!("{field} is {told} of {wanted}"));
            }
        }
    }
    for set in model.all("replicasets").chain(model.all("deployments")) {
        if json::is_true(set, "ReplicaFailure") {
            say(set, format!("still says {}", json::condition(set, "ReplicaFailure")));
        }
    }
    let alive = model.all("pods").filter(|p| !json::finished(p)).count() as i64;
    for quota in model.all("resourcequotas") {
        let used = json::text(quota, "status.used.pods").parse::<i64>().unwrap_or(-1);
        if used != alive {
            say(quota, format!("counts {used} pods of {alive}"));
        }
    }
    for autoscaler in model.all("horizontalpodautoscalers") {
        scaled(model, autoscaler, &mut say);
    }
    for pod in model.all("pods").filter(|p| json::active(p)) {
        if json::is_true(pod, "DisruptionTarget") {
            say(pod, "says that it is about to be disturbed".to_owned());
        }
    }
    for pod in model.all("pods").filter(|p| !json::finished(p)) {
        for claim in claims_of(pod) {
            let claim = model.named("persistentvolumeclaims", claim);
            if claim.is_none_or(|c| json::text(c, "status.phase") != "Bound") {
                say(pod, format!("has an unbound claim: {claim:?}"));
            }
        }
    }
    for volume in model.all("persistentvolumes") {
        let claim = model.by_uid(json::text(volume, "spec.claimRef.uid"));
        let has_it = claim.is_some_and(|c| json::text(c, "spec.volumeName") == json::name(volume));
        let wanted = if has_it { "Bound" } else { "Available" };
        let told = json::text(volume, "status.phase");
        if told != wanted {
            say(volume, format!("is {told}, and ought to be {wanted}"));
        }
    }
    for set in model.all("statefulsets") {
        kept(model, set, &mut say);
    }
    let (told, listed) = (endpoints(model), listed(model));
    let served: BTreeSet<&str> = model
        .all("pods")
        .filter(|p| json::at(p, "metadata.labels")["app"] == "de0" && json::active(p) && json::is_true(p, "Ready"))
        .map(|p| json::text(p, "status.podIP"))
        .collect();
    if told != served {
        unrest.push(format!("the service leads to {told:?}, and {served:?} serve"));
    }
    if listed != served {
        unrest.push(format!("the service lists {listed:?}, and {served:?} serve"));
    }
    unrest
}

/// The Deployment has the replicas that the metric asks for, within the autoscaler's tolerance and bounds.
fn scaled(model: &Model, autoscaler: &Value, say: &mut impl FnMut(&Value, String)) {
    let value = model.named("external.metrics.k8s.io", "queued");
    let value: f64 = value.map_or(0.0, |v| json::text(v, "value").parse().unwrap_or(0.0));
    let Some(deployment) = model.named("deployments", "de0") else {
        return;
    };
    let bound = |field: &str| json::int(json::at(autoscaler, "spec"), field);
    let replicas = json::int(deployment, "spec.replicas");
    // What it has found in the last minutes may have it scale again.
    let able = json::condition(autoscaler, "AbleToScale");
    if able["reason"] == "SucceededRescale" || able["reason"] == "ScaleDownStabilized" {
        say(autoscaler, format!("may scale again: {able}"));
    }
    let wanted = (value / TARGET as f64).ceil() as i64;
    let wanted = wanted.max(bound("minReplicas")).min(bound("maxReplicas"));
    let ratio = value / (TARGET as f64 * replicas as f64);
    let near = (ratio - 1.0).abs() <= 0.1 + 1e-9 && (bound("minReplicas")..=bound("maxReplicas")).contains(&replicas);
    if replicas != wanted && replicas != 0 && !near {
        say(autoscaler, format!("left {replicas} replicas of {wanted} for {value}"));
    }
}

/// Claims of pods belong to nobody when they are to be kept.
fn kept(model: &Model, set: &Value, say: &mut impl FnMut(&Value, String)) {
    let policy = json::at(set, "spec.persistentVolumeClaimRetentionPolicy");
    for pod in model.controlled("pods", json::uid(set)) {
        for name in claims_of(pod) {
            let Some(claim) = model.named("persistentvolumeclaims", name) else {
                continue;
            };
            let owners = json::list(claim, "metadata.ownerReferences");
            let owned = owners.iter().any(|o| json::text(o, "uid") == json::uid(set));
            if owned != (policy["whenDeleted"] == "Delete") {
                say(set, format!("its policy is {policy}, and {name} has owners {owners:?}"));
            }
        }
    }
}

/// Where the service leads to.
fn endpoints(model: &Model) -> BTreeSet<&str> {
    let labels = |s: &&Value| json::at(s, "metadata.labels")["kubernetes.io/service-name"] == "de0";
    let slices = model.all("endpointslices").filter(labels);
    let all = slices.flat_map(|s| json::list(s, "endpoints"));
    let ready = all.filter(|e| e["conditions"]["ready"] == true);
    ready
        .flat_map(|e| json::list(e, "addresses"))
        .filter_map(Value::as_str)
        .collect()
}

/// The same, as its Endpoints say.
fn listed(model: &Model) -> BTreeSet<&str> {
    let own = |o: &&Value| o["kind"] == "Endpoints" && json::name(o) == "de0";
    let subsets = model.all("services").filter(own).flat_map(|e| json::list(e, "subsets"));
    let addresses = subsets.flat_map(|s| json::list(s, "addresses"));
    addresses.map(|a| json::text(a, "ip")).collect()
}

/// The set's own count of its pods is what it was told, and the truth.
fn sized(model: &Model, set: &Value, fields: &[&str], now: Timestamp, say: &mut impl FnMut(&Value, String)) {
    let wanted = json::int(set, "spec.replicas");
    for field in fields {
        let told = json::int(json::at(set, "status"), field);
        if told != wanted {
            say(set, format!("{field} is {told} of {wanted}"));
        }
    }
    let min_ready = json::int(set, "spec.minReadySeconds");
    let pods = model.controlled("pods", json::uid(set));
    let there = pods.filter(|p| deployment_available(p, min_ready, now)).count() as i64;
    if there != wanted {
        say(set, format!("{there} of {wanted} pods are available"));
    }
}

/// By the node selector of its pods: there are no other reasons left.
fn selects(set: &Value, node: &Value) -> bool {
    let selector = json::at(set, "spec.template.spec.nodeSelector").as_object();
    let labels = json::at(node, "metadata.labels");
    selector.is_none_or(|s| s.iter().all(|(k, v)| &labels[k] == v))
}

/// Whether a line of history should not be there when all is at rest: nodes and leaders still tell that they live, an
/// autoscaler looks at metrics every fifteen seconds and tells what it finds, and old events go.
pub fn is_noise(line: &str) -> bool {
    let heartbeat = line.contains(" leases/kube-") || line.contains(" minions/");
    let expiry = line.contains(" events/") && line.ends_with("deleted");
    let autoscaler = line.contains(" events/default/ho0.") || line.contains(" horizontalpodautoscalers/");
    // What a component does is in its writes; that one comes back is none.
    let note = line.contains(" -- ");
    !heartbeat && !expiry && !autoscaler && !note
}
