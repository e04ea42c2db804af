//! HorizontalPodAutoscaler: changes a workload's replicas by metrics. One stored object (`autoscaling/v2`) seen through
//! two versions; what `v1` has no fields for travels in its annotations ([`version`]).

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, int_of, name, plain, text};
use super::row::{Row, namespaced};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

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
    use super::*;
    use serde_json::json;

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
