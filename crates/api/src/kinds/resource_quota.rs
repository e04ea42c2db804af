//! ResourceQuota: the most that a namespace may use.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, plain, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ResourceQuota", "resourcequotas")
        .short(&["quota"])
        .status()
        .columns([
            name(),
            text(
                "Request",
                "Request represents a minimum amount of cpu/memory that a container may consume.",
            ),
            text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention \
                 on the node.",
            ),
            age(),
        ])
        .strategy(ResourceQuota)
        .build()
}

struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let hard = object.get(&["status", "hard"]).and_then(Value::as_object);
        let mut entries: Vec<(&String, &Value)> = hard.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| *name);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, most) in entries {
            let used = object
                .get(&["status", "used", resource])
                .map_or_else(|| "0".to_owned(), plain);
            let text = format!("{resource}: {used}/{}", plain(most));
            if resource.starts_with("limits.") {
                limits.push(text);
            } else {
                requests.push(text);
            }
        }
        vec![
            object.name().into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_tells_used_of_hard_with_limits_apart() {
        let quota = Object::from_value(json!({
            "metadata": {"name": "q"},
            "status": {"hard": {"pods": "10", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "3", "limits.cpu": "500m"}},
        }))
        .unwrap();
        let cells = ResourceQuota.cells(&quota, "2024-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(
            Value::from(cells),
            json!(["q", "cpu: 0/1, pods: 3/10", "limits.cpu: 500m/2", "<unknown>"])
        );
    }
}
