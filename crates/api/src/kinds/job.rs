//! Job: pods that run to completion, so many of them.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, containers, format_selector, has_condition, images, int_of, name, names_and_images, selector, text,
};
use super::human_duration::{human_duration, parse, whole_seconds};
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

impl Strategy for Job {
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
