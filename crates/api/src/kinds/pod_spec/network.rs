//! Ports, host names and DNS of a pod.

use std::collections::BTreeSet;

use super::super::check::{named_if_set, one_of};
use crate::field::{Cursor, ErrorList};
use crate::names::{self, address};

pub(in crate::kinds) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn container_ports(ports: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.is_empty() {
            let faults = names::port_name(name.str());
            if faults.is_empty() && !seen.insert(name.str().to_owned()) {
                errors.duplicate(&name);
            }
            errors.faults(&name, faults);
        }
        let number = port.at("containerPort");
        if number.int() == 0 {
            errors.required(&number, "");
        } else {
            errors.faults(&number, names::port_number(number.int()));
        }
        let host_port = port.at("hostPort");
        if host_port.int() != 0 {
            errors.faults(&host_port, names::port_number(host_port.int()));
        }
        one_of(&port.at("protocol"), &PROTOCOLS, errors);
    }
}

/// Ports of the host that more than one of these containers asks for.
pub(super) fn host_port_conflicts<'b>(containers: impl Iterator<Item = Cursor<'b>>, errors: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for container in containers {
        for port in container.at("ports").items() {
            let host_port = port.at("hostPort");
            if host_port.int() == 0 {
                continue;
            }
            let protocol = port.at("protocol");
            let ip = port.at("hostIP");
            let text = format!("{}/{}/{}", protocol.str(), ip.str(), host_port.int());
            if taken.contains(&text) {
                errors.duplicate_value(&host_port, &text.as_str().into(), "");
            }
            taken.insert(text);
        }
    }
}

/// On the host's network, a port is the host's.
pub(super) fn host_ports(spec: &Cursor<'_>, is_pod: bool, errors: &mut ErrorList) {
    if !spec.at("hostNetwork").is_true() {
        return;
    }
    for container in spec.at("containers").items() {
        for port in container.at("ports").items() {
            let host_port = port.at("hostPort");
            if (is_pod || host_port.int() != 0) && host_port.int() != port.at("containerPort").int() {
                errors.invalid_value(
                    &host_port,
                    &host_port.int().into(),
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

pub(in crate::kinds) fn valid_ip(at: &Cursor<'_>, errors: &mut ErrorList) {
    for fault in address::ip(at.str()) {
        errors.invalid_value(at, &at.str().into(), fault);
    }
}

pub(super) fn dns_config(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let config = spec.at("dnsConfig");
    let servers = config.at("nameservers");
    if spec.at("dnsPolicy").str() == "None" {
        if !config.is_set() {
            errors.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(
                &servers,
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    if servers.len() > 3 {
        errors.invalid(&servers, "must not have more than 3 nameservers");
    }
    for server in servers.items() {
        valid_ip(&server, errors);
    }
    let searches = config.at("searches");
    if searches.len() > 32 {
        errors.invalid(&searches, "must not have more than 32 search paths");
    }
    let length: usize = searches.strs().map(|s| s.len() + 1).sum();
    if length > 2049 {
        errors.invalid(
            &searches,
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for search in searches.items() {
        // A trailing dot is fine, and so is the root itself.
        if search.str() == "." {
            continue;
        }
        let name = search.str().strip_suffix('.').unwrap_or(search.str());
        for fault in names::subdomain_with_underscores(name) {
            errors.invalid_value(&search, &name.into(), fault);
        }
    }
    for option in config.at("options").items() {
        if option.at("name").is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

pub(super) fn host_names(spec: &Cursor<'_>, errors: &mut ErrorList) {
    named_if_set(&spec.at("hostname"), names::dns1123_label, errors);
    named_if_set(&spec.at("subdomain"), names::dns1123_label, errors);
    let whole = spec.at("hostnameOverride");
    if whole.is_set() {
        errors.faults(&whole, names::dns1123_subdomain(whole.str()));
        if whole.str().len() > 64 {
            errors.too_long(&whole, 64);
        }
        let as_fqdn = spec.at("setHostnameAsFQDN");
        if as_fqdn.is_true() {
            errors.forbidden(&whole, "may not be set when `setHostnameAsFQDN` is true");
        }
        if spec.at("hostNetwork").is_true() {
            errors.forbidden(&whole, "may not be set when `hostNetwork` is true");
        }
    }
    for alias in spec.at("hostAliases").items() {
        valid_ip(&alias.at("ip"), errors);
        for name in alias.at("hostnames").items() {
            errors.faults(&name, names::dns1123_subdomain(name.str()));
        }
    }
}
