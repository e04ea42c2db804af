//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: who else is asked about a request.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, integer, name};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn validating_row() -> Resource {
    shared("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
}

pub(super) fn mutating_row() -> Resource {
    shared("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
}

fn shared(kind: &'static str, plural: &'static str) -> Resource {
    cluster("admissionregistration.k8s.io", "v1", kind, plural)
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns([
            name(),
            integer(
                "Webhooks",
                "Webhooks indicates the number of webhooks registered in this configuration",
            ),
            age(),
        ])
        .strategy(WebhookConfiguration)
        .build()
}

struct WebhookConfiguration;

impl Strategy for WebhookConfiguration {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.array(&["webhooks"]).len().into(),
            age_of(object, now),
        ]
    }
}
