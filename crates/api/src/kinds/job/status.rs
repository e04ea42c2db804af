//! What a job's status may say and how it may change, whoever writes it (`managedBy`). What has not changed is let be, so
//! that a status which a change of the spec has made wrong can be mended step by step.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::super::check::not_negative;
use super::rules::{count_indexes, indexes_within};
use crate::field::{Cursor, ErrorList};

/// The rules for an update of `status`.
pub(super) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (status, old_status) = (new.at("status"), old.at("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(&status.at(field), errors);
    }
    uncounted(&status, errors);
    let spec = new.at("spec");
    let look = Look {
        spec: &spec,
        new: &status,
        old: &old_status,
    };
    look.conditions(errors);
    look.times(errors);
    look.ended(errors);
    look.indexes(errors);
    look.counts(errors);
}

/// Pods that have ended and are not counted yet, each once.
fn uncounted(status: &Cursor<'_>, errors: &mut ErrorList) {
    let pods = status.at("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        for uid in pods.at(list).items() {
            if uid.is_empty() {
                errors.invalid_value(&uid, &"".into(), "must not be empty");
            } else if !seen.insert(uid.str().to_owned()) {
                errors.duplicate(&uid);
            }
        }
    }
}

fn is_true(status: &Cursor<'_>, kind: &str) -> bool {
    let conditions = status.at("conditions");
    conditions
        .items()
        .any(|c| c.at("type").str() == kind && c.at("status").str() == "True")
}

fn is_finished(status: &Cursor<'_>) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

fn time(at: &Cursor<'_>) -> Option<Timestamp> {
    at.str().parse().ok()
}

struct Look<'l, 'c> {
    spec: &'l Cursor<'c>,
    new: &'l Cursor<'c>,
    old: &'l Cursor<'c>,
}

impl Look<'_, '_> {
    fn is(&self, kind: &str) -> bool {
        is_true(self.new, kind)
    }

    fn was(&self, kind: &str) -> bool {
        is_true(self.old, kind)
    }

    fn turned(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.is(kind) != self.was(kind))
    }

    fn changed(&self, fields: &[&str]) -> bool {
        let value = |at: &Cursor<'_>, field: &str| at.at(field).value().cloned();
        fields.iter().any(|f| value(self.new, f) != value(self.old, f))
    }

    fn finishes(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn conditions(&self, errors: &mut ErrorList) {
        let conditions = self.new.at("conditions");
        let [complete, failed, failing, met] =
            ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"].map(|kind| self.is(kind));
        let (was_complete, was_met) = (self.was("Complete"), self.was("SuccessCriteriaMet"));
        let mut refuse = |is_wrong: bool, why: &str| {
            if is_wrong {
                errors.invalid_unshown(&conditions, why);
            }
        };
        refuse(
            complete && failed && self.turned(&["Complete", "Failed"]),
            "cannot set Complete=True and Failed=true conditions",
        );
        refuse(
            complete && failing && self.turned(&["Complete", "FailureTarget"]),
            "cannot set Complete=True and FailureTarget=true conditions",
        );
        refuse(
            failed && !failing && self.turned(&["Failed", "FailureTarget"]),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
        refuse(
            complete && !met && self.turned(&["Complete", "SuccessCriteriaMet"]),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
        refuse(
            met && failed,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        );
        refuse(
            met && failing,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
        refuse(
            self.spec.at("successPolicy").is_set() && !met && complete,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        );
        for kind in ["Failed", "Complete", "FailureTarget"] {
            refuse(
                self.was(kind) && !self.is(kind),
                &format!("cannot disable the terminal {kind}=True condition"),
            );
        }
        refuse(was_met && !met, "cannot disable the SuccessCriteriaMet=True condition");
        refuse(
            was_complete && !was_met && met,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }

    fn times(&self, errors: &mut ErrorList) {
        let (start, end) = (self.new.at("startTime"), self.new.at("completionTime"));
        let (old_start, old_end) = (self.old.at("startTime"), self.old.at("completionTime"));
        if self.turned(&["Complete"]) || self.changed(&["completionTime"]) {
            match (self.is("Complete"), end.is_set()) {
                (false, true) => errors.invalid(
                    &end,
                    "cannot set completionTime when there is no Complete=True condition",
                ),
                (true, false) => errors.required(&end, "completionTime is required for Complete jobs"),
                _ => {}
            }
        }
        if self.changed(&["startTime", "completionTime"])
            && let (Some(start), Some(end_time)) = (time(&start), time(&end))
            && end_time < start
        {
            errors.invalid(&end, "completionTime cannot be set before startTime");
        }
        if end.is_set() && old_end.is_set() && end.value() != old_end.value() {
            errors.invalid(&end, "completionTime cannot be mutated");
        }
        if old_start.is_set() && start.value() != old_start.value() && !self.spec.at("suspend").is_true() {
            errors.required(&start, "startTime cannot be removed for unsuspended job");
        }
    }

    /// Of a job that has ended nothing runs any more, and everything is counted.
    fn ended(&self, errors: &mut ErrorList) {
        if !is_finished(self.new) {
            return;
        }
        let concerns = |fields: &[&str]| self.finishes() || self.changed(fields);
        let active = self.new.at("active");
        if active.int() > 0 && concerns(&["active"]) {
            errors.invalid(&active, "active>0 is invalid for finished job");
        }
        let start = self.new.at("startTime");
        if !start.is_set() && concerns(&["startTime"]) {
            errors.required(&start, "startTime is required for finished job");
        }
        let pods = self.new.at("uncountedTerminatedPods");
        let left = pods.at("succeeded").len() + pods.at("failed").len();
        if left > 0 && concerns(&["uncountedTerminatedPods"]) {
            errors.invalid(&pods, "uncountedTerminatedPods needs to be empty for finished job");
        }
        let terminating = self.new.at("terminating");
        if terminating.int() > 0 && concerns(&["terminating"]) {
            errors.invalid(&terminating, "terminating>0 is invalid for finished job");
        }
    }

    fn indexes(&self, errors: &mut ErrorList) {
        let (completed, failed) = (self.new.at("completedIndexes"), self.new.at("failedIndexes"));
        let completions = self.spec.at("completions");
        let per_index = self.spec.at("backoffLimitPerIndex").is_set();
        let mut check_form = |at: &Cursor<'_>, field: &str| {
            if let Some(Err(fault)) = completions.i64().map(|most| count_indexes(at.str(), most)) {
                errors.invalid_value(at, &at.str().into(), format!("error parsing {field}: {fault}"));
            }
        };
        let (completed_changed, failed_changed) =
            (self.changed(&["completedIndexes"]), self.changed(&["failedIndexes"]));
        if completed_changed {
            check_form(&completed, "completedIndexes");
        }
        if failed_changed && per_index && failed.is_set() {
            check_form(&failed, "failedIndexes");
        }
        if completed_changed && !completed.is_empty() && self.spec.at("completionMode").str() != "Indexed" {
            errors.invalid(
                &completed,
                "cannot set non-empty completedIndexes when non-indexed completion mode",
            );
        }
        if failed_changed && failed.is_set() && !per_index {
            errors.invalid(
                &failed,
                "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
            );
        }
        if (failed_changed || completed_changed)
            && failed.is_set()
            && let Some(most) = completions.i64()
            && let (Ok(done), Ok(not_done)) = (
                indexes_within(completed.str(), most),
                indexes_within(failed.str(), most),
            )
            && let Some(both) = done
                .iter()
                .find_map(|(a, b)| not_done.iter().find(|(c, d)| a <= d && c <= b).map(|(c, _)| *a.max(c)))
        {
            errors.invalid(
                &failed,
                format!("failedIndexes and completedIndexes overlap at index: {both}"),
            );
        }
    }

    fn counts(&self, errors: &mut ErrorList) {
        let indexed = self.spec.at("completionMode").str() == "Indexed";
        // One that may be scaled down as a whole may count less than before.
        let elastic = indexed && self.spec.at("completions").int() == self.spec.at("parallelism").int();
        for (field, may_shrink) in [("failed", false), ("succeeded", elastic)] {
            let (now, before) = (self.new.at(field), self.old.at(field));
            if !may_shrink && now.int() < before.int() {
                let detail = format!("cannot decrease the {field} counter");
                errors.invalid_value(&now, &Value::from(now.int()), detail);
            }
        }
        let ready = self.new.at("ready");
        if ready.int() > self.new.at("active").int() && self.changed(&["ready", "active"]) {
            errors.invalid(&ready, "cannot set more ready pods than active");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::tests::{refuses_status, with};
    use super::super::row;
    use serde_json::json;

    const HOUR: &str = "2024-01-01T01:00:00Z";

    #[test]
    fn a_job_that_runs_tells_what_can_be() {
        let running = json!({
            "metadata": {"name": "pi"},
            "spec": {"completions": 4, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1},
            "status": {"startTime": HOUR, "active": 2, "ready": 1, "succeeded": 1, "failed": 1, "completedIndexes": "0",
                "failedIndexes": "2", "uncountedTerminatedPods": {"succeeded": ["u1"]}},
        });
        let met = json!({"type": "SuccessCriteriaMet", "status": "True"});
        refuses_status(
            &row(),
            &running,
            &[
                (
                    "/status/terminating",
                    json!(-1),
                    "status.terminating: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/status/ready",
                    json!(3),
                    "status.ready: Invalid value: 3: cannot set more ready pods than active",
                ),
                (
                    "/status/failed",
                    json!(0),
                    "status.failed: Invalid value: 0: cannot decrease the failed counter",
                ),
                (
                    "/status/uncountedTerminatedPods/failed",
                    json!(["u1"]),
                    "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"u1\"",
                ),
                (
                    "/status/completedIndexes",
                    json!("3-1"),
                    "status.completedIndexes: Invalid value: \"3-1\": error parsing completedIndexes: non-increasing \
                     order, previous: 3, current: 1",
                ),
                (
                    "/status/completedIndexes",
                    json!("1-3"),
                    "status.failedIndexes: Invalid value: \"2\": failedIndexes and completedIndexes overlap at index: 2",
                ),
                (
                    "/status/completionTime",
                    json!("2024-01-01T02:00:00Z"),
                    "status.completionTime: Invalid value: \"2024-01-01T02:00:00Z\": cannot set completionTime when \
                     there is no Complete=True condition",
                ),
                (
                    "/status/startTime",
                    json!(null),
                    "status.startTime: Required value: startTime cannot be removed for unsuspended job",
                ),
                (
                    "/status/conditions",
                    json!([met, {"type": "FailureTarget", "status": "True"}]),
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true \
                     conditions",
                ),
            ],
        );
    }

    #[test]
    fn a_job_that_has_ended_stays_so() {
        let ended = json!({
            "metadata": {"name": "pi"},
            "spec": {"completions": 1, "parallelism": 1, "completionMode": "NonIndexed"},
            "status": {"startTime": HOUR, "completionTime": HOUR, "succeeded": 1, "conditions": [
                {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]},
        });
        refuses_status(
            &row(),
            &ended,
            &[
                (
                    "/status/active",
                    json!(1),
                    "status.active: Invalid value: 1: active>0 is invalid for finished job",
                ),
                (
                    "/status/terminating",
                    json!(1),
                    "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
                ),
                (
                    "/status/completionTime",
                    json!("2024-01-01T02:00:00Z"),
                    "status.completionTime: Invalid value: \"2024-01-01T02:00:00Z\": completionTime cannot be mutated",
                ),
                (
                    "/status/uncountedTerminatedPods",
                    json!({"failed": ["u"]}),
                    "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"u\"]}: uncountedTerminatedPods needs \
                     to be empty for finished job",
                ),
                (
                    "/status/completedIndexes",
                    json!("0"),
                    "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when \
                     non-indexed completion mode",
                ),
                (
                    "/status/failedIndexes",
                    json!("0"),
                    "status.failedIndexes: Invalid value: \"0\": cannot set non-null failedIndexes when \
                     backoffLimitPerIndex is null",
                ),
            ],
        );
        // What has been wrong before is let be.
        let wrong = with(&ended, "/status/active", json!(1));
        refuses_status(&row(), &wrong, &[]);
    }
}
