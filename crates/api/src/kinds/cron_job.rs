//! CronJob: a job made again and again, on a schedule.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, boolean, containers, format_selector, images, integer, name, names_and_images, selector, str_of, text,
};
use super::fill::{at, fill, fill_empty, map_at};
use super::human_duration::since;
use super::pod_spec::set_template_defaults;
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

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
        let Some(spec) = at(&mut object.0, "spec") else { return };
        fill_empty(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = map_at(spec, &["jobTemplate", "spec"]) {
            // What follows from a job's other fields is left to when it is made.
            if let Some(template) = at(job, "template") {
                set_template_defaults(template);
            }
        }
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
