//! What an update of a service carries over: addresses and ports that were given to it and that the client leaves out,
//! and what goes when the type no longer needs it.

use serde_json::{Map, Value, json};

use super::super::fill::each;
use crate::object::Object;

fn text<'a>(service: &'a Object, field: &str) -> &'a str {
    service.str(&["spec", field]).unwrap_or_default()
}

fn needs_cluster_ip(service: &Object) -> bool {
    text(service, "type") != "ExternalName"
}

fn needs_node_port(service: &Object) -> bool {
    match text(service, "type") {
        "NodePort" => true,
        "LoadBalancer" => service.bool(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

fn needs_health_port(service: &Object) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

fn same(a: &Object, b: &Object, field: &str) -> bool {
    a.get(&["spec", field]) == b.get(&["spec", field])
}

/// `clusterIP` is the first of `clusterIPs`; whichever the client changed is followed by the other.
pub(super) fn same_cluster_ips(new: &mut Object, old: Option<&Object>) {
    let one = text(new, "clusterIP").to_owned();
    let all = new.array(&["spec", "clusterIPs"]).to_vec();
    let Some(old) = old else {
        if !one.is_empty() && all.is_empty() {
            new.set(&["spec", "clusterIPs"], json!([one]));
        }
        return;
    };
    if !needs_cluster_ip(new) {
        return;
    }
    let was = text(old, "clusterIP");
    let list_is_old = all == old.array(&["spec", "clusterIPs"]);
    if one.is_empty() && !was.is_empty() && list_is_old {
        new.remove(&["spec", "clusterIPs"]);
    } else if !one.is_empty() && (all.is_empty() || one != was && list_is_old) {
        // The same first address leaves the second one to be carried over.
        if one != was {
            new.set(&["spec", "clusterIPs"], json!([one]));
        }
    }
}

pub(super) fn keep_allocated(new: &mut Object, old: &Object) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if text(new, "clusterIP").is_empty()
            && let Some(ip) = old.get(&["spec", "clusterIP"]).cloned()
        {
            new.set(&["spec", "clusterIP"], ip);
        }
        if new.array(&["spec", "clusterIPs"]).is_empty()
            && same(new, old, "clusterIP")
            && let Some(ips) = old.get(&["spec", "clusterIPs"]).cloned()
        {
            new.set(&["spec", "clusterIPs"], ips);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if new.get(&["spec", field]).is_none()
                && let Some(value) = old.get(&["spec", field]).cloned()
            {
                new.set(&["spec", field], value);
            }
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        keep_node_ports(new, old);
    }
    if needs_health_port(old)
        && needs_health_port(new)
        && new.i64(&["spec", "healthCheckNodePort"]).unwrap_or_default() == 0
        && let Some(port) = old.get(&["spec", "healthCheckNodePort"]).cloned()
    {
        new.set(&["spec", "healthCheckNodePort"], port);
    }
}

fn node_port(port: &Map<String, Value>) -> i64 {
    port.get("nodePort").and_then(Value::as_i64).unwrap_or_default()
}

/// A port of the same name keeps its node port, unless another one asks for it.
fn keep_node_ports(new: &mut Object, old: &Object) {
    let ports = |o: &Object| -> Vec<Map<String, Value>> {
        let list = o.array(&["spec", "ports"]).iter();
        list.filter_map(Value::as_object).cloned().collect()
    };
    let (now, before) = (ports(new), ports(old));
    let used: Vec<i64> = now.iter().map(node_port).filter(|p| *p != 0).collect();
    let Some(Value::Object(spec)) = new.0.get_mut("spec") else {
        return;
    };
    each(spec, "ports", |port| {
        if node_port(port) != 0 {
            return;
        }
        let name = |p: &Map<String, Value>| p.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let known = before
            .iter()
            .find(|p| name(p) == name(port))
            .map(node_port)
            .unwrap_or_default();
        if known != 0 && !used.contains(&known) {
            port.insert("nodePort".to_owned(), known.into());
        }
    });
}

pub(super) fn drop_what_the_type_does_not_need(new: &mut Object, old: &Object) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        let given = new.get(&["spec", "clusterIP"]).is_none() || same(new, old, "clusterIP");
        let all_given = new.get(&["spec", "clusterIPs"]).is_none() || same(new, old, "clusterIPs");
        if given && all_given {
            new.remove(&["spec", "clusterIP"]);
            new.remove(&["spec", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(new, old, field) {
                new.remove(&["spec", field]);
            }
        }
    }
    if needs_node_port(old) && !needs_node_port(new) {
        let list = |o: &Object| -> Vec<i64> {
            o.array(&["spec", "ports"])
                .iter()
                .filter_map(Value::as_object)
                .map(node_port)
                .collect()
        };
        if list(new) == list(old)
            && let Some(Value::Object(spec)) = new.0.get_mut("spec")
        {
            each(spec, "ports", |port| {
                port.remove("nodePort");
            });
        }
    }
    if needs_health_port(old) && !needs_health_port(new) && same(new, old, "healthCheckNodePort") {
        new.remove(&["spec", "healthCheckNodePort"]);
    }
    if text(old, "type") == "LoadBalancer" && text(new, "type") != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(new, old, field) {
                new.remove(&["spec", field]);
            }
        }
    }
    let outside = |o: &Object| {
        matches!(text(o, "type"), "NodePort" | "LoadBalancer")
            || text(o, "type") == "ClusterIP" && !o.array(&["spec", "externalIPs"]).is_empty()
    };
    if outside(old) && !outside(new) && same(new, old, "externalTrafficPolicy") {
        new.remove(&["spec", "externalTrafficPolicy"]);
    }
}
