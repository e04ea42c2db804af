//! FlowSchema: which requests have which priority level.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, int_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas")
        .status()
        .generation()
        .columns([
            name(),
            text("PriorityLevel", "The level that the requests have."),
            text("MatchingPrecedence", "Which schema goes first; the lowest does."),
            text("DistinguisherMethod", "How flows are told apart."),
            age(),
            text(
                "MissingPL",
                "references a broken or non-existent PriorityLevelConfiguration",
            ),
        ])
        .strategy(FlowSchema)
        .build()
}

struct FlowSchema;

impl Strategy for FlowSchema {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let dangling = condition(object, "Dangling").and_then(|c| c.get("status")?.as_str());
        vec![
            object.name().into(),
            str_of(object, &["spec", "priorityLevelConfiguration", "name"]),
            int_of(object, &["spec", "matchingPrecedence"]).into(),
            object
                .str(&["spec", "distinguisherMethod", "type"])
                .unwrap_or("<none>")
                .into(),
            age_of(object, now),
            dangling.unwrap_or("?").into(),
        ]
    }
}
