//! The rules for a service but for its cluster addresses. Node ports and the health check's port are given by the server
//! behind these rules, so that their absence is no mistake here.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::check::{not_empty, one_of, one_of_if_set, port, qualified};
use super::super::endpoints::ordinary_ip;
use super::super::pod_spec::valid_ip;
use super::address::is_headless;
use crate::field::{Cursor, ErrorList};
use crate::names::{self, address};

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The old and the new name of one annotation do not contradict each other.
fn topology_annotations(service: &Cursor<'_>, errors: &mut ErrorList) {
    let metadata = service.at("metadata");
    let annotations = metadata.at("annotations");
    let (mode, hints) = (annotations.key(TOPOLOGY_MODE), annotations.key(TOPOLOGY_HINTS));
    if mode.is_set() && hints.is_set() && mode.value() != hints.value() {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.invalid(&mode, detail);
    }
}

pub(super) fn validate(service: &Cursor<'_>, errors: &mut ErrorList) {
    topology_annotations(service, errors);
    let spec = service.at("spec");
    let kind = spec.at("type");
    let ports = spec.at("ports");
    let headless = is_headless(&spec);
    if ports.is_empty() && !headless && kind.str() != "ExternalName" {
        errors.required(&ports, "");
    }
    by_type(&spec, headless, errors);
    each_port(&spec, errors);
    names::labels(&spec.at("selector"), errors);
    affinity(&spec, errors);
    for ip in spec.at("externalIPs").items() {
        valid_ip(&ip, errors);
        if address::parse_ip(ip.str()).is_some() {
            ordinary_ip(&ip, errors);
        }
    }
    one_of(
        &kind,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        errors,
    );
    balancer(service, &spec, errors);
    traffic(&spec, errors);
}

fn by_type(spec: &Cursor<'_>, headless: bool, errors: &mut ErrorList) {
    let ips = spec.at("clusterIPs");
    let kind = spec.at("type");
    match kind.str() {
        "LoadBalancer" | "NodePort" if headless => {
            errors.invalid(
                &ips.index(0),
                format!("may not be set to 'None' for {} services", kind.str()),
            );
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let at = spec.at(field);
                if !at.is_empty() {
                    errors.forbidden(&at, "may not be set for ExternalName services");
                }
            }
            let name = spec.at("externalName");
            let text = name.str().strip_suffix('.').unwrap_or(name.str());
            if text.is_empty() {
                errors.required(&name, "");
            } else {
                for fault in names::dns1123_subdomain(text) {
                    errors.invalid_value(&name, &text.into(), fault);
                }
            }
        }
        _ => {}
    }
}

fn each_port(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let ports = spec.at("ports");
    let (mut names_there, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for entry in ports.items() {
        let name = entry.at("name");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&name, "");
            }
        } else {
            errors.faults(&name, names::dns1123_label(name.str()));
            if !names_there.insert(name.str().to_owned()) {
                errors.duplicate(&name);
            }
        }
        let number = entry.at("port");
        for fault in names::port_number(number.int()) {
            errors.invalid_value(&number, &number.int().into(), fault);
        }
        let protocol = entry.at("protocol");
        one_of(&protocol, &["SCTP", "TCP", "UDP"], errors);
        port(&entry.at("targetPort"), errors);
        let application = entry.at("appProtocol");
        if application.is_set() {
            qualified(&application, errors);
        }
        let node_port = entry.at("nodePort");
        if node_port.int() != 0 {
            if spec.at("type").str() == "ClusterIP" {
                errors.forbidden(&node_port, "may not be used when `type` is 'ClusterIP'");
            }
            if !node_ports.insert((protocol.str().to_owned(), node_port.int())) {
                errors.duplicate(&node_port);
            }
        }
        if !numbers.insert((protocol.str().to_owned(), number.int())) {
            let shown = json!({"protocol": protocol.str(), "port": number.int()});
            errors.duplicate_value(&entry, &shown, "");
        }
    }
}

fn affinity(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let (affinity, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    one_of(&affinity, &["ClientIP", "None"], errors);
    match affinity.str() {
        "ClientIP" => {
            let client = config.at("clientIP");
            let seconds = client.at("timeoutSeconds");
            for part in [&config, &client, &seconds] {
                if !part.is_set() {
                    errors.required(part, "when session affinity type is ClientIP");
                    return;
                }
            }
            if !(1..=86_400).contains(&seconds.int()) {
                errors.invalid(&seconds, "must be greater than 0 and less than 86400");
            }
        }
        "None" if config.is_set() => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn balancer(service: &Cursor<'_>, spec: &Cursor<'_>, errors: &mut ErrorList) {
    let balanced = spec.at("type").str() == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.at("loadBalancerSourceRanges");
    let metadata = service.at("metadata");
    let annotations = metadata.at("annotations");
    let old_ranges = annotations.key("service.beta.kubernetes.io/load-balancer-source-ranges");
    if !ranges.is_empty() {
        // Upstream's messages have a capital here.
        let place = spec.said("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&place, only);
        }
        for (i, range) in ranges.strs().map(str::trim).enumerate() {
            for fault in address::cidr(range) {
                errors.invalid_value(&place.index(i), &range.into(), fault);
            }
        }
    } else if old_ranges.is_set() {
        if !balanced {
            errors.forbidden(&old_ranges, only);
        }
        for range in old_ranges.str().split(',').map(str::trim).filter(|r| !r.is_empty()) {
            for fault in address::cidr(range) {
                errors.invalid_value(&old_ranges, &range.into(), fault);
            }
        }
    }
    let allocate = spec.at("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balanced {
        errors.forbidden(&allocate, only);
    } else if balanced {
        not_empty(&allocate, errors);
    }
    let class = spec.at("loadBalancerClass");
    if class.is_set() && balanced {
        qualified(&class, errors);
    } else if class.is_set() {
        errors.forbidden(&class, only);
    }
}

fn traffic(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = spec.at("type");
    let outside = matches!(kind.str(), "NodePort" | "LoadBalancer")
        || kind.str() == "ClusterIP" && !spec.at("externalIPs").is_empty();
    let external = spec.at("externalTrafficPolicy");
    if outside {
        one_of(&external, &["Cluster", "Local"], errors);
    } else if !external.is_empty() {
        errors.invalid(&external, "may only be set for externally-accessible services");
    }
    let health = spec.at("healthCheckNodePort");
    if kind.str() == "LoadBalancer" && external.str() == "Local" {
        if health.int() != 0 {
            errors.faults(&health, names::port_number(health.int()));
        }
    } else if health.int() != 0 {
        errors.invalid(
            &health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
    let internal = spec.at("internalTrafficPolicy");
    if !internal.is_set() && matches!(kind.str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&internal, "");
    }
    one_of_if_set(&internal, &["Cluster", "Local"], errors);
    one_of_if_set(
        &spec.at("trafficDistribution"),
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
        errors,
    );
}

/// The addresses of a balancer, which a service has only if it asks for one.
pub(super) fn load_balancer_status(service: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, status) = (service.at("spec"), service.at("status"));
    let balancer = status.at("loadBalancer");
    let ingress = balancer.at("ingress");
    if !ingress.is_empty() && spec.at("type").str() != "LoadBalancer" {
        errors.forbidden(&ingress, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for ingress in balancer.at("ingress").items() {
        let (ip, mode, host) = (ingress.at("ip"), ingress.at("ipMode"), ingress.at("hostname"));
        if !ip.is_empty() {
            valid_ip(&ip, errors);
        }
        match (ip.is_empty(), mode.is_set()) {
            (false, false) => errors.required(&mode, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
            _ => one_of_if_set(&mode, &["Proxy", "VIP"], errors),
        }
        if !host.is_empty() {
            errors.faults(&host, names::dns1123_subdomain(host.str()));
            if address::parse_ip(host.str()).is_some() {
                errors.invalid(&host, "must be a DNS name, not an IP address");
            }
        }
    }
}
