//! ComponentStatus: whether the control plane's parts are healthy. Computed when read, never kept.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("", "v1", "ComponentStatus", "componentstatuses")
        .short(&["cs"])
        .verbs(Verbs::GET.or(Verbs::LIST))
        .columns([
            name(),
            text("Status", "Status of the component conditions"),
            text("Message", "Message of the component conditions"),
            text("Error", "Error of the component conditions"),
        ])
        .strategy(ComponentStatus)
        .build()
}

struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let healthy = object
            .array(&["conditions"])
            .iter()
            .find(|c| c.get("type").and_then(Value::as_str) == Some("Healthy"));
        let field = |name: &str| healthy.and_then(|c| c.get(name)?.as_str()).unwrap_or_default();
        let status = match healthy {
            None => "Unknown",
            Some(_) if field("status") == "True" => "Healthy",
            Some(_) => "Unhealthy",
        };
        vec![
            object.name().into(),
            status.into(),
            field("message").into(),
            field("error").into(),
        ]
    }
}
