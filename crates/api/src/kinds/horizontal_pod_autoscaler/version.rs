//! `autoscaling/v1` as a view of `autoscaling/v2`. `v1` knows one metric, the average CPU utilization; all others,
//! the conditions and the behavior are JSON in annotations, in the metric form of the first beta.

use serde_json::{Map, Value, json};

use crate::object::Object;
use crate::resource::Convert;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) struct V1;

impl Convert for V1 {
    fn to_stored(&self, object: &mut Object) {
        to_v2(object);
    }

    fn to_served(&self, object: &mut Object) {
        to_v1(object);
    }
}

pub(super) fn to_v2(object: &mut Object) {
    object.set(&["apiVersion"], "autoscaling/v2");
    let mut metrics = Vec::new();
    if let Some(percent) = object.remove(&["spec", "targetCPUUtilizationPercentage"])
        && !percent.is_null()
    {
        metrics.push(json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}));
    }
    if let Some(Value::Array(others)) = take_annotation(object, METRICS) {
        metrics.extend(others.iter().map(spec_to_v2));
    }
    if !metrics.is_empty() {
        object.set(&["spec", "metrics"], metrics);
    }
    if let Some(behavior) = take_annotation(object, BEHAVIOR) {
        object.set(&["spec", "behavior"], behavior);
    }
    let cpu_now = object.remove(&["status", "currentCPUUtilizationPercentage"]);
    let current = match take_annotation(object, CURRENT_METRICS) {
        Some(Value::Array(all)) => all.iter().map(status_to_v2).collect(),
        _ => match cpu_now {
            Some(percent) if !percent.is_null() => vec![json!({"type": "Resource", "resource": {
                "name": "cpu", "current": {"averageUtilization": percent}}})],
            _ => Vec::new(),
        },
    };
    if !current.is_empty() {
        object.set(&["status", "currentMetrics"], current);
    }
    if let Some(conditions) = take_annotation(object, CONDITIONS) {
        object.set(&["status", "conditions"], conditions);
    }
}

fn to_v1(object: &mut Object) {
    object.set(&["apiVersion"], "autoscaling/v1");
    let mut others = Vec::new();
    if let Some(Value::Array(metrics)) = object.remove(&["spec", "metrics"]) {
        for metric in metrics {
            match cpu_percent(&metric, "target") {
                Some(percent) => object.set(&["spec", "targetCPUUtilizationPercentage"], percent),
                None => others.push(spec_to_v1(&metric)),
            }
        }
    }
    annotate(object, METRICS, (!others.is_empty()).then(|| others.into()));
    let behavior = object.remove(&["spec", "behavior"]);
    annotate(object, BEHAVIOR, behavior.filter(|b| !b.is_null()));
    let mut current = Vec::new();
    if let Some(Value::Array(metrics)) = object.remove(&["status", "currentMetrics"]) {
        for metric in metrics {
            if let Some(percent) = cpu_percent(&metric, "current") {
                object.set(&["status", "currentCPUUtilizationPercentage"], percent);
            }
            current.push(status_to_v1(&metric));
        }
    }
    annotate(object, CURRENT_METRICS, (!current.is_empty()).then(|| current.into()));
    let conditions = object.remove(&["status", "conditions"]);
    let some = |c: &Value| c.as_array().is_some_and(|a| !a.is_empty());
    annotate(object, CONDITIONS, conditions.filter(some));
}

/// The average utilization, when this is the CPU metric that `v1` has a field for.
fn cpu_percent(metric: &Value, part: &str) -> Option<Value> {
    let resource = metric.get("resource")?;
    if metric.get("type")? != "Resource" || resource.get("name")? != "cpu" {
        return None;
    }
    resource
        .get(part)?
        .get("averageUtilization")
        .filter(|p| !p.is_null())
        .cloned()
}

/// Takes JSON out of an annotation; what is not JSON stays where it is.
fn take_annotation(object: &mut Object, key: &str) -> Option<Value> {
    let value = serde_json::from_str(object.annotation(key)?).ok()?;
    object.remove(&["metadata", "annotations", key]);
    let left = object.get(&["metadata", "annotations"]).and_then(Value::as_object);
    if left.is_some_and(Map::is_empty) {
        object.remove(&["metadata", "annotations"]);
    }
    Some(value)
}

fn annotate(object: &mut Object, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object.set(&["metadata", "annotations", key], value.to_string());
    }
}

/// Copies `from` in one object to `to` in another, if it is there.
fn put(target: &mut Map<String, Value>, to: &str, source: &Value, from: &[&str]) {
    let found = from.iter().try_fold(source, |v, step| v.get(step));
    if let Some(value) = found.filter(|v| !v.is_null()) {
        target.insert(to.to_owned(), value.clone());
    }
}

/// The source's field in a metric, and the names `v1` and `v2` have for what is in it.
struct Source {
    kind: &'static str,
    field: &'static str,
    /// `v1`'s name and `v2`'s path, which are the same for spec and status.
    shared: &'static [(&'static str, &'static [&'static str])],
    /// `v1`'s name in the spec, and `v2`'s below `target`.
    target: &'static [(&'static str, &'static str)],
    /// `v1`'s name in the status, and `v2`'s below `current`.
    current: &'static [(&'static str, &'static str)],
}

const SOURCES: [Source; 5] = [
    Source {
        kind: "Resource",
        field: "resource",
        shared: &[("name", &["name"])],
        target: &[
            ("targetAverageUtilization", "averageUtilization"),
            ("targetAverageValue", "averageValue"),
        ],
        current: &[
            ("currentAverageUtilization", "averageUtilization"),
            ("currentAverageValue", "averageValue"),
        ],
    },
    Source {
        kind: "ContainerResource",
        field: "containerResource",
        shared: &[("name", &["name"]), ("container", &["container"])],
        target: &[
            ("targetAverageUtilization", "averageUtilization"),
            ("targetAverageValue", "averageValue"),
        ],
        current: &[
            ("currentAverageUtilization", "averageUtilization"),
            ("currentAverageValue", "averageValue"),
        ],
    },
    Source {
        kind: "Pods",
        field: "pods",
        shared: &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
        ],
        target: &[("targetAverageValue", "averageValue")],
        current: &[("currentAverageValue", "averageValue")],
    },
    Source {
        kind: "Object",
        field: "object",
        shared: &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
        ],
        target: &[("targetValue", "value"), ("averageValue", "averageValue")],
        current: &[("currentValue", "value"), ("averageValue", "averageValue")],
    },
    Source {
        kind: "External",
        field: "external",
        shared: &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
        ],
        target: &[("targetValue", "value"), ("targetAverageValue", "averageValue")],
        current: &[("currentValue", "value"), ("currentAverageValue", "averageValue")],
    },
];

fn source_of(metric: &Value) -> Option<&'static Source> {
    let kind = metric.get("type")?.as_str()?;
    SOURCES.iter().find(|s| s.kind == kind)
}

fn spec_to_v2(metric: &Value) -> Value {
    let Some(source) = source_of(metric) else {
        return metric.clone();
    };
    let old = metric.get(source.field).unwrap_or(&Value::Null);
    let mut new = widen(source, old, "target", source.target);
    let target = new.get_mut("target").and_then(Value::as_object_mut);
    if let Some(target) = target {
        let kind = if target.contains_key("averageUtilization") {
            "Utilization"
        } else if target.contains_key("averageValue") {
            "AverageValue"
        } else {
            "Value"
        };
        target.insert("type".to_owned(), kind.into());
    }
    json!({"type": source.kind, source.field: new})
}

fn status_to_v2(metric: &Value) -> Value {
    let Some(source) = source_of(metric) else {
        return metric.clone();
    };
    let old = metric.get(source.field).unwrap_or(&Value::Null);
    json!({"type": source.kind, source.field: widen(source, old, "current", source.current)})
}

fn widen(source: &Source, old: &Value, part: &str, fields: &[(&str, &str)]) -> Value {
    let mut new = Object::default();
    for (name, path) in source.shared {
        if let Some(value) = old.get(name).filter(|v| !v.is_null()) {
            new.set(path, value.clone());
        }
    }
    let mut inner = Map::new();
    for (v1, v2) in fields {
        put(&mut inner, v2, old, &[v1]);
    }
    new.set(&[part], inner);
    new.into_value()
}

fn spec_to_v1(metric: &Value) -> Value {
    narrow(metric, "target", |source| source.target)
}

fn status_to_v1(metric: &Value) -> Value {
    narrow(metric, "current", |source| source.current)
}

fn narrow(metric: &Value, part: &str, fields: impl Fn(&Source) -> &'static [(&'static str, &'static str)]) -> Value {
    let Some(source) = source_of(metric) else {
        return metric.clone();
    };
    let new = metric.get(source.field).unwrap_or(&Value::Null);
    let mut old = Map::new();
    for (name, path) in source.shared {
        put(&mut old, name, new, path);
    }
    for (v1, v2) in fields(source) {
        put(&mut old, v1, new, &[part, v2]);
    }
    json!({"type": source.kind, source.field: old})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_seeing_an_autoscaler_through_v1() {
        let stored = Object::from_value(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {
                "maxReplicas": 5,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 80}}},
                    {"type": "Pods", "pods": {"metric": {"name": "qps", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "10"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "x"}, "target": {"type": "Value", "value": "3"}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
            },
            "status": {
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 30, "averageValue": "300m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        }))
        .unwrap();
        let mut v1 = stored.clone();
        V1.to_served(&mut v1);
        assert_eq!(v1.api_version(), "autoscaling/v1");
        assert_eq!(v1.i64(&["spec", "targetCPUUtilizationPercentage"]), Some(80));
        assert_eq!(v1.i64(&["status", "currentCPUUtilizationPercentage"]), Some(30));
        assert_eq!(v1.get(&["spec", "metrics"]), None);
        let others: Value = serde_json::from_str(v1.annotation(METRICS).unwrap()).unwrap();
        assert_eq!(
            others[0],
            json!({"type": "Pods", "pods": {"metricName": "qps", "selector": {"matchLabels": {"a": "b"}},
                "targetAverageValue": "10"}})
        );
        V1.to_stored(&mut v1);
        assert_eq!(v1, stored);
    }
}
