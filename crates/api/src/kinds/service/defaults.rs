//! What a service means when it does not say.

use serde_json::{Map, Value, json};

use super::super::fill::{at, each, fill, fill_empty, map_made};
use crate::object::Object;

pub(super) fn set(object: &mut Object) {
    let Some(spec) = at(&mut object.0, "spec") else {
        return;
    };
    fill_empty(spec, "type", "ClusterIP");
    fill_empty(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP" {
        if let Some(client) = map_made(spec, "sessionAffinityConfig").and_then(|c| map_made(c, "clientIP")) {
            fill(client, "timeoutSeconds", 10_800);
        }
    } else if text(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    }
    each(spec, "ports", |port| {
        fill_empty(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => number.as_i64() == Some(0),
        };
        if unset {
            let number = port.get("port").cloned().unwrap_or(0.into());
            port.insert("targetPort".into(), number);
        }
    });
    let kind = text(spec, "type").to_owned();
    let has_external_ips = spec
        .get("externalIPs")
        .and_then(Value::as_array)
        .is_some_and(|l| !l.is_empty());
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer") || kind == "ClusterIP" && has_external_ips;
    if outside {
        fill_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        ip_modes(object);
    }
}

/// A balancer's address is where traffic goes, unless it says that it is a proxy's.
fn ip_modes(object: &mut Object) {
    let ingress = object
        .get_mut(&["status", "loadBalancer", "ingress"])
        .and_then(Value::as_array_mut);
    for entry in ingress.into_iter().flatten().filter_map(Value::as_object_mut) {
        if !text(entry, "ip").is_empty() {
            let mode = entry.entry("ipMode").or_insert(Value::Null);
            if mode.is_null() {
                *mode = json!("VIP");
            }
        }
    }
}

fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}
