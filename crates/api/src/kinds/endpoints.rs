//! Endpoints: the addresses behind a service, in the form that EndpointSlice replaced.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::check::{named_if_set, one_of};
use super::fill::each;
use super::pod_spec::valid_ip;
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .prefix("services/endpoints")
        .create_on_update()
        .columns([
            name(),
            text("Endpoints", "The addresses and ports behind the service."),
            age(),
        ])
        .strategy(Endpoints)
        .build()
}

struct Endpoints;

impl Strategy for Endpoints {
    fn set_defaults(&self, object: &mut Object) {
        each(&mut object.0, "subsets", |subset| {
            each(subset, "ports", |port| super::fill::fill_empty(port, "protocol", "TCP"));
        });
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        for subset in object.at("subsets").items() {
            let (ready, waiting) = (subset.at("addresses"), subset.at("notReadyAddresses"));
            if ready.is_empty() && waiting.is_empty() {
                errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
            }
            for address in ready.items().chain(waiting.items()) {
                endpoint_address(&address, errors);
            }
            let ports = subset.at("ports");
            for port in ports.items() {
                let name = port.at("name");
                if ports.len() > 1 && name.is_empty() {
                    errors.required(&name, "");
                }
                named_if_set(&name, names::dns1123_label, errors);
                let number = port.at("port");
                for fault in names::port_number(number.int()) {
                    errors.invalid_value(&number, &number.int().into(), fault);
                }
                one_of(&port.at("protocol"), &["SCTP", "TCP", "UDP"], errors);
                if port.at("appProtocol").is_set() {
                    super::check::qualified(&port.at("appProtocol"), errors);
                }
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            addresses(object.array(&["subsets"])).into(),
            age_of(object, now),
        ]
    }
}

fn endpoint_address(address: &Cursor<'_>, errors: &mut ErrorList) {
    let ip = address.at("ip");
    valid_ip(&ip, errors);
    named_if_set(&address.at("hostname"), names::dns1123_label, errors);
    let node = address.at("nodeName");
    if node.is_set() {
        errors.faults(&node, names::dns1123_subdomain(node.str()));
    }
    ordinary_ip(&ip, errors);
}

/// Not an address that means something else: unspecified, loopback, link-local.
pub(super) fn ordinary_ip(at: &Cursor<'_>, errors: &mut ErrorList) {
    let Some(ip) = names::address::parse_ip(at.str()).map(|ip| ip.to_canonical()) else {
        return errors.invalid_value(at, &at.str().into(), "must be a valid IP address");
    };
    if ip.is_unspecified() {
        errors.invalid(at, format!("may not be unspecified ({})", at.str()));
    }
    if ip.is_loopback() {
        errors.invalid(at, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        errors.invalid(at, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(
            at,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

/// `10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...`
fn addresses(subsets: &[Value]) -> String {
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let list = |of: &'_ Value, field: &str| of.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut shown = Vec::new();
    let mut count = 0;
    for subset in subsets {
        let ips: Vec<String> = list(subset, "addresses")
            .iter()
            .map(|a| a.get("ip").and_then(Value::as_str).unwrap_or_default().to_owned())
            .collect();
        let ports = list(subset, "ports");
        // A headless service may have addresses without ports.
        let numbers: Vec<Option<i64>> = if ports.is_empty() {
            vec![None]
        } else {
            let number = |p: &Value| p.get("port").and_then(Value::as_i64).unwrap_or_default();
            ports.iter().map(|p| Some(number(p))).collect()
        };
        for number in numbers {
            count += ips.len();
            for ip in ips.iter().take(3_usize.saturating_sub(shown.len())) {
                shown.push(match number {
                    None => ip.clone(),
                    Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
                    Some(port) => format!("{ip}:{port}"),
                });
            }
        }
    }
    let text = shown.join(",");
    if count > shown.len() {
        format!("{text} + {} more...", count - shown.len())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_and_ports_are_checked() {
        let valid = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}],
            "ports": [{"port": 80}]}]});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/subsets/0/addresses",
                    json!([]),
                    "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                ),
                (
                    "/subsets/0/addresses/0/ip",
                    json!("127.0.0.1"),
                    "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                     (127.0.0.0/8, ::1/128)",
                ),
                (
                    "/subsets/0/addresses/0/ip",
                    json!("::ffff:127.0.0.1"),
                    "subsets[0].addresses[0].ip: Invalid value: \"::ffff:127.0.0.1\": may not be in the loopback range \
                     (127.0.0.0/8, ::1/128)",
                ),
                (
                    "/subsets/0/ports/0/port",
                    json!(0),
                    "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ),
                (
                    "/subsets/0/ports",
                    json!([{"name": "a", "port": 1}, {"port": 2}]),
                    "subsets[0].ports[1].name: Required value",
                ),
            ],
        );
    }

    #[test]
    fn what_is_no_address_is_told_twice_as_upstream_does() {
        let object = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "x"}]}]});
        assert_eq!(
            created(&row(), object),
            [
                "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address"
            ]
        );
    }

    #[test]
    fn the_table_shows_three_addresses_with_their_ports() {
        let subset = |ips: &[&str], ports: &[i64]| {
            json!({
                "addresses": ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
                "ports": ports.iter().map(|p| json!({"port": p})).collect::<Vec<_>>(),
            })
        };
        assert_eq!(addresses(&[]), "<none>");
        assert_eq!(addresses(&[subset(&["10.0.0.1"], &[80])]), "10.0.0.1:80");
        assert_eq!(addresses(&[subset(&["fd00::1"], &[80])]), "[fd00::1]:80");
        assert_eq!(addresses(&[subset(&["10.0.0.1"], &[])]), "10.0.0.1");
        assert_eq!(
            addresses(&[subset(&["10.0.0.1", "10.0.0.2"], &[80, 443])]),
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more..."
        );
    }
}
