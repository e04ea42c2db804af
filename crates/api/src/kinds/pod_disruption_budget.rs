//! PodDisruptionBudget: how many pods of a set may be evicted at a time.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, int_of, integer, name, plain, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .generation()
        .conditional_update()
        .columns([
            name(),
            text("Min Available", "The minimum number of pods that must be available."),
            text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            integer(
                "Allowed Disruptions",
                "Calculated number of pods that may be disrupted at this time.",
            ),
            age(),
        ])
        .strategy(PodDisruptionBudget)
        .build()
}

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let bound = |field| object.get(&["spec", field]).map_or_else(|| "N/A".to_owned(), plain);
        vec![
            object.name().into(),
            bound("minAvailable").into(),
            bound("maxUnavailable").into(),
            int_of(object, &["status", "disruptionsAllowed"]).into(),
            age_of(object, now),
        ]
    }
}
