//! Ingress: HTTP routes from outside to services.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::namespaced;
use super::service::load_balancer;
use crate::field::{Cursor, ErrorList};
use crate::names::{self, address};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .prefix("ingress")
        .status()
        .generation()
        .columns([
            name(),
            text(
                "Class",
                "The name of the IngressClass resource that should be used for additional configuration",
            ),
            text(
                "Hosts",
                "Hosts that incoming requests are matched against before the ingress rule",
            ),
            text(
                "Address",
                "Address is a list containing ingress points for the load-balancer",
            ),
            text("Ports", "Ports of TLS configurations that open"),
            age(),
        ])
        .strategy(Ingress)
        .build()
}

const CLASS: &str = "kubernetes.io/ingress.class";
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

struct Ingress;

impl Strategy for Ingress {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate(object, errors);
        let (metadata, spec) = (object.at("metadata"), object.at("spec"));
        let annotations = metadata.at("annotations");
        let (old_class, class) = (annotations.key(CLASS), spec.at("ingressClassName"));
        if old_class.is_set() && class.is_set() && old_class.str() != class.str() {
            // Upstream leaves `metadata` out of the path.
            let place = object.said("annotations");
            errors.invalid_value(
                &place.said(CLASS),
                &old_class.str().into(),
                "must match `ingressClassName` when both are specified",
            );
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        validate(new, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        let balancer = status.at("loadBalancer");
        for ingress in balancer.at("ingress").items() {
            let (ip, host) = (ingress.at("ip"), ingress.at("hostname"));
            if !ip.is_empty() {
                errors.faults(&ip, address::ip(ip.str()));
            }
            if !host.is_empty() {
                errors.faults(&host, names::dns1123_subdomain(host.str()));
                if address::parse_ip(host.str()).is_some() {
                    errors.invalid(&host, NO_ADDRESS);
                }
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let tls = !object.array(&["spec", "tls"]).is_empty();
        vec![
            object.name().into(),
            object.str(&["spec", "ingressClassName"]).unwrap_or("<none>").into(),
            hosts(object.array(&["spec", "rules"])).into(),
            load_balancer(object).into(),
            if tls { "80, 443" } else { "80" }.into(),
            age_of(object, now),
        ]
    }
}

fn validate(object: &Cursor<'_>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let (backend, rules) = (spec.at("defaultBackend"), spec.at("rules"));
    if backend.is_set() {
        one_backend(&backend, errors);
    } else if rules.is_empty() {
        errors.invalid_value(
            &spec,
            &Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    for rule in rules.items() {
        one_rule(&rule, errors);
    }
    for tls in spec.at("tls").items() {
        for host in tls.at("hosts").items() {
            host_name(&host, errors);
        }
        super::check::named_if_set(&tls.at("secretName"), names::dns1123_subdomain, errors);
    }
    let class = spec.at("ingressClassName");
    if class.is_set() {
        errors.faults(&class, names::dns1123_subdomain(class.str()));
    }
}

/// A name, or a wildcard for one label.
fn host_name(host: &Cursor<'_>, errors: &mut ErrorList) {
    if host.str().starts_with('*') || host.str().contains('*') {
        errors.faults(host, names::wildcard_subdomain(host.str()));
    } else {
        errors.faults(host, names::dns1123_subdomain(host.str()));
    }
}

fn one_rule(rule: &Cursor<'_>, errors: &mut ErrorList) {
    let host = rule.at("host");
    if !host.is_empty() {
        if address::parse_ip(host.str()).is_some() {
            errors.invalid(&host, NO_ADDRESS);
        }
        host_name(&host, errors);
    }
    let http = rule.at("http");
    let paths = http.at("paths");
    if http.is_set() && paths.is_empty() {
        errors.required(&paths, "");
    }
    for path in paths.items() {
        one_path(&path, errors);
    }
}

fn one_path(path: &Cursor<'_>, errors: &mut ErrorList) {
    let (text, kind) = (path.at("path"), path.at("pathType"));
    if !kind.is_set() {
        return errors.required(&kind, "pathType must be specified");
    }
    match kind.str() {
        "Exact" | "Prefix" => {
            if !text.str().starts_with('/') {
                errors.invalid_value(&text, &text.str().into(), "must be an absolute path");
            }
            if !text.is_empty() {
                for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                    if text.str().contains(bad) {
                        errors.invalid(&text, format!("must not contain '{bad}'"));
                    }
                }
                for bad in ["/..", "/."] {
                    if text.str().ends_with(bad) {
                        errors.invalid(&text, format!("cannot end with '{bad}'"));
                    }
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.str().starts_with('/') {
                errors.invalid(&text, "must be an absolute path");
            }
        }
        _ => errors.not_supported_value(
            &kind,
            &kind.str().into(),
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    one_backend(&path.at("backend"), errors);
}

/// A reference to an object of any kind, as classes and backends have them.
pub(super) fn local_reference(at: &Cursor<'_>, missing: [&str; 2], errors: &mut ErrorList) {
    let group = at.at("apiGroup");
    if group.is_set() {
        errors.faults(&group, names::dns1123_subdomain(group.str()));
    }
    for (field, missing) in ["kind", "name"].into_iter().zip(missing) {
        let part = at.at(field);
        if part.is_empty() {
            errors.required(&part, missing);
        } else {
            errors.faults(&part, names::path_segment(part.str()));
        }
    }
}

/// A service's port, or another resource.
fn one_backend(backend: &Cursor<'_>, errors: &mut ErrorList) {
    let (service, resource) = (backend.at("service"), backend.at("resource"));
    if service.is_set() && resource.is_set() {
        errors.invalid_value(backend, &"".into(), "cannot set both resource and service backends");
    } else if resource.is_set() {
        local_reference(&resource, ["kind is required", "name is required"], errors);
    } else if service.is_set() {
        let name = service.at("name");
        if name.is_empty() {
            errors.required(&name, "");
        } else {
            errors.faults(&name, names::dns1035_label(name.str()));
        }
        let port = service.at("port");
        let (named, number) = (port.at("name"), port.at("number"));
        match (named.is_empty(), number.int() == 0) {
            (false, false) => errors.invalid_value(backend, &"".into(), "cannot set both port name & port number"),
            (true, true) => errors.required(backend, "port name or number is required"),
            (false, true) => errors.faults(&named, names::port_name(named.str())),
            (true, false) => errors.faults(&number, names::port_number(number.int())),
        }
    } else {
        errors.invalid_value(backend, &"".into(), "resource or service backend is required");
    }
}

/// `a.example,b.example`; `*` when no rule names a host.
fn hosts(rules: &[Value]) -> String {
    let mut shown = Vec::new();
    let mut more = false;
    for rule in rules {
        if shown.len() == 3 {
            more = true;
            break;
        }
        let host = rule.get("host").and_then(Value::as_str).unwrap_or_default();
        if !host.is_empty() {
            shown.push(host);
        }
    }
    if shown.is_empty() {
        "*".to_owned()
    } else if more {
        format!("{} + {} more...", shown.join(","), rules.len() - 3)
    } else {
        shown.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, refuses, refuses_status, updated};
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_and_backends_are_checked() {
        let valid = json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": "a.example", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec",
                    json!({}),
                    "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
                ),
                (
                    "/spec/rules/0/host",
                    json!("10.0.0.1"),
                    "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
                ),
                (
                    "/spec/rules/0/http/paths/0/path",
                    json!("x"),
                    "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
                ),
                (
                    "/spec/rules/0/http/paths/0/pathType",
                    json!(null),
                    "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
                ),
                (
                    "/spec/rules/0/http/paths/0/backend",
                    json!({}),
                    "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is \
                     required",
                ),
                (
                    "/spec/rules/0/http/paths/0/backend/service/port",
                    json!({}),
                    "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                ),
                (
                    "/spec/rules/0/http/paths/0/backend",
                    json!({"resource": {"name": "b"}}),
                    "spec.rules[0].http.paths[0].backend.resource.kind: Required value: kind is required",
                ),
                (
                    "/spec/rules/0/http/paths",
                    json!([]),
                    "spec.rules[0].http.paths: Required value",
                ),
            ],
        );
    }

    #[test]
    fn a_new_ingress_has_one_class() {
        let annotated = json!({"metadata": {"name": "i", "annotations": {CLASS: "a"}},
            "spec": {"ingressClassName": "b", "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
        assert_eq!(
            created(&row(), annotated.clone()),
            [
                "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both \
                 are specified"
            ]
        );
        assert_eq!(updated(&row(), annotated.clone(), annotated), [""; 0]);
    }

    #[test]
    fn a_balancers_name_is_no_address() {
        let valid =
            json!({"metadata": {"name": "i"}, "status": {"loadBalancer": {"ingress": [{"hostname": "a.example"}]}}});
        refuses_status(
            &row(),
            &valid,
            &[(
                "/status/loadBalancer/ingress/0/hostname",
                json!("10.0.0.1"),
                "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP \
                 address",
            )],
        );
    }

    #[test]
    fn the_table_tells_three_hosts() {
        let rule = |host: &str| json!({"host": host});
        assert_eq!(hosts(&[json!({})]), "*");
        assert_eq!(hosts(&[rule("a"), rule("b")]), "a,b");
        assert_eq!(
            hosts(&[rule("a"), rule("b"), rule("c"), rule("d")]),
            "a,b,c + 1 more..."
        );
    }
}
