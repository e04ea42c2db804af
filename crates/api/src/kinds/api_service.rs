//! APIService: a group and version, served here or by another API server.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, name, text};
use super::check::{immutable, not_empty};
use super::fill::{fill, map_at};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
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
    fn set_defaults(&self, object: &mut Object) {
        if let Some(service) = map_at(&mut object.0, &["spec", "service"]) {
            fill(service, "port", 443);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let (group, version) = (spec.at("group"), spec.at("version"));
        let metadata = object.at("metadata");
        let name = metadata.at("name");
        let expected = format!("{}.{}", version.str(), group.str());
        if name.str() != expected {
            errors.invalid(&name, format!("must be `spec.version+\".\"+spec.group`: {expected:?}"));
        }
        if group.is_empty() {
            errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
        } else {
            errors.faults(&group, names::dns1123_subdomain(group.str()));
        }
        for fault in names::dns1035_label(version.str()) {
            errors.invalid_value(&version, &version.str().into(), fault);
        }
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let priority = spec.at(field);
            if !(1..=most).contains(&priority.int()) {
                errors.invalid_value(
                    &priority,
                    &priority.int().into(),
                    format!("must be positive and less than {most}"),
                );
            }
        }
        let service = spec.at("service");
        let bundle = spec.at("caBundle");
        let insecure = spec.at("insecureSkipTLSVerify");
        if !service.is_set() {
            if !bundle.is_empty() {
                errors.invalid(&bundle, "local APIServices may not have a caBundle");
            }
            if insecure.is_true() {
                errors.invalid(&insecure, "local APIServices may not have insecureSkipTLSVerify");
            }
            return;
        }
        not_empty(&service.at("namespace"), errors);
        not_empty(&service.at("name"), errors);
        let port = service.at("port");
        errors.faults(&port, names::port_number(port.int()));
        if insecure.is_true() && !bundle.is_empty() {
            errors.invalid(&insecure, "may not be true if caBundle is present");
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        for field in ["group", "version"] {
            immutable(&spec.at(field), &old_spec.at(field), errors);
        }
    }

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
