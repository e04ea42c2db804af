//! Service: a stable name and address for a set of pods. Cluster IPs and node ports are allocated by the server.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, format_labels, join, name, str_of, text};
use super::row::{PROXY, namespaced};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

mod address;
mod change;
mod defaults;
mod rules;

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
    fn name_rule(&self) -> NameRule {
        NameRule::Dns1035Label
    }

    fn set_defaults(&self, object: &mut Object) {
        defaults::set(object);
    }

    /// One address has two names; the server gives one if there is none.
    fn prepare_for_create(&self, object: &mut Object) {
        change::same_cluster_ips(object, None);
    }

    fn prepare_for_update(&self, new: &mut Object, old: &Object) {
        change::same_cluster_ips(new, Some(old));
        change::keep_allocated(new, old);
        change::drop_what_the_type_does_not_need(new, old);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        rules::validate(object, errors);
        address::validate(&object.at("spec"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        address::stays(&spec, &old_spec, errors);
        let (class, old_class) = (spec.at("loadBalancerClass"), old_spec.at("loadBalancerClass"));
        let balanced = |spec: &Cursor<'_>| spec.at("type").str() == "LoadBalancer";
        if balanced(&spec) && balanced(&old_spec) && class.value() != old_class.value() {
            errors.invalid(&class, "may not change once set");
        }
        let (health, old_health) = (spec.at("healthCheckNodePort"), old_spec.at("healthCheckNodePort"));
        let needs_health = |spec: &Cursor<'_>| balanced(spec) && spec.at("externalTrafficPolicy").str() == "Local";
        if needs_health(&spec) && needs_health(&old_spec) && health.int() != old_health.int() {
            errors.forbidden(&health, "field is immutable");
        }
        self.validate(new, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        rules::load_balancer_status(new, errors);
    }

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
    use super::super::check::tests::{created, defaulted, refuses, refuses_status, refuses_update, updated, with};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "s", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
    }

    #[test]
    fn a_service_gets_its_defaults() {
        assert_eq!(
            defaulted(&row(), valid())["spec"],
            json!({"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
        );
        let balanced = with(&valid(), "/spec/type", json!("LoadBalancer"));
        let spec = &defaulted(&row(), balanced)["spec"];
        assert_eq!(spec["externalTrafficPolicy"], "Cluster");
        assert_eq!(spec["allocateLoadBalancerNodePorts"], true);
        let sticky = with(&valid(), "/spec/sessionAffinity", json!("ClientIP"));
        assert_eq!(
            defaulted(&row(), sticky)["spec"]["sessionAffinityConfig"],
            json!({"clientIP": {"timeoutSeconds": 10800}})
        );
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                ("/spec/ports", json!([]), "spec.ports: Required value"),
                (
                    "/spec/ports/0",
                    json!({"port": 0, "targetPort": 80}),
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ),
                (
                    "/spec/ports/1",
                    json!({"name": "b", "port": 81}),
                    "spec.ports[0].name: Required value",
                ),
                (
                    "/spec/ports",
                    json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
                    "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
                ),
                (
                    "/spec/ports/0/nodePort",
                    json!(30000),
                    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                ),
                (
                    "/spec/type",
                    json!("X"),
                    "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \
                     \"LoadBalancer\", \"NodePort\"",
                ),
                (
                    "/spec/sessionAffinity",
                    json!("X"),
                    "spec.sessionAffinity: Unsupported value: \"X\": supported values: \"ClientIP\", \"None\"",
                ),
                (
                    "/spec/externalIPs",
                    json!(["127.0.0.1"]),
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
                     ::1/128)",
                ),
                (
                    "/spec/loadBalancerClass",
                    json!("a/b"),
                    "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ),
                (
                    "/spec/trafficDistribution",
                    json!("X"),
                    "spec.trafficDistribution: Unsupported value: \"X\": supported values: \"PreferClose\", \
                     \"PreferSameNode\", \"PreferSameZone\"",
                ),
                (
                    "/spec/clusterIP",
                    json!("10.0.0.300"),
                    "spec.clusterIPs[0]: Invalid value: \"10.0.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or \
                     2001:db8::ffff)",
                ),
            ],
        );
        let named = json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName"}});
        assert_eq!(created(&row(), named), ["spec.externalName: Required value"]);
        let headless = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None"}});
        assert_eq!(created(&row(), headless), [""; 0]);
    }

    #[test]
    fn an_address_stays_unless_the_type_changes() {
        let mut old = valid();
        old["spec"]["clusterIP"] = json!("10.0.0.1");
        refuses_update(
            &row(),
            &old,
            &[(
                "/spec/clusterIP",
                json!("10.0.0.2"),
                "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
            )],
        );
        // A client that never saw the address may leave it out.
        assert_eq!(updated(&row(), old.clone(), valid()), [""; 0]);
        let mut named = old.clone();
        named["spec"]["type"] = json!("ExternalName");
        named["spec"]["externalName"] = json!("db.example");
        named["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
        assert_eq!(updated(&row(), old, named), [""; 0]);
    }

    #[test]
    fn what_a_balancer_was_told_stays() {
        let mut balanced = with(&valid(), "/spec/type", json!("LoadBalancer"));
        balanced["spec"]["externalTrafficPolicy"] = json!("Local");
        balanced["spec"]["healthCheckNodePort"] = json!(30100);
        refuses_update(
            &row(),
            &balanced,
            &[(
                "/spec/healthCheckNodePort",
                json!(30101),
                "spec.healthCheckNodePort: Forbidden: field is immutable",
            )],
        );
        refuses(
            &row(),
            &balanced,
            &[(
                "/spec/loadBalancerSourceRanges",
                json!(["10.0.0.0/40"]),
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/40\": must be a valid CIDR value, (e.g. \
                 10.9.8.0/24 or 2001:db8::/64)",
            )],
        );
        refuses_status(
            &row(),
            &balanced,
            &[(
                "/status",
                json!({"loadBalancer": {"ingress": [{"ip": "x", "ipMode": "VIP"}]}}),
                "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            )],
        );
        refuses_status(
            &row(),
            &valid(),
            &[(
                "/status",
                json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}),
                "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
            )],
        );
    }

    #[test]
    fn the_two_names_of_the_topology_annotation_agree() {
        let annotated = |mode: &str| {
            let annotations = json!({"service.kubernetes.io/topology-mode": mode,
                "service.kubernetes.io/topology-aware-hints": "Auto"});
            created(&row(), with(&valid(), "/metadata/annotations", annotations))
        };
        assert_eq!(annotated("Auto"), [""; 0]);
        assert_eq!(
            annotated("Disabled"),
            [
                "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"Disabled\": must match \
                 annotations[service.kubernetes.io/topology-aware-hints] when both are specified"
            ]
        );
    }

    #[test]
    fn node_ports_are_kept_and_dropped_with_the_type() {
        let service = |kind: &str, node_port: i64| {
            let mut object = with(&valid(), "/spec/type", json!(kind));
            if node_port != 0 {
                object["spec"]["ports"][0]["nodePort"] = json!(node_port);
            }
            Object::from_value(defaulted(&row(), object)).unwrap()
        };
        let old = service("NodePort", 30080);
        let mut new = service("NodePort", 0);
        Service.prepare_for_update(&mut new, &old);
        assert_eq!(new.array(&["spec", "ports"])[0]["nodePort"], 30080);
        let mut new = service("ClusterIP", 30080);
        Service.prepare_for_update(&mut new, &old);
        assert_eq!(new.array(&["spec", "ports"])[0].get("nodePort"), None);
        assert_eq!(new.get(&["spec", "externalTrafficPolicy"]), None);
    }

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
