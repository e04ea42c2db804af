//! APIService: a group and version, served here or by another API server.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, name, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("apiregistration.k8s.io", "v1", "APIService", "apiservices")
        .category("api-extensions")
        .status()
        .conditional_update()
        .columns([
            name(),
            text("Service", "The reference to the service that hosts this API endpoint."),
            text("Available", "Whether this service is available."),
            age(),
        ])
        .strategy(ApiService)
        .build()
}

struct ApiService;

impl Strategy for ApiService {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let service = |field| object.str(&["spec", "service", field]).unwrap_or_default();
        let host = if object.get(&["spec", "service"]).is_some() {
            format!("{}/{}", service("namespace"), service("name"))
        } else {
            "Local".to_owned()
        };
        vec![
            object.name().into(),
            host.into(),
            available(object).into(),
            age_of(object, now),
        ]
    }
}

/// `True`, or `False (MissingEndpoints)`.
fn available(service: &Object) -> String {
    let available = condition(service, "Available");
    let field = |name: &str| available.and_then(|c| c.get(name)?.as_str()).unwrap_or_default();
    match (field("status"), field("reason")) {
        ("True", _) => "True".to_owned(),
        ("False", reason) => format!("False ({reason})"),
        (status, reason) if !reason.is_empty() => format!("{status} ({reason})"),
        _ => "Unknown".to_owned(),
    }
}
