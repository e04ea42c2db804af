//! HorizontalPodAutoscaler: changes a workload's replicas by metrics. One stored object (`autoscaling/v2`) seen through
//! two versions; what `v1` has no fields for travels in its annotations ([`version`]).

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, int_of, name, plain, text};
use super::row::{Row, namespaced};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

mod rules;
mod version;

pub(super) fn row_v1() -> Resource {
    shared("v1").stored_as("autoscaling/v2", version::V1).build()
}

pub(super) fn row_v2() -> Resource {
    shared("v2").build()
}

fn shared(version: &'static str) -> Row {
    namespaced(
        "autoscaling",
        version,
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    )
    .short(&["hpa"])
    .in_all()
    .status()
    .columns([
        name(),
        text("Reference", "The workload whose replicas are changed."),
        text("Targets", "Each metric's current value and target."),
        text("MinPods", "The least number of replicas."),
        text("MaxPods", "The most replicas."),
        text("Replicas", "How many replicas there are."),
        age(),
    ])
    .strategy(HorizontalPodAutoscaler)
}

struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn set_defaults(&self, object: &mut Object) {
        rules::set_defaults(object);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        if object.at("apiVersion").str() != "autoscaling/v1" {
            rules::validate(object, errors);
            return;
        }
        // One set of rules: what `v1` says is judged as what it means in `v2`.
        let Some(mut v2) = object.value().cloned().and_then(Object::from_value) else {
            return;
        };
        version::to_v2(&mut v2);
        let value = v2.into_value();
        rules::validate(&Cursor::root(&value, None), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        rules::validate_status(new, errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let target = |field| object.str(&["spec", "scaleTargetRef", field]).unwrap_or_default();
        let metrics = if object.api_version() == "autoscaling/v1" {
            let mut v2 = object.clone();
            version::to_v2(&mut v2);
            metrics(&v2)
        } else {
            metrics(object)
        };
        let least = match object.i64(&["spec", "minReplicas"]) {
            Some(n) => n.to_string(),
            None => "<unset>".to_owned(),
        };
        vec![
            object.name().into(),
            format!("{}/{}", target("kind"), target("name")).into(),
            metrics.into(),
            least.into(),
            int_of(object, &["spec", "maxReplicas"]).into(),
            int_of(object, &["status", "currentReplicas"]).into(),
            age_of(object, now),
        ]
    }
}

/// `cpu: 12%/80%, 5/10 + 1 more...`
fn metrics(object: &Object) -> String {
    let specs = object.array(&["spec", "metrics"]);
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let current = object.array(&["status", "currentMetrics"]);
    let shown: Vec<String> = specs
        .iter()
        .enumerate()
        .take(2)
        .map(|(i, spec)| metric(spec, current.get(i)))
        .collect();
    let text = shown.join(", ");
    if specs.len() > shown.len() {
        format!("{text} + {} more...", specs.len() - shown.len())
    } else {
        text
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let field = match spec.get("type").and_then(Value::as_str).unwrap_or_default() {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| spec.get(field)?.get("target")?.get(name).filter(|v| !v.is_null());
    let current = |name: &str| status?.get(field)?.get("current")?.get(name).filter(|v| !v.is_null());
    let shown = |value: Option<&Value>| value.map_or_else(|| "<unknown>".to_owned(), plain);
    let average = target("averageValue").map(|want| (shown(current("averageValue")), plain(want)));
    match (field, average) {
        ("pods", average) => {
            let (now, want) = average.unwrap_or_else(|| (shown(None), "0".to_owned()));
            format!("{now}/{want}")
        }
        ("external" | "object", Some((now, want))) => format!("{now}/{want} (avg)"),
        ("external" | "object", None) => {
            let want = target("value").map_or_else(|| "0".to_owned(), plain);
            format!("{}/{want}", shown(current("value")))
        }
        (_, average) => {
            let resource = spec
                .get(field)
                .and_then(|r| r.get("name")?.as_str())
                .unwrap_or_default();
            let percent = |value: Option<&Value>, instead: &str| match value.and_then(Value::as_i64) {
                Some(n) => format!("{n}%"),
                None => instead.to_owned(),
            };
            let (now, want) = average.unwrap_or_else(|| {
                (
                    percent(current("averageUtilization"), "<unknown>"),
                    percent(target("averageUtilization"), "<auto>"),
                )
            });
            format!("{resource}: {now}/{want}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses, with};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"}, "spec": {"maxReplicas": 5,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
    }

    #[test]
    fn cpu_is_the_metric_unless_said_otherwise() {
        let spec = &defaulted(&row_v2(), valid())["spec"];
        assert_eq!(spec["minReplicas"], 1);
        assert_eq!(
            spec["metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}}])
        );
        let mut quick = valid();
        quick["spec"]["behavior"] = json!({"scaleUp": {"stabilizationWindowSeconds": 5}});
        assert_eq!(
            defaulted(&row_v2(), quick)["spec"]["behavior"],
            json!({
                "scaleUp": {"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                    {"type": "Percent", "value": 100, "periodSeconds": 15}]},
                "scaleDown": {"selectPolicy": "Max", "policies": [
                    {"type": "Percent", "value": 100, "periodSeconds": 15}]},
            })
        );
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row_v2(),
            &valid(),
            &[
                (
                    "/spec/metrics",
                    json!([{"type": "Pods", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 1}}, "pods": {"metric": {"name": "m"},
                        "target": {"type": "AverageValue", "averageValue": "1"}}}]),
                    "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
                ),
                (
                    "/spec/metrics",
                    json!([{"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "A",
                        "target": {"type": "Utilization", "averageUtilization": 1}}}]),
                    &format!(
                        "spec.metrics[0].containerResource.container: Invalid value: \"A\": {}",
                        crate::names::dns1123_label("A")[0]
                    ),
                ),
                (
                    "/spec/minReplicas",
                    json!(6),
                    "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
                ),
                (
                    "/spec/scaleTargetRef/name",
                    json!(""),
                    "spec.scaleTargetRef.name: Required value",
                ),
                (
                    "/spec/metrics",
                    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]),
                    "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw \
                     value or a target utilization",
                ),
                (
                    "/spec/metrics",
                    json!([{"type": "Pods"}]),
                    "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                ),
                (
                    "/spec/behavior",
                    json!({"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 15}]}}),
                    "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                ),
            ],
        );
        assert_eq!(
            created(&row_v2(), with(&valid(), "/spec/maxReplicas", json!(0))),
            [
                "spec.maxReplicas: Required value",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"
            ]
        );
        assert_eq!(
            created(&row_v2(), with(&valid(), "/spec/maxReplicas", json!(-1))),
            [
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1",
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`"
            ]
        );
        let v1 = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "h"}, "spec": {"maxReplicas": 5,
            "targetCPUUtilizationPercentage": 0, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
        assert_eq!(
            created(&row_v1(), v1),
            ["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"]
        );
    }

    #[test]
    fn the_table_tells_two_metrics_and_how_many_more() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"},
            "target": {"type": "AverageValue", "averageValue": "10"}}});
        let external = json!({"type": "External", "external": {"metric": {"name": "m"},
            "target": {"type": "AverageValue", "averageValue": "5"}}});
        let of = |metrics: Value, current: Value| {
            super::metrics(
                &Object::from_value(json!({"spec": {"metrics": metrics}, "status": {"currentMetrics": current}}))
                    .unwrap(),
            )
        };
        assert_eq!(of(json!([]), json!([])), "<none>");
        assert_eq!(of(json!([cpu]), json!([])), "cpu: <unknown>/80%");
        let now = json!([
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}},
            {"type": "Pods", "pods": {"current": {"averageValue": "7"}}},
        ]);
        assert_eq!(of(json!([cpu, pods, external]), now), "cpu: 12%/80%, 7/10 + 1 more...");
        assert_eq!(of(json!([external]), json!([])), "<unknown>/5 (avg)");
    }
}
