//! EndpointSlice: some of the addresses behind a service.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, first_three, name, plain, str_of, text};
use super::row::namespaced;
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
