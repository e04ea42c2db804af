//! The pod's spec, alone or in a template: defaults, rules, quality of service. Pods and every kind with a pod template
//! use it; what holds for pods alone is in `pod.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::check::{named_if_set, one_of, one_of_if_set, qualified};
use crate::field::{Cursor, ErrorList};
use crate::names;

mod affinity;
mod container;
mod defaults;
mod environment;
pub(super) mod iscsi;
mod network;
mod operating_system;
mod probe;
pub mod qos;
mod resources;
mod security;
mod toleration;
pub(super) mod update;
mod volume;
mod volume_source;

pub(super) use affinity::{node_selector, topology_selector_term};
pub(super) use defaults::{set_pod_defaults, set_template_defaults, volume_source};
pub(super) use network::valid_ip;
pub(super) use resources::overhead;
pub(super) use toleration::{taint_effect, validate as tolerations};
pub(super) use volume_source::{csi_driver_name, host_path, no_backsteps, plugin, required_fields};

/// What the rules for one part of a spec must know of its other parts.
struct Context<'a> {
    /// The volumes by name, and whether they are claims (which may be block devices).
    volumes: BTreeMap<&'a str, bool>,
    resource_claims: BTreeSet<&'a str>,
    grace: Option<i64>,
    restart_policy: &'a str,
    host_users: bool,
    operating_system: &'a str,
    /// A pod's own spec, not a template's.
    is_pod: bool,
}

/// The rules for a spec; `pod_name` is known only for a pod's own, `claims` are volumes that come from elsewhere.
pub(super) fn validate(spec: &Cursor<'_>, pod_name: Option<&str>, claims: &[String], errors: &mut ErrorList) {
    let grace = spec.at("terminationGracePeriodSeconds");
    if !grace.is_set() {
        errors.required(&grace, "");
    }
    let listed = spec.at("volumes");
    let mut volumes = volume::validate(&listed, pod_name, errors);
    volumes.extend(claims.iter().map(|name| (name.as_str(), true)));
    let resource_claims = spec.at("resourceClaims");
    let restart_policy = spec.at("restartPolicy");
    let os = spec.at("os");
    let os_name = os.at("name");
    let cx = Context {
        volumes,
        resource_claims: resources::claims(&resource_claims, errors),
        grace: grace.i64(),
        restart_policy: restart_policy.str(),
        host_users: spec.at("hostUsers").bool() != Some(false),
        operating_system: os_name.str(),
        is_pod: pod_name.is_some(),
    };
    container::regular(&spec.at("containers"), &cx, errors);
    container::init(spec, &cx, errors);
    container::ephemeral(spec, &cx, errors);
    if spec.at("resources").is_set() {
        resources::pod_level(spec, &cx, errors);
    }
    network::host_ports(spec, cx.is_pod, errors);
    one_of(&restart_policy, &["Always", "OnFailure", "Never"], errors);
    one_of(
        &spec.at("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    names::labels(&spec.at("nodeSelector"), errors);
    security::pod(spec, errors);
    affinity::validate(&spec.at("affinity"), errors);
    network::dns_config(spec, errors);
    for gate in spec.at("readinessGates").items() {
        qualified(&gate.at("conditionType"), errors);
    }
    scheduling_gates(&spec.at("schedulingGates"), errors);
    affinity::topology_spread(&spec.at("topologySpreadConstraints"), errors);
    security::host_process(spec, errors);
    security::host_users(spec, errors);
    named_if_set(&spec.at("serviceAccountName"), names::dns1123_subdomain, errors);
    named_if_set(&spec.at("nodeName"), names::dns1123_subdomain, errors);
    let deadline = spec.at("activeDeadlineSeconds");
    if let Some(seconds) = deadline.i64() {
        errors.faults(&deadline, names::in_range(seconds, 1, i64::from(i32::MAX)));
    }
    network::host_names(spec, errors);
    toleration::validate(&spec.at("tolerations"), errors);
    named_if_set(&spec.at("priorityClassName"), names::dns1123_subdomain, errors);
    if spec.at("runtimeClassName").is_set() {
        let class = spec.at("runtimeClassName");
        errors.faults(&class, names::dns1123_subdomain(class.str()));
    }
    one_of_if_set(&spec.at("preemptionPolicy"), &["PreemptLowerPriority", "Never"], errors);
    let overhead = spec.at("overhead");
    resources::overhead(&overhead, &overhead, errors);
    operating_system::validate(spec, errors);
}

/// The rules for a pod template.
pub(super) fn validate_template(template: &Cursor<'_>, claims: &[String], errors: &mut ErrorList) {
    let (spec, metadata) = (template.at("spec"), template.at("metadata"));
    // Upstream leaves `metadata` out of these paths.
    names::labels_at(&template.said("labels"), &metadata.at("labels"), errors);
    names::annotations_at(&template.said("annotations"), &metadata.at("annotations"), errors);
    annotations(&metadata, &template.said("annotations"), &spec, errors);
    validate(&spec, None, claims, errors);
    let ephemeral = spec.at("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

/// Annotations that mean something to the system.
pub(super) fn annotations(metadata: &Cursor<'_>, place: &Cursor<'_>, spec: &Cursor<'_>, errors: &mut ErrorList) {
    for (key, value) in metadata.at("annotations").entries() {
        let text = value.str();
        let complaint = match key {
            MIRROR if spec.at("nodeName").is_empty() => "must set spec.nodeName if mirror pod annotation is set",
            "controller.kubernetes.io/pod-deletion-cost" if text.parse::<i32>().is_err() || text.starts_with('+') => {
                "must be a 32bit integer"
            }
            _ => {
                if let Some(container) = key.strip_prefix(APP_ARMOR) {
                    app_armor(&place.key(key), container, text, spec, errors);
                } else if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
                    seccomp(&place.said(key), text, errors);
                }
                continue;
            }
        };
        errors.invalid_value(&place.key(key), &text.into(), complaint);
    }
}

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Followed by the name of a container.
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// A profile in the old form, which is of a container that there must be.
fn app_armor(place: &Cursor<'_>, container: &str, profile: &str, spec: &Cursor<'_>, errors: &mut ErrorList) {
    let mut is_there = false;
    each_container(spec, |c| is_there |= c.at("name").str() == container);
    if !is_there {
        errors.invalid_value(place, &container.into(), "container not found");
    }
    if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
        let detail = format!("invalid AppArmor profile name: {profile:?}");
        errors.invalid_value(place, &profile.into(), detail);
    }
}

fn seccomp(place: &Cursor<'_>, profile: &str, errors: &mut ErrorList) {
    match profile.strip_prefix("localhost/") {
        Some(path) => volume_source::local_descending(place, path, errors),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.invalid_value(place, &profile.into(), "must be a valid seccomp profile"),
    }
}

fn scheduling_gates(gates: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for gate in gates.items() {
        let name = gate.at("name");
        for fault in names::qualified_name(name.str()) {
            errors.invalid_value(&gate, &name.str().into(), fault);
        }
        if !seen.insert(name.str().to_owned()) {
            errors.duplicate_value(&gate, &name.str().into(), "");
        }
    }
}

/// Every container of the spec, of the three sorts.
fn each_container(spec: &Cursor<'_>, mut visit: impl FnMut(&Cursor<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.at(list).items() {
            visit(&container);
        }
    }
}

/// Whether some value is there and true.
fn flag(value: Option<&Value>, name: &str) -> bool {
    value.and_then(|v| v.get(name)?.as_bool()).unwrap_or_default()
}
