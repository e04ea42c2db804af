//! CronJob: a job made again and again, on a schedule.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, boolean, containers, format_selector, images, integer, name, names_and_images, selector, str_of, text,
};
use super::check::{not_negative, one_of};
use super::fill::{at, fill, fill_empty, map_at};
use super::human_duration::since;
use super::job::{validate_spec_of_job, validate_template_of_job};
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub mod schedule;

pub(super) fn row() -> Resource {
    namespaced("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .in_all()
        .status()
        .generation()
        .columns([
            name(),
            text("Schedule", "When jobs are made, in cron's form."),
            text("Timezone", "The time zone of the schedule."),
            boolean("Suspend", "Whether no more jobs are made."),
            integer("Active", "How many jobs are running."),
            text("Last Schedule", "When the last job was made."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(CronJob)
        .build()
}

struct CronJob;

impl Strategy for CronJob {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        fill_empty(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = map_at(spec, &["jobTemplate", "spec", "template"]) {
            set_template_defaults(template);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let metadata = object.at("metadata");
        let name = metadata.at("name");
        // The jobs' names add eleven characters.
        if name.str().len() > 52 {
            errors.invalid(&name, "must be no more than 52 characters");
        }
        validate_spec(&object.at("spec"), None, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&new.at("spec"), Some(&old.at("spec")), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let job = ["spec", "jobTemplate", "spec"];
        let (names, images) = names_and_images(object, &[&job[..], &["template", "spec", "containers"]].concat());
        let last = match object.get(&["status", "lastScheduleTime"]) {
            None => "<none>".to_owned(),
            time => since(time, now),
        };
        let suspend = match object.bool(&["spec", "suspend"]) {
            None => "<unset>",
            Some(true) => "True",
            Some(false) => "False",
        };
        vec![
            object.name().into(),
            str_of(object, &["spec", "schedule"]),
            object.str(&["spec", "timeZone"]).unwrap_or("<none>").into(),
            suspend.into(),
            object.array(&["status", "active"]).len().into(),
            last.into(),
            age_of(object, now),
            names,
            images,
            format_selector(object.get(&[&job[..], &["selector"]].concat())).into(),
        ]
    }
}

/// The rules for a spec; of an update, what was there before is let be.
fn validate_spec(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    schedule_of(spec, old, errors);
    not_negative(&spec.at("startingDeadlineSeconds"), errors);
    one_of(&spec.at("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(&spec.at(field), errors);
    }
    let template = spec.at("jobTemplate");
    let job = template.at("spec");
    let manual = job.at("manualSelector");
    let selector = job.at("selector");
    if selector.is_set() {
        errors.invalid(&selector, "`selector` will be auto-generated");
    }
    if manual.is_true() {
        errors.not_supported(&manual, &["nil", "false"]);
    }
    validate_spec_of_job(&job, errors);
    validate_template_of_job(&job.at("template"), &job, errors);
}

fn schedule_of(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let (schedule, zone) = (spec.at("schedule"), spec.at("timeZone"));
    let text = schedule.str();
    if text.is_empty() {
        errors.required(&schedule, "");
    } else {
        // A zone in front, which old schedules may have, is the parser's no more.
        let fields = ["CRON_TZ=", "TZ="]
            .iter()
            .find_map(|zone| text.strip_prefix(zone)?.split_once(' '));
        if let Err(fault) = schedule::Schedule::parse(fields.map_or(text, |(_, fields)| fields)) {
            errors.invalid(&schedule, fault);
        }
        let had_zone = old.is_some_and(|old| old.at("schedule").str().contains("TZ"));
        match text.contains("TZ") {
            true if !had_zone => errors.invalid(
                &schedule,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            true if zone.is_set() => errors.invalid(
                &schedule,
                "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            ),
            _ => {}
        }
    }
    if !zone.is_set() || old.is_some_and(|old| old.at("timeZone").value() == zone.value()) {
        return;
    }
    match zone.str() {
        "" => errors.invalid(&zone, "timeZone must be nil or non-empty string"),
        "Local" | "local" => errors.invalid(
            &zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ),
        name => {
            let database = jiff::tz::db();
            if !database.is_definitively_empty() && database.get(name).is_err() {
                errors.invalid(&zone, format!("unknown time zone {name}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update, with};
    use super::*;
    use serde_json::json;

    #[test]
    fn schedules_and_limits_are_checked() {
        let valid = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"schedule": "*/5 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure",
                "containers": [{"name": "a", "image": "x:1"}]}}}}}});
        let spec = defaulted(&row(), valid.clone())["spec"].clone();
        assert_eq!(
            (
                &spec["concurrencyPolicy"],
                &spec["suspend"],
                &spec["successfulJobsHistoryLimit"],
                &spec["failedJobsHistoryLimit"]
            ),
            (&json!("Allow"), &json!(false), &json!(3), &json!(1))
        );
        assert_eq!(
            spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"],
            "ClusterFirst"
        );
        refuses(
            &row(),
            &valid,
            &[
                ("/spec/schedule", json!(""), "spec.schedule: Required value"),
                (
                    "/spec/schedule",
                    json!("* *"),
                    "spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2: [* *]",
                ),
                (
                    "/spec/schedule",
                    json!("TZ=UTC * * * * *"),
                    "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use \
                     timeZone field instead",
                ),
                (
                    "/spec/timeZone",
                    json!("Local"),
                    "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
                     https://www.iana.org/time-zones",
                ),
                (
                    "/spec/concurrencyPolicy",
                    json!("X"),
                    "spec.concurrencyPolicy: Unsupported value: \"X\": supported values: \"Allow\", \"Forbid\", \
                     \"Replace\"",
                ),
                (
                    "/metadata/name",
                    json!("c".repeat(53)),
                    &format!(
                        "metadata.name: Invalid value: {:?}: must be no more than 52 characters",
                        "c".repeat(53)
                    ),
                ),
                (
                    "/spec/jobTemplate/spec/selector",
                    json!({"matchLabels": {"a": "b"}}),
                    "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be \
                     auto-generated",
                ),
                (
                    "/spec/jobTemplate/spec/template/spec/restartPolicy",
                    json!("Always"),
                    "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \
                     \"Never\"",
                ),
            ],
        );
        // A zone in the schedule is no more, but where one is already.
        let zoned = with(&valid, "/spec/schedule", json!("TZ=UTC 0 * * * *"));
        refuses_update(
            &row(),
            &zoned,
            &[
                (
                    "/spec/schedule",
                    json!("TZ=UTC 0 * *"),
                    "spec.schedule: Invalid value: \"TZ=UTC 0 * *\": expected exactly 5 fields, found 3: [0 * *]",
                ),
                (
                    "/spec/timeZone",
                    json!("Etc/UTC"),
                    "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use both timeZone field and TZ or \
                     CRON_TZ in schedule",
                ),
            ],
        );
    }
}
