//! NetworkPolicy: which traffic may reach or leave a set of pods.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, format_selector, name, text};
use super::check::{one_of_if_set, port};
use super::fill::{at, each, fill};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names::address;
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::validate_label_selector;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .generation()
        .columns([
            name(),
            text("Pod-Selector", "The labels of the pods that the policy is for."),
            age(),
        ])
        .strategy(NetworkPolicy)
        .build()
}

struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        let types = spec.get("policyTypes").and_then(Value::as_array);
        if types.is_none_or(Vec::is_empty) {
            let egress = spec
                .get("egress")
                .and_then(Value::as_array)
                .is_some_and(|l| !l.is_empty());
            let types: &[&str] = if egress { &["Ingress", "Egress"] } else { &["Ingress"] };
            spec.insert("policyTypes".into(), types.into());
        }
        for direction in ["ingress", "egress"] {
            each(spec, direction, |rule| {
                each(rule, "ports", |port| fill(port, "protocol", "TCP"));
            });
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        validate_label_selector(&spec.at("podSelector"), errors);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.at(direction).items() {
                for entry in rule.at("ports").items() {
                    one_port(&entry, errors);
                }
                for peer in rule.at(peers).items() {
                    one_peer(&peer, errors);
                }
            }
        }
        let types = spec.at("policyTypes");
        if types.len() > 2 {
            errors.invalid(&types, "may not specify more than two policyTypes");
            return;
        }
        for kind in types.items() {
            if !matches!(kind.str(), "Ingress" | "Egress") {
                errors.not_supported_value(&kind, &kind.str().into(), &["Ingress", "Egress"]);
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            format_selector(object.get(&["spec", "podSelector"])).into(),
            age_of(object, now),
        ]
    }
}

fn one_port(entry: &Cursor<'_>, errors: &mut ErrorList) {
    one_of_if_set(&entry.at("protocol"), &["TCP", "UDP", "SCTP"], errors);
    let (first, last) = (entry.at("port"), entry.at("endPort"));
    let is_number = first.i64().is_some();
    match (first.is_set(), last.is_set()) {
        (false, true) => errors.invalid(&last, "may not be specified when `port` is not specified"),
        (true, true) if !is_number => errors.invalid(&last, "may not be specified when `port` is non-numeric"),
        _ => {}
    }
    if first.is_set() {
        port(&first, errors);
    }
    if is_number && last.is_set() {
        if last.int() < first.int() {
            // Upstream shows the first port here.
            errors.invalid_value(&last, &first.int().into(), "must be greater than or equal to `port`");
        }
        errors.faults(&last, crate::names::port_number(last.int()));
    }
}

fn one_peer(peer: &Cursor<'_>, errors: &mut ErrorList) {
    let (pods, namespaces, block) = (peer.at("podSelector"), peer.at("namespaceSelector"), peer.at("ipBlock"));
    validate_label_selector(&pods, errors);
    validate_label_selector(&namespaces, errors);
    if !block.is_set() {
        if !pods.is_set() && !namespaces.is_set() {
            errors.required(peer, "must specify a peer");
        }
        return;
    }
    ip_block(&block, errors);
    if pods.is_set() || namespaces.is_set() {
        errors.forbidden(peer, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Cursor<'_>, errors: &mut ErrorList) {
    let cidr = block.at("cidr");
    if cidr.is_empty() {
        errors.required(&cidr, "");
        return;
    }
    errors.faults(&cidr, address::cidr(cidr.str()));
    let outer = address::parse_cidr(cidr.str());
    for except in block.at("except").items() {
        errors.faults(&except, address::cidr(except.str()));
        let (Some((outer, length)), Some((inner, inner_length))) = (outer, address::parse_cidr(except.str())) else {
            continue;
        };
        let within = outer.is_ipv4() == inner.is_ipv4()
            && inner_length > length
            && address::network(inner, length) == address::network(outer, length);
        if !within {
            errors.invalid(&except, "must be a strict subset of `cidr`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn types_follow_from_the_rules() {
        let policy =
            json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}});
        let spec = &defaulted(&row(), policy)["spec"];
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(spec["egress"][0]["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn peers_and_ports_are_checked() {
        let valid = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80}]}]}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/ingress/0/from/0",
                    json!({}),
                    "spec.ingress[0].from[0]: Required value: must specify a peer",
                ),
                (
                    "/spec/ingress/0/from/0/ipBlock/except/0",
                    json!("11.0.0.0/16"),
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset \
                     of `cidr`",
                ),
                (
                    "/spec/ingress/0/ports/0/endPort",
                    json!(79),
                    "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                ),
                (
                    "/spec/ingress/0/ports/0",
                    json!({"endPort": 80}),
                    "spec.ingress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is not \
                     specified",
                ),
                (
                    "/spec/ingress/0/ports/0",
                    json!({"port": "web", "endPort": 80}),
                    "spec.ingress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is non-numeric",
                ),
                (
                    "/spec/policyTypes",
                    json!(["X"]),
                    "spec.policyTypes[0]: Unsupported value: \"X\": supported values: \"Ingress\", \"Egress\"",
                ),
            ],
        );
    }
}
