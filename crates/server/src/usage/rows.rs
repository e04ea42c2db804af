//! The rows of `metrics.k8s.io`. They are declared as those of custom resources are, at run time, so that an extension that
//! serves the same group can take their place.

use std::sync::Arc;

use coracle_api::resource::{Resource, Scope, Storage, Verbs};
use coracle_api::schema::custom;
use coracle_api::strategy::Strategy;
use serde_json::{Value, json};

pub(super) const GROUP: &str = "metrics.k8s.io";
pub(super) const VERSION: &str = "v1beta1";
/// No object is ever kept below this.
pub(super) const NOWHERE: &str = "metrics.k8s.io/computed";

struct Computed;

impl Strategy for Computed {}

pub(super) fn rows() -> [Resource; 2] {
    let usage = json!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}});
    let of = |rest: (&str, Value)| {
        let mut properties = json!({
            "timestamp": {"type": "string", "format": "date-time"},
            "window": {"type": "string"},
        });
        properties[rest.0] = rest.1;
        json!({"type": "object", "required": ["timestamp", "window", rest.0], "properties": properties})
    };
    let containers = json!({"type": "array", "items": {
        "type": "object",
        "required": ["name", "usage"],
        "properties": {"name": {"type": "string"}, "usage": usage},
    }});
    [
        row("NodeMetrics", "nodes", Scope::Cluster, &of(("usage", usage))),
        row("PodMetrics", "pods", Scope::Namespaced, &of(("containers", containers))),
    ]
}

fn row(kind: &'static str, plural: &'static str, scope: Scope, schema: &Value) -> Resource {
    let (schema, schema_root) = custom::from_schema(Some(schema));
    Resource {
        group: GROUP.into(),
        version: VERSION.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: "".into(),
        list_kind: format!("{kind}List").into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        verbs: Verbs::GET.or(Verbs::LIST),
        subresources: Vec::new(),
        storage: Storage {
            prefix: NOWHERE.into(),
            api_version: format!("{GROUP}/{VERSION}").into(),
        },
        convert: None,
        strategy: Arc::new(Computed),
        schema: Arc::new(schema),
        schema_root,
        columns: Vec::new(),
        selectable_fields: Vec::new(),
        has_generation: false,
        create_on_update: false,
        unconditional_update: false,
        deprecation: None,
        custom: true,
        protobuf: false,
    }
}
