//! Job: pods that run to completion, so many of them.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::cells::{
    age, age_of, containers, format_selector, has_condition, images, int_of, name, names_and_images, selector, text,
};
use super::fill::{at, each, fill, fill_empty};
use super::human_duration::{human_duration, parse, whole_seconds};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("batch", "v1", "Job", "jobs")
        .in_all()
        .status()
        .generation()
        .fields(&["status.successful"])
        .columns([
            name(),
            text("Status", "Status of the job."),
            text("Completions", "How many pods have succeeded, of how many."),
            text("Duration", "Time required to complete the job."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(Job)
        .build()
}

struct Job;

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";

/// The defaults of a job's spec.
fn set_spec_defaults(spec: &mut Map<String, Value>) {
    let is_set = |spec: &Map<String, Value>, field: &str| spec.get(field).is_some_and(|v| !v.is_null());
    if !is_set(spec, "completions") && !is_set(spec, "parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    fill(spec, "parallelism", 1);
    let per_index = is_set(spec, "backoffLimitPerIndex");
    fill(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let policy = is_set(spec, "podFailurePolicy");
    fill(spec, "podReplacementPolicy", if policy { "Failed" } else { "TerminatingOrFailed" });
    if let Some(policy) = at(spec, "podFailurePolicy") {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| fill_empty(pattern, "status", "True"));
        });
    }
    if let Some(template) = at(spec, "template") {
        set_template_defaults(template);
    }
}

impl Strategy for Job {
    fn set_defaults(&self, object: &mut Object) {
        let labels = object.get(&["spec", "template", "metadata", "labels"]).cloned();
        if let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty()))
            && object.get(&["metadata", "labels"]).and_then(Value::as_object).is_none_or(Map::is_empty)
        {
            object.set(&["metadata", "labels"], labels);
        }
        if let Some(spec) = at(&mut object.0, "spec") {
            set_spec_defaults(spec);
        }
    }

    /// Unless the client picks its own selector, a job's pods carry its uid, and it selects them by that.
    fn prepare_for_create(&self, object: &mut Object) {
        if object.bool(&["spec", "manualSelector"]) == Some(true) {
            return;
        }
        let (uid, name) = (object.uid().to_owned(), object.name().to_owned());
        if object.get(&["spec"]).is_none_or(Value::is_null) {
            return;
        }
        for (key, value) in [(UID, &uid), ("controller-uid", &uid), (NAME, &name), ("job-name", &name)] {
            object.set(&["spec", "template", "metadata", "labels", key], value.as_str());
        }
        object.set(&["spec", "selector", "matchLabels", UID], uid);
    }

    fn selectable_field(&self, object: &Object, path: &str) -> String {
        match path {
            "status.successful" => int_of(object, &["status", "succeeded"]).to_string(),
            _ => String::new(),
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            state(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            age_of(object, now),
            names,
            images,
            format_selector(object.get(&["spec", "selector"])).into(),
        ]
    }
}

fn state(job: &Object) -> &'static str {
    if has_condition(job, "Complete") {
        "Complete"
    } else if has_condition(job, "Failed") {
        "Failed"
    } else if job.is_terminating() {
        "Terminating"
    } else if has_condition(job, "Suspended") {
        "Suspended"
    } else if has_condition(job, "FailureTarget") {
        "FailureTarget"
    } else if has_condition(job, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Object) -> String {
    let succeeded = int_of(job, &["status", "succeeded"]);
    match (job.i64(&["spec", "completions"]), int_of(job, &["spec", "parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Object, now: Timestamp) -> String {
    let time = |field| parse(job.get(&["status", field]));
    match time("startTime") {
        None => String::new(),
        Some(start) => human_duration(whole_seconds(time("completionTime").unwrap_or(now), start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_system_picks_labels_unique_to_the_job_unless_manual_selector_is_set() {
        let made = |manual: bool| {
            let mut job = Object::from_value(json!({
                "metadata": {"name": "j", "uid": "u"},
                "spec": {"manualSelector": manual, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {}}},
            }))
            .unwrap();
            Job.set_defaults(&mut job);
            Job.prepare_for_create(&mut job);
            job
        };
        let job = made(false);
        assert_eq!(job.get(&["spec", "selector"]), Some(&json!({"matchLabels": {UID: "u"}})));
        let labels = json!({"a": "b", UID: "u", NAME: "j", "controller-uid": "u", "job-name": "j"});
        assert_eq!(job.get(&["spec", "template", "metadata", "labels"]), Some(&labels));
        assert_eq!(job.label("a"), Some("b"));
        assert_eq!(made(true).get(&["spec", "selector"]), None);
    }

    #[test]
    fn completions_and_parallelism_default_to_one_together() {
        let spec = |spec: Value| {
            let mut spec = spec.as_object().unwrap().clone();
            set_spec_defaults(&mut spec);
            (spec.get("completions").cloned(), spec["parallelism"].clone(), spec["backoffLimit"].clone())
        };
        assert_eq!(spec(json!({})), (Some(json!(1)), json!(1), json!(6)));
        assert_eq!(spec(json!({"parallelism": 3})), (None, json!(3), json!(6)));
        assert_eq!(spec(json!({"completions": 3, "backoffLimitPerIndex": 1})), (Some(json!(3)), json!(1), json!(i32::MAX)));
    }

    #[test]
    fn the_table_tells_state_completions_and_duration() {
        let now = "2024-01-01T00:05:00Z".parse().unwrap();
        let shown = |spec: Value, status: Value| {
            let job = Object::from_value(json!({"metadata": {"name": "j"}, "spec": spec, "status": status})).unwrap();
            Value::from(&Job.cells(&job, now)[1..4])
        };
        assert_eq!(
            shown(json!({"completions": 3}), json!({})),
            json!(["Running", "0/3", ""])
        );
        assert_eq!(
            shown(
                json!({"parallelism": 2}),
                json!({"succeeded": 1, "startTime": "2024-01-01T00:00:00Z"})
            ),
            json!(["Running", "1/1 of 2", "5m"])
        );
        assert_eq!(
            shown(
                json!({"completions": 1}),
                json!({
                    "succeeded": 1, "startTime": "2024-01-01T00:00:00Z", "completionTime": "2024-01-01T00:00:07Z",
                    "conditions": [{"type": "Complete", "status": "True"}],
                })
            ),
            json!(["Complete", "1/1", "7s"])
        );
    }
}
