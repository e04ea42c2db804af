//! PriorityLevelConfiguration: how many requests of one priority are served at a time.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
    )
    .status()
    .generation()
    .columns([
        name(),
        text("Type", "Exempt or Limited."),
        text(
            "NominalConcurrencyShares",
            "The level's share of the server's concurrency.",
        ),
        text("Queues", "How many queues there are."),
        text("HandSize", "How many queues a flow may use."),
        text("QueueLengthLimit", "How many requests may wait in a queue."),
        age(),
    ])
    .strategy(PriorityLevelConfiguration)
    .build()
}

struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let cell = |path: &[&str]| object.get(path).cloned().unwrap_or_else(|| "<none>".into());
        let queuing = |field| cell(&["spec", "limited", "limitResponse", "queuing", field]);
        vec![
            object.name().into(),
            str_of(object, &["spec", "type"]),
            cell(&["spec", "limited", "nominalConcurrencyShares"]),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            age_of(object, now),
        ]
    }
}
