//! Scale: the replica count of a kind that has one, seen through its `scale` subresource. It is no resource of its own:
//! this row says only how it is printed.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, int_of, integer, name};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

/// How Scales are printed.
pub fn printed() -> &'static Arc<Resource> {
    static ROW: LazyLock<Arc<Resource>> = LazyLock::new(|| {
        let row = namespaced("autoscaling", "v1", "Scale", "scales")
            .columns([
                name(),
                integer("Desired", "Number of desired replicas."),
                integer("Available", "Number of replicas that there are."),
                age(),
            ])
            .strategy(Scale)
            .build();
        Arc::new(row)
    });
    &ROW
}

struct Scale;

impl Strategy for Scale {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            int_of(object, &["spec", "replicas"]).into(),
            int_of(object, &["status", "replicas"]).into(),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scale_is_printed_with_what_is_wanted_and_what_there_is() {
        let scale = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}, "status": {"replicas": 1}});
        let cells = printed()
            .strategy
            .cells(&Object::from_value(scale).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..3], [json!("web"), json!(3), json!(1)]);
        assert_eq!(cells.len(), printed().columns.len());
    }
}
