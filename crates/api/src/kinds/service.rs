//! Service: a stable name and address for a set of pods. Cluster IPs and node ports are allocated by the server.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, format_labels, join, name, str_of, text};
use super::row::{PROXY, namespaced};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Service", "services")
        .short(&["svc"])
        .in_all()
        .connect("proxy", PROXY, "ServiceProxyOptions")
        .status()
        .prefix("services/specs")
        .create_on_update()
        .fields(&["spec.clusterIP", "spec.type"])
        .columns([
            name(),
            text("Type", "How the service is exposed."),
            text("Cluster-IP", "The service's address inside the cluster."),
            text("External-IP", "The service's addresses outside the cluster."),
            text("Port(s)", "The ports that the service exposes."),
            age(),
            text("Selector", "The labels of the pods behind the service.").wide(),
        ])
        .strategy(Service)
        .build()
}

struct Service;

impl Strategy for Service {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let ips = object.array(&["spec", "clusterIPs"]);
        let cluster_ip = ips.first().and_then(Value::as_str).unwrap_or("<none>");
        vec![
            object.name().into(),
            str_of(object, &["spec", "type"]),
            cluster_ip.into(),
            external_ip(object).into(),
            ports(object.array(&["spec", "ports"])).into(),
            age_of(object, now),
            format_labels(object.get(&["spec", "selector"])).into(),
        ]
    }
}

fn external_ip(service: &Object) -> String {
    let own = join(service.array(&["spec", "externalIPs"]), ",");
    match service.str(&["spec", "type"]).unwrap_or_default() {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own,
        "LoadBalancer" => {
            let balancer = load_balancer(service);
            match (balancer.is_empty(), own.is_empty()) {
                (true, true) => "<pending>".to_owned(),
                (false, true) => balancer,
                (true, false) => own,
                (false, false) => format!("{balancer},{own}"),
            }
        }
        "ExternalName" => service.str(&["spec", "externalName"]).unwrap_or_default().to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses or host names in `status.loadBalancer.ingress`, sorted.
pub(super) fn load_balancer(object: &Object) -> String {
    let addresses: BTreeSet<&str> = object
        .array(&["status", "loadBalancer", "ingress"])
        .iter()
        .filter_map(|ingress| {
            let field = |name| ingress.get(name).and_then(Value::as_str).filter(|s| !s.is_empty());
            field("ip").or_else(|| field("hostname"))
        })
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

/// `80/TCP,443:30443/TCP`
fn ports(ports: &[Value]) -> String {
    let texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let number = |name| port.get(name).and_then(Value::as_i64).unwrap_or_default();
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or_default();
            match number("nodePort") {
                0 => format!("{}/{protocol}", number("port")),
                node_port => format!("{}:{node_port}/{protocol}", number("port")),
            }
        })
        .collect();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(spec: Value, status: Value) -> Vec<String> {
        let service = Object::from_value(json!({"metadata": {"name": "s"}, "spec": spec, "status": status})).unwrap();
        let cells = Service.cells(&service, "2024-01-01T00:00:00Z".parse().unwrap());
        cells[1..5].iter().map(|c| c.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_table_tells_type_addresses_and_ports() {
        let balanced = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a.example"}]}});
        for (spec, status, expected) in [
            (
                json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "protocol": "TCP"}]}),
                json!({}),
                ["ClusterIP", "10.0.0.1", "<none>", "80/TCP"],
            ),
            (
                json!({"type": "NodePort", "clusterIPs": ["10.0.0.1"], "externalIPs": ["9.9.9.9"],
                       "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
                json!({}),
                ["NodePort", "10.0.0.1", "9.9.9.9", "80:30080/TCP,53/UDP"],
            ),
            (
                json!({"type": "LoadBalancer"}),
                json!({}),
                ["LoadBalancer", "<none>", "<pending>", "<none>"],
            ),
            (
                json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}),
                balanced,
                ["LoadBalancer", "<none>", "1.2.3.4,a.example,9.9.9.9", "<none>"],
            ),
            (
                json!({"type": "ExternalName", "externalName": "db.example"}),
                json!({}),
                ["ExternalName", "<none>", "db.example", "<none>"],
            ),
        ] {
            assert_eq!(shown(spec, status), expected);
        }
    }
}
