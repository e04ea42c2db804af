//! Job: pods that run to completion, so many of them.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, containers, format_selector, has_condition, images, int_of, name, names_and_images, selector, text,
};
use super::human_duration::{human_duration, parse, whole_seconds};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

mod defaults;
mod rules;
mod status;
mod update;

pub(super) use rules::{validate_spec as validate_spec_of_job, validate_template_of_job};

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

impl Strategy for Job {
    fn set_defaults(&self, object: &mut Object) {
        defaults::set(object);
    }

    /// A job finds its pods by its own uid, unless the client wants it otherwise.
    fn prepare_for_create(&self, object: &mut Object) {
        defaults::generate_selector(object);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        rules::validate_new(object, errors);
        rules::validate(object, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        rules::validate(new, errors);
        update::validate(new, old, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        status::validate(new, old, errors);
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
    use super::super::check::tests::{created, defaulted, prepared, refuses, refuses_update, updated, with};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "pi", "namespace": "default", "uid": "u-1"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}}}})
    }

    #[test]
    fn a_job_gets_its_defaults() {
        let mut spec = defaulted(&row(), valid())["spec"].clone();
        spec.as_object_mut().unwrap().remove("template");
        assert_eq!(
            spec,
            json!({"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                "suspend": false, "manualSelector": false, "podReplacementPolicy": "TerminatingOrFailed"})
        );
        let queue = with(&valid(), "/spec/parallelism", json!(3));
        assert_eq!(defaulted(&row(), queue)["spec"].get("completions"), None);
    }

    #[test]
    fn a_job_finds_its_pods_by_its_uid() {
        let job = prepared(&row(), valid());
        assert_eq!(
            job["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
        );
        assert_eq!(
            job["spec"]["template"]["metadata"]["labels"],
            json!({"batch.kubernetes.io/controller-uid": "u-1", "batch.kubernetes.io/job-name": "pi",
                "controller-uid": "u-1", "job-name": "pi"})
        );
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/template/spec/restartPolicy",
                    json!("Always"),
                    "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                ),
                (
                    "/spec/backoffLimit",
                    json!(-1),
                    "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/spec/completionMode",
                    json!("X"),
                    "spec.completionMode: Unsupported value: \"X\": supported values: \"NonIndexed\", \"Indexed\"",
                ),
                (
                    "/spec/podReplacementPolicy",
                    json!("X"),
                    "spec.podReplacementPolicy: Unsupported value: \"X\": supported values: \"Failed\", \
                     \"TerminatingOrFailed\"",
                ),
                (
                    "/spec/backoffLimitPerIndex",
                    json!(1),
                    "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                ),
                (
                    "/spec/podFailurePolicy",
                    json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": []}}]}),
                    "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: []: at least one value is required",
                ),
                (
                    "/spec/managedBy",
                    json!("x"),
                    "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ),
            ],
        );
        let indexed = json!({"metadata": {"name": "pi", "uid": "u"}, "spec": {"completionMode": "Indexed",
            "parallelism": 2, "template": valid()["spec"]["template"]}});
        assert_eq!(
            created(&row(), indexed),
            ["spec.completions: Required value: when completion mode is Indexed"]
        );
    }

    #[test]
    fn little_of_a_job_changes() {
        let row = row();
        let current = prepared(&row, valid());
        refuses_update(
            &row,
            &current,
            &[
                (
                    "/spec/completions",
                    json!(2),
                    "spec.completions: Invalid value: 2: field is immutable",
                ),
                (
                    "/spec/completionMode",
                    json!("Indexed"),
                    "spec.completionMode: Invalid value: \"Indexed\": field is immutable",
                ),
            ],
        );
        let changed = with(&current, "/spec/template/spec/nodeSelector", json!({"a": "b"}));
        assert_eq!(updated(&row, current.clone(), changed.clone()).len(), 1);
        let suspended = with(&current, "/spec/suspend", json!(true));
        let changed = with(&changed, "/spec/suspend", json!(true));
        assert_eq!(updated(&row, suspended, changed), [""; 0]);
        assert_eq!(
            updated(&row, current.clone(), with(&current, "/spec/parallelism", json!(0))),
            [""; 0]
        );
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
