//! EndpointSlice: some of the addresses behind a service.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, first_three, name, plain, str_of, text};
use super::check::{immutable, named_if_set, one_of};
use super::endpoints::ordinary_ip;
use super::fill::{each, fill};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .create_on_update()
        .generation()
        .columns([
            name(),
            text("AddressType", "What the addresses are: IPv4, IPv6 or FQDN."),
            text("Ports", "The ports of every endpoint."),
            text("Endpoints", "The addresses of the endpoints."),
            age(),
        ])
        .strategy(EndpointSlice)
        .build()
}

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn set_defaults(&self, object: &mut Object) {
        each(&mut object.0, "ports", |port| {
            fill(port, "name", "");
            fill(port, "protocol", "TCP");
        });
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let kind = object.at("addressType");
        one_of(&kind, &["FQDN", "IPv4", "IPv6"], errors);
        let endpoints = object.at("endpoints");
        if endpoints.len() > 1000 {
            errors.too_many(&endpoints, endpoints.len(), 1000);
        } else {
            for endpoint in endpoints.items() {
                one_endpoint(&endpoint, kind.str(), errors);
            }
        }
        slice_ports(&object.at("ports"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        immutable(&new.at("addressType"), &old.at("addressType"), errors);
    }

    /// Labels and annotations count too: consumers read them.
    fn changes_generation(&self, new: &Object, old: &Object) -> bool {
        let part = |o: &Object, field: &str| o.get(&[field]).cloned();
        let meta = |o: &Object, field: &str| o.get(&["metadata", field]).cloned();
        ["endpoints", "ports", "addressType"]
            .iter()
            .any(|f| part(new, f) != part(old, f))
            || ["labels", "annotations"].iter().any(|f| meta(new, f) != meta(old, f))
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = object
            .array(&["ports"])
            .iter()
            .map(|p| {
                let number = p.get("port").filter(|n| !n.is_null());
                number.or_else(|| p.get("name")).map_or_else(|| "*".to_owned(), plain)
            })
            .collect();
        let addresses: Vec<String> = object
            .array(&["endpoints"])
            .iter()
            .filter_map(|e| e.get("addresses")?.as_array())
            .flatten()
            .map(plain)
            .collect();
        vec![
            object.name().into(),
            str_of(object, &["addressType"]),
            first_three(&ports, "<unset>").into(),
            first_three(&addresses, "<unset>").into(),
            age_of(object, now),
        ]
    }
}

fn one_endpoint(endpoint: &Cursor<'_>, kind: &str, errors: &mut ErrorList) {
    let addresses = endpoint.at("addresses");
    if addresses.is_empty() {
        errors.required(&addresses, "");
    }
    if addresses.len() > 100 {
        errors.too_many(&addresses, addresses.len(), 100);
    }
    for address in addresses.items() {
        match kind {
            "IPv4" => {
                errors.faults(&address, names::address::ipv4(address.str()));
                ordinary_ip(&address, errors);
            }
            "IPv6" => {
                errors.faults(&address, names::address::ipv6(address.str()));
                ordinary_ip(&address, errors);
            }
            "FQDN" if address.is_empty() => errors.required(&address, ""),
            "FQDN" => errors.faults(&address, names::fully_qualified_domain(address.str())),
            _ => {}
        }
    }
    let node = endpoint.at("nodeName");
    if node.is_set() {
        errors.faults(&node, names::dns1123_subdomain(node.str()));
    }
    let topology = endpoint.at("deprecatedTopology");
    if topology.len() > 16 {
        errors.too_many(&topology, topology.len(), 16);
    }
    names::labels(&topology, errors);
    let host = endpoint.at("hostname");
    if host.is_set() {
        errors.faults(&host, names::dns1123_label(host.str()));
    }
    let hints = endpoint.at("hints");
    hinted(&hints.at("forZones"), names::label_value, errors);
    hinted(&hints.at("forNodes"), names::dns1123_subdomain, errors);
}

/// Where an endpoint is best for: few places, each once.
fn hinted(places: &Cursor<'_>, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    if places.len() > 8 {
        return errors.too_many(places, places.len(), 8);
    }
    let mut seen = std::collections::BTreeSet::new();
    for place in places.items() {
        let name = place.at("name");
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        }
        errors.faults(&name, rule(name.str()));
    }
}

fn slice_ports(ports: &Cursor<'_>, errors: &mut ErrorList) {
    if ports.len() > 20_000 {
        return errors.too_many(ports, ports.len(), 20_000);
    }
    let mut seen = std::collections::BTreeSet::new();
    for port in ports.items() {
        let name = port.at("name");
        named_if_set(&name, names::dns1123_label, errors);
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        }
        one_of(&port.at("protocol"), &["SCTP", "TCP", "UDP"], errors);
        if port.at("appProtocol").is_set() {
            super::check::qualified(&port.at("appProtocol"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_of_the_slices_type() {
        let valid = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"port": 80}]});
        assert_eq!(
            defaulted(&row(), valid.clone())["ports"][0],
            json!({"port": 80, "name": "", "protocol": "TCP"})
        );
        refuses(
            &row(),
            &valid,
            &[
                ("/addressType", json!(null), "addressType: Required value"),
                (
                    "/endpoints/0/addresses/0",
                    json!("fd00::1"),
                    "endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be a valid IPv4 address",
                ),
                (
                    "/endpoints/0/addresses",
                    json!([]),
                    "endpoints[0].addresses: Required value",
                ),
                (
                    "/endpoints/0/addresses",
                    json!(vec!["10.0.0.1"; 101]),
                    "endpoints[0].addresses: Too many: 101: must have at most 100 items",
                ),
                (
                    "/endpoints/0/nodeName",
                    json!("N"),
                    &format!(
                        "endpoints[0].nodeName: Invalid value: \"N\": {}",
                        names::dns1123_subdomain("N")[0]
                    ),
                ),
                (
                    "/endpoints/0/hints",
                    json!({"forNodes": [{"name": "n"}, {"name": "n"}]}),
                    "endpoints[0].hints.forNodes[1].name: Duplicate value: \"n\"",
                ),
                ("/ports/1", json!({"port": 81}), "ports[1].name: Duplicate value: \"\""),
            ],
        );
        refuses_update(
            &row(),
            &json!({"metadata": {"name": "s"}, "addressType": "IPv4"}),
            &[(
                "/addressType",
                json!("IPv6"),
                "addressType: Invalid value: \"IPv6\": field is immutable",
            )],
        );
    }
}
