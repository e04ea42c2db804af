//! IngressClass: which controller serves an ingress.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::immutable;
use super::fill::{fill, map_at};
use super::ingress::local_reference;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .generation()
        .columns([
            name(),
            text("Controller", "Controller that is responsible for handling this class"),
            text("Parameters", "A reference to a resource with additional parameters"),
            age(),
        ])
        .strategy(IngressClass)
        .build()
}

struct IngressClass;

impl Strategy for IngressClass {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(parameters) = map_at(&mut object.0, &["spec", "parameters"]) {
            fill(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let controller = spec.at("controller");
        if controller.is_empty() {
            errors.required(&controller, "");
        } else {
            if controller.str().len() > 250 {
                errors.too_long(&controller, 250);
            }
            errors.faults(&controller, names::domain_prefixed_path(controller.str()));
        }
        let parameters = spec.at("parameters");
        if !parameters.is_set() {
            return;
        }
        local_reference(&parameters, ["", ""], errors);
        let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
        if scope.str() == "Namespace" && namespace.is_set() {
            errors.faults(&namespace, names::dns1123_label(namespace.str()));
        }
        match (scope.str(), namespace.is_set()) {
            ("", _) => errors.required(&scope, ""),
            ("Cluster", true) => {
                errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
            }
            ("Namespace", false) => {
                errors.required(&namespace, "`parameters.scope` is set to 'Namespace'");
            }
            ("Cluster" | "Namespace", _) => {}
            _ => errors.not_supported(&scope, &["Cluster", "Namespace"]),
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        immutable(&spec.at("controller"), &old_spec.at("controller"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let parameter = |field| object.str(&["spec", "parameters", field]);
        let parameters = match (parameter("kind"), parameter("apiGroup")) {
            (None, _) => "<none>".to_owned(),
            (Some(kind), None) => format!("{kind}/{}", parameter("name").unwrap_or_default()),
            (Some(kind), Some(group)) => format!("{kind}.{group}/{}", parameter("name").unwrap_or_default()),
        };
        vec![
            object.name().into(),
            str_of(object, &["spec", "controller"]),
            parameters.into(),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_controller_is_a_path_and_stays() {
        let valid = json!({"metadata": {"name": "c"}, "spec": {"controller": "example.com/c"}});
        refuses(
            &row(),
            &valid,
            &[
                ("/spec/controller", json!(""), "spec.controller: Required value"),
                (
                    "/spec/controller",
                    json!("c"),
                    "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ),
                (
                    "/spec/parameters",
                    json!({"kind": "K", "name": "n", "scope": "Namespace"}),
                    "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                ),
            ],
        );
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/parameters",
                    json!({"kind": "K", "name": "a/b", "scope": "Cluster"}),
                    "spec.parameters.name: Invalid value: \"a/b\": may not contain '/'",
                ),
                (
                    "/spec/parameters",
                    json!({"name": "a", "scope": "Cluster"}),
                    "spec.parameters.kind: Required value",
                ),
                (
                    "/spec/parameters",
                    json!({"kind": "K", "scope": "Cluster"}),
                    "spec.parameters.name: Required value",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/spec/controller",
                json!("example.com/d"),
                "spec.controller: Invalid value: \"example.com/d\": field is immutable",
            )],
        );
    }
}
