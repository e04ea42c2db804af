//! What a job means when it does not say, and the labels by which it finds its pods.

use serde_json::Value;

use super::super::fill::{at, each, fill, fill_empty};
use super::super::pod_spec::set_template_defaults;
use crate::object::Object;

const UID: &str = "batch.kubernetes.io/controller-uid";

pub(super) fn set(object: &mut Object) {
    let labels = object.get(&["spec", "template", "metadata", "labels"]).cloned();
    let own = object.get(&["metadata", "labels"]).and_then(Value::as_object);
    if let Some(labels) = labels
        && own.is_none_or(serde_json::Map::is_empty)
    {
        object.set(&["metadata", "labels"], labels);
    }
    let Some(spec) = at(&mut object.0, "spec") else {
        return;
    };
    let is_set = |spec: &serde_json::Map<String, Value>, field: &str| spec.get(field).is_some_and(|v| !v.is_null());
    if !is_set(spec, "parallelism") {
        if !is_set(spec, "completions") {
            fill(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
    }
    let backoff = if is_set(spec, "backoffLimitPerIndex") {
        i32::MAX
    } else {
        6
    };
    fill(spec, "backoffLimit", backoff);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    if let Some(policy) = at(spec, "podFailurePolicy") {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| fill_empty(pattern, "status", "True"));
        });
    }
    let replacement = if is_set(spec, "podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    fill(spec, "podReplacementPolicy", replacement);
    if let Some(template) = at(spec, "template") {
        set_template_defaults(template);
    }
}

pub(super) fn generate_selector(job: &mut Object) {
    let uid = job.uid().to_owned();
    if job.bool(&["spec", "manualSelector"]) == Some(true) || uid.is_empty() {
        return;
    }
    let name = job.name().to_owned();
    let template = ["spec", "template", "metadata", "labels"];
    for (label, value) in [
        (UID, &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        // What the client says itself is left for validation to judge.
        let path = [&template[..], &[label]].concat();
        if job.get(&path).is_none() {
            job.set(&path, value.as_str());
        }
    }
    let path = ["spec", "selector", "matchLabels", UID];
    if job.get(&path).is_none() {
        job.set(&path, uid);
    }
}
