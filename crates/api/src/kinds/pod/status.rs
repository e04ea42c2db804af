//! What of a pod's status may be written: containers that have ended stay so where they are not restarted, addresses are
//! one of a family, and what is told of containers is of those that there are.

use std::collections::BTreeSet;

use super::super::check::immutable;
use crate::field::{Cursor, ErrorList};
use crate::names;

/// The rules for an update of `status`.
pub(super) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (status, metadata) = (new.at("status"), new.at("metadata"));
    // This is where upstream's messages have the conditions.
    let place = metadata.said("conditions");
    for (i, condition) in status.at("conditions").items().enumerate() {
        let kind = condition.at("type");
        if !matches!(kind.str(), "PodScheduled" | "Ready" | "Initialized") {
            for fault in names::qualified_name(kind.str()) {
                errors.invalid_value(&place.index(i).said("Type"), &kind.str().into(), fault);
            }
        }
    }
    immutable(&status.at("qosClass"), &old.at("status").at("qosClass"), errors);
    let nominated = status.at("nominatedNodeName");
    if !nominated.is_empty() && nominated.str() != old.at("status").at("nominatedNodeName").str() {
        errors.faults(&nominated, names::dns1123_subdomain(nominated.str()));
    }
    ended_containers_stay_ended(new, old, errors);
    claim_statuses(new, errors);
    addresses(&status.at("podIPs"), errors);
    let host_ips = status.at("hostIPs");
    if let Some(first) = host_ips.items().next() {
        let ip = first.at("ip");
        if ip.str() != status.at("hostIP").str() {
            errors.invalid(&ip, "must be equal to `hostIP`");
        }
    }
    addresses(&host_ips, errors);
    container_statuses(new, errors);
}

/// Where containers are not restarted, one that has ended does not run again.
fn ended_containers_stay_ended(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let old_spec = old.at("spec");
    let pod_policy = old_spec.at("restartPolicy");
    let own_policy = |list: &str, name: &str| -> String {
        let containers = old_spec.at(list);
        let found = containers.items().find(|c| c.at("name").str() == name);
        found
            .map(|c| c.at("restartPolicy").str().to_owned())
            .unwrap_or_default()
    };
    // One container's end may have all of them run again.
    let renews = ["containers", "initContainers"].iter().any(|list| {
        let containers = old_spec.at(list);
        containers.items().any(|container| {
            let rules = container.at("restartPolicyRules");
            rules
                .items()
                .any(|rule| rule.at("action").str() == "RestartAllContainers")
        })
    });
    for (field, list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        let (status, old_status) = (new.at("status"), old.at("status"));
        let (now, before) = (status.at(field), old_status.at(field));
        for (i, old_container) in before.items().enumerate() {
            let name = old_container.at("name");
            let ended = old_container.at("state");
            let ended = ended.at("terminated");
            if !ended.is_set() {
                continue;
            }
            let own = if list.is_empty() {
                String::new()
            } else {
                own_policy(list, name.str())
            };
            let policy = match (list, own.as_str()) {
                ("", _) => "Never",
                (_, "") => pod_policy.str(),
                (_, own) => own,
            };
            let may_restart = match policy {
                "Always" => true,
                "OnFailure" => ended.at("exitCode").int() != 0,
                // A restart rule may still apply.
                _ => !own.is_empty(),
            };
            if may_restart || renews && !list.is_empty() {
                continue;
            }
            for container in now.items() {
                let same_name = container.at("name").str() == name.str();
                if same_name && !container.at("state").at("terminated").is_set() {
                    errors.forbidden(
                        &now.index(i).at("state"),
                        "may not be transitioned to non-terminated state",
                    );
                }
            }
        }
    }
}

fn claim_statuses(pod: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let claims = spec.at("resourceClaims");
    let mut seen = BTreeSet::new();
    for entry in status.at("resourceClaimStatuses").items() {
        let name = entry.at("name");
        if !claims.items().any(|c| c.at("name").str() == name.str()) {
            errors.invalid(&name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate(&name);
        }
        let claim = entry.at("resourceClaimName");
        if claim.is_set() {
            for fault in names::dns1123_subdomain(claim.str()) {
                errors.invalid_value(&name, &claim.str().into(), fault);
            }
        }
    }
}

/// Whom containers run as, and the health of what they were given.
fn container_statuses(pod: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let is_windows = spec.at("os").at("name").str() == "windows";
    for (field, list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        for container in status.at(field).items() {
            let user = container.at("user");
            let linux = user.at("linux");
            let place = container.said("linux");
            if linux.is_set() && is_windows {
                errors.forbidden(&place, "cannot be set for a windows pod");
            } else if linux.is_set() {
                linux_user(&place, &linux, errors);
            }
            let health = container.at("allocatedResourcesStatus");
            if list.is_empty() {
                if !health.is_empty() {
                    errors.forbidden(&health, "must not be specified in container status");
                }
                continue;
            }
            let name = container.at("name");
            let containers = spec.at(list);
            let told = containers.items().find(|c| c.at("name").str() == name.str());
            for resource in health.items() {
                allocated_resource(&resource, told.as_ref(), errors);
            }
        }
    }
}

fn linux_user(place: &Cursor<'_>, user: &Cursor<'_>, errors: &mut ErrorList) {
    let mut check = |place: &Cursor<'_>, id: i64| {
        for fault in names::in_range(id, 0, i64::from(i32::MAX)) {
            errors.invalid_value(place, &id.into(), fault);
        }
    };
    check(&place.said("uid"), user.at("uid").int());
    check(&place.said("gid"), user.at("gid").int());
    let groups = place.said("supplementalGroups");
    for (i, group) in user.at("supplementalGroups").items().enumerate() {
        check(&groups.index(i), group.int());
    }
}

/// One of what the container asks for, whose parts are told of once each.
fn allocated_resource(resource: &Cursor<'_>, container: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let name = resource.at("name");
    if let Some(container) = container {
        let own = container.at("resources");
        let claims = own.at("claims");
        let (is_asked, complaint) = match name.str().strip_prefix("claim:") {
            Some(claim) => (
                claims.items().any(|c| match c.at("request").str() {
                    "" => c.at("name").str() == claim,
                    request => format!("{}/{request}", c.at("name").str()) == claim,
                }),
                "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                 'claim:<claimName>' if request is empty",
            ),
            None => (
                own.at("requests").key(name.str()).is_set(),
                "must match one of the container's resource requests",
            ),
        };
        if !is_asked {
            errors.invalid(&name, complaint);
        }
    }
    let mut seen = BTreeSet::new();
    for part in resource.at("resources").items() {
        let (health, id) = (part.at("health"), part.at("resourceID"));
        if !matches!(health.str(), "Healthy" | "Unhealthy" | "Unknown") {
            errors.not_supported_value(&health, &health.str().into(), &["Healthy", "Unhealthy", "Unknown"]);
        }
        if !seen.insert(id.str().to_owned()) {
            errors.duplicate(&id);
        }
    }
}

/// One address, or one of each family.
fn addresses(list: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    let (mut v4, mut v6) = (0, 0);
    for entry in list.items() {
        let ip = entry.at("ip");
        for fault in names::address::ip(ip.str()) {
            errors.invalid_value(&entry, &ip.str().into(), fault);
        }
        match names::address::parse_ip(ip.str()) {
            Some(ip) if ip.is_ipv4() => v4 += 1,
            Some(_) => v6 += 1,
            None => {}
        }
        if !seen.insert(ip.str().to_owned()) {
            errors.duplicate(&entry);
        }
    }
    if v4 > 1 || v6 > 1 {
        errors.invalid(list, "may specify no more than one IP for each IP family");
    }
}
