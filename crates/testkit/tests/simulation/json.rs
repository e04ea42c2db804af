//! Reading JSON objects by dotted paths: what is missing is null, empty or zero.

use serde_json::Value;

pub fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |v, key| &v[key])
}

pub fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).as_str().unwrap_or_default()
}

pub fn int(value: &Value, path: &str) -> i64 {
    at(value, path).as_i64().unwrap_or_default()
}

pub fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

pub fn uid(value: &Value) -> &str {
    text(value, "metadata.uid")
}

pub fn name(value: &Value) -> &str {
    text(value, "metadata.name")
}

pub fn terminating(value: &Value) -> bool {
    !at(value, "metadata.deletionTimestamp").is_null()
}

/// The owner that manages it.
pub fn controller(value: &Value) -> Option<&Value> {
    list(value, "metadata.ownerReferences")
        .iter()
        .find(|o| o["controller"] == true)
}

pub fn controller_uid(value: &Value) -> &str {
    controller(value).map_or("", |o| text(o, "uid"))
}

pub fn condition<'v>(value: &'v Value, kind: &str) -> &'v Value {
    static NONE: Value = Value::Null;
    let conditions = list(value, "status.conditions");
    conditions.iter().find(|c| c["type"] == kind).unwrap_or(&NONE)
}

pub fn is_true(value: &Value, kind: &str) -> bool {
    condition(value, kind)["status"] == "True"
}

/// Succeeded or failed.
pub fn finished(pod: &Value) -> bool {
    matches!(text(pod, "status.phase"), "Succeeded" | "Failed")
}

/// Neither finished nor on its way out.
pub fn active(pod: &Value) -> bool {
    !finished(pod) && !terminating(pod)
}

/// Of a Job.
pub fn job_finished(job: &Value) -> bool {
    is_true(job, "Complete") || is_true(job, "Failed")
}

pub fn annotation<'v>(value: &'v Value, key: &str) -> &'v str {
    at(value, "metadata.annotations")[key].as_str().unwrap_or_default()
}

/// A number or a percentage of `total`.
pub fn share(value: &Value, total: i64, up: bool) -> i64 {
    match value.as_str().and_then(|t| t.strip_suffix('%')?.parse::<i64>().ok()) {
        Some(percent) if up => (percent * total + 99) / 100,
        Some(percent) => percent * total / 100,
        None => value.as_i64().unwrap_or_default(),
    }
}
